"""The wire format of the kit: typed, bounded, versioned, and nothing in it runs code.

    frame = dumps({"image": array, "when": datetime.now(UTC)})
    value = loads(frame)

docs/WIRE_FORMAT.md lays out the bytes. Types come back as they went, with one exception: a
bytearray or memoryview comes back as bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from noob_cloud.codec import arrays, arrow, containers, nouns, scalars  # noqa: F401 - they register
from noob_cloud.codec.batch import dumps_batch, loads_batch
from noob_cloud.codec.limits import Limits
from noob_cloud.codec.registry import register, registered
from noob_cloud.exceptions import CodecError, DecodeError, EncodeError, LimitError
from noob_cloud.native import core

if TYPE_CHECKING or core is None:
    from noob_cloud.codec.twin import canonical, cid_of, dumps, dumps_parts, loads, loads_parts
else:
    from noob_cloud.codec.native import canonical, cid_of, dumps, dumps_parts, loads, loads_parts

__all__ = [
    "CodecError",
    "DecodeError",
    "EncodeError",
    "LimitError",
    "Limits",
    "canonical",
    "cid_of",
    "dumps",
    "dumps_batch",
    "dumps_parts",
    "loads",
    "loads_batch",
    "loads_parts",
    "register",
    "registered",
]
