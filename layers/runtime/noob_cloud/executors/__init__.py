"""One `concurrent.futures.Executor` for each place where work can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noob_cloud.lazy import from_homes

if TYPE_CHECKING:
    from noob_cloud.executors.http import HttpExecutor
    from noob_cloud.executors.process import ProcessExecutor
    from noob_cloud.executors.queue import QueueExecutor
    from noob_cloud.executors.serverless import ServerlessExecutor

__all__ = ["HttpExecutor", "ProcessExecutor", "QueueExecutor", "ServerlessExecutor"]

__getattr__ = from_homes(
    __name__,
    {
        "HttpExecutor": "noob_cloud.executors.http",
        "ProcessExecutor": "noob_cloud.executors.process",
        "QueueExecutor": "noob_cloud.executors.queue",
        "ServerlessExecutor": "noob_cloud.executors.serverless",
    },
)
