"""Run a coordinator until it is told to stop."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

import uvicorn

from noob_cloud.coordinator.app import create_app
from noob_cloud.coordinator.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from noob_cloud.coordinator.settings import CoordinatorSettings

_YOUNG = 50_000
"""New objects that set off a collection."""
_SWITCH_SECONDS = 0.0005
"""How long the event loop and the writer's thread may keep each other from running."""


class _Server(uvicorn.Server):
    """Lets those who poll go at once when it is told to stop."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain = drain
        self.on_start: Callable[[int], None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, on SIGTERM or Ctrl-C."""
        super().handle_exit(sig, frame)
        self._drain_soon()

    def _drain_soon(self) -> None:
        loop = getattr(self, "_own_loop", None)
        if loop is not None:
            loop.call_soon_threadsafe(self._drain)

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Listen, and say where."""
        import asyncio  # noqa: PLC0415 - uvicorn has chosen the loop by now

        self._own_loop = asyncio.get_running_loop()
        await super().startup(sockets=sockets)
        if self.on_start is not None and self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            self.on_start(port)


def serve(settings: CoordinatorSettings, *, on_start: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; requests under way are answered, polls are ended.

    Args:
        settings: how.
        on_start: called with the URL once it listens.

    Raises:
        ValueError: without a token it would be reachable from other machines.
        DatabaseVersionError, DatabaseDamagedError: see `create_app`.
        OSError: the port is taken.
    """
    settings.check_exposed()
    app = create_app(settings)
    sys.setswitchinterval(_SWITCH_SECONDS)
    # what is loaded by now stays: a collection looks only at what requests leave, and a request of
    # thousands of values does not set off several
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG)
    server = _Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_level="warning",
            access_log=False,
            loop="uvloop",
            http=Connection,
            ws="none",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(settings.drain_seconds) or None,
            backlog=2048,
            server_header=False,
            proxy_headers=False,
        ),
        app.coordinator.drain,
    )
    if on_start is not None:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        server.on_start = lambda port: on_start(f"http://{host}:{port}")
    server.run()
