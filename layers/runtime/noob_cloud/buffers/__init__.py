"""Buffers in shared memory of bounded size, handed out in size classes.

`BufferPool` and `Allocator` come from the Rust core where it is installed and from Python where it
is not; both do the same, to the byte.

Example:
    with BufferPool(64 << 20) as pool:
        with pool.take(1 << 20) as buffer:  # a writable memoryview
            buffer[:5] = b"hello"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from noob_cloud.buffers.allocator import PoolStats
from noob_cloud.buffers.error import ArenaFullError, PoolClosedError, PoolOwnerError
from noob_cloud.native import core

if TYPE_CHECKING or core is None or not hasattr(core, "BufferPool"):
    from noob_cloud.buffers.allocator import Allocator
    from noob_cloud.buffers.pool import BufferPool
else:
    Allocator = core.Allocator
    BufferPool = core.BufferPool

__all__ = [
    "Allocator",
    "ArenaFullError",
    "BufferPool",
    "PoolClosedError",
    "PoolOwnerError",
    "PoolStats",
]
