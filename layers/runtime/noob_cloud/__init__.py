"""Run a noob tube with the same answer on one core, all cores, a cluster, a queue or a cloud.

Importing this package costs next to nothing: each name below is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from noob_cloud.lazy import from_homes

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

__getattr__ = from_homes(
    __name__,
    {
        "NoobCloudError": "noob_cloud.exceptions",
        "Outcome": "noob_cloud.task",
        "Placement": "noob_cloud.placement",
        "StageCall": "noob_cloud.task",
        "Task": "noob_cloud.task",
        "TaskPriority": "noob_cloud.task",
        "TaskStatus": "noob_cloud.task",
        "TubeSource": "noob_cloud.tubes",
    },
)
