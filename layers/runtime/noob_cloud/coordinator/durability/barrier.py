"""No answer leaves before what it reveals is in S3, and none without the lease."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from noob_cloud.coordinator.answers import body_of, headers_of
from noob_cloud.exceptions import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from noob_cloud.coordinator.hot import App, Message, Receive, Scope, Send

_UNGUARDED = frozenset(("/health",))
"""Paths whose answers reveal no commit."""


class Barrier:
    """Waits until every commit so far is replicated; one copy serves all who wait (group commit).

    Args:
        version: changes with every commit to the file.
        sync: returns once every commit before its call is in S3.
        valid: whether this coordinator can prove its lease.
    """

    def __init__(
        self,
        version: Callable[[], int],
        sync: Callable[[], Awaitable[None]],
        valid: Callable[[], bool],
    ) -> None:
        self._version = version
        self._sync = sync
        self._valid = valid
        self._synced: int | None = None
        self._current: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self.rounds = 0
        """How often it has copied."""
        self._behind_since: float | None = None
        """Monotonic time since which a commit waits that somebody wants answered."""
        self._lasted = 0.0
        self._worst = 0.0

    async def cross(self) -> None:
        """Return when all that was committed before the call is in S3 and the lease holds still.

        Raises:
            UnavailableError: it could not be replicated, or the lease cannot be proved.
        """
        if self._version() != self._synced:
            if self._behind_since is None:
                self._behind_since = monotonic()
            if self._next is None:
                self._next = asyncio.get_running_loop().create_task(self._round(self._current))
                self._next.add_done_callback(_look)
            await asyncio.shield(self._next)
        self.check()

    def lag(self) -> float:
        """Return for how many seconds the oldest commit waits, or what the newest copy took."""
        since = self._behind_since
        return self._lasted if since is None else max(self._lasted, monotonic() - since)

    def worst_lag(self) -> float:
        """Return the longest lag since this was asked last, in seconds."""
        worst, self._worst = max(self._worst, self.lag()), 0.0
        return worst

    def check(self) -> None:
        """Raise `UnavailableError` if the lease cannot be proved now."""
        if not self._valid():
            raise UnavailableError(
                "This coordinator cannot prove its lease now: it answers again when S3 does, or its"
                " successor does."
            )

    async def _round(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            with suppress(UnavailableError):
                await asyncio.shield(before)
        self._current, self._next = self._next, None  # who comes now needs another round
        version = self._version()
        self.rounds += 1
        begun = monotonic()
        await self._sync()
        self._synced = version
        now = monotonic()
        self._lasted = now - begun
        self._worst = max(self._worst, now - (self._behind_since or begun))
        self._behind_since = None if self._next is None else begun


def _look(done: asyncio.Task[None]) -> None:
    """Take note of an error that all who waited for it are gone from."""
    if not done.cancelled():
        done.exception()


class Guard:
    """The coordinator's application with a barrier before each of its answers.

    Args:
        app: the application.
        barrier: of its file.
        replicated: whether to wait for it; else an answer leaves after the local commit, with the
            lease checked.
        on_refused: called for each answer that could not leave.
    """

    def __init__(
        self,
        app: App,
        barrier: Barrier,
        *,
        replicated: bool = True,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self.app = app
        self._on_refused = on_refused
        self.barrier = barrier
        self._header = (b"noob-ack", b"replicated" if replicated else b"local")
        self._replicated = replicated

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in _UNGUARDED:
            await self.app(scope, receive, send)
            return
        begun = refused = False

        async def held(message: Message) -> None:
            nonlocal begun, refused
            if refused:
                return
            try:
                if self._replicated:
                    await self.barrier.cross()
                else:
                    self.barrier.check()
            except UnavailableError as error:
                refused = True
                self._on_refused()
                if begun:  # half an answer cannot be taken back: cut it off
                    raise
                await _refuse(error, send)
                return
            if not begun:
                message = {**message, "headers": [*message.get("headers", ()), self._header]}
                begun = True
            await send(message)

        await self.app(scope, receive, held)


async def _refuse(error: UnavailableError, send: Send) -> None:
    body = body_of(error)
    headers: list[Any] = [*headers_of(503), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
