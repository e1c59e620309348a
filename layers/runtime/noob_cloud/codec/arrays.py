"""numpy arrays out of band without a copy, and numpy scalars. numpy is imported when one is met."""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

from noob_cloud.codec import tags
from noob_cloud.codec.read import DECODERS
from noob_cloud.codec.write import ENCODERS, FINDERS, Ext
from noob_cloud.exceptions import DecodeError, EncodeError, LimitError

if TYPE_CHECKING:
    import numpy as np

    from noob_cloud.codec.read import Reader
    from noob_cloud.codec.write import Writer

INLINE = 512
"""Arrays of at most this many bytes stand in the body: a buffer of their own costs more."""
_DTYPE = re.compile(
    r"[<>|](?:b1|[iu][1248]|f[248]|c(?:8|16)|[SUV][1-9]\d{0,8}"
    r"|[mM]8(?:\[(?:[1-9]\d{0,8})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)"
)
_USUAL = frozenset("<f8 <f4 <f2 <i8 <i4 <i2 |i1 <u8 <u4 <u2 |u1 |b1 <c16 <c8".split())  # noqa: SIM905
_MAX_FIELDS = 4096
_MAX_DIMENSIONS = 32


# ---- dtypes


def _describe(dtype: np.dtype[Any]) -> Any:
    """Return the dtype as text, or as [names, formats, shapes, offsets, size] with fields."""
    text = dtype.str
    if text in _USUAL:
        return text
    if dtype.fields is None:
        if dtype.hasobject or not _DTYPE.fullmatch(text) or dtype.subdtype is not None:
            raise EncodeError(
                f"An array of dtype {dtype} has no place in the wire format. Convert it with"
                " .astype() to numbers, fixed-length strings or times of a platform-independent"
                " size; a list carries objects.",
                dtype=str(dtype),
            )
        return text
    names = list(dtype.names or ())
    if not dtype.itemsize:
        raise EncodeError(
            "An array of records without fields has no place in the wire format. Convert it to its"
            " shape."
        )
    formats, shapes, offsets = [], [], []
    for name in names:
        field, offset = dtype.fields[name][:2]
        formats.append(_describe(field.base))
        shapes.append(list(field.shape))
        offsets.append(offset)
    return [names, formats, shapes, offsets, dtype.itemsize]


def _dtype(description: Any) -> np.dtype[Any]:
    return _plain_dtype(description) if type(description) is str else _record(description)


@lru_cache(maxsize=256)
def _plain_dtype(text: str) -> np.dtype[Any]:
    import numpy as np  # noqa: PLC0415 - only a frame with an array needs numpy

    if not _DTYPE.fullmatch(text):
        raise DecodeError(f"The frame holds an array of dtype {text[:80]!r}, which is not allowed.")
    return np.dtype(text)


def _record(description: Any) -> np.dtype[Any]:
    import numpy as np  # noqa: PLC0415 - only a frame with an array needs numpy

    if type(description) is not list or not all(
        type(part) is list for part in (*description[:4], *description[2])
    ):
        raise DecodeError("The frame holds an array whose dtype is malformed.")
    names, formats, shapes, offsets, size = description
    if not names or not size:
        raise DecodeError("The frame holds an array of records without a size.")
    if len(names) > _MAX_FIELDS:
        raise LimitError(f"A dtype has {len(names)} fields, over the limit of {_MAX_FIELDS}.")
    kinds = [
        np.dtype((_dtype(kind), tuple(shape))) for kind, shape in zip(formats, shapes, strict=True)
    ]
    end = 0
    for offset, kind in sorted(zip(offsets, kinds, strict=True), key=lambda pair: pair[0]):
        if offset < end:
            raise DecodeError("The frame holds a dtype whose fields overlap.")
        end = offset + kind.itemsize
    return np.dtype({"names": names, "formats": kinds, "offsets": offsets, "itemsize": size})


# ---- writing


def _encode_array(writer: Writer, value: np.ndarray[Any, Any]) -> Ext:
    description = _describe(value.dtype)
    flags, shape = value.flags, list(value.shape)
    fortran = False
    if not flags.c_contiguous or writer.canonical or type(description) is list:
        fortran = flags.f_contiguous and not flags.c_contiguous and not writer.canonical
        value = _normal(writer, value.T if fortran else value)
    data: Any
    if value.nbytes <= INLINE or writer.inline:
        data = value.tobytes()
    else:
        data = writer.add(value.reshape(-1).view("u1").data)
    return writer.ext(tags.NDARRAY, writer.nested([description, shape, fortran, data]))


def _normal(writer: Writer, value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return `value` contiguous, as a plain array whose padding is zero."""
    import numpy as np  # noqa: PLC0415 - imported already, by whoever made the array

    flat = np.asarray(value, order="C")
    if flat.dtype.fields is not None:
        clean = np.zeros(flat.shape, flat.dtype)
        for name in flat.dtype.names or ():
            clean[name] = _normal(writer, flat[name])
        return clean
    if writer.canonical and flat.dtype.kind in "fc":
        return _one_nan(flat)
    return flat


def _one_nan(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the array with every NaN the same, wherever it was computed."""
    import numpy as np  # noqa: PLC0415 - imported already, by whoever made the array

    if not np.isnan(value).any():
        return value
    value = value.copy()
    parts = (value.real, value.imag) if value.dtype.kind == "c" else (value,)
    for part in parts:
        part[np.isnan(part)] = np.nan
    return value


def _encode_scalar(writer: Writer, value: np.generic) -> Ext:
    import numpy as np  # noqa: PLC0415 - imported already, by whoever made the scalar

    if not value.dtype.itemsize:  # np.str_("") and np.bytes_(b"")
        return writer.ext(tags.SCALAR, writer.nested([value.dtype.kind, b""]))
    description = _describe(value.dtype)
    data = _normal(writer, np.asarray(value)).tobytes()
    return writer.ext(tags.SCALAR, writer.nested([description, data]))


def _find(kind: type) -> None:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return
    if kind is numpy.ndarray or kind is numpy.memmap:
        ENCODERS[kind] = _encode_array
    elif issubclass(kind, numpy.generic) and kind.__module__ == "numpy":
        ENCODERS[kind] = _encode_scalar


# ---- reading


def _decode_array(reader: Reader, data: memoryview) -> np.ndarray[Any, Any]:
    import numpy as np  # noqa: PLC0415 - only a frame with an array needs numpy

    description, shape, fortran, content = reader.items(data, 4)
    dtype = _dtype(description)
    buffer = reader.buffer(content) if type(content) is int else content
    if (
        type(shape) is not list
        or len(shape) > _MAX_DIMENSIONS
        or any(type(n) is not int or n < 0 for n in shape)
    ):
        raise DecodeError(f"The frame holds an array of shape {str(shape)[:80]}.")
    if prod(shape) * dtype.itemsize != len(buffer):
        raise DecodeError(
            f"The frame holds an array of shape {str(shape)[:80]} and dtype {str(dtype)[:80]} in"
            f" {len(buffer)} bytes."
        )
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype, buffer, order="F" if fortran else "C")
    return array.copy(order="K") if reader.copy else array


def _decode_scalar(reader: Reader, data: memoryview) -> Any:
    import numpy as np  # noqa: PLC0415 - only a frame with a numpy scalar needs numpy

    description, content = reader.items(data, 2)
    if not content and description in ("U", "S"):
        return np.str_("") if description == "U" else np.bytes_(b"")
    dtype = _dtype(description)
    if dtype.itemsize != len(content):
        raise DecodeError(f"The frame holds a numpy {dtype} in {len(content)} bytes.")
    return np.frombuffer(content, dtype)[0]


# ---- large bytes


def _decode_raw(reader: Reader, data: memoryview) -> bytes | memoryview:
    buffer = reader.buffer(reader.nested(data))
    return bytes(buffer) if reader.copy else buffer


FINDERS.append(_find)
DECODERS.update({tags.NDARRAY: _decode_array, tags.SCALAR: _decode_scalar, tags.BYTES: _decode_raw})
