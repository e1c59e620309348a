"""Extension values of the standard library: big integers, times, UUID, Decimal, paths, ranges."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from struct import Struct
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from noob_cloud.codec import recipes, tags
from noob_cloud.codec.read import DECODERS
from noob_cloud.codec.write import ENCODERS, Ext
from noob_cloud.exceptions import DecodeError, EncodeError, LimitError

if TYPE_CHECKING:
    from noob_cloud.codec.limits import Limits
    from noob_cloud.codec.read import Reader
    from noob_cloud.codec.write import Writer

_COMPLEX = Struct("<dd")
_DATE = Struct("<HBB")
_TIME = Struct("<BBBIB")
_DELTA = Struct("<iii")
_MAX_RANGE = 16_000_000
_MICROSECOND = timedelta(microseconds=1)
_PATHS: tuple[type, ...] = (Path, PurePosixPath, PureWindowsPath)
_NAN = float("nan")


def _size(size: int, limits: Limits) -> None:
    if size > limits.digits:
        raise LimitError(
            f"The number has {size} bytes, over the limit of {limits.digits} (Limits.digits)."
            " Send it as bytes or in an array.",
            limit="digits",
        )


def _encode_int(writer: Writer, value: int) -> Ext:
    size = value.bit_length() // 8 + 1
    _size(size, writer.limits)
    return writer.ext(tags.INTEGER, value.to_bytes(size, "big", signed=True))


def _decode_int(reader: Reader, data: memoryview) -> int:
    _size(len(data), reader.limits)
    return int.from_bytes(data, "big", signed=True)


def _decode_text(_: Reader, data: memoryview) -> str:
    return str(data, "utf-8", "surrogatepass")


def _encode_complex(writer: Writer, value: complex) -> Ext:
    real, imag = value.real, value.imag
    if writer.canonical:
        real = real if real == real else _NAN  # noqa: PLR0124 - the test for a NaN
        imag = imag if imag == imag else _NAN  # noqa: PLR0124
    return writer.ext(tags.COMPLEX, _COMPLEX.pack(real, imag))


def _decode_complex(_: Reader, data: memoryview) -> complex:
    return complex(*_COMPLEX.unpack(data))


def _zone(writer: Writer, zone: tzinfo | None) -> bytes:
    """None, microseconds east of UTC, [microseconds, name], or a key of the time zone database."""
    if zone is None:
        return writer.nested(None)
    if type(zone) is timezone:
        delta, name = zone.utcoffset(None), zone.tzname(None)
        offset = delta // _MICROSECOND
        return writer.nested(offset if timezone(delta).tzname(None) == name else [offset, name])
    if isinstance(zone, ZoneInfo) and zone.key:
        return writer.nested(zone.key)
    raise EncodeError(
        f"The time zone {zone!r} is neither a datetime.timezone nor a ZoneInfo with a key."
    )


def _unzone(reader: Reader, data: memoryview) -> tzinfo | None:
    zone = reader.nested(data)
    if zone is None:
        return None
    if zone == 0 and type(zone) is int:
        return UTC
    if type(zone) is int:
        return timezone(timedelta(microseconds=zone))
    if type(zone) is list:
        offset, name = zone
        return timezone(timedelta(microseconds=offset), name)
    if type(zone) is str:
        return ZoneInfo(zone)
    raise DecodeError(f"{zone!r} is not a time zone.")


def _pack_time(value: datetime | time) -> bytes:
    return _TIME.pack(value.hour, value.minute, value.second, value.microsecond, value.fold)


def _encode_datetime(writer: Writer, value: datetime) -> Ext:
    day = _DATE.pack(value.year, value.month, value.day)
    return writer.ext(tags.DATETIME, day + _pack_time(value) + _zone(writer, value.tzinfo))


def _decode_datetime(reader: Reader, data: memoryview) -> datetime:
    day = _decode_date(reader, data[: _DATE.size])
    return datetime.combine(day, _decode_time(reader, data[_DATE.size :]))


def _encode_date(writer: Writer, value: date) -> Ext:
    return writer.ext(tags.DATE, _DATE.pack(value.year, value.month, value.day))


def _decode_date(_: Reader, data: memoryview) -> date:
    return date(*_DATE.unpack(data))


def _encode_time(writer: Writer, value: time) -> Ext:
    return writer.ext(tags.TIME, _pack_time(value) + _zone(writer, value.tzinfo))


def _decode_time(reader: Reader, data: memoryview) -> time:
    hour, minute, second, microsecond, fold = _TIME.unpack_from(data)
    zone = _unzone(reader, data[_TIME.size :])
    return time(hour, minute, second, microsecond, zone, fold=fold)


def _encode_delta(writer: Writer, value: timedelta) -> Ext:
    return writer.ext(tags.TIMEDELTA, _DELTA.pack(value.days, value.seconds, value.microseconds))


def _decode_delta(_: Reader, data: memoryview) -> timedelta:
    return timedelta(*_DELTA.unpack(data))


def _encode_uuid(writer: Writer, value: uuid.UUID) -> Ext:
    return writer.ext(tags.UUID, value.bytes)


def _decode_uuid(_: Reader, data: memoryview) -> uuid.UUID:
    return uuid.UUID(bytes=bytes(data))


def _encode_decimal(writer: Writer, value: Decimal) -> Ext:
    text = str(value).encode("ascii")
    _size(len(text), writer.limits)
    return writer.ext(tags.DECIMAL, text)


def _decode_decimal(reader: Reader, data: memoryview) -> Decimal:
    _size(len(data), reader.limits)
    return Decimal(str(data, "ascii"))


def _encode_path(writer: Writer, value: PurePosixPath | PureWindowsPath) -> Ext:
    kind = 0 if isinstance(value, Path) else _PATHS.index(type(value))
    return writer.ext(tags.PATH, bytes((kind,)) + str(value).encode("utf-8", "surrogatepass"))


def _decode_path(_: Reader, data: memoryview) -> Any:
    return _PATHS[data[0]](str(data[1:], "utf-8", "surrogatepass"))


def _limited(value: range, limits: Limits) -> range:
    """Refuse a range of more values than a frame may hold: a few bytes must not become many."""
    most = min(limits.items, _MAX_RANGE)
    if value and (value[-1] - value[0]) // value.step >= most:
        raise LimitError(
            f"{value} has more than {most} values (Limits.items). Send its bounds.",
            limit="items",
        )
    return value


def _encode_range(writer: Writer, value: range) -> Ext:
    _limited(value, writer.limits)
    return writer.ext(tags.RANGE, writer.nested([value.start, value.stop, value.step]))


def _decode_range(reader: Reader, data: memoryview) -> range:
    return _limited(range(*reader.items(data, 3)), reader.limits)


def _encode_slice(writer: Writer, value: slice) -> Ext:
    return writer.ext(tags.SLICE, writer.nested([value.start, value.stop, value.step]))


def _decode_slice(reader: Reader, data: memoryview) -> slice:
    return slice(*reader.items(data, 3))


ENCODERS.update(
    {
        int: _encode_int,
        complex: _encode_complex,
        datetime: _encode_datetime,
        date: _encode_date,
        time: _encode_time,
        timedelta: _encode_delta,
        uuid.UUID: _encode_uuid,
        Decimal: _encode_decimal,
        PosixPath: _encode_path,
        WindowsPath: _encode_path,
        PurePosixPath: _encode_path,
        PureWindowsPath: _encode_path,
        range: _encode_range,
        slice: _encode_slice,
    }
)
DECODERS.update(
    {
        tags.INTEGER: _decode_int,
        tags.TEXT: _decode_text,
        tags.COMPLEX: _decode_complex,
        tags.DATETIME: _decode_datetime,
        tags.DATE: _decode_date,
        tags.TIME: _decode_time,
        tags.TIMEDELTA: _decode_delta,
        tags.UUID: _decode_uuid,
        tags.DECIMAL: _decode_decimal,
        tags.PATH: _decode_path,
        tags.RANGE: _decode_range,
        tags.SLICE: _decode_slice,
    }
)
for _kind, _code in (
    (complex, tags.COMPLEX),
    (datetime, tags.DATETIME),
    (date, tags.DATE),
    (timedelta, tags.TIMEDELTA),
    (uuid.UUID, tags.UUID),
    (Decimal, tags.DECIMAL),
):
    recipes.scalar(_kind, _code)
