"""Extension values that hold other values: tuples and sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob_cloud.codec import tags
from noob_cloud.codec.read import DECODERS
from noob_cloud.codec.write import ENCODERS, OPTIONS, Ext, packb

if TYPE_CHECKING:
    from noob_cloud.codec.read import Reader
    from noob_cloud.codec.write import Writer


def _encode_tuple(writer: Writer, value: tuple[Any, ...]) -> Ext:
    if writer.canonical or writer.depth >= writer.limits.depth:
        return writer.ext(tags.TUPLE, writer.nested(list(value)))
    writer.depth += 1  # `nested`, spelled out: there are many tuples
    mark = len(writer.buffers) if writer.buffers else 0
    items = list(value)
    try:
        packed = packb(items, writer.hook, OPTIONS)
    except TypeError as error:
        packed = writer.recover(items, error, mark)
    writer.depth -= 1
    return writer.ext(tags.TUPLE, packed)


def pack_set(writer: Writer, value: set[Any] | frozenset[Any]) -> bytes:
    """Return the items' bytes, sorted, as one list."""
    writer.inline += 1
    try:
        return writer.join(sorted([writer.nested(item) for item in value]))
    finally:
        writer.inline -= 1


def _encode_set(writer: Writer, value: set[Any]) -> Ext:
    return writer.ext(tags.SET, pack_set(writer, value))


def _decode_set(reader: Reader, data: memoryview) -> set[Any]:
    return reader.descend(reader.set, data)


def _encode_frozenset(writer: Writer, value: frozenset[Any]) -> Ext:
    return writer.ext(tags.FROZENSET, pack_set(writer, value))


def _decode_frozenset(reader: Reader, data: memoryview) -> frozenset[Any]:
    return reader.descend(reader.frozenset, data)


ENCODERS.update({tuple: _encode_tuple, set: _encode_set, frozenset: _encode_frozenset})
DECODERS.update({tags.SET: _decode_set, tags.FROZENSET: _decode_frozenset})
