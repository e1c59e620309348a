"""The codec in Python: what the Rust core is held against, and what stands in where it is missing.

ormsgpack encodes with a hook for every type that msgpack does not know, msgspec decodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob_cloud.cid import cid
from noob_cloud.codec.frame import (
    CANONICAL,
    EXTENDED,
    HEAD_SIZE,
    HEADS,
    assemble,
    parse,
    parse_parts,
)
from noob_cloud.codec.limits import DEFAULT, Limits
from noob_cloud.codec.read import decode_plain, read, refusal
from noob_cloud.codec.scan import check_items
from noob_cloud.codec.single import array_parts, keep_head, keep_layout, known_array
from noob_cloud.codec.write import OPTIONS, RAW_TYPES, Writer, packb

if TYPE_CHECKING:
    from collections.abc import Sequence

    Buffer = bytes | bytearray | memoryview

__all__ = ["canonical", "canonical_parts", "cid_of", "dumps", "dumps_parts", "loads", "loads_parts"]

_SHORT = len(HEADS)


def dumps(value: Any, *, limits: Limits = DEFAULT) -> bytes:
    """Return `value` as one frame.

    Raises:
        EncodeError: A value of this type has no place in the wire format.
        LimitError: The value is larger or deeper than `limits` allow.
    """
    writer = Writer()
    if limits is DEFAULT and type(value) not in RAW_TYPES:  # spelled out: most messages are small
        try:
            body = packb(value, writer.hook, OPTIONS)
        except TypeError as error:
            body = writer.recover(value, error)
        if len(body) < _SHORT and not writer.extended:
            return HEADS[len(body)] + body
    else:
        writer.limits = limits
        body = writer.pack_top(value)
    flags = EXTENDED if writer.extended else 0
    return b"".join(assemble(body, writer.buffers or (), flags, limits))


def dumps_parts(value: Any, *, limits: Limits = DEFAULT) -> list[bytes | memoryview]:
    """Return the parts of `value`'s frame, to be written one after the other.

    Large arrays are parts of their own and are not copied: do not change them before the parts are
    written. Raises as `dumps` does.
    """
    kind = type(value)
    is_array = kind.__name__ == "ndarray" and kind.__module__ == "numpy" and limits is DEFAULT
    if is_array:
        known = array_parts(value)
        if known is not None:
            return known
    writer = Writer()
    writer.limits = limits
    body = writer.pack_top(value)
    flags = EXTENDED if writer.extended else 0
    parts = assemble(body, writer.buffers or (), flags, limits)
    if is_array:
        keep_head(value, parts)
    return parts


def loads(data: Buffer, *, limits: Limits = DEFAULT, copy: bool = True) -> Any:
    """Return the value of one frame.

    Args:
        data: Exactly one frame.
        limits: What the frame may cost.
        copy: Give arrays writable memory of their own. Without it they are read-only views that
            keep `data` alive.

    Raises:
        DecodeError: The bytes are not a well-formed frame, or name a class not registered here.
        LimitError: They are larger or deeper than `limits` allow.
    """
    if type(data) is bytes:
        size = len(data) - HEAD_SIZE
        if 0 <= size < _SHORT and limits is DEFAULT and data.startswith(HEADS[size]):
            try:
                return decode_plain(data[HEAD_SIZE:])
            except Exception as error:  # the decoder's own, a RecursionError, a MemoryError
                raise refusal(error) from error
    view = memoryview(data).cast("B")
    flags, body, buffers = parse(view, limits)
    return _read(flags, body, buffers, limits, copy=copy)


def loads_parts(parts: Sequence[Buffer], *, limits: Limits = DEFAULT, copy: bool = True) -> Any:
    """Return the value of a frame that arrives in the parts that `dumps_parts` made."""
    if len(parts) != 2 or limits is not DEFAULT:  # noqa: PLR2004 - an array's head and its buffer
        return _read(*parse_parts(parts, limits), limits, copy=copy)
    value = known_array(parts, copy=copy)
    if value is None:
        flags, body, buffers = parse_parts(parts, limits)
        value = _read(flags, body, buffers, limits, copy=copy)
        if len(buffers) == 1 and buffers[0].nbytes == memoryview(parts[1]).nbytes:
            keep_layout(value, parts)
    return value


def canonical(value: Any) -> bytes:
    """Return the one frame of `value` that its cid is taken of.

    Dicts keep their order, sets go by their items' bytes, every NaN is the same, an array's bytes
    do not depend on its strides. `loads` reads it like any other.
    """
    return b"".join(canonical_parts(value))


def cid_of(value: Any) -> str:
    """Return the cid of `value`'s canonical bytes, without copying its arrays together."""
    return cid(canonical_parts(value))


def canonical_parts(value: Any) -> list[bytes | memoryview]:
    """Return the parts of `value`'s canonical frame, wherever they are cut."""
    writer = Writer()
    writer.canonical = True
    body = writer.pack(value)
    flags = CANONICAL | (EXTENDED if writer.extended else 0)
    return assemble(body, writer.buffers or (), flags, DEFAULT)


def _read(
    flags: int, body: memoryview, buffers: Sequence[memoryview], limits: Limits, *, copy: bool
) -> Any:
    check_items(body, limits)
    if flags & EXTENDED:
        return read(body, buffers, limits, copy=copy)
    try:
        return decode_plain(body)
    except Exception as error:  # the decoder's own, a RecursionError, a MemoryError
        raise refusal(error) from error
