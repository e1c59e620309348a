"""The coordinator's door: identity, limits and errors for every route, frames for the hot ones.

Raw ASGI: a hot request costs no framework. Everything else goes on to FastAPI with its identity
known and its body read.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from noob_cloud.codec import Limits
from noob_cloud.coordinator import traces, wire
from noob_cloud.coordinator.answers import body_of, headers_of, status_of
from noob_cloud.coordinator.body import GoneError, Room, read
from noob_cloud.exceptions import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    import msgspec

    from noob_cloud.coordinator.service import Coordinator
    from noob_cloud.identity import Identity

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)
OPEN: Final = frozenset(("/health", "/", "/dashboard", "/favicon.ico"))
"""Paths that want no token: whether it lives, and a page that holds no data."""
_FRAME = wire.FRAME_TYPE.encode()
_ITEMS = 4_000_000
"""Values in one frame of a hot route."""
_LONGEST_AGAIN = 600.0
"""A request that was first sent longer ago, in seconds, is taken for one of that age."""
_OURS = 500
"""From here on a status says that the coordinator failed, or is away."""
_SMALL = 1 << 18
"""Bytes of a body that is served without leaving the event loop."""


class Caller:
    """Whoever waits for an answer."""

    __slots__ = ("_receive", "_watch")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None

    def gone(self) -> asyncio.Task[None]:
        """Done when the client has hung up."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._wait_for_end())
        return self._watch

    async def _wait_for_end(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.cancel()


class Request(Caller):
    """What a hot route needs to know of a request."""

    __slots__ = ("again", "body", "limits", "now", "trace", "who")

    def __init__(
        self,
        who: Identity,
        body: bytes,
        limits: Limits,
        receive: Receive,
        *,
        now: float | None,
        again: float | None,
        trace: bytes | None = None,
    ) -> None:
        super().__init__(receive)
        self.who = who
        self.body = body
        self.limits = limits
        self.now = now
        self.again = again
        self.trace = trace


class Door:
    """The ASGI application in front of FastAPI's.

    Args:
        coordinator: whom it lets in, and what for.
        app: where requests go that are not hot.
    """

    def __init__(self, coordinator: Coordinator, app: App) -> None:
        self.coordinator = coordinator
        self.app = app
        settings = coordinator.settings
        self._limits = Limits(total=settings.max_body, body=settings.max_body, items=_ITEMS)
        self.room = Room(settings.max_bodies)
        self._hot: dict[str, Callable[[Request], Awaitable[msgspec.Struct]]] = {
            "/tasks": self._submit,
            "/claims": self._claim,
            "/outcomes": self._settle,
            "/heartbeats": self._beat,
            "/settled": self._settled,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            if message.get("status", 200) >= _OURS:
                self.coordinator.health.refuse()
            await send(message)

        try:
            await self._serve(scope, receive, noted)
        except GoneError:
            return
        except Exception as error:  # noqa: BLE001 - every error has an answer
            if not started:
                await _refuse(error, noted, scope)
            else:  # FastAPI has answered
                _log.exception("%s %s failed", scope["method"], scope["path"])

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        path = scope["path"]
        who = self._identify(path, headers)
        if self.coordinator.draining and path != "/health":
            raise UnavailableError("The coordinator is shutting down.")
        settings = self.coordinator.settings
        limit = settings.max_blob if path.startswith("/blobs/") else settings.max_body
        body, taken = await read(headers, receive, limit, self.room)
        try:
            await self._answer(scope, headers, body, who, receive, send)
        finally:
            self.room.used -= taken

    async def _answer(
        self,
        scope: Scope,
        headers: dict[bytes, bytes],
        body: bytes,
        who: Identity | None,
        receive: Receive,
        send: Send,
    ) -> None:
        hot = None
        if scope["method"] == "POST" and headers.get(b"content-type") == _FRAME:
            hot = self._hot.get(scope["path"])
        if hot is None:
            caller = Caller(receive)
            state = {"identity": who, "now": self._now(headers), "caller": caller}
            scope.setdefault("state", {}).update(state)
            try:
                await self.app(scope, _replay(body, receive), send)
            finally:
                caller.close()
            return
        assert who is not None  # noqa: S101 - hot routes are not open
        again = _seconds(headers.get(b"noob-again"))
        request = Request(
            who,
            body,
            self._limits,
            receive,
            now=self._now(headers),
            again=again,
            trace=headers.get(b"traceparent"),
        )
        try:
            answer = wire.to_frame(await hot(request))
        finally:
            request.close()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", _FRAME),
                    (b"content-length", str(len(answer)).encode()),
                ],
            }
        )
        await send({"type": "http.response.body", "body": answer})

    def _identify(self, path: str, headers: dict[bytes, bytes]) -> Identity | None:
        if path in OPEN:
            return None
        said = headers.get(b"authorization")
        if b"noob-token" in headers:  # behind a gateway, which wants a signature there
            said = b"Bearer " + headers[b"noob-token"]
        return self.coordinator.tokens.authenticate(
            None if said is None else said.decode("utf-8", "surrogateescape")
        )

    def _now(self, headers: dict[bytes, bytes]) -> float | None:
        if not self.coordinator.settings.client_clock:
            return None
        said = headers.get(b"noob-now")
        return None if said is None else float(said)

    # ---- the hot routes

    async def _submit(self, request: Request) -> wire.Submitted:
        body = wire.from_frame(wire.Submit, request.body, request.limits)
        small = len(request.body) <= _SMALL
        mark = 0 if body.once is None else crc32(request.body)
        return await self.coordinator.submit(
            request.who,
            body,
            request.now,
            mark=mark,
            small=small,
            trace=None if request.trace is None else traces.sampled(request.trace),
        )

    async def _claim(self, request: Request) -> wire.Claimed:
        ask = wire.from_frame(wire.Ask, request.body, request.limits)
        gone = request.gone() if ask.wait > 0 else None
        return await self.coordinator.claim(request.who, ask, request.now, gone, request.again)

    async def _settle(self, request: Request) -> wire.Settled:
        body = wire.from_frame(wire.Outcomes, request.body, request.limits)
        small = len(request.body) <= _SMALL
        return await self.coordinator.settle(
            request.who, body, request.now, again=request.again, small=small
        )

    async def _beat(self, request: Request) -> wire.Beaten:
        body = wire.from_frame(wire.Beat, request.body, request.limits)
        return await self.coordinator.beat(request.who, body, request.now)

    async def _settled(self, request: Request) -> wire.Views:
        body = wire.from_frame(wire.Wait, request.body, request.limits)
        return await self.coordinator.wait_settled(request.who, body)


def _seconds(said: bytes | None) -> float | None:
    """Return how long ago a request was first sent; None if this is the first time."""
    if said is None:
        return None
    try:
        found = float(said)
    except ValueError:
        return 0.0
    return min(found, _LONGEST_AGAIN) if found > 0 else 0.0


def _replay(body: bytes, receive: Receive) -> Receive:
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(error: Exception, send: Send, scope: Scope) -> None:
    status = status_of(error)
    if status == 500:  # noqa: PLR2004 - HTTP's
        _log.exception("%s %s failed", scope["method"], scope["path"], exc_info=error)
    body = body_of(error)
    headers = [*headers_of(status), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
