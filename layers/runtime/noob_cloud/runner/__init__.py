"""The runners: one lifecycle, one engine, and an executor for each place work can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noob_cloud.lazy import from_homes

if TYPE_CHECKING:
    from noob_cloud.executors.balance import LoadBalancingStrategy
    from noob_cloud.executors.worker_config import WorkerConfig
    from noob_cloud.queue import TaskQueue
    from noob_cloud.runner.distributed import DistributedRunner
    from noob_cloud.runner.executor import ExecutorRunner
    from noob_cloud.runner.lambda_ import LambdaRunner
    from noob_cloud.runner.multiprocess import MultiProcessRunner
    from noob_cloud.runner.queued import QueuedRunner
    from noob_cloud.runner.synchronous import SynchronousRunner
    from noob_cloud.task import TaskPriority, TaskStatus

__all__ = [
    "DistributedRunner",
    "ExecutorRunner",
    "LambdaRunner",
    "LoadBalancingStrategy",
    "MultiProcessRunner",
    "QueuedRunner",
    "SynchronousRunner",
    "TaskPriority",
    "TaskQueue",
    "TaskStatus",
    "WorkerConfig",
]

__getattr__ = from_homes(
    __name__,
    {
        "DistributedRunner": "noob_cloud.runner.distributed",
        "ExecutorRunner": "noob_cloud.runner.executor",
        "LambdaRunner": "noob_cloud.runner.lambda_",
        "LoadBalancingStrategy": "noob_cloud.executors.balance",
        "MultiProcessRunner": "noob_cloud.runner.multiprocess",
        "QueuedRunner": "noob_cloud.runner.queued",
        "SynchronousRunner": "noob_cloud.runner.synchronous",
        "TaskPriority": "noob_cloud.task",
        "TaskQueue": "noob_cloud.queue",
        "TaskStatus": "noob_cloud.task",
        "WorkerConfig": "noob_cloud.executors.worker_config",
    },
)
