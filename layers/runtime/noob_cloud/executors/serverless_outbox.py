"""What has been submitted and not yet sent: a thread sends all that waits as one request."""

from __future__ import annotations

from collections import deque
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from noob_cloud.executors.serverless_future import TaskFuture

__all__ = ["Entry", "Outbox"]

MOST = 2_000
"""Tasks in one request."""
BYTES = 4 * 1024 * 1024
"""Bytes of one request, where it has more than one task: API gateways take 10 MB."""


class Entry(NamedTuple):
    """A task on its way."""

    submission: dict[str, Any]
    future: TaskFuture
    size: int
    """Bytes of its payload."""


class Outbox:
    """Sends entries in their order; how many travel together follows from how many wait.

    Args:
        send: submits some, in the outbox's own thread; it deals with its errors itself.
    """

    def __init__(self, send: Callable[[Sequence[Entry]], None]) -> None:
        self._send = send
        self._entries: deque[Entry] = deque()
        self._change = Condition()
        self._sending = False
        self._closed = False
        self._thread: Thread | None = None

    def put(self, entry: Entry) -> None:
        """Have it sent soon."""
        with self._change:
            self._entries.append(entry)
            if self._thread is None:
                self._thread = Thread(target=self._run, name="noob-outbox", daemon=True)
                self._thread.start()
            self._change.notify_all()

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all that was put in has been sent, or `timeout` seconds."""
        with self._change:
            self._change.wait_for(lambda: not (self._entries or self._sending), timeout)

    def close(self) -> None:
        """Send what is there, and nothing more."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def _run(self) -> None:
        while batch := self._next():
            self._send(batch)

    def _next(self) -> list[Entry]:
        with self._change:
            self._sending = False
            self._change.notify_all()
            self._change.wait_for(lambda: self._entries or self._closed)
            batch: list[Entry] = []
            size = 0
            while self._entries and len(batch) < MOST:
                size += self._entries[0].size
                if batch and size > BYTES:
                    break
                batch.append(self._entries.popleft())
            self._sending = bool(batch)
            return batch
