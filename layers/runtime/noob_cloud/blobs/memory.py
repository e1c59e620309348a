"""Blobs in this process: for tests and for queues that do not outlive it."""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING

from noob_cloud.blobs.interface import BlobInfo, check_range, join, not_found, verify
from noob_cloud.cid import cid as cid_of_bytes
from noob_cloud.cid import parse_cid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from noob_cloud.blobs.interface import Data

__all__ = ["MemoryStore"]

_PLACE = "memory"


class MemoryStore:
    """A BlobStore in a dict."""

    def __init__(self) -> None:
        self._blobs: dict[str, tuple[bytes, float]] = {}
        self._lock = Lock()

    def put(self, data: Data, *, now: float | None = None) -> str:
        """Store bytes and return their cid."""
        blob = join(data)
        name = cid_of_bytes(blob)
        with self._lock:
            self._blobs[name] = (blob, time.time() if now is None else now)
        return name

    def get(self, cid: str) -> bytes:
        """Return the blob's bytes, verified."""
        return verify(cid, self._entry(cid)[0], _PLACE)

    def get_range(self, cid: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start` on."""
        check_range(start, length)
        return self._entry(cid)[0][start : start + length]

    def has(self, cid: str) -> bool:
        """Whether the blob is stored here."""
        parse_cid(cid)
        return cid in self._blobs

    def stat(self, cid: str) -> BlobInfo:
        """Return the blob's size and age."""
        blob, stored_at = self._entry(cid)
        return BlobInfo(cid, len(blob), stored_at)

    def list(self) -> Iterator[BlobInfo]:
        """Yield every blob that was there when the listing began."""
        with self._lock:
            entries = [BlobInfo(name, len(blob), at) for name, (blob, at) in self._blobs.items()]
        yield from entries

    def delete(self, cid: str, *, stored_before: float | None = None) -> bool:
        """Remove a blob and say whether it was removed."""
        parse_cid(cid)
        with self._lock:
            entry = self._blobs.get(cid)
            if entry is None or (stored_before is not None and entry[1] >= stored_before):
                return False
            del self._blobs[cid]
            return True

    def _entry(self, name: str) -> tuple[bytes, float]:
        parse_cid(name)
        try:
            return self._blobs[name]
        except KeyError:
            raise not_found(name, _PLACE) from None
