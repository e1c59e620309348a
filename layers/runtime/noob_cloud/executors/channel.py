"""Frames between a parent and its worker: small values inline, large ones through shared memory.

A frame is a header (bytes inline, regions, kind, flags, calls), a table of `(offset, size)`
for what lies in the arena, and the inline body. Bodies are pickles: a worker is one's own child.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noob_cloud.executors.arena import Allocator

__all__ = ["Borrowed", "FrameReader", "pack", "unpack_borrowed", "unpack_copied", "write"]

BOOT, DEFINE, TUBE, CALLS, HELLO, REPLY, PARTIAL, BROKEN = range(8)
"""Kinds of frame: four from the parent, then four from the worker."""
TIMED, IN_ARENA = 1, 2
"""Flags: keep the time at which each unit starts; the body itself is the first region."""

INLINE_BYTES = 8192
"""A larger body, or buffer, goes through the arena. A few frames of this size fit a pipe, so a
send does not wait for the other side."""
_REGIONS = 64
"""Buffers out of band in one frame; the rest travels in the body."""
_HEADER = struct.Struct("=IHBBI")
_HEADER_SIZE = _HEADER.size
_REGION = struct.Struct("=QQ")
_RECEIVE = 1 << 18
_ALIGN = 64


Frame = tuple[int, int, int, int, memoryview]
"""Kind, flags, number of calls, number of regions, payload."""


def pack(
    kind: int,
    value: Any,
    arena: memoryview,
    allocator: Allocator,
    *,
    flags: int = 0,
    count: int = 0,
) -> tuple[bytes, tuple[int, int] | None]:
    """Make a frame; give it with the region of the arena it occupies.

    Raises:
        ArenaFullError: the arena has no room for the large parts now.
        Exception: what pickling the value raises.
    """
    buffers: list[memoryview] = []

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < INLINE_BYTES or len(buffers) >= _REGIONS:
            return True
        buffers.append(raw)
        return False

    body = pickle.dumps(value, 5, buffer_callback=in_band)
    if not buffers and len(body) <= INLINE_BYTES:
        return _HEADER.pack(len(body), 0, kind, flags, count) + body, None
    parts: list[bytes | memoryview] = list(buffers)
    if len(body) > INLINE_BYTES:
        parts.insert(0, body)
        body = b""
        flags |= IN_ARENA
    region = allocator.take(sum((len(part) + _ALIGN - 1) & -_ALIGN for part in parts))
    offset = region[0]
    table = []
    for part in parts:
        size = len(part)
        arena[offset : offset + size] = part
        table.append(_REGION.pack(offset, size))
        offset += (size + _ALIGN - 1) & -_ALIGN
    head = _HEADER.pack(len(body) + len(table) * _REGION.size, len(table), kind, flags, count)
    return b"".join((head, *table, body)), region


class FrameReader:
    """Cut what a pipe delivers into frames."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray(_RECEIVE)
        self._view = memoryview(self._buffer)
        self._whole = [self._view]
        self._start = self._stop = 0

    def fill(self) -> bool:
        """Read once; False at the end of the stream."""
        if self._start == self._stop:
            self._start = 0
            self._stop = received = os.readv(self._fd, self._whole)
            return received > 0
        if self._stop > _RECEIVE // 2:
            rest = self._stop - self._start
            self._buffer[:rest] = self._buffer[self._start : self._stop]
            self._start, self._stop = 0, rest
        received = os.readv(self._fd, [self._view[self._stop :]])
        self._stop += received
        return received > 0

    def next(self) -> Frame | None:
        """Take the next whole frame read; its payload is valid until the next `fill`."""
        start = self._start
        if self._stop - start < _HEADER_SIZE:
            return None
        size, regions, kind, flags, count = _HEADER.unpack_from(self._buffer, start)
        start += _HEADER_SIZE
        if self._stop - start < size:
            return None
        self._start = start + size
        return kind, flags, count, regions, self._view[start : start + size]


def write(fd: int, frame: bytes) -> None:
    """Write a whole frame.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    written = os.write(fd, frame)
    while written < len(frame):
        frame = frame[written:]
        written = os.write(fd, frame)


def _regions(payload: memoryview, regions: int) -> tuple[list[tuple[int, int]], memoryview]:
    end = regions * _REGION.size
    return list(_REGION.iter_unpack(payload[:end])), payload[end:]


def unpack_copied(flags: int, regions: int, payload: memoryview, arena: memoryview) -> Any:
    """Load a frame's value; its buffers are copies, and the region is free when this returns."""
    if not regions:
        return pickle.loads(payload)  # noqa: S301 - from one's own child
    table, body = _regions(payload, regions)
    if flags & IN_ARENA:
        offset, size = table.pop(0)
        body = arena[offset : offset + size]
    buffers = [bytearray(arena[offset : offset + size]) for offset, size in table]
    return pickle.loads(body, buffers=buffers)  # noqa: S301 - from one's own child


class Borrowed:
    """The buffers of a frame, in place; knows whether something still reads from them."""

    __slots__ = ("_roots",)

    def __init__(self, arena: memoryview, table: list[tuple[int, int]]) -> None:
        import ctypes  # noqa: PLC0415 - slow to import, and for large buffers only

        self._roots = [
            (ctypes.c_char * size).from_buffer(arena, offset) for offset, size in table if size
        ]

    def views(self) -> list[memoryview]:
        """Views of the buffers, which keep them borrowed."""
        return [memoryview(root).cast("B") for root in self._roots]

    def held(self) -> bool:
        """Whether anything made from `views` is still alive."""
        return any(sys.getrefcount(root) > 3 for root in self._roots)  # noqa: PLR2004


def unpack_borrowed(
    flags: int, regions: int, payload: memoryview, arena: memoryview
) -> tuple[Any, Borrowed | None]:
    """Load a frame's value; its buffers lie in the arena, which must not change while `held`."""
    if not regions:
        return pickle.loads(payload), None  # noqa: S301 - from one's own parent
    table, body = _regions(payload, regions)
    if flags & IN_ARENA:
        offset, size = table.pop(0)
        body = arena[offset : offset + size]
    borrowed = Borrowed(arena, table)
    return pickle.loads(body, buffers=borrowed.views()), borrowed  # noqa: S301 - as above
