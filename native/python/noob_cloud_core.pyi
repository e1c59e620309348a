"""The Rust core of noob-cloud: used by the package `noob_cloud` where it is installed."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, final

from typing_extensions import Buffer

from noob_cloud.buffers.allocator import AllocatorStats, PoolStats
from noob_cloud.codec.limits import Limits

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

# ---- serializer

def digest(data: Buffer | Iterable[Buffer]) -> bytes:
    """Return the 32 byte BLAKE3 digest of bytes, or of their parts one after the other."""

def cid(data: Buffer | Iterable[Buffer]) -> str:
    """Return the cid of bytes, or of their parts one after the other."""

def hash_many(many: Iterable[Buffer | Iterable[Buffer]], *, parallel: bool = True) -> list[bytes]:
    """Return the BLAKE3 digest of each of many, bytes or their parts, computed on all cores."""

def cid_many(many: Iterable[Buffer | Iterable[Buffer]], *, parallel: bool = True) -> list[str]:
    """Return the cid of each of many, bytes or their parts, computed on all cores."""

@final
class Recipe:
    """How values of one class are written; `noob_cloud.codec.recipes` makes them."""

    @staticmethod
    def array(code: int, attributes: list[str], modes: list[int]) -> Recipe:
        """Write an extension value of the type `code`: the array of these attributes."""

    @staticmethod
    def fields(name: str, attributes: list[str]) -> Recipe:
        """Write an object of this name, with a map of these attributes."""

    @staticmethod
    def scalar(code: int) -> Recipe:
        """Write a scalar of the standard library, of the type `code`."""

    @staticmethod
    def state(name: str, state: Callable[[Any], Any]) -> Recipe:
        """Write an object of this name, with the state that a callable makes of it."""

@final
class Maker:
    """How an extension value of attributes is made a value of a class again.

    The class has these attributes and nothing that its constructor would have to do besides.
    """

    def __new__(
        cls,
        class_: type,
        attributes: list[str],
        modes: list[int],
        kinds: tuple[frozenset[type] | None, ...],
    ) -> Self: ...

@final
class FastSerializer:
    """Write and read frames of the wire format; `noob_cloud.codec` is its reference.

    `bridge` holds the tables and errors to work with, by default those of `noob_cloud.codec`. With
    `stable` values are read through the interpreter's stable interface alone.
    """

    def __new__(cls, bridge: object | None = None, *, stable: bool = False) -> Self: ...
    @property
    def direct(self) -> bool:
        """Whether values are read directly, as is done where the interpreter's layout is known."""

    def dumps(self, value: object, *, limits: Limits | None = None) -> bytes:
        """Return `value` as one frame."""

    def dumps_parts(
        self, value: object, *, limits: Limits | None = None
    ) -> list[bytes | memoryview]:
        """Return the parts of `value`'s frame, to be written one after the other."""

    def canonical(self, value: object) -> bytes:
        """Return the one frame of `value` that its cid is taken of."""

    def canonical_parts(self, value: object) -> list[bytes | memoryview]:
        """Return the parts of `value`'s canonical frame, cut wherever that saves a copy."""

    def cid_of(self, value: object) -> str:
        """Return the cid of `value`'s canonical bytes, without copying its arrays together."""

    def loads(self, data: Buffer, *, limits: Limits | None = None, copy: bool = True) -> Any:
        """Return the value of one frame."""

    def loads_body(
        self,
        flags: int,
        body: Buffer,
        buffers: Sequence[memoryview],
        *,
        limits: Limits | None = None,
        copy: bool = True,
    ) -> Any:
        """Return the value of a body whose frame was taken apart before."""
