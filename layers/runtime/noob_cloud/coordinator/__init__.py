"""A queue of tasks over HTTP, for workers anywhere, and runs that need no client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noob_cloud.lazy import from_homes

if TYPE_CHECKING:
    from noob_cloud.coordinator.app import create_app
    from noob_cloud.coordinator.client import CoordinatorClient
    from noob_cloud.coordinator.serving import serve
    from noob_cloud.coordinator.settings import CoordinatorSettings

__all__ = ["CoordinatorClient", "CoordinatorSettings", "create_app", "serve"]

__getattr__ = from_homes(
    __name__,
    {
        "CoordinatorClient": "noob_cloud.coordinator.client",
        "CoordinatorSettings": "noob_cloud.coordinator.settings",
        "create_app": "noob_cloud.coordinator.app",
        "serve": "noob_cloud.coordinator.serving",
    },
)
