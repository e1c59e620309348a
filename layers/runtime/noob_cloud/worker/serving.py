"""The worker's HTTP server: it drains when it is told to stop, and stops at the second word."""

from __future__ import annotations

import signal
from threading import Thread
from typing import TYPE_CHECKING

import uvicorn

from noob_cloud.coordinator.connection import Connection
from noob_cloud.worker.server import create_app

if TYPE_CHECKING:
    import socket
    from types import FrameType

    from noob_cloud.worker.service import WorkerService
    from noob_cloud.worker.settings import WorkerSettings

_MARGIN = 5
"""Seconds beyond the drain for answers to be sent."""
_KEEP_ALIVE = 75


class WorkerServer(uvicorn.Server):
    """Serves a worker's application until a signal, or `POST /shutdown`.

    The first SIGTERM or SIGINT lets running calls end, within `drain_seconds`; the second ends
    at once.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        app = create_app(settings, on_shutdown=self.end)
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=int(settings.drain_seconds) + _MARGIN,
            )
        )
        self._app = app

    def serve_on(self, listener: socket.socket) -> bool:
        """Serve on a bound socket until the end; whether it ever began."""
        self.run(sockets=[listener])
        return self.started

    def end(self) -> None:
        """End when the running requests are answered."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler
        """Drain at the first signal, end at the second."""
        if self.should_exit:
            self.force_exit = sig == signal.SIGINT or self.force_exit
        seconds = 0.0 if self.should_exit else None
        self.should_exit = True
        service: WorkerService | None = getattr(self._app.state, "service", None)
        if service is not None:
            Thread(target=service.drain, args=(seconds,), daemon=True).start()
