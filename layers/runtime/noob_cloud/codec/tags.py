"""The extension type codes of the wire format; a code never changes its meaning."""

from __future__ import annotations

from typing import Final

# containers: the payload is msgpack
TUPLE: Final = 1
SET: Final = 2
FROZENSET: Final = 3
OBJECT: Final = 4
# scalars: the payload is bytes, as docs/WIRE_FORMAT.md lays them out
INTEGER: Final = 5
TEXT: Final = 6
COMPLEX: Final = 7
DATETIME: Final = 8
DATE: Final = 9
TIME: Final = 10
TIMEDELTA: Final = 11
UUID: Final = 12
DECIMAL: Final = 13
PATH: Final = 14
RANGE: Final = 15
SLICE: Final = 16
# buffers
BYTES: Final = 32
NDARRAY: Final = 33
SCALAR: Final = 34
ARROW: Final = 35
# the nouns of the kit
MISSING: Final = 64
EPOCH: Final = 65
SIGNAL: Final = 66
TOKEN: Final = 67
CALL: Final = 68
OUTCOME: Final = 69
