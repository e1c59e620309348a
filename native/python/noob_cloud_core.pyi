"""The Rust core of noob-cloud: used by the package `noob_cloud` where it is installed."""

from typing import Self, final

from typing_extensions import Buffer

from noob_cloud.buffers.allocator import AllocatorStats, PoolStats

__version__: str
INTERFACE: int

# ---- pool

@final
class Allocator:
    """Hand out regions of `[start, stop)` in size classes; thread safe.

    `noob_cloud.buffers.allocator.Allocator` is its twin and documents each method.
    """

    def __new__(cls, start: int, stop: int) -> Self: ...
    @property
    def capacity(self) -> int:
        """Bytes there are."""

    @property
    def used(self) -> int:
        """Bytes in use."""

    def take(self, size: int) -> tuple[int, int]:
        """Take at least `size` bytes; give `(offset, length)`."""

    def give(self, region: tuple[int, int]) -> None:
        """Give back what `take` gave."""

    def trim(self, keep: int = 0) -> list[tuple[int, int]]:
        """Name the free stretches above the first `keep` bytes that were used."""

    def stats(self) -> AllocatorStats:
        """Say what has been handed out so far."""

@final
class BufferPool:
    """Writable buffers in shared memory of bounded size; thread safe.

    `noob_cloud.buffers.pool.BufferPool` is its twin and documents each method.
    """

    def __new__(cls, capacity: int, *, prefault: int = 0, numa_node: int | None = None) -> Self: ...
    @staticmethod
    def attach(fd: int) -> BufferPool:
        """Map the pool of another process."""

    @property
    def capacity(self) -> int:
        """Bytes of all buffers together."""

    @property
    def fd(self) -> int:
        """The descriptor of the memory, for another process."""

    @property
    def numa(self) -> str:
        """Where the pages come from, in words."""

    def take(self, size: int) -> memoryview:
        """Take a buffer, which goes back when nothing reads it any more."""

    def locate(self, view: Buffer) -> tuple[int, int]:
        """Give `(offset, size)` of a buffer for `view` in another process."""

    def view(self, offset: int, size: int) -> memoryview:
        """Look at bytes that whoever took them keeps."""

    def stats(self) -> PoolStats:
        """Say what is in use, how much ever was, and what leaked."""

    def trim(self, keep: int = 0) -> int:
        """Give idle pages above the first `keep` bytes back to the machine."""

    def close(self) -> None:
        """Hand out no more; warn of what was not given back."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
