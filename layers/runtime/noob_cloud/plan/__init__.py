"""A tube compiled once: its order, its slots, its stages, and why each node runs where it does."""

from noob_cloud.plan.graph import Arg, Graph, Kind, Step
from noob_cloud.plan.load import load_tube
from noob_cloud.plan.nouns import Call, Finished, Row, Stage, Turn
from noob_cloud.plan.plan import Plan

__all__ = [
    "Arg",
    "Call",
    "Finished",
    "Graph",
    "Kind",
    "Plan",
    "Row",
    "Stage",
    "Step",
    "Turn",
    "load_tube",
]
