"""The Rust core of noob-cloud: used by the package `noob_cloud` where it is installed."""

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Any, Self, final

from typing_extensions import Buffer

from noob_cloud.buffers.allocator import AllocatorStats, PoolStats
from noob_cloud.codec.limits import Limits

__version__: str
INTERFACE: int

# ---- scheduler

@final
class FastScheduler:
    """Which nodes of a graph may run, for many epochs at once; thread safe.

    Args:
        nodes: their names, each once, or how many there are: then they are called 0, 1, 2 ...
        edges: pairs (from, to) of nodes, or a buffer of unsigned 32 bit numbers, two for each.
        scopes: the map around a node, for the nodes that run once for each of a map's items.
        limit: epochs in flight at once, subepochs included.

    Raises:
        graphlib.CycleError: nodes wait for each other, or a map for its own items; its second
            argument is the cycle, the first node again at its end.
        KeyError, ValueError: a node is not there, or there twice; an edge jumps into another map.
        OverflowError: there are more than 2^26 nodes, 2^31 edges, 2^24 items of a map, or `limit`
            epochs.
    """

    def __new__(
        cls,
        nodes: int | Iterable[Any],
        edges: Buffer | Iterable[tuple[Any, Any]],
        *,
        scopes: dict[Any, Any] | None = None,
        limit: int = ...,
    ) -> Self: ...
    def __len__(self) -> int:
        """How many nodes there are."""

    @property
    def edges(self) -> int:
        """How many edges there are."""

    @property
    def in_flight(self) -> int:
        """Epochs in flight, subepochs included."""

    def topological_sort(self) -> list[Any]:
        """Every node after all that it waits for: first come, first served."""

    def levels(self) -> list[list[Any]]:
        """Nodes in levels: each waits only for nodes of levels before its own."""

    def add_epoch(self, epoch: int, /) -> None:
        """Begin an epoch, a number below 2^63."""

    def reset(self, epoch: int, /) -> None:
        """Begin an epoch that is in flight again, without what was handed out or ended of it."""

    def is_active(self, epoch: int, /) -> bool:
        """Whether nodes of the epoch, or of its subepochs, have not ended."""

    def end_epoch(self, epoch: int, /) -> bool:
        """Forget an epoch and its subepochs; whether it was in flight.

        Who gathers a subepoch does not wait for it any more.
        """

    def get_ready(self, epoch: int, limit: int = ..., /) -> list[Any]:
        """Hand out up to `limit` nodes that are ready; each is handed out once."""

    def get_ready_within(self, epoch: int, limit: int = ..., /) -> list[tuple[int, Any]]:
        """Hand out nodes of an epoch and of all its subepochs, each with its (sub)epoch.

        The epoch's own come first, then those of the subepoch that has been ready for longest.
        """

    def done(self, epoch: int, nodes: Iterable[Any], /) -> None:
        """Note that nodes that were handed out have ended, with all their signals.

        Not of a map, which `expand` ends: ValueError.
        """

    def done_and_ready(self, epoch: int, nodes: Iterable[Any], limit: int = ..., /) -> list[Any]:
        """`done`, then `get_ready`, in one call."""

    def expire(self, epoch: int, nodes: Iterable[Any], /) -> None:
        """Note that nodes ended without a signal: what waits for them never runs.

        A gather only stops waiting for the subepoch that they are of.
        """

    def expand(self, epoch: int, node: Any, items: int, /) -> range:
        """Open a subepoch for each item of a map that was handed out, and end the map."""

# ---- event store

@final
class FastEventStore:
    """The events of many epochs, in slabs; those used least recently go to files; thread safe.

    Args:
        max_events: events in memory; over it whole epochs go to files. None: no bound.
        folder: for the files, which lie in a folder of the store's own in it and go with the store.
            It is made where it is missing. What a process that was killed left there stays.
        dumps: makes bytes of a tuple (columns, values), as `noob_cloud.codec.dumps` does.
        loads: its inverse.

    Raises:
        OSError: a file cannot be written or read, or is not the one that was written; or this
            process was forked from the store's and would write one.
        ValueError: only some of the four are given, or `loads` does not give back what `dumps`
            was given.
    """

    def __new__(
        cls,
        *,
        max_events: int | None = None,
        folder: str | PathLike[str] | None = None,
        dumps: Callable[[Any], bytes] | None = None,
        loads: Callable[[bytes], Any] | None = None,
    ) -> Self: ...
    def __len__(self) -> int:
        """How many events there are, in memory and in files."""

    def column(self, node: str, signal: str, /) -> int:
        """The number of a node's signal, the same each time."""

    def columns(self) -> list[tuple[str, str]]:
        """The node and the signal of each column."""

    def add(self, epoch: int, column: int, value: Any, /) -> None:
        """Add an event."""

    def add_batch(self, epoch: int, column: int, values: Iterable[Any], /) -> None:
        """Add many events of one epoch and column."""

    def get(self, epoch: int, column: int, /) -> list[Any]:
        """The events of one epoch and column, in the order they came."""

    def get_batch(self, epochs: Sequence[int], column: int, /) -> list[list[Any]]:
        """`get` of each epoch."""

    def values(self, column: int, /) -> list[tuple[int, Any]]:
        """Every event of one column with its epoch, by epoch."""

    def events(self, epoch: int, /) -> list[tuple[int, Any]]:
        """Every event of one epoch with its column, in the order they came."""

    def clear(self, epoch: int, /) -> bool:
        """Forget an epoch; whether it was there."""

    def epochs(self) -> list[int]:
        """The epochs that have events, in order."""

    def cid(self, epoch: int, /) -> str | None:
        """The content id of the file that holds an epoch; None while it is in memory."""

    def stats(self) -> dict[str, int]:
        """Events that are `resident` and `spilled`, and the `file_bytes` of these."""

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
