"""One `concurrent.futures.Executor` for each place where work can run."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noob_cloud.executors.http import HttpExecutor
    from noob_cloud.executors.process import ProcessExecutor
    from noob_cloud.executors.queue import QueueExecutor

__all__ = ["HttpExecutor", "ProcessExecutor", "QueueExecutor"]

_HOMES = {
    "HttpExecutor": "noob_cloud.executors.http",
    "ProcessExecutor": "noob_cloud.executors.process",
    "QueueExecutor": "noob_cloud.executors.queue",
}
"""Where each name lives; it is imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
