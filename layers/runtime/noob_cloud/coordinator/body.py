"""Take the body of a request, up to a size; `connection.py` sees to it that it comes in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob_cloud.exceptions import LimitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class GoneError(Exception):
    """The client hung up before its request was complete."""


async def read(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """Return the whole body.

    Raises:
        LimitError: it has more than `limit` bytes.
        GoneError: the client hung up.
    """
    said = headers.get(b"content-length")
    if said is not None and said.isdigit() and int(said) > limit:
        raise LimitError(f"The body has {int(said)} bytes; the limit is {limit}.", limit=limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise LimitError(f"The body has more than {limit} bytes, the limit.", limit=limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
