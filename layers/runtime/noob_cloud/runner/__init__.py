"""The runners: one lifecycle, one engine, and an executor for each place work can run."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noob_cloud.executors.balance import LoadBalancingStrategy
    from noob_cloud.executors.worker_config import WorkerConfig
    from noob_cloud.queue import TaskQueue
    from noob_cloud.runner.distributed import DistributedRunner
    from noob_cloud.runner.executor import ExecutorRunner
    from noob_cloud.runner.multiprocess import MultiProcessRunner
    from noob_cloud.runner.queued import QueuedRunner
    from noob_cloud.runner.synchronous import SynchronousRunner
    from noob_cloud.task import TaskPriority, TaskStatus

__all__ = [
    "DistributedRunner",
    "ExecutorRunner",
    "LoadBalancingStrategy",
    "MultiProcessRunner",
    "QueuedRunner",
    "SynchronousRunner",
    "TaskPriority",
    "TaskQueue",
    "TaskStatus",
    "WorkerConfig",
]

_HOMES = {
    "DistributedRunner": "noob_cloud.runner.distributed",
    "ExecutorRunner": "noob_cloud.runner.executor",
    "LoadBalancingStrategy": "noob_cloud.executors.balance",
    "MultiProcessRunner": "noob_cloud.runner.multiprocess",
    "QueuedRunner": "noob_cloud.runner.queued",
    "SynchronousRunner": "noob_cloud.runner.synchronous",
    "TaskPriority": "noob_cloud.task",
    "TaskQueue": "noob_cloud.queue",
    "TaskStatus": "noob_cloud.task",
    "WorkerConfig": "noob_cloud.executors.worker_config",
}


def __getattr__(name: str) -> Any:
    """Load a runner, and what it needs, when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
