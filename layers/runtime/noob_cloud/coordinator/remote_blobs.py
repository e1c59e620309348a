"""A coordinator's blob store, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from noob_cloud.exceptions import BlobNotFoundError

if TYPE_CHECKING:
    from noob_cloud.coordinator.transport import Transport

_OCTETS: Final = {"Content-Type": "application/octet-stream"}


class RemoteBlobs:
    """The coordinator's blob store."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def put(self, data: bytes) -> str:
        """Keep `data` and return its cid."""
        from noob_cloud.cid import cid  # noqa: PLC0415 - loads blake3

        name = cid(data)
        self._transport.send("PUT", f"/blobs/{name}", bytes(data), headers=_OCTETS)
        return name

    def get(self, cid: str) -> bytes:
        """Return the bytes with this cid, verified.

        Raises:
            BlobNotFoundError: there are none.
            BlobCorruptError: what arrived has another cid.
        """
        from noob_cloud.blobs.interface import verify  # noqa: PLC0415 - loads blake3

        data = self._transport.send("GET", f"/blobs/{quote(cid, safe='')}").body
        return verify(cid, data, self._transport.url)

    def get_range(self, cid: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start` on, unverified."""
        if length == 0:
            return b""
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        return self._transport.send("GET", f"/blobs/{quote(cid, safe='')}", headers=headers).body

    def has(self, cid: str) -> bool:
        """Whether the coordinator has it."""
        try:
            self.get_range(cid, 0, 1)
        except BlobNotFoundError:
            return False
        return True
