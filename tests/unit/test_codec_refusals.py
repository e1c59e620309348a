"""What has no place in the wire format is refused by name, and classes travel when registered."""

from __future__ import annotations

import collections
import dataclasses
import decimal
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

import numpy as np
import pydantic
import pytest

from noob_cloud import codec
from noob_cloud.codec import (
    CodecError,
    DecodeError,
    EncodeError,
    LimitError,
    Limits,
    canonical,
    dumps,
    dumps_parts,
    loads,
    register,
)
from noob_cloud.task import Outcome


@register
@dataclasses.dataclass(frozen=True)
class Frozen:
    name: str


@register
class Model(pydantic.BaseModel):
    size: int = pydantic.Field(alias="theSize", gt=0)
    when: datetime | None = None


class Unknown:
    pass


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("rude")


class Odd(tzinfo):
    def utcoffset(self, _):
        return timedelta(hours=1)


class Untold(NamedTuple):
    a: int


@dataclasses.dataclass
class Unregistered:
    x: int = 1


@pytest.mark.parametrize(
    "value",
    [Unknown(), np.zeros(3, []),
     Rude(), Unregistered(), object, print, lambda: 1, iter([]), np.array([object()]),
    np.longdouble(1),
     np.ma.array([1]), Untold(1), datetime(2026, 1, 1, tzinfo=Odd()),
     collections.defaultdict(lambda: 1), type("Sub", (dict,), {})(), type("SubStr", (str,),
     {})("x"),
     np.zeros(2, [("a", "O")])],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_encode_refuses(value) -> None:
    """A value without a place is named, wherever it stands, and never flattened silently."""
    for wrapped in (value, [1, value], (value,), {"a": {1: value}}, Outcome(ok=True, value=value)):
        with pytest.raises(EncodeError):
            dumps(wrapped)
        with pytest.raises(EncodeError):
            canonical(wrapped)
    with pytest.raises(EncodeError, match=r"register|convert|Convert|defaultdict|ZoneInfo"):
        dumps(value)


def test_encode_limits() -> None:
    """What is too deep or too large is a LimitError that names its limit."""
    loop: list = []
    loop.append(loop)
    deep: tuple = ()
    for _ in range(200):
        deep = (deep,)
    nested: dict = {}
    for _ in range(5000):
        nested = {1: nested}
    woven: tuple = ()
    for _ in range(120):
        for _ in range(240):
            woven = [woven]
        woven = (woven,)
    with pytest.raises(LimitError):
        loads(dumps(woven))
    with pytest.raises(LimitError):
        canonical(woven)
    for value in (loop, deep, nested):
        for encode in (dumps, dumps_parts, canonical):
            with pytest.raises(LimitError) as caught:
                encode(value)
            assert caught.value.limit == "depth"
    for value, limits, name in (
        (10**20_000, Limits(), "digits"),
        (range(10**9), Limits(), "items"),
        (decimal.Decimal(10) ** 5000 + 1, Limits(digits=10), "digits"),
        (bytes(1000), Limits(total=100), "total"),
        ("x" * 1000, Limits(body=100), "body"),
        ([np.zeros(100)] * 3, Limits(buffers=2), "buffers"),
        (((1,),), Limits(depth=1), "depth"),
        ([0] * 1000, Limits(items=100), "items"),
        (["x" * 1000], Limits(text=100), "text"),
    ):
        with pytest.raises(LimitError, match=rf"Limits\.{name}") as caught:
            dumps(value, limits=limits)
        assert caught.value.limit == name


def test_errors_of_the_codec_are_builtins_too() -> None:
    """Each error is one of ours and the builtin a handler may look for."""
    assert issubclass(EncodeError, TypeError)
    assert issubclass(DecodeError, ValueError)
    assert issubclass(LimitError, OverflowError)
    assert all(issubclass(kind, CodecError) for kind in (EncodeError, DecodeError, LimitError))


# ---- registered classes


def test_register_names() -> None:
    """A name stands for one class; the same class may come again, as on reload."""
    assert register(Frozen) is Frozen
    with pytest.raises(ValueError, match="already"):
        register(Unregistered, f"{__name__}:Frozen")
    with pytest.raises(TypeError, match="encode="):
        register(Unknown)
    with pytest.raises(TypeError, match="both"):
        register(Unknown, encode=str)
    assert codec.registered()[f"{__name__}:Frozen"] is Frozen


def test_register_with_functions() -> None:
    """Any class travels with functions of one's own."""

    class Celsius:
        def __init__(self, degrees: float) -> None:
            self.degrees = degrees

    register(Celsius, "tests:Celsius", encode=lambda value: value.degrees, decode=Celsius)

    assert loads(dumps([Celsius(3.5)]))[0].degrees == 3.5


def test_unregistered_name() -> None:
    """A frame that names a class not registered here says which, and how to mend it."""
    name = f"{__name__}:Frozen"
    frame = dumps(Frozen("x")).replace(name.encode(), name[:-1].encode() + b"X")

    with pytest.raises(DecodeError, match="register"):
        loads(frame)


def test_validation_runs() -> None:
    """A registered class is built by its constructor: bad states are refused, not smuggled in."""
    for good, bad in ((Model(theSize=3), b"\xfd"), (Frozen("ab"), b"\xc0")):
        frame = dumps(good)
        hurt = (
            frame.replace(b"\xa4size\x03", b"\xa4size\xff")
            if isinstance(good, Model)
            else frame.replace(b"\xa4name", b"\xa4nome")
        )
        assert hurt != frame, bad
        with pytest.raises(DecodeError, match=type(good).__name__):
            loads(hurt)
