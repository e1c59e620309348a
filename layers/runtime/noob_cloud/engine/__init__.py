"""Run a plan: in this process, or with its remote stages handed out."""

from noob_cloud.engine.engine import Engine
from noob_cloud.engine.program import StageProgram
from noob_cloud.engine.serial import drive_serially
from noob_cloud.engine.store import LazyStore
from noob_cloud.plan.nouns import Call, Finished, Stage, Turn

__all__ = [
    "Call",
    "Engine",
    "Finished",
    "LazyStore",
    "Stage",
    "StageProgram",
    "Turn",
    "drive_serially",
]
