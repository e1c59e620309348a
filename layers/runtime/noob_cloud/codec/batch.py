"""Many values at once: with the Rust core their bytes are hashed on all cores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob_cloud.cid import cid_many
from noob_cloud.codec.limits import DEFAULT, Limits
from noob_cloud.exceptions import DecodeError
from noob_cloud.native import core

if TYPE_CHECKING or core is None:
    from noob_cloud.codec.twin import canonical_parts, loads, loads_parts
else:
    from noob_cloud.codec.native import canonical_parts, loads, loads_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Buffer = bytes | bytearray | memoryview

__all__ = ["dumps_batch", "loads_batch"]


def dumps_batch(
    values: Iterable[Any], *, parallel: bool = True
) -> list[tuple[list[bytes | memoryview], str]]:
    """Return the parts of each value's canonical frame, and its cid.

    `b"".join(parts)` is the frame. Large arrays and byte strings are parts of their own and are not
    copied: do not change them before the parts are written. Raises as `dumps` does.

    Args:
        values: Any values.
        parallel: Hash on all cores, with the Rust core.
    """
    frames = [canonical_parts(value) for value in values]
    return list(zip(frames, cid_many(frames, parallel=parallel), strict=True))


def loads_batch(
    frames: Sequence[Buffer | Sequence[Buffer]],
    *,
    cids: Sequence[str] | None = None,
    limits: Limits = DEFAULT,
    copy: bool = True,
) -> list[Any]:
    """Return the value of each frame, given whole or in parts.

    With `cids` nothing is decoded before every frame is found to have its own.

    Raises:
        DecodeError: A frame is not well-formed, or has another cid.
        LimitError: One is larger or deeper than `limits` allow.
    """
    if cids is not None:
        if len(cids) != len(frames):
            raise ValueError(f"There are {len(cids)} cids for {len(frames)} frames.")
        found = cid_many(frames)
        for index, (expected, name) in enumerate(zip(cids, found, strict=True)):
            if expected != name:
                raise DecodeError(f"Frame {index} of the batch has the cid {name}, not {expected}.")
    return [
        loads(frame, limits=limits, copy=copy)
        if isinstance(frame, bytes | bytearray | memoryview)
        else loads_parts(frame, limits=limits, copy=copy)
        for frame in frames
    ]
