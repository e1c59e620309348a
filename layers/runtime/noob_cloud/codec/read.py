"""Turn the body and buffers of a frame into a value, trusting nothing in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.msgpack import Decoder

from noob_cloud.codec.tags import TUPLE
from noob_cloud.exceptions import CodecError, DecodeError, LimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from noob_cloud.codec.limits import Limits

T = TypeVar("T")

__all__ = ["DECODERS", "Reader", "decode_plain", "read", "refusal"]

DECODERS: dict[int, Callable[[Reader, memoryview], Any]] = {}
"""What makes a value of an extension type's payload."""


class Reader:
    """Decodes one body at a time; making its msgspec decoders takes longer than a small frame."""

    __slots__ = (
        "_list",
        "_value",
        "buffers",
        "copy",
        "depth",
        "frozenset",
        "limits",
        "set",
        "tuple",
    )

    buffers: Sequence[memoryview]
    """The frame's buffers out of band."""
    limits: Limits
    copy: bool
    """Whether arrays get memory of their own."""

    def __init__(self) -> None:
        self.depth = 0
        hook = self._extension
        self._value = Decoder(ext_hook=hook).decode
        self._list = Decoder(list, ext_hook=hook).decode
        self.tuple = Decoder(tuple, ext_hook=hook).decode
        self.set = Decoder(set, ext_hook=hook).decode
        self.frozenset = Decoder(frozenset, ext_hook=hook).decode

    def read(self, body: memoryview | bytes) -> Any:
        """Return the value; what it raises is for `refusal`, and leaves the reader as new."""
        self.depth = 0
        return self._value(body)

    def descend(self, decode: Callable[[memoryview], T], data: memoryview) -> T:
        """Return what `decode` makes of an extension's payload, one level deeper."""
        if self.depth >= self.limits.depth:
            raise LimitError(
                f"The frame nests deeper than {self.limits.depth} levels (Limits.depth).",
                limit="depth",
            )
        self.depth += 1
        value = decode(data)
        self.depth -= 1
        return value

    def nested(self, data: memoryview) -> Any:
        """Return the value that an extension's payload is."""
        return self.descend(self._value, data)

    def items(self, data: memoryview, size: int | None = None) -> list[Any]:
        """Return the list (of `size` items) that an extension's payload must be."""
        value = self.descend(self._list, data)
        if size is not None and len(value) != size:
            raise DecodeError(f"An extension value has {len(value)} items in place of {size}.")
        return value

    def buffer(self, index: Any) -> memoryview:
        """Return the buffer out of band that a value names by its index."""
        if type(index) is not int or not 0 <= index < len(self.buffers):
            raise DecodeError(f"The frame has no buffer {str(index)[:80]}.")
        return self.buffers[index].toreadonly()

    def _extension(self, code: int, data: memoryview) -> Any:
        if code == TUPLE:  # the one that there are many of
            return self.descend(self.tuple, data)
        decode = DECODERS.get(code)
        if decode is None:
            raise DecodeError(f"The frame holds an extension value of unknown type {code}.")
        return decode(self, data)


def _unexpected(code: int, _: memoryview) -> Any:
    raise DecodeError(
        f"The frame holds an extension value of type {code}, yet its flags say that it has none."
    )


decode_plain = Decoder(ext_hook=_unexpected).decode
"""Return the value of a body that holds no extension values; what it raises is for `refusal`."""
_idle: list[Reader] = []
_MAX_IDLE = 16


def read(body: memoryview, buffers: Sequence[memoryview], limits: Limits, *, copy: bool) -> Any:
    """Return the value of a body with extension values.

    Raises:
        CodecError: The body, or what it says of a value, is not well-formed.
    """
    try:
        reader = _idle.pop()
    except IndexError:
        reader = Reader()
    reader.buffers, reader.limits, reader.copy = buffers, limits, copy
    try:
        return reader.read(body)
    except Exception as error:  # constructors of registered classes raise anything
        raise refusal(error) from error
    finally:
        reader.buffers = ()
        if len(_idle) < _MAX_IDLE:
            _idle.append(reader)


def refusal(error: Exception) -> CodecError:
    """Return the error of ours for whatever decoding raised."""
    if isinstance(error, CodecError):
        return error
    if isinstance(error, RecursionError):
        return LimitError("The frame nests lists and dicts too deep.", limit="depth")
    if isinstance(error, MemoryError):
        return LimitError("The frame's value does not fit into memory.", limit="total")
    return DecodeError(f"The frame's body is malformed: {error}")
