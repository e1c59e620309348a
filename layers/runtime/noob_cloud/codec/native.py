"""The codec in the Rust core: what it takes from Python, and its functions.

Only imported where the core is found; `noob_cloud.codec.twin` says what each function does.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from noob_cloud.codec.frame import parse_parts
from noob_cloud.codec.limits import DEFAULT, Limits
from noob_cloud.codec.read import DECODERS, decode_plain, refusal
from noob_cloud.codec.recipes import MAKERS, RECIPES
from noob_cloud.codec.registry import NAMES, unmade, unregistered
from noob_cloud.codec.single import array_parts, keep_head, keep_layout, known_array
from noob_cloud.codec.write import ENCODERS, find, too_deep
from noob_cloud.exceptions import DecodeError, EncodeError, LimitError
from noob_cloud.native import core

if TYPE_CHECKING:
    from collections.abc import Sequence

    Buffer = bytes | bytearray | memoryview

__all__ = [
    "DECODERS",
    "DEFAULT",
    "ENCODERS",
    "MAKERS",
    "NAMES",
    "RECIPES",
    "DecodeError",
    "EncodeError",
    "LimitError",
    "canonical",
    "canonical_parts",
    "cid_of",
    "decode_plain",
    "dumps",
    "dumps_parts",
    "find",
    "loads",
    "loads_parts",
    "refusal",
    "too_deep",
    "unmade",
    "unregistered",
]

_serializer = core.FastSerializer(sys.modules[__name__])
dumps = _serializer.dumps
loads = _serializer.loads
canonical = _serializer.canonical
cid_of = _serializer.cid_of
canonical_parts = _serializer.canonical_parts
_parts, _loads_body = _serializer.dumps_parts, _serializer.loads_body


def dumps_parts(value: Any, *, limits: Limits = DEFAULT) -> list[bytes | memoryview]:
    """Return the parts of `value`'s frame, to be written one after the other.

    Large arrays are parts of their own and are not copied: do not change them before the parts are
    written. Raises as `dumps` does.
    """
    kind = type(value)
    if kind.__name__ != "ndarray" or kind.__module__ != "numpy" or limits is not DEFAULT:
        made: list[bytes | memoryview] = _parts(value, limits=limits)
        return made
    known = array_parts(value)
    if known is None:
        known = _parts(value)
        keep_head(value, known)
    return known


def loads_parts(parts: Sequence[Buffer], *, limits: Limits = DEFAULT, copy: bool = True) -> Any:
    """Return the value of a frame that arrives in the parts that `dumps_parts` made."""
    if len(parts) == 1:
        return loads(parts[0], limits=limits, copy=copy)
    if len(parts) != 2 or limits is not DEFAULT:  # noqa: PLR2004 - an array's head and its buffer
        flags, body, buffers = parse_parts(parts, limits)
        return _loads_body(flags, body, buffers, limits=limits, copy=copy)
    value = known_array(parts, copy=copy)
    if value is None:
        flags, body, buffers = parse_parts(parts, limits)
        value = _loads_body(flags, body, buffers, copy=copy)
        if len(buffers) == 1 and buffers[0].nbytes == memoryview(parts[1]).nbytes:
            keep_layout(value, parts)
    return value
