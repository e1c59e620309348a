"""Which bytes of a stretch are in use: the twin in Python of the core's allocator.

A stack of free regions for each size class lies over a first-fit map. What was used last is used
first, and addresses never written are taken only when nothing below fits, so that few pages are
touched: the first write to a page costs more than the allocation.
"""

from __future__ import annotations

from functools import lru_cache
from threading import Lock
from typing import TypedDict

from noob_cloud.buffers.error import ArenaFullError

__all__ = ["ALIGN", "Allocator", "AllocatorStats", "PoolStats", "class_size"]

ALIGN = 64
"""Every region starts at a multiple of this many bytes: a cache line."""


class AllocatorStats(TypedDict):
    """What an allocator has handed out, in bytes."""

    capacity: int
    in_use: int
    buffers: int
    """How many regions are in use."""
    high_water: int
    """Most bytes ever in use at once."""
    touched: int
    """From the start to the end of the highest region since the last trim."""
    classes: dict[int, tuple[int, int]]
    """For each size of region that was asked for: served by one used before, and not."""


class PoolStats(AllocatorStats):
    """What a pool has handed out, in bytes."""

    leaked: list[int]
    """Sizes of what had not been given back when the pool was closed, largest first."""
    numa: str
    """Where the pages come from, in words."""


@lru_cache(1024)
def class_size(size: int) -> int:
    """Say how large a region for `size` bytes is: at most a quarter more, or one cache line.

    There is a class for every cache line up to 512 bytes, then four to each doubling.
    """
    units = (size + ALIGN - 1) // ALIGN
    if units <= 8:  # noqa: PLR2004 - see above
        return units * ALIGN
    power = (units - 1).bit_length() - 1
    step = 1 << (power - 2)
    steps = (units - (1 << power) + step - 1) // step
    return ((1 << power) + steps * step) * ALIGN


class _Class:
    """The free regions of one size, and what became of the takes of it."""

    __slots__ = ("free", "hits", "misses")

    def __init__(self) -> None:
        self.free: list[int] = []
        self.hits = self.misses = 0


class Allocator:
    """Hand out regions of `[start, stop)` in size classes; thread safe.

    Args:
        start: first byte, a multiple of 64.
        stop: the byte behind the last one.

    Raises:
        ValueError: `start` is no multiple of 64, or lies behind `stop`.
    """

    def __init__(self, start: int, stop: int) -> None:
        if start % ALIGN or start < 0 or stop < start:
            raise ValueError(
                f"a stretch starts at a multiple of {ALIGN} and ends behind its start,"
                f" not {start}, {stop}"
            )
        self.capacity = stop - start
        self.used = 0
        self._start, self._stop = start, stop
        self._high_water = 0
        self._frontier = start
        self._stretches = [(start, stop)]
        self._classes: dict[int, _Class] = {}
        self._live: dict[int, int] = {}
        self._lock = Lock()

    def take(self, size: int) -> tuple[int, int]:
        """Take at least `size` bytes; give `(offset, length)`, the length that of the size class.

        Raises:
            ArenaFullError: no free stretch is long enough.
            ValueError: `size` is less than 1.
        """
        if size < 1:
            raise ValueError("a buffer has at least 1 byte")
        with self._lock:
            if size > self.capacity:
                raise self._full(size)
            length = class_size(size)
            of_size = self._classes.get(length)
            if of_size is None:
                of_size = self._classes[length] = _Class()
            if of_size.free:
                of_size.hits += 1
                offset = of_size.free.pop()
            else:
                of_size.misses += 1
                found = self._cut(length)
                if found is None:
                    length = (size + ALIGN - 1) & -ALIGN
                    found = self._cut(length)
                    if found is None:
                        raise self._full(size)
                offset = found
            self._live[offset] = length
            used = self.used = self.used + length
            if used > self._high_water:  # noqa: PLR1730 - a call of max costs as much as the rest
                self._high_water = used
            return offset, length

    def give(self, region: tuple[int, int]) -> None:
        """Give back what `take` gave.

        Raises:
            ValueError: the region is not in use; nothing changes then.
        """
        offset, length = region
        with self._lock:
            if self._live.get(offset) != length:
                raise ValueError(
                    f"the region of {length} bytes at {offset} is not in use: it was given back"
                    " before, or never taken"
                )
            del self._live[offset]
            self.used -= length
            if class_size(length) == length:
                of_size = self._classes.get(length)
                if of_size is None:  # cut without rounding, and a class's size by chance
                    of_size = self._classes[length] = _Class()
                of_size.free.append(offset)
            else:
                self._merge([(offset, offset + length)])

    def live(self) -> list[int]:
        """Give the sizes of what is in use, largest first."""
        with self._lock:
            return sorted(self._live.values(), reverse=True)

    def touch(self, size: int) -> None:
        """Count the first `size` bytes as touched already."""
        with self._lock:
            self._frontier = max(self._frontier, min(self._stop, self._start + size))

    def trim(self, keep: int = 0) -> list[tuple[int, int]]:
        """Give the free stretches above the first `keep` bytes that were used since the last trim.

        What lies in them, `(start, stop)` each, may be forgotten.
        """
        with self._lock:
            self._coalesce()
            floor = min(self._start + keep, self._stop)
            idle = [
                (max(start, floor), min(stop, self._frontier))
                for start, stop in self._stretches
                if max(start, floor) < min(stop, self._frontier)
            ]
            last = self._stretches[-1] if self._stretches else (0, 0)
            highest = last[0] if last[1] == self._stop else self._stop
            self._frontier = min(self._frontier, max(highest, floor))
            return idle

    def stats(self) -> AllocatorStats:
        """Say what has been handed out so far."""
        with self._lock:
            asked = sorted((n, c) for n, c in self._classes.items() if c.hits or c.misses)
            return {
                "capacity": self.capacity,
                "in_use": self.used,
                "buffers": len(self._live),
                "high_water": self._high_water,
                "touched": self._frontier - self._start,
                "classes": {n: (c.hits, c.misses) for n, c in asked},
            }

    def _full(self, size: int) -> ArenaFullError:
        size = (size + ALIGN - 1) & -ALIGN
        return ArenaFullError(
            f"{size} bytes do not fit the shared arena of {self.capacity} bytes, of which "
            f"{self.used} are in use",
            size=size,
            capacity=self.capacity,
        )

    def _cut(self, length: int) -> int | None:
        """Cut from the lowest stretch that is long enough, coalescing before new pages are used."""
        index = self._first_fit(length)
        if index is None or self._stretches[index][0] + length > self._frontier:
            self._coalesce()
            index = self._first_fit(length)
        if index is None:
            return None
        offset, stop = self._stretches[index]
        if offset + length == stop:
            del self._stretches[index]
        else:
            self._stretches[index] = (offset + length, stop)
        self._frontier = max(self._frontier, offset + length)
        return offset

    def _first_fit(self, length: int) -> int | None:
        for index, (start, stop) in enumerate(self._stretches):
            if stop - start >= length:
                return index
        return None

    def _coalesce(self) -> None:
        """Empty the stacks into the map."""
        back = []
        for length, of_size in self._classes.items():
            back += [(offset, offset + length) for offset in of_size.free]
            of_size.free.clear()
        if back:
            self._merge(back)

    def _merge(self, back: list[tuple[int, int]]) -> None:
        merged: list[tuple[int, int]] = []
        for start, stop in sorted(self._stretches + back):
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], stop)
            else:
                merged.append((start, stop))
        self._stretches = merged
