"""Run a noob tube with the same answer on one core, all cores, a cluster, a queue or a cloud.

Importing this package costs next to nothing: each name below is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noob_cloud.exceptions import NoobCloudError
    from noob_cloud.placement import Placement
    from noob_cloud.task import Outcome, StageCall, Task, TaskPriority, TaskStatus
    from noob_cloud.tubes import TubeSource

__all__ = [
    "NoobCloudError",
    "Outcome",
    "Placement",
    "StageCall",
    "Task",
    "TaskPriority",
    "TaskStatus",
    "TubeSource",
    "__version__",
]

__version__ = "0.1.0"

_HOMES = {
    "NoobCloudError": "exceptions",
    "Outcome": "task",
    "Placement": "placement",
    "StageCall": "task",
    "Task": "task",
    "TaskPriority": "task",
    "TaskStatus": "task",
    "TubeSource": "tubes",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that is its home."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
