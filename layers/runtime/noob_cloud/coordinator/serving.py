"""Run a coordinator until it is told to stop."""

from __future__ import annotations

import gc
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import uvicorn

from noob_cloud.coordinator.app import create_app
from noob_cloud.coordinator.connection import Connection
from noob_cloud.coordinator.durability import Durability, Guard, Place
from noob_cloud.exceptions import LeaseTakenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from noob_cloud.coordinator.durability import Barrier
    from noob_cloud.coordinator.hot import Door
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
        """Begin to stop, on SIGTERM or Ctrl-C; once more changes nothing: the end is bounded."""
        super().handle_exit(sig, frame)
        self.force_exit = False  # it would leave the file open, and log a traceback
        self._drain_soon()

    def leave(self) -> None:
        """Begin to stop, from another thread."""
        self.should_exit = True
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

    With a replica it first waits for the lease, and restores.

    Args:
        settings: how.
        on_start: called with the URL once it listens.

    Raises:
        ValueError: without a token it would be reachable from other machines.
        DatabaseVersionError, DatabaseDamagedError: see `create_app`.
        LeaseTakenError: another coordinator took over while this one served.
        ReplicaError, UnavailableError: the replica cannot be restored, or not be written.
        OSError: the port is taken.
    """
    settings.check_exposed()
    if settings.replica is None:
        _run(settings, create_app(settings), on_start)
        return
    with _hand_over_on_sigterm(), _durability(settings) as durable:
        app = create_app(
            settings.model_copy(update={"db_path": durable.path, "epoch": durable.epoch}),
            blobs=durable.blobs(),
        )
        _run(settings, app, on_start, durable)
    if durable.superseded:
        raise LeaseTakenError(
            f"Another coordinator took over the replica {settings.replica}; this one has stopped."
        )


@contextmanager
def _hand_over_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end this thread's work as an exception does, once: the lease is given away."""

    def leave(_signal: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _durability(settings: CoordinatorSettings) -> Durability:
    assert settings.replica is not None  # noqa: S101 - asked before
    assert settings.db_path is not None  # noqa: S101 - checked by the settings
    place = Place.parse(settings.replica)
    return Durability(
        place,
        settings.db_path.with_name(f"{settings.db_path.name}.served"),
        seconds=settings.replica_lease_seconds,
        url=settings.url or f"http://{settings.host}:{settings.port}",
        kept_hours=settings.replica_kept_hours,
    )


def _guard(app: Door, barrier: Barrier, *, replicated: bool) -> Guard:
    health = app.coordinator.health
    if replicated:
        health.barrier = barrier
    return Guard(app, barrier, replicated=replicated, on_refused=health.refuse)


def _run(
    settings: CoordinatorSettings,
    app: Door,
    on_start: Callable[[str], None] | None,
    durable: Durability | None = None,
) -> None:
    sys.setswitchinterval(_SWITCH_SECONDS)
    # what is loaded by now stays: a collection looks only at what requests leave, and a request of
    # thousands of values does not set off several
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG)
    guarded: Any = app
    if durable is not None:
        guarded = _guard(app, durable.barrier(), replicated=settings.ack == "replicated")
    server = _Server(
        uvicorn.Config(
            guarded,
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
    if durable is not None:
        durable.on_lost = server.leave
    server.run()
