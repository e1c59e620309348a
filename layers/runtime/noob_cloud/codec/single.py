"""The commonest large frame, one array and nothing else: its head is made and read once.

Arrays of one dtype and shape, the frames of a video, differ in their buffer only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

__all__ = ["array_parts", "keep_head", "keep_layout", "known_array"]

_PLAIN = frozenset(
    ("<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1", "|b1")
)
"""The dtypes that a memoryview can be cast from."""
_MAX_KEPT = 256
_MAX_HEAD = 512
_heads: dict[tuple[str, tuple[int, ...]], bytes] = {}
_layouts: dict[bytes, tuple[np.dtype[Any], tuple[int, ...], int]] = {}


def array_parts(value: Any) -> list[bytes | memoryview] | None:
    """Return the parts of an array's frame if one like it was encoded before."""
    head = _heads.get((value.dtype.str, value.shape))
    if head is None or not value.flags.c_contiguous:
        return None
    return [head, memoryview(value).cast("B")]


def keep_head(value: Any, parts: Sequence[bytes | memoryview]) -> None:
    """Remember the head of a whole array's frame."""
    if (
        len(parts) == 2  # noqa: PLR2004 - the head and the buffer
        and value.flags.c_contiguous
        and value.dtype.str in _PLAIN
        and isinstance(parts[0], bytes)
        and len(parts[0]) <= _MAX_HEAD
    ):
        _keep(_heads, (value.dtype.str, value.shape), parts[0])


def known_array(parts: Sequence[Any], *, copy: bool) -> Any:
    """Return the array of a frame whose head was read before, None if it was not."""
    head = parts[0]
    layout = _layouts.get(head) if type(head) is bytes else None
    if layout is None:
        return None
    dtype, shape, size = layout
    view = memoryview(parts[1])
    if view.nbytes != size or not view.c_contiguous:
        return None
    import numpy as np  # noqa: PLC0415 - imported when the head was read first

    array: Any = np.frombuffer(view.toreadonly(), dtype)
    if len(shape) != 1:
        array = array.reshape(shape)
    return array.copy() if copy else array


def keep_layout(value: Any, parts: Sequence[Any]) -> None:
    """Remember what a head said, once the whole frame was found to be sound and one array."""
    if (
        type(value).__name__ == "ndarray"
        and type(parts[0]) is bytes
        and len(parts[0]) <= _MAX_HEAD
        and value.flags.c_contiguous
        and value.nbytes == memoryview(parts[1]).nbytes
        and value.dtype.str in _PLAIN
    ):
        _keep(_layouts, parts[0], (value.dtype, value.shape, value.nbytes))


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    if len(kept) >= _MAX_KEPT:
        kept.clear()
    kept[key] = value
