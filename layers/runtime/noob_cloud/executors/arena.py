"""Memory that a parent and one worker share: a control page, and an arena for each direction.

The memory has no name (it is a memfd): it is gone with the last process that
maps it, however those processes end. It is sparse: a page costs nothing until it is first written.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys

from noob_cloud.buffers import Allocator, ArenaFullError
from noob_cloud.buffers.numa import bind_mapping

__all__ = ["Allocator", "ArenaFullError", "SharedMemory"]

_PAGE = 4096
_NEVER = 1 << 63
_NUMA_VARIABLE = "NOOB_CLOUD_NUMA_NODE"

STARTED, REVOKED, CONSUMED, STARTED_AT = 0, 8, 16, 24
"""Words of the control page, each on a cache line of its own: the unit the worker has started, the
first unit it must not start any more, the replies the parent has read, and when, in nanoseconds of
the monotonic clock, the worker started its unit (kept for calls with a timeout only)."""


class SharedMemory:
    """The mapping of one worker's memory, in the parent or in the worker.

    Args:
        fd: what `create` gave; the mapping keeps its own reference.
        arena_bytes: the size of each arena, in bytes, as given to `create`.
        numa_node: take the pages from this NUMA node; by default the environment's
            `NOOB_CLOUD_NUMA_NODE`. `numa` says what became of it.

    Raises:
        ValueError: the node is no number, or the machine has no such node.
        OSError: the system refuses the binding.
    """

    def __init__(self, fd: int, arena_bytes: int, *, numa_node: int | None = None) -> None:
        node = _node() if numa_node is None else numa_node
        self.map = mmap.mmap(fd, _PAGE + 2 * arena_bytes)
        self.numa = "not bound" if node is None else bind_mapping(self.map, node)
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


def _node() -> int | None:
    """Read the NUMA node that the environment asks for."""
    said = os.environ.get(_NUMA_VARIABLE, "")
    if not said:
        return None
    if not said.isdecimal():
        raise ValueError(f"{_NUMA_VARIABLE} is the number of a NUMA node, not {said!r}")
    return int(said)
