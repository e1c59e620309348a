"""A queue of tasks over HTTP, for workers anywhere, and runs that need no client."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noob_cloud.coordinator.app import create_app
    from noob_cloud.coordinator.client import CoordinatorClient
    from noob_cloud.coordinator.serving import serve
    from noob_cloud.coordinator.settings import CoordinatorSettings

__all__ = ["CoordinatorClient", "CoordinatorSettings", "create_app", "serve"]

_HOMES = {
    "CoordinatorClient": "client",
    "CoordinatorSettings": "settings",
    "create_app": "app",
    "serve": "serving",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: a client needs no server's packages."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
