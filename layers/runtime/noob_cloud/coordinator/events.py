"""What happens, in order, for whoever follows it."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import count, islice
from time import time
from typing import Any

_KEPT = 10_000


class Events:
    """The latest events; each has a number larger than that of every one before.

    Numbers begin at the time of the start in microseconds, so they go on growing when the
    coordinator is started again, and a follower never sees one twice.
    """

    def __init__(self, *, kept: int = _KEPT, first: int | None = None) -> None:
        self._events: deque[dict[str, Any]] = deque(maxlen=kept)
        self._numbers = count(int(time() * 1e6) if first is None else first)
        self._news = asyncio.Event()
        self.last = next(self._numbers)

    def add(self, kind: str, **data: Any) -> None:
        """Say that something happened; call it in the event loop."""
        self.last = next(self._numbers)
        self._events.append({"id": self.last, "at": time(), "kind": kind, **data})
        self._news.set()
        self._news = asyncio.Event()

    def after(self, number: int, limit: int = 1000) -> list[dict[str, Any]]:
        """Return the oldest kept events behind `number`."""
        newer = 0
        for event in reversed(self._events):
            if event["id"] <= number:
                break
            newer += 1
        start = len(self._events) - newer
        return list(islice(self._events, start, start + limit))

    async def wait(self, number: int, seconds: float, limit: int = 1000) -> list[dict[str, Any]]:
        """Return events behind `number` as soon as there are any, or none after `seconds`."""
        found = self.after(number, limit)
        if found or seconds <= 0:
            return found
        news = self._news
        try:
            async with asyncio.timeout(seconds):
                await news.wait()
        except TimeoutError:
            return []
        return self.after(number, limit)

    def close(self) -> None:
        """Let everyone who waits go."""
        self._news.set()
