"""Buffers in shared memory: the twin in Python of the core's pool."""

from __future__ import annotations

import contextlib
import mmap
import os
import warnings
import weakref
from collections import deque
from threading import Lock
from typing import Any, Self

from noob_cloud.buffers.allocator import Allocator, PoolStats
from noob_cloud.buffers.error import PoolClosedError, PoolOwnerError
from noob_cloud.buffers.numa import bind_mapping

__all__ = ["BufferPool"]

_PAGE = 4096
_NAMED = 8
_TYPES = 256
"""Array types kept: making one costs as much as thirty buffers."""


class _Returns:
    """Regions whose buffers have ended; filled whenever an object dies, even inside a call."""

    def __init__(self) -> None:
        self.regions: deque[tuple[int, int]] = deque()
        self.watched: dict[int, weakref.ref[Any]] = {}

    def watch(self, root: Any, region: tuple[int, int]) -> None:
        """Give the region back when `root` dies."""
        offset, regions, watched = region[0], self.regions, self.watched

        def ended(_: object) -> None:
            del watched[offset]
            regions.append(region)

        watched[offset] = weakref.ref(root, ended)


class BufferPool:
    """Writable buffers in shared memory of bounded size; thread safe.

    The memory has no name: it is gone with the last process that maps it. The process that made
    the pool takes buffers from it; another one maps it through `fd` and sees what it is told of.

    Args:
        capacity: bytes of all buffers together, rounded up to whole pages; a page costs nothing
            until it is first written.
        prefault: touch so many bytes now, so that their first use costs nothing.
        numa_node: take the pages from this NUMA node; on a machine with one node nothing is to be
            done, and `numa` says so.

    Raises:
        ValueError: `capacity` is less than 1, or the machine has no such node.
        OSError: the system refuses the memory, or the binding.
    """

    def __init__(self, capacity: int, *, prefault: int = 0, numa_node: int | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"a pool has at least 1 byte, not {capacity}")
        capacity = (capacity + _PAGE - 1) & -_PAGE
        fd = os.memfd_create("noob-cloud", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, capacity)
            self._map(fd, capacity, owner=True)
        except BaseException:
            os.close(fd)
            raise
        try:
            self.numa = bind_mapping(self._memory, numa_node)
        except BaseException:
            self.close()
            raise
        for page in range(0, min(prefault, capacity), _PAGE):
            self._memory[page] = 0
        self._allocator.touch(prefault)

    @classmethod
    def attach(cls, fd: int) -> Self:
        """Map the pool of another process, or this one's, by its descriptor, which may be closed.

        Raises:
            OSError: there is no memory behind the descriptor.
        """
        pool = cls.__new__(cls)
        pool.numa = "not bound"
        fd = os.dup(fd)
        try:
            pool._map(fd, os.fstat(fd).st_size, owner=False)  # noqa: SLF001 - of this class
        except BaseException:
            os.close(fd)
            raise
        return pool

    def _map(self, fd: int, capacity: int, *, owner: bool) -> None:
        self.capacity = capacity
        self._owner = os.getpid() if owner else -1
        self._memory = mmap.mmap(fd, capacity)
        self._types: dict[int, Any] = {}
        self._allocator = Allocator(0, capacity)
        self._taking = Lock()
        self._returns = _Returns()
        self._leaked: list[int] = []
        self._closed = False
        self._fd = fd
        self._close_fd = weakref.finalize(self, os.close, fd)

    @property
    def fd(self) -> int:
        """The descriptor of the memory, for another process; open until the pool is closed."""
        self._open()
        return self._fd

    def take(self, size: int) -> memoryview:
        """Take a buffer of `size` bytes, aligned to a cache line; its content is undefined.

        The memory goes back when the buffer is released or collected, and everything made from it
        (slices, arrays) is gone as well.

        Raises:
            ArenaFullError: no free stretch is long enough now.
            ValueError: `size` is less than 1.
            PoolOwnerError: another process made the pool.
            PoolClosedError: the pool is closed.
        """
        self._home()
        self._reclaim()
        with self._taking:
            region = self._allocator.take(size)
        try:
            root = self._root(region[0], size)
            self._returns.watch(root, region)
        except BaseException:
            self._allocator.give(region)
            raise
        return memoryview(root).cast("B")

    def locate(self, view: Any) -> tuple[int, int]:
        """Give `(offset, size)` of a buffer, or of a stretch of one, for `view` in another process.

        Raises:
            ValueError: it does not lie in this pool.
        """
        self._open()
        size = memoryview(view).nbytes
        offset = _address(view) - _address(self._memory)
        if not 0 <= offset <= self.capacity - size:
            raise ValueError(f"the buffer of {size} bytes is none of this pool's")
        return offset, size

    def view(self, offset: int, size: int) -> memoryview:
        """Look at `size` bytes at `offset`, which whoever took them must keep.

        Raises:
            ValueError: they do not lie in the pool.
        """
        self._open()
        if offset < 0 or size < 0 or offset + size > self.capacity:
            raise ValueError(
                f"{size} bytes at {offset} do not lie in a pool of {self.capacity} bytes"
            )
        return memoryview(self._memory)[offset : offset + size]

    def stats(self) -> PoolStats:
        """Say what is in use, how much ever was, and what leaked."""
        self._reclaim()
        return {**self._allocator.stats(), "leaked": list(self._leaked), "numa": self.numa}

    def trim(self, keep: int = 0) -> int:
        """Give idle pages above the first `keep` bytes back to the machine; say how many bytes."""
        self._home()
        self._reclaim()
        count = 0
        with self._taking:  # nobody may take what is being discarded
            for start, stop in self._allocator.trim(keep):
                first, last = (start + _PAGE - 1) & -_PAGE, stop & -_PAGE
                if first < last:
                    self._memory.madvise(mmap.MADV_REMOVE, first, last - first)
                    count += last - first
        return count

    def close(self) -> None:
        """Hand out no more; the mapping ends with the last buffer.

        Warns:
            ResourceWarning: buffers that were not given back, by their sizes.
        """
        if self._closed:
            return
        self._reclaim()
        self._closed = True
        self._close_fd()
        if self._owner == os.getpid() and (live := self._allocator.live()):
            self._leaked = live
            sizes = ", ".join(map(str, live[:_NAMED])) + (", ..." if len(live) > _NAMED else "")
            warnings.warn(
                f"{len(live)} buffers of the pool were not given back, of {sizes} bytes; their"
                " memory stays until nothing reads it",
                ResourceWarning,
                stacklevel=2,
            )
        with contextlib.suppress(BufferError):
            self._memory.close()

    def __enter__(self) -> Self:
        """Close the pool in the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the pool."""
        self.close()

    def _root(self, offset: int, size: int) -> Any:
        """Make the object that every view of a buffer keeps alive."""
        kind = self._types.get(size)
        if kind is None:
            if len(self._types) >= _TYPES:
                self._types.clear()
            import ctypes  # noqa: PLC0415 - slow to import, and for pools only

            kind = self._types[size] = ctypes.c_char * size
        return kind.from_buffer(self._memory, offset)

    def _reclaim(self) -> None:
        """Take in what has ended; not where it ends, which may be in the middle of a take."""
        regions = self._returns.regions
        while regions:
            try:
                region = regions.popleft()
            except IndexError:  # another thread was faster
                return
            self._allocator.give(region)

    def _open(self) -> None:
        if self._closed:
            raise PoolClosedError

    def _home(self) -> None:
        self._open()
        if self._owner != os.getpid():
            raise PoolOwnerError(
                "the pool belongs to the process that made it, which alone may take from it;"
                " this one may use view(offset, size)"
            )


def _address(view: Any) -> int:
    import ctypes  # noqa: PLC0415 - as above

    return ctypes.addressof(ctypes.c_char.from_buffer(view))
