"""Turn a value into the body and buffers of a frame.

ormsgpack walks what msgpack itself can say and calls `Writer.hook` for every other type (unlike
msgspec it does not turn a tuple into a list by itself). What it refuses - keys that are no
strings, lone surrogates - is walked here, one level at a time, so the rest stays fast.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

import ormsgpack
from ormsgpack import Ext, packb

from noob_cloud.codec import tags
from noob_cloud.codec.limits import DEFAULT, Limits
from noob_cloud.exceptions import EncodeError, LimitError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ENCODERS",
    "FINDERS",
    "OPTIONS",
    "RAW_TYPES",
    "Ext",
    "Writer",
    "find",
    "packb",
    "too_deep",
]

ENCODERS: dict[type, Callable[[Writer, Any], Any]] = {}
"""How a value of exactly this type becomes an extension value."""
FINDERS: list[Callable[[type], None]] = []
"""Called with a type that is not in ENCODERS; each may add it there."""

LARGE = 1 << 16
"""From this many bytes on, a frame that is nothing but bytes carries them out of band."""
RAW_TYPES = frozenset((bytes, bytearray, memoryview))
OPTIONS = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_MAX_PLAIN = 250
_U16 = Struct(">BH")
_U32 = Struct(">BI")
_FIX = 16
_SHORT = 1 << 16


class Writer:
    """Encodes one value; afterwards it holds what the frame needs beside the body."""

    # class attributes instead of __init__: a writer is made for each message
    limits: Limits = DEFAULT
    canonical: bool = False
    extended: bool = False
    """Whether the body holds extension values."""
    buffers: list[memoryview] | None = None
    depth: int = 0
    inline: int = 0
    """Over zero inside a set, whose items must not depend on the order they were met in."""
    error: BaseException | None = None
    ext = Ext
    """Makes what stands for an extension value; the Rust core's writer has one of its own."""

    def hook(self, value: Any) -> Any:
        """Encode what plain msgpack cannot say, as ormsgpack calls it."""
        self.extended = True
        try:
            encode = ENCODERS.get(type(value)) or find(value)
            return encode(self, value)
        except RecursionError as error:
            self.error = self.error or too_deep(error)
            raise
        except BaseException as error:
            self.error = error  # ormsgpack drops it, `pack` brings it back
            raise

    def pack(self, value: Any) -> bytes:
        """Return the msgpack of `value`."""
        mark = len(self.buffers) if self.buffers else 0
        if self.canonical:
            try:
                value = _one_nan(value, _MAX_PLAIN)
            except RecursionError as error:
                raise too_deep(error) from error
        try:
            return packb(value, self.hook, OPTIONS)
        except TypeError as error:
            return self.recover(value, error, mark)

    def recover(self, value: Any, error: TypeError, mark: int = 0) -> bytes:
        """Return the msgpack of what ormsgpack refused, or say why there is none."""
        if self.error is not None:
            raise self.error from self.error.__cause__
        if self.buffers:
            del self.buffers[mark:]
        return self._walk(value, error)

    def pack_top(self, value: Any) -> bytes:
        """Return the msgpack of a whole frame's value; large bytes go out of band."""
        if type(value) in RAW_TYPES and memoryview(value).nbytes >= LARGE:
            self.extended = True
            index = self.add(memoryview(value).cast("B"))
            return packb(Ext(tags.BYTES, self.nested(index)))
        return self.pack(value)

    def nested(self, value: Any) -> bytes:
        """Return the msgpack of `value`, one level deeper."""
        return self._descend(self.pack, value)

    def join(self, packed: list[bytes]) -> bytes:
        """Return the list whose items have these bytes."""
        return b"".join((_header(0x90, 0xDC, len(packed)), *packed))

    def add(self, buffer: memoryview) -> int:
        """Put a buffer of bytes out of band and return its index."""
        if self.buffers is None:
            self.buffers = []
        self.buffers.append(buffer)
        return len(self.buffers) - 1

    def _descend(self, encode: Callable[[Any], bytes], value: Any) -> bytes:
        if self.depth >= self.limits.depth:
            raise LimitError(
                f"The value is nested deeper than {self.limits.depth} levels (Limits.depth)."
                " Does it contain itself?",
                limit="depth",
            )
        self.depth += 1
        packed = encode(value)
        self.depth -= 1
        return packed

    def _walk(self, value: Any, error: TypeError) -> bytes:
        kind = type(value)
        if kind is dict:
            return self._descend(self._walk_dict, value)
        if kind is list:
            return self._descend(self._walk_list, value)
        if kind is str:  # lone surrogates, as os.fsdecode makes them
            self.extended = True
            return packb(Ext(tags.TEXT, value.encode("utf-8", "surrogatepass")))
        raise EncodeError(f"{_show(value)} could not be encoded: {error}") from error

    def _walk_list(self, value: list[Any]) -> bytes:
        return self.join([self.pack(item) for item in value])

    def _walk_dict(self, value: dict[Any, Any]) -> bytes:
        """Write the keys and values as one list, then put a map's header in place of its."""
        flat = [part for pair in value.items() for part in pair]
        packed = self.pack(flat)
        return _header(0x80, 0xDE, len(value)) + packed[len(_header(0x90, 0xDC, len(flat))) :]


def find(value: Any) -> Callable[[Writer, Any], Any]:
    """Return what encodes a value whose type is met for the first time.

    Raises:
        EncodeError: Nothing does.
    """
    kind = type(value)
    for finder in FINDERS:
        finder(kind)
        if kind in ENCODERS:
            return ENCODERS[kind]
    raise EncodeError(
        f"A value of type {kind.__module__}.{kind.__qualname__} has no place in the wire"
        f" format: {_show(value)}. Register dataclasses, models, structs and enums with"
        " noob_cloud.codec.register(cls) on both sides, or convert the value first.",
        kind=f"{kind.__module__}.{kind.__qualname__}",
    )


def too_deep(error: BaseException) -> LimitError:
    """Return the error of ours for a stack that is used up."""
    made = LimitError(
        "The value is nested deeper than this thread's stack allows. Does it contain itself?",
        limit="depth",
    )
    made.__cause__ = error
    return made


def _show(value: Any) -> str:
    try:
        return repr(value)[:80]
    except Exception:  # noqa: BLE001 - a class of the user's, which is refused anyhow
        return f"<{type(value).__name__}>"


def _one_nan(value: Any, room: int) -> Any:
    """Return plain `value` with every NaN in the one form that canonical bytes know."""
    kind = type(value)
    if kind is float:
        return value if value == value else float("nan")  # noqa: PLR0124 - the test for a NaN
    if kind is not list and kind is not dict:
        return value
    if not room:
        raise LimitError(
            f"The value nests lists and dicts deeper than {_MAX_PLAIN} levels."
            " Does it contain itself?",
            limit="depth",
        )
    if kind is list:
        return [_one_nan(item, room - 1) for item in value]
    return {_one_nan(key, room - 1): _one_nan(item, room - 1) for key, item in value.items()}


def _header(fixed: int, short: int, size: int) -> bytes:
    if size < _FIX:
        return bytes((fixed | size,))
    if size < _SHORT:
        return _U16.pack(short, size)
    return _U32.pack(short + 1, size)
