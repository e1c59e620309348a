"""Memory that a parent and one worker share: a control page, and an arena for each direction.

The memory has no name (it is a memfd): it is gone with the last process that
maps it, however those processes end. It is sparse: a page costs nothing until it is first written.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from bisect import insort

from noob_cloud.exceptions import LimitError

__all__ = ["Allocator", "ArenaFullError", "SharedMemory"]

_PAGE = 4096
_ALIGN = 64
_NEVER = 1 << 63

STARTED, REVOKED, CONSUMED, STARTED_AT = 0, 8, 16, 24
"""Words of the control page, each on a cache line of its own: the unit the worker has started, the
first unit it must not start any more, the replies the parent has read, and when, in nanoseconds of
the monotonic clock, the worker started its unit (kept for calls with a timeout only)."""


class ArenaFullError(LimitError):
    """The arena has no room for this now."""


class Allocator:
    """First-fit allocation in `[start, stop)`: low addresses first, so few pages are touched."""

    def __init__(self, start: int, stop: int) -> None:
        self.capacity = stop - start
        self.used = 0
        self._free = [(start, stop)]

    def take(self, size: int) -> tuple[int, int]:
        """Take `size` bytes; give `(offset, length)`, the length rounded up to a cache line.

        Raises:
            ArenaFullError: no free stretch is long enough.
        """
        size = (size + _ALIGN - 1) & -_ALIGN
        for index, (start, stop) in enumerate(self._free):
            if stop - start >= size:
                if stop - start == size:
                    del self._free[index]
                else:
                    self._free[index] = (start + size, stop)
                self.used += size
                return start, size
        raise ArenaFullError(
            f"{size} bytes do not fit the shared arena of {self.capacity} bytes, of which "
            f"{self.used} are in use",
            size=size,
            capacity=self.capacity,
        )

    def give(self, region: tuple[int, int]) -> None:
        """Give back what `take` gave."""
        start, size = region
        self.used -= size
        stop = start + size
        insort(self._free, (start, stop))
        index = self._free.index((start, stop))
        if index + 1 < len(self._free) and self._free[index + 1][0] == stop:
            stop = self._free.pop(index + 1)[1]
            self._free[index] = (start, stop)
        if index and self._free[index - 1][1] == start:
            self._free[index - 1 : index + 1] = [(self._free[index - 1][0], stop)]


class SharedMemory:
    """The mapping of one worker's memory, in the parent or in the worker.

    Args:
        fd: what `create` gave; the mapping keeps its own reference.
        arena_bytes: the size of each arena, in bytes, as given to `create`.
    """

    def __init__(self, fd: int, arena_bytes: int) -> None:
        self.map = mmap.mmap(fd, _PAGE + 2 * arena_bytes)
        self.view = memoryview(self.map)
        self.control = self.view[:_PAGE].cast("Q")
        middle = _PAGE + arena_bytes
        self.to_worker = Allocator(_PAGE, middle)
        self.to_parent = Allocator(middle, middle + arena_bytes)

    @staticmethod
    def create(arena_bytes: int) -> int:
        """Make the memory; give its file descriptor, which the caller closes."""
        fd = os.memfd_create("noob-cloud", os.MFD_CLOEXEC)
        os.ftruncate(fd, _PAGE + 2 * arena_bytes)
        os.pwrite(fd, _NEVER.to_bytes(8, sys.byteorder), REVOKED * 8)
        return fd

    def revoke(self, unit: int | None) -> None:
        """Ask the worker not to start `unit` and what follows; None takes it back."""
        self.control[REVOKED] = _NEVER if unit is None else unit

    def trim(self, keep: int) -> None:
        """Give the pages of idle arenas beyond `keep` bytes back to the machine."""
        if self.to_worker.used == 0 and hasattr(mmap, "MADV_REMOVE"):
            start = _PAGE + (keep + _PAGE - 1) // _PAGE * _PAGE
            stop = _PAGE + self.to_worker.capacity
            if start < stop:
                self.map.madvise(mmap.MADV_REMOVE, start, stop - start)

    def close(self) -> None:
        """Unmap, unless something still reads from the mapping."""
        self.control.release()
        self.view.release()
        with contextlib.suppress(BufferError):
            self.map.close()
