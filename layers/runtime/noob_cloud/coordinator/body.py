"""Take the body of a request, up to a size; `connection.py` sees to it that it comes in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob_cloud.exceptions import LimitError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class GoneError(Exception):
    """The client hung up before its request was complete."""


class Room:
    """How many bytes all large bodies together may take: those that come in several pieces."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> None:
        """Take room for more of a body.

        Raises:
            UnavailableError: there is none left.
        """
        if self.used + size > self.limit:
            raise UnavailableError(
                f"Bodies of {self.used} bytes are under way; the limit of all of them is"
                f" {self.limit}. Try again shortly.",
                limit=self.limit,
            )
        self.used += size


async def read(
    headers: dict[bytes, bytes], receive: Receive, limit: int, room: Room
) -> tuple[bytes, int]:
    """Return the whole body, and how much of `room` it takes: to be given back after the request.

    Raises:
        LimitError: it has more than `limit` bytes.
        UnavailableError: all bodies together have more than fits.
        GoneError: the client hung up.
    """
    said = headers.get(b"content-length")
    if said is not None and said.isdigit() and int(said) > limit:
        raise LimitError(f"The body has {int(said)} bytes; the limit is {limit}.", limit=limit)
    message = await _next(receive)
    body: bytes = message.get("body", b"")
    _check(len(body), limit)
    if not message.get("more_body", False):
        return body, 0
    taken = 0
    chunks: list[bytes] = []
    try:
        while True:
            _check(taken + len(body), limit)
            room.take(len(body))
            taken += len(body)
            chunks.append(body)
            if not message.get("more_body", False):
                return b"".join(chunks), taken
            message = await _next(receive)
            body = message.get("body", b"")
    except BaseException:
        room.used -= taken
        raise


async def _next(receive: Receive) -> MutableMapping[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise GoneError
    return message


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise LimitError(f"The body has more than {limit} bytes, the limit.", limit=limit)
