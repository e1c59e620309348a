"""Slots that are threads of the worker's own process: fast, and only as safe as the nodes."""

from __future__ import annotations

import ctypes
from threading import Lock, Semaphore, Thread
from typing import TYPE_CHECKING

from noob_cloud.exceptions import TaskCancelledError, TaskTimeoutError
from noob_cloud.worker import child
from noob_cloud.worker.cache import TubeCache
from noob_cloud.worker.slots import failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noob_cloud.worker.child import Reply
    from noob_cloud.worker.slots import Stop

_GRACE = 0.5


class _Place:
    """One call in a thread of its own."""

    def __init__(self, kind: bytes, frame: bytes, tubes: TubeCache) -> None:
        self.reply: Reply | None = None
        self._lock = Lock()
        self._running = True
        self.thread = Thread(target=self._work, args=(kind, frame, tubes), daemon=True)

    def interrupt(self) -> None:
        """Raise in the thread, as soon as it runs Python code again."""
        with self._lock:
            if self._running and self.thread.ident is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self.thread.ident), ctypes.py_object(TaskCancelledError)
                )

    def _work(self, kind: bytes, frame: bytes, tubes: TubeCache) -> None:
        try:
            self.reply = child.answer(kind, frame, tubes)
            with self._lock:
                self._running = False
        except TaskCancelledError as error:  # it came between the node's end and ours
            self.reply = failed(error)


class ThreadSlots:
    """Each call in a thread, `limit` at once.

    A call is stopped by an exception raised in its thread, so one that is inside C code goes on
    until it comes back; it is answered for and forgotten. Use `ProcessSlots` where nodes may
    hang or crash.

    Args:
        limit: calls at once.
        allowed_modules: prefixes of the modules that a tube may import; None: any.
    """

    def __init__(self, limit: int, *, allowed_modules: Sequence[str] | None) -> None:
        self.limit = limit
        self.tubes = TubeCache(allowed_modules=allowed_modules)
        self._places = Semaphore(limit)
        self._stops: set[Stop] = set()
        self._lock = Lock()

    def run(
        self, frame: bytes, *, timeout: float | None, stop: Stop, kind: bytes = child.CALL
    ) -> Reply:
        """Run one call; the answer's kind is one of `child`'s."""
        with self._places:
            place = _Place(kind, frame, self.tubes)
            if not stop.enter(place):
                return failed(TaskCancelledError(stop.reason))
            with self._lock:
                self._stops.add(stop)
            try:
                place.thread.start()
                return self._wait(place, timeout, stop)
            finally:
                stop.leave()
                with self._lock:
                    self._stops.discard(stop)

    def _wait(self, place: _Place, timeout: float | None, stop: Stop) -> Reply:
        left = timeout
        while left is None or left > 0:
            slice_ = 0.1 if left is None else min(0.1, left)
            place.thread.join(slice_)
            if not place.thread.is_alive() or stop.reason is not None:
                break
            left = None if left is None else left - slice_
        if place.thread.is_alive():
            if stop.reason is None:
                place.interrupt()
            place.thread.join(_GRACE)
        if stop.reason is not None:
            return failed(TaskCancelledError(stop.reason))
        if place.reply is None or (left is not None and left <= 0):
            return failed(TaskTimeoutError(f"the task ran longer than its {timeout} seconds"))
        return place.reply

    def warm(self) -> None:
        """Import what every call needs."""
        from noob_cloud.engine import StageProgram  # noqa: F401, PLC0415 - the import is the point

    def load(self, document: bytes) -> Reply:
        """Load a tube, and keep it."""
        return child.load(document, self.tubes)

    def close(self) -> None:
        """Stop what runs; let the tubes go."""
        with self._lock:
            stops = list(self._stops)
        for stop in stops:
            stop("the worker is shutting down")
        self.tubes.close()
