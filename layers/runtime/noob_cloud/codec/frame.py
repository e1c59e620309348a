"""The frame: a header and a buffer table in bincode's encoding, the body, then aligned buffers.

bincode 2 with `config::legacy()`: little endian, integers of fixed width, a `[u8; N]` bare, a `Vec`
as a u64 count and its items. In Rust the header is

    struct Header { magic: [u8; 4], version: u16, flags: u16, body: u64, buffers: Vec<Entry> }
    struct Entry { offset: u64, length: u64, align: u32 }
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from noob_cloud.codec.scan import check_items
from noob_cloud.exceptions import DecodeError, LimitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noob_cloud.codec.limits import Limits

__all__ = [
    "ALIGN",
    "CANONICAL",
    "EXTENDED",
    "HEADS",
    "HEAD_SIZE",
    "MAGIC",
    "VERSION",
    "assemble",
    "body_end",
    "parse",
    "parse_parts",
]

MAGIC = b"NCF\x00"
VERSION = 1
EXTENDED = 1
"""Flag: the body holds extension values. A reader may then need more than plain msgpack."""
CANONICAL = 2
"""Flag: the bytes are the canonical ones of their value."""
ALIGN = 64
"""Alignment of buffers within the frame: a cache line, and what Arrow asks for."""
_MAX_ALIGN = 4096
_ZEROS = bytes(ALIGN)
_HEAD = Struct("<4sHHQQ")
_ENTRY = Struct("<QQI")
HEAD_SIZE = _HEAD.size
HEADS = tuple(_HEAD.pack(MAGIC, VERSION, 0, size, 0) for size in range(2048))
"""Whole heads of short frames that need neither extensions nor buffers, by the body's size."""


def body_end(head: bytes) -> int:
    """Return where the body ends in the frame that begins with `head`; 0 if that is no frame."""
    if len(head) < HEAD_SIZE or not head.startswith(MAGIC):
        return 0
    body, buffers = _HEAD.unpack_from(head)[3:]
    end: int = HEAD_SIZE + buffers * _ENTRY.size + body
    return end


def assemble(
    body: bytes, buffers: Sequence[memoryview], flags: int, limits: Limits
) -> list[bytes | memoryview]:
    """Return the parts that make the frame when written one after the other.

    The buffers are the given objects, not copies; between them stands padding of zeros.
    """
    if len(body) > limits.body:
        raise LimitError(
            f"The body has {len(body)} bytes, over the limit of {limits.body}"
            " (Limits.body). Pass large data as arrays, or by cid through a blob store.",
            limit="body",
        )
    check_items(body, limits)
    head = _HEAD.pack(MAGIC, VERSION, flags, len(body), len(buffers))
    if not buffers:
        _check_total(len(head) + len(body), limits)
        return [head + body]
    if len(buffers) > limits.buffers:
        raise LimitError(
            f"The value has {len(buffers)} buffers, over the limit of {limits.buffers}"
            " (Limits.buffers). Stack small arrays into a larger one.",
            limit="buffers",
        )
    end = HEAD_SIZE + _ENTRY.size * len(buffers) + len(body)
    head_parts: list[bytes] = [head]
    parts: list[bytes | memoryview] = []
    for buffer in buffers:
        padding, size = -end % ALIGN, buffer.nbytes
        head_parts.append(_ENTRY.pack(end + padding, size, ALIGN))
        parts.append(_ZEROS[:padding])
        parts.append(buffer)
        end += padding + size
    _check_total(end, limits)
    return [b"".join((*head_parts, body, parts[0])), *filter(len, parts[1:])]


def parse(view: memoryview, limits: Limits) -> tuple[int, memoryview, list[memoryview]]:
    """Return (flags, body, buffers) of one whole frame; every length is checked, none is trusted.

    Raises:
        DecodeError: The bytes are not exactly one frame.
        LimitError: They are more than `limits` allow.
    """
    _check_total(len(view), limits)
    flags, start, size, entries = parse_head(view, limits)
    end = start + size
    if end > len(view):
        raise DecodeError(f"The frame ends after {len(view)} of {end} bytes or more: cut short.")
    buffers = []
    body = view[start:end]
    for offset, length in entries:
        if offset + length > len(view):
            raise DecodeError(
                f"The frame ends after {len(view)} bytes; a buffer ends at {offset + length}."
            )
        if not _is_zero(view[end:offset]):
            raise DecodeError(f"The padding before byte {offset} is not zero.")
        buffers.append(view[offset : offset + length])
        end = offset + length
    if end != len(view):
        raise DecodeError(f"The frame ends at byte {end}, yet {len(view) - end} bytes follow it.")
    return flags, body, buffers


def parse_parts(
    parts: Sequence[bytes | bytearray | memoryview], limits: Limits
) -> tuple[int, memoryview, list[memoryview]]:
    """Return what `parse` does of a frame in the parts that `assemble` made, without a copy.

    Parts that were cut elsewhere are joined first.
    """
    views = [_bytes(part) for part in parts]
    if len(views) == 1:
        return parse(views[0], limits)
    _check_total(sum([len(view) for view in views]), limits)
    try:
        flags, start, size, entries = parse_head(views[0] if views else memoryview(b""), limits)
        found = _find_parts(views, start + size, entries)
    except DecodeError:  # perhaps the head itself was cut
        found = None
    if found is not None:
        return flags, views[0][start : start + size], found
    return parse(memoryview(b"".join(views)), limits)


def _find_parts(
    views: Sequence[memoryview], end: int, entries: Sequence[tuple[int, int]]
) -> list[memoryview] | None:
    """Return the buffers where every one is a part of its own and only padding is between."""
    if len(views[0]) < end or not _is_zero(views[0][end:]):
        return None
    end = len(views[0])
    found: list[memoryview] = []
    for view in views[1:]:
        offset, length = entries[len(found)] if len(found) < len(entries) else (-1, 0)
        if offset == end and len(view) == length:
            found.append(view)
        elif end + len(view) > offset or not _is_zero(view):
            return None
        end += len(view)
    return found if len(found) == len(entries) else None


def _bytes(part: bytes | bytearray | memoryview) -> memoryview:
    view = memoryview(part)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def _is_zero(view: memoryview) -> bool:
    return not view or (len(view) < _MAX_ALIGN and not bytes(view).strip(b"\0"))


def parse_head(view: memoryview, limits: Limits) -> tuple[int, int, int, list[tuple[int, int]]]:
    """Return (flags, start of the body, its size, [(offset, length) of each buffer])."""
    if len(view) < HEAD_SIZE:
        raise DecodeError(f"A frame has at least {HEAD_SIZE} bytes; there are {len(view)}.")
    magic, version, flags, size, count = _HEAD.unpack_from(view)
    if magic != MAGIC:
        raise DecodeError(f"A frame begins with {MAGIC!r}, not {bytes(magic)!r}.")
    if version != VERSION:
        raise DecodeError(
            f"The frame is of version {version}; this noob-cloud reads version {VERSION}."
            " Upgrade the older side."
        )
    if flags & ~(EXTENDED | CANONICAL):
        raise DecodeError(f"The frame has unknown flags {flags:#06x}.")
    if size > limits.body:
        raise LimitError(
            f"The body has {size} bytes, over the limit of {limits.body} (Limits.body).",
            limit="body",
        )
    if count > limits.buffers:
        raise LimitError(
            f"The frame has {count} buffers, over the limit of {limits.buffers} (Limits.buffers).",
            limit="buffers",
        )
    start = HEAD_SIZE + count * _ENTRY.size
    if start > len(view):
        raise DecodeError(f"The table of {count} buffers is longer than the frame.")
    return flags, start, size, _entries(view, count, start + size)


def _entries(view: memoryview, count: int, end: int) -> list[tuple[int, int]]:
    entries = []
    for index in range(count):
        offset, length, align = _ENTRY.unpack_from(view, HEAD_SIZE + index * _ENTRY.size)
        if not 0 < align <= _MAX_ALIGN or align & (align - 1):
            raise DecodeError(f"Buffer {index} has alignment {align}, not a power of two to 4096.")
        if offset != end + -end % align:
            raise DecodeError(
                f"Buffer {index} begins at byte {offset}, not at {end + -end % align} where the"
                " one before it and its alignment put it."
            )
        entries.append((offset, length))
        end = offset + length
    return entries


def _check_total(size: int, limits: Limits) -> None:
    if size > limits.total:
        raise LimitError(
            f"The frame has {size} bytes, over the limit of {limits.total} (Limits.total)."
            " Send large values by cid through a blob store.",
            limit="total",
        )
