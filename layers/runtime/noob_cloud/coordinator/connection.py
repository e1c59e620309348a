"""A connection that must say what it wants: in time, and in few words.

Uvicorn waits for a request as long as its sender likes, and keeps as much of its head as is sent,
before anybody knows who it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from asyncio import TimerHandle, Transport

HEAD_BYTES: Final = 64 * 1024
"""Bytes of the head of a request."""


class Connection(HttpToolsProtocol):
    """Uvicorn's connection, with bounds on how long a request may be on its way.

    A request that comes in one piece, as those of programs do, sets no timer at all.
    """

    head_seconds = 20.0
    """How long the head of a request may take, and a connection may be without one."""
    body_seconds = 30.0
    """How long any body may take."""
    slowest = 16 * 1024
    """Bytes a second that a body must come with beyond that, on average."""

    _timer: TimerHandle | None = None
    _since = 0.0
    _size = 0
    """Bytes of this head, or of this body since the timer was set."""
    _in_head = True

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Give it time to send the first request."""
        super().connection_made(transport)
        self._wait(self.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; refuse a head that is too long."""
        super().data_received(data)
        cycle = self.cycle
        if not (self._in_head or self._timer or cycle.more_body or cycle.response_complete):
            return  # a whole request, as nearly always
        if self.transport.is_closing():
            return
        self._size += len(data)
        if self._in_head and self._size > HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large", "its head is too long")
        elif self._timer is None:
            # bytes between requests, or behind an answer, are no request and win no time
            if self._in_head or cycle.response_complete:
                self._wait(self.head_seconds)
            elif cycle.more_body:
                self._size = 0
                self._wait(self.body_seconds)

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._in_head = True
        self._size = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Go on to the body: who sends it is known from here on."""
        self._in_head = False
        if self._timer is not None:
            self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Have the whole request."""
        if self._timer is not None:
            self._stop_waiting()
        super().on_message_complete()

    def _wait(self, seconds: float) -> None:
        self._since = self.loop.time()
        self._timer = self.loop.call_later(seconds, self._look)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Hang up on a request that is too slow; leave one alone that is under way."""
        self._timer = None
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if self._in_head or cycle.response_complete:
            if cycle is not None and cycle.response_complete and not self._in_head:
                self.transport.close()  # it sends what nobody asked for
            elif self._size:
                self._refuse(b"408 Request Timeout", "its head came too slowly")
            else:
                self.transport.close()
        elif cycle.more_body:
            late = self._since + self.body_seconds + self._size / self.slowest - self.loop.time()
            if late > 0:
                self._timer = self.loop.call_later(max(late, 0.05), self._look)
            else:
                self._refuse(
                    b"408 Request Timeout",
                    f"its body came too slowly: send {self.slowest} bytes a second",
                )

    def _refuse(self, status: bytes, why: str) -> None:
        body = b'{"error":"HTTPError","message":"The request was dropped: %s."}' % why.encode()
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        self.transport.write(head % (status, len(body)) + b"connection: close\r\n\r\n" + body)
        self.transport.close()
