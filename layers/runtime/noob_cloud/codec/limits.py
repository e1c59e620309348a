"""How large and how deep a frame may be, so that hostile bytes cost no more than honest ones."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for one frame, checked when encoding and before decoding allocates.

    A server passes smaller ones: `Limits(total=16 << 20)` bounds everything else as well, since
    nothing in a frame is longer than the frame and each value takes a byte.
    """

    total: int = 2 << 30
    """Bytes of the frame with its buffers."""
    body: int = 256 << 20
    """Bytes of the msgpack body, buffers not counted."""
    items: int = 256 << 20
    """Values in the body, keys counted. They are counted where a body has more bytes than this."""
    text: int = 256 << 20
    """Bytes of one string or byte string in the body."""
    depth: int = 128
    """Extension values (tuples, sets, objects) inside each other. Lists and dicts between two of
    them nest to about 250 besides."""
    digits: int = 4096
    """Bytes of one integer outside 64 bits, and characters of one Decimal."""
    buffers: int = 65_536
    """Buffers out of band."""


DEFAULT = Limits()
"""What `dumps` and `loads` use unless told otherwise."""
