"""Count what a body holds before anything is allocated for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noob_cloud.exceptions import DecodeError, LimitError

if TYPE_CHECKING:
    from noob_cloud.codec.limits import Limits

__all__ = ["check_items"]

# for each first byte: bytes of the value itself (None: see its length), children, length's width
_FIXED = {0xC0: 1, 0xC2: 1, 0xC3: 1, 0xCA: 5, 0xCB: 9}
_FIXED |= {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
_FIXED |= {0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18}
_FIXED |= dict.fromkeys([*range(0x80), *range(0xE0, 0x100)], 1)
_FIXED |= {0xA0 | size: 1 + size for size in range(32)}
_FIXED |= dict.fromkeys(range(0x80, 0xA0), 1)
_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_EXTENSION = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_COUNTED = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}


def check_items(body: bytes | memoryview, limits: Limits) -> None:
    """Refuse a body with more items, or a longer string, than `limits` allow.

    A body shorter than both limits needs no look, since each item takes a byte. The payload of an
    extension counts as one item here: it is as many bytes as it has items at least, and its
    decoder works within the same body.
    """
    if len(body) <= limits.items and len(body) <= limits.text:
        return
    at = count = 0
    end = len(body)
    while at < end:
        count += 1
        if count > limits.items:
            raise LimitError(
                f"The frame holds more than {limits.items} values (Limits.items)."
                " Send many numbers as an array.",
                limit="items",
            )
        at = _next(body, at, limits)
    if at != end:
        raise DecodeError("The frame's body is cut short.")


def _next(body: bytes | memoryview, at: int, limits: Limits) -> int:
    first = body[at]
    size = _FIXED.get(first)
    if size is not None:
        return at + size
    width = _SIZED.get(first)
    if width is not None:
        length = int.from_bytes(body[at + 1 : at + 1 + width], "big")
        if length > limits.text:
            raise LimitError(
                f"The frame holds a string of {length} bytes, over the limit of {limits.text}"
                " (Limits.text). Send it as an array, or by cid through a blob store.",
                limit="text",
            )
        return at + 1 + width + length
    width = _EXTENSION.get(first)
    if width is not None:  # step into the payload: what is in it counts
        return at + 2 + width
    width = _COUNTED.get(first)
    if width is None:
        raise DecodeError("The frame's body is malformed: byte 0xc1 begins no value.")
    return at + 1 + width
