"""Values that travel as a cid: whoever needs the value fetches its frame from the blob store."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from noob_cloud.codec import loads, register
from noob_cloud.exceptions import WorkerError
from noob_cloud.task import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["ByCid", "Fetched", "InputFailedError", "MissingBlobsError", "resolving"]

_KEPT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ByCid:
    """Stands for a value, anywhere in a payload: the one in the frame with this cid."""

    cid: str


class MissingBlobsError(WorkerError, LookupError):
    """A payload names values by cid that are not here yet."""


class InputFailedError(WorkerError, RuntimeError):
    """What was to be the input of a task is the error of another one."""


@dataclass(slots=True)
class _Reading:
    """What is found while one payload is decoded."""

    frames: Mapping[str, Any]
    missing: dict[str, None]
    failed: Outcome | None = None


_reading: ContextVar[_Reading | None] = ContextVar("noob_cloud_by_cid", default=None)


@contextmanager
def resolving(frames: Mapping[str, Any]) -> Iterator[None]:
    """Let what is decoded inside have values in the place of their cids.

    Args:
        frames: the frames that are here, by cid.

    Raises:
        MissingBlobsError: others are needed; its `.cids` says which.
        InputFailedError: one of them is no value but the error of the task that was to make it;
            `.outcome` is that error.
    """
    found = _Reading(frames, {})
    token = _reading.set(found)
    try:
        yield
    finally:
        _reading.reset(token)
    if found.missing:
        raise MissingBlobsError(cids=list(found.missing))
    if found.failed is not None:
        raise InputFailedError(found.failed.message, outcome=found.failed)


def _decode(state: Any) -> Any:
    reading = _reading.get()
    if reading is None:
        return ByCid(state)
    frame = reading.frames.get(state)
    if frame is None:
        reading.missing[str(state)] = None
        return None
    value = loads(frame)
    if isinstance(value, Outcome) and not value.ok:
        reading.failed = value
    return value


register(ByCid, "noob_cloud:ByCid", encode=lambda value: value.cid, decode=_decode)


class Fetched:
    """Frames that were fetched lately: many tasks of one call share a large argument.

    Args:
        fetch: returns the bytes of a cid.
        limit: bytes that are kept.
    """

    def __init__(self, fetch: Callable[[str], bytes], *, limit: int = _KEPT_BYTES) -> None:
        self._fetch = fetch
        self._limit = limit
        self._frames: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def get(self, cid: str) -> bytes:
        """Return the frame with this cid; what `fetch` raises where there is none."""
        with self._lock:
            frame = self._frames.get(cid)
            if frame is not None:
                self._frames.move_to_end(cid)
                return frame
        frame = self._fetch(cid)
        with self._lock:
            if cid not in self._frames and len(frame) <= self._limit:
                self._frames[cid] = frame
                self._size += len(frame)
                while self._size > self._limit:
                    self._size -= len(self._frames.popitem(last=False)[1])
        return frame
