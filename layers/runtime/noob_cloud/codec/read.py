"""Turn the body and buffers of a frame into a value, trusting nothing in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.msgpack import Decoder

from noob_cloud.exceptions import CodecError, DecodeError, LimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from noob_cloud.codec.limits import Limits

__all__ = ["DECODERS", "Reader", "read_plain"]

DECODERS: dict[int, Callable[[Reader, memoryview], Any]] = {}
"""What makes a value of an extension type's payload."""


class Reader:
    """Decodes one body; `buffers` are the frame's, `copy` gives arrays memory of their own."""

    __slots__ = ("_decode", "buffers", "copy", "depth", "limits")

    def __init__(self, buffers: Sequence[memoryview], limits: Limits, *, copy: bool) -> None:
        self.buffers = buffers
        self.limits = limits
        self.copy = copy
        self.depth = 0
        self._decode = Decoder(ext_hook=self._extension).decode

    def read(self, body: memoryview | bytes) -> Any:
        """Return the value; every failure becomes a CodecError."""
        try:
            return self._decode(body)
        except Exception as error:  # constructors of registered classes raise anything
            raise _refusal(error) from error

    def nested(self, data: memoryview) -> Any:
        """Return the value of an extension's payload, one level deeper."""
        if self.depth >= self.limits.depth:
            raise LimitError(
                f"The frame nests deeper than {self.limits.depth} levels (Limits.depth).",
                limit="depth",
            )
        self.depth += 1
        try:
            return self._decode(data)
        finally:
            self.depth -= 1

    def items(self, data: memoryview, size: int | None = None) -> list[Any]:
        """Return the list (of `size` items) that an extension's payload must be."""
        value = self.nested(data)
        if type(value) is not list or (size is not None and len(value) != size):
            raise DecodeError(f"An extension value holds a {type(value).__name__} out of place.")
        return value

    def buffer(self, index: Any) -> memoryview:
        """Return the buffer out of band that a value names by its index."""
        if type(index) is not int or not 0 <= index < len(self.buffers):
            raise DecodeError(f"The frame has no buffer {str(index)[:80]}.")
        return self.buffers[index]

    def _extension(self, code: int, data: memoryview) -> Any:
        decode = DECODERS.get(code)
        if decode is None:
            raise DecodeError(f"The frame holds an extension value of unknown type {code}.")
        return decode(self, data)


def _unexpected(code: int, _: memoryview) -> Any:
    raise DecodeError(
        f"The frame holds an extension value of type {code}, yet its flags say that it has none."
    )


_plain = Decoder(ext_hook=_unexpected).decode


def read_plain(body: memoryview | bytes) -> Any:
    """Return the value of a body whose frame says that it holds no extension values."""
    try:
        return _plain(body)
    except Exception as error:  # the decoder's own, a RecursionError, a MemoryError
        raise _refusal(error) from error


def _refusal(error: Exception) -> CodecError:
    if isinstance(error, CodecError):
        return error
    if isinstance(error, RecursionError):
        return LimitError("The frame nests lists and dicts too deep.", limit="depth")
    if isinstance(error, MemoryError):
        return LimitError("The frame's value does not fit into memory.", limit="total")
    return DecodeError(f"The frame's body is malformed: {error}")
