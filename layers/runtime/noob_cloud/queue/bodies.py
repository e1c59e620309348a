"""What a task carries, as it is stored: payloads and results of a whole chunk in one packed row.

A value of a plain type stands in the chunk's msgpack as itself; any other is a frame of
`noob_cloud.codec` in an extension, and a large one is the cid of that frame in the blob store.
"""

from __future__ import annotations

from functools import lru_cache
from types import NoneType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec.msgpack import Ext

from noob_cloud.exceptions import DatabaseDamagedError, QueueError
from noob_cloud.queue.interface import BlobName, Encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

FRAME = 1
"""Extension code of a codec frame."""
CID = 2
"""Extension code of the cid of a codec frame."""
PLAIN_COLUMNS = 3
"""Columns of a chunk without idempotency keys: nodes, epochs, payloads."""
PLAIN = frozenset((NoneType, bool, int, float, str, bytes))
EASY = frozenset((NoneType, bool, float))
"""Types whose every value packs as itself."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


class Blobs(Protocol):
    """What the queue takes of a blob store."""

    def put(self, data: bytes) -> str:
        """Keep `data` and return its cid."""
        ...

    def get(self, cid: str) -> bytes:
        """Return the bytes with this cid."""
        ...


@lru_cache(1)
def _codec() -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    # imported with the first value that needs it: most queues of a coordinator never decode one
    from noob_cloud.codec import dumps, loads  # noqa: PLC0415

    return dumps, loads


class Values:
    """Pack values for a row and read them back."""

    def __init__(self, blobs: Blobs | None = None, *, threshold: int = 64 * 1024) -> None:
        self._blobs = blobs
        self._threshold = threshold if blobs is not None else None

    def pack(self, value: Any) -> Any:
        """Return what stands for `value` in the packed row."""
        kind = type(value)
        if kind in PLAIN:
            if kind is int and not -(1 << 63) <= value < 1 << 64:
                return self._frame(_codec()[0](value))
            if kind is str or kind is bytes:
                if self._threshold is not None and len(value) > self._threshold:
                    return self._frame(_codec()[0](value))
                if kind is str and not value.isascii():
                    return self._text(value)
            return value
        if kind is BlobName:
            return Ext(CID, value.encode())
        return self._frame(bytes(value) if kind is Encoded else _codec()[0](value))

    def pack_all(self, values: Sequence[Any]) -> list[Any]:
        """Pack each value; fast where all are short and plain."""
        kinds = set(map(type, values))
        if kinds <= EASY or (
            kinds == {bytes}
            and (self._threshold is None or max(map(len, values)) <= self._threshold)
        ):
            return list(values)
        return [self.pack(x) for x in values]

    def _text(self, value: str) -> Any:
        try:
            value.encode()
        except UnicodeEncodeError:
            return self._frame(_codec()[0](value))
        return value

    def _frame(self, frame: bytes) -> Ext:
        if self._threshold is not None and self._blobs is not None and len(frame) > self._threshold:
            return Ext(CID, self._blobs.put(frame).encode())
        return Ext(FRAME, frame)

    def unpack(self, packed: Any, *, decode: bool = True) -> Any:
        """Return the value, or with `decode=False` its frame as `Encoded`."""
        if type(packed) is not Ext:
            return packed if decode else Encoded(_codec()[0](packed))
        frame = bytes(packed.data)
        if packed.code == CID:
            if self._blobs is None:
                raise QueueError(
                    f"the value is the blob {frame.decode()}; open the queue with blobs=",
                    cid=frame.decode(),
                )
            frame = self._blobs.get(frame.decode())
        return _codec()[1](frame) if decode else Encoded(frame)


def pack(content: Any) -> bytes:
    """Return the bytes of a row's body."""
    return _encoder.encode(content)


def unpack(body: bytes) -> Any:
    """Return the content of a row's body."""
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise DatabaseDamagedError(f"a row of the queue does not decode: {error}") from error


def pack_chunk(
    nodes: list[str], epochs: list[Any], payloads: list[Any], uniques: list[str | None] | None
) -> bytes:
    """Return the body of one chunk: a column each, a column of equal values as one value."""
    if len(nodes) == 1:
        one = (nodes[0], epochs[0], payloads[0])
        return _encoder.encode(one if uniques is None else (*one, uniques[0]))
    node = nodes[0] if nodes.count(nodes[0]) == len(nodes) else nodes
    columns = (node, epochs, None if payloads.count(None) == len(payloads) else payloads)
    return _encoder.encode(columns if uniques is None else (*columns, uniques))


class Chunk:
    """One row of `task`: up to some hundred tasks that were submitted together."""

    __slots__ = ("_columns", "available_at", "body", "created_at", "first", "key", "last", "run_id",
                 "terms")  # fmt: skip

    def __init__(self, row: tuple[Any, ...]) -> None:
        (
            self.last,
            n,
            self.terms,
            self.created_at,
            self.available_at,
            self.run_id,
            self.key,
            self.body,
        ) = row
        self.first: int = self.last - n + 1
        self._columns: Any = None

    def _content(self) -> Any:
        if self._columns is None:
            self._columns = unpack(self.body)
        return self._columns

    def payload(self, task_id: int) -> Any:
        """Packed payload of one task."""
        payloads = self._content()[2]
        if payloads is None or self.first == self.last:
            return payloads
        return payloads[task_id - self.first]

    def plain_payloads(self, low: int, n: int) -> list[Any] | None:
        """Payloads of `n` tasks from `low` on, if each stands as itself."""
        payloads = self._content()[2]
        if type(payloads) is not list or self.first == self.last:
            return None
        part = payloads[low - self.first : low - self.first + n]
        return part if PLAIN.issuperset(map(type, part)) else None

    def fields(self, task_id: int) -> tuple[str, Any, Any]:
        """Node, epoch and packed payload of one task."""
        nodes, epochs, payloads = self._content()[:3]
        if self.first == self.last:
            return nodes, epochs, payloads
        index = task_id - self.first
        node = nodes if type(nodes) is str else nodes[index]
        return node, epochs[index], None if payloads is None else payloads[index]

    def unique(self, task_id: int) -> str | None:
        """Idempotency key of one task."""
        content = self._content()
        if len(content) == PLAIN_COLUMNS:
            return None
        found: str | None = (
            content[3] if self.first == self.last else content[3][task_id - self.first]
        )
        return found

    def uniques(self, low: int, high: int) -> list[tuple[str, int]]:
        """Idempotency keys of the tasks [low, high], with their ids."""
        if len(self._content()) == PLAIN_COLUMNS:
            return []
        found = ((self.unique(task_id), task_id) for task_id in range(low, high + 1))
        return [(key, task_id) for key, task_id in found if key is not None]


def pack_results(results: Iterable[Any]) -> bytes | None:
    """Return the body of settled tasks that lie side by side; None where all results are None."""
    packed = list(results)
    if len(packed) == 1:
        return None if packed[0] is None else _encoder.encode(packed[0])
    return None if packed.count(None) == len(packed) else _encoder.encode(packed)


def result_at(body: bytes | None, n: int, index: int) -> Any:
    """Return the packed result of one of `n` settled tasks."""
    if body is None:
        return None
    content = unpack(body)
    return content if n == 1 else content[index]
