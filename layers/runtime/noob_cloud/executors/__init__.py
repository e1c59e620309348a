"""One `concurrent.futures.Executor` for each place where work can run."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noob_cloud.executors.process import ProcessExecutor

__all__ = ["ProcessExecutor"]

_HOMES = {
    "ProcessExecutor": "noob_cloud.executors.process",
}
"""Where each name lives; it is imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
