"""What a blob store does; tests/conformance/test_blobs.py holds every store to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from noob_cloud.cid import cid
from noob_cloud.exceptions import BlobCorruptError, BlobNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Data = bytes | bytearray | memoryview | Sequence[bytes | memoryview]

__all__ = ["BlobInfo", "BlobStore", "join", "not_found", "verify"]


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """What a store knows of a blob without reading it."""

    cid: str
    size: int
    """Bytes."""
    stored_at: float
    """Unix time, in seconds, at which it was put for the last time."""


@runtime_checkable
class BlobStore(Protocol):
    """Values by cid. Safe to use from several threads; a method that fails leaves no half a blob.

    Every method that takes a cid raises DecodeError where it is none.
    """

    def put(self, data: Data, *, now: float | None = None) -> str:
        """Store bytes (or parts, one after the other) and return their cid.

        Putting what is there already costs little, and makes it young again for `collect`.

        Args:
            data: The bytes.
            now: Unix time to note, where the store does not have a clock of its own.
        """
        ...

    def get(self, cid: str) -> bytes:
        """Return the blob's bytes, verified.

        Raises:
            BlobNotFoundError: There is no such blob.
            BlobCorruptError: The bytes stored are not what the cid names.
        """
        ...

    def get_range(self, cid: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start` on, fewer at the end, unverified.

        Raises:
            BlobNotFoundError: There is no such blob.
            ValueError: `start` or `length` is negative.
        """
        ...

    def has(self, cid: str) -> bool:
        """Whether the blob is stored here."""
        ...

    def stat(self, cid: str) -> BlobInfo:
        """Return the blob's size and age.

        Raises:
            BlobNotFoundError: There is no such blob.
        """
        ...

    def list(self) -> Iterator[BlobInfo]:
        """Yield every blob, in no particular order, one page at a time where there are pages."""
        ...

    def delete(self, cid: str, *, stored_before: float | None = None) -> bool:
        """Remove a blob and say whether it was removed.

        Args:
            cid: The blob.
            stored_before: Leave it if it was put (again) at this Unix time or later.
        """
        ...


def join(data: Data) -> bytes:
    """Return `data` as one byte string."""
    return bytes(data) if isinstance(data, bytes | bytearray | memoryview) else b"".join(data)


def verify(name: str, data: bytes, place: str) -> bytes:
    """Return `data` if it is what `name` names.

    Raises:
        BlobCorruptError: It is not.
    """
    found = cid(data)
    if found != name:
        raise BlobCorruptError(
            f"The blob {name} in {place} is damaged: its {len(data)} bytes are those of {found}."
            " Delete it and put it again.",
            cid=name,
        )
    return data


def not_found(name: str, place: str) -> BlobNotFoundError:
    """Return the error for a blob that is not there."""
    return BlobNotFoundError(f"No blob {name} is in {place}.", cid=name)


def check_range(start: int, length: int) -> None:
    """Refuse a range that no blob has."""
    if start < 0 or length < 0:
        raise ValueError(f"A range begins at 0 or later and is not negative: {start}, {length}.")
