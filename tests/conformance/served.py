"""A coordinator in a thread of this process, so that a test's clock is its clock."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import uvicorn

from noob_cloud.coordinator import CoordinatorSettings, create_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from noob_cloud.blobs import BlobStore
    from noob_cloud.coordinator.hot import Door
    from noob_cloud.queue import Clock

TOKEN = "conformance-token-0123456789"


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = Event()

    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets=sockets)
        self.listening.set()


@contextmanager
def served(
    *,
    clock: Clock | None = None,
    blobs: BlobStore | None = None,
    behind: Callable[[Door], Any] = lambda door: door,
    **settings: object,
) -> Iterator[tuple[str, Door]]:
    """The URL of a coordinator, and its application; the token is `TOKEN`.

    `behind` makes what stands in front of it.
    """
    chosen = CoordinatorSettings(**{"token": TOKEN, "port": 0, "db_path": None, **settings})
    app = create_app(chosen, clock=clock, blobs=blobs)
    config = uvicorn.Config(
        behind(app), port=0, log_level="warning", access_log=False, http="httptools"
    )
    server = _Server(config)
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    assert server.listening.wait(10)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", app
    finally:
        app.coordinator.drain()
        server.should_exit = True
        thread.join(10)
