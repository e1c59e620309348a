"""Hostile bytes get a CodecError that says what is wrong, and nothing else."""

from __future__ import annotations

import collections
import dataclasses
import decimal
import pathlib
import struct
import subprocess
import sys
import threading
import uuid
import zoneinfo
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import numpy as np
import pydantic
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from noob import MetaSignal
from noob_core import Epoch

from noob_cloud.codec import (
    CodecError,
    DecodeError,
    LimitError,
    Limits,
    dumps,
    dumps_parts,
    loads,
    loads_parts,
    register,
)
from noob_cloud.codec.frame import HEAD_SIZE
from noob_cloud.task import MISSING, Outcome, StageCall

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


@register
@dataclasses.dataclass
class Point:
    x: int
    y: tuple = ()


@register
class Model(pydantic.BaseModel):
    size: int = pydantic.Field(gt=0)


SAMPLE = {
    "text": "x" * 40, "list": [1, 2.5, None, True, -7], "tuple": ((1,), (2, "b")), "set": {1, 2},
    "big": 2**80,
    "when": datetime(2026, 1, 1, tzinfo=UTC), "zone": datetime(2026, 1, 1, tzinfo=BERLIN),
    "id": uuid.UUID(int=5),
    "array": np.arange(65.0), "small": np.arange(3), "record": np.zeros(2, [("a", "i4")]),
    "scalar": np.float32(1),
    "call": StageCall("t", ("a",), (1,), ((1,),)), "out": Outcome(ok=True, value=(MISSING,)),
    "point": Point(1, (2,)),
    "model": Model(size=1), "epoch": Epoch(1, [("m", 2)]), "signal": MetaSignal.NoEvent,
    5: {(1, 2): "int keys"},
    "dec": decimal.Decimal("1.5"), "path": pathlib.Path("a"), "deque": collections.deque([1]),
    "range": range(3),
}  # fmt: skip
FRAME = dumps(SAMPLE)


def attempt(data: bytes) -> None:
    """Decode hostile bytes: a value or a CodecError, nothing else."""
    limits = Limits(total=1 << 20)
    for read in (loads, lambda data, **more: loads_parts([data[:64], data[64:]], **more)):
        with suppress(CodecError):
            read(data, limits=limits, copy=False)


def test_truncations() -> None:
    """A frame cut anywhere is refused."""
    for size in range(len(FRAME)):
        with pytest.raises(CodecError):
            loads(FRAME[:size])
    with pytest.raises(CodecError):
        loads(FRAME + b"\0")
    with pytest.raises(CodecError):
        loads(dumps(1) + b"\0")


def test_bit_flips() -> None:
    """A frame with any bit changed is a value or a CodecError."""
    for at in range(len(FRAME)):
        for bit in (0, 3, 7):
            hurt = bytearray(FRAME)
            hurt[at] ^= 1 << bit
            attempt(bytes(hurt))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 3))
@example(b"\xdd\xff\xff\xff\xff", 0)
@example(b"\xc7\xff\x01" + b"\x91" * 255, 1)
def test_random_bodies(body, flags) -> None:
    """Any bytes behind a sound head are a value or a CodecError."""
    attempt(struct.pack("<4sHHQQ", b"NCF\0", 1, flags, len(body), 0) + body)
    attempt(body)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_spliced_frames(data) -> None:
    """Pieces of frames put together anew are a value or a CodecError."""
    hurt = bytearray(FRAME)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(hurt) - 1))
        hurt[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    attempt(bytes(hurt))


def frame(
    body: bytes, flags: int = 1, version: int = 1, table: bytes = b"", count: int = 0
) -> bytes:
    head = struct.pack("<4sHHQQ", b"NCF\0", version, flags, len(body), count)
    return head + table + body


def ext(code: int, payload: bytes) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, payload))


def pack(value) -> bytes:
    return msgspec.msgpack.encode(value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "24 bytes"),
        (b"\x80\x05K\x01.", "24 bytes"),
        (b"\x80\x05" + bytes(40), "begins with"),
        (frame(b"\x01", version=2), "version 2"),
        (frame(b"\x01", flags=8), "flags"),
        (frame(b"\x01") + b"x", "follow"),
        (frame(b"\xc1"), "malformed"),
        (frame(b"\x01\x02"), "trailing"),
        (frame(b""), "malformed"),
        (frame(b"\xa1\xff"), "malformed"),
        (frame(ext(1, b"\x90"), flags=0), "says? that it has none|say that it has none"),
        (frame(ext(127, b"")), "unknown type 127"),
        (frame(ext(-5, b"x")), "unknown type -5"),
        (frame(ext(4, pack(["os:system", "true"]))), "register"),
        (frame(ext(4, pack([["x"], 1]))), "register"),
        (frame(ext(4, pack([1]))), "items"),
        (frame(ext(1, pack({}))), "malformed"),
        (frame(ext(2, pack([{}]))), "malformed"),
        (frame(ext(33, pack(["|O", [1], False, b"12345678"]))), "not allowed"),
        (frame(ext(33, pack(["<f8", [-1], False, b""]))), "shape"),
        (frame(ext(33, pack(["<f8", [2**40], False, b""]))), "bytes"),
        (frame(ext(33, pack(["<f8", [1] * 100, False, bytes(8)]))), "shape"),
        (frame(ext(33, pack(["<f8", [1], False, 0]))), "no buffer"),
        (frame(ext(33, pack(["<f8,<f8", [1], False, bytes(16)]))), "not allowed"),
        (frame(ext(33, pack([[["a", "b"], ["<f8", "<f8"], [[], []], [0, 4], 16], [1], False,
        bytes(16)]))), "overlap"),
        (frame(ext(33, pack([[[], [], [], [], 0], [2**60], False, b""]))), "without a size"),
        (frame(ext(33, pack([[["a"], ["<f8"], ["x"], [0], 8], [], False, b""]))), "malformed"),
        (frame(ext(33, pack(["|S0", [2**60], False, b""]))), "not allowed"),
        (frame(ext(8, bytes(12))), "malformed"),
        (frame(ext(12, bytes(15))), "malformed"),
        (frame(ext(13, b"one")), "malformed"),
        (frame(ext(66, b"\x09")), "meta signal"),
        (frame(ext(69, pack([1]))), "items"),
        (frame(b"\x81\x80\x01"), "malformed"),
        (frame(b"\x01", count=1), "longer|cut"),
        (frame(b"\x01", table=struct.pack("<QQI", 0, 0, 64), count=1), "begins at byte"),
        (frame(b"\x01", table=struct.pack("<QQI", 64, 0, 3), count=1), "alignment"),
        (frame(b"\x01", table=struct.pack("<QQI", 64, 10, 64), count=1), "ends"),
        (frame(b"\x01", table=struct.pack("<QQI", 64, 0, 64), count=1) + b"x" * 19, "padding"),
    ],
)  # fmt: skip
def test_decode_refuses(data, words) -> None:
    """Each way to be wrong has its sentence."""
    with pytest.raises(DecodeError, match=words):
        loads(data)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (frame(b"\x91" * 100_000 + b"\x90"), "depth"),
        (frame(b"\x81\x01" * 100_000 + b"\x90"), "depth"),
        (struct.pack("<4sHHQQ", b"NCF\0", 1, 0, 2**63, 0), "body"),
        (struct.pack("<4sHHQQ", b"NCF\0", 1, 0, 1, 2**63), "buffers"),
        (frame(ext(5, bytes(5000))), "digits"),
        (frame(ext(13, b"1" * 5000)), "digits"),
    ],
)
def test_decode_limits(data, name) -> None:
    """Bombs are refused before they go off."""
    with pytest.raises(LimitError) as caught:
        loads(data)
    assert caught.value.limit == name


def test_nested_extension_bomb() -> None:
    """Tuples inside tuples are counted exactly."""
    body = b"\x90"
    for _ in range(129):
        body = ext(1, b"\x91" + body if body != b"\x90" else body)
    with pytest.raises(LimitError, match=r"Limits\.depth"):
        loads(frame(body))


@pytest.mark.parametrize(
    ("value", "limits", "name"),
    [
        ([0] * 1000, Limits(items=100), "items"),
        ({"a": [(1,) * 200]}, Limits(items=100), "items"),
        ([{"k": b"x" * 300, "s": "y" * 70_000, "f": 1.5, "e": 2**70}], Limits(text=1000), "text"),
        (np.zeros(1000), Limits(total=1000), "total"),
        ([1] * 1000, Limits(body=100), "body"),
        ([np.zeros(100)] * 3, Limits(buffers=2), "buffers"),
        ((((),),), Limits(depth=2), "depth"),
        (2**800, Limits(digits=100), "digits"),
    ],
)
def test_limits_when_decoding(value, limits, name) -> None:
    """A server's own limits hold for what clients send."""
    with pytest.raises(LimitError) as caught:
        loads(dumps(value), limits=limits)
    assert caught.value.limit == name
    loads(dumps(value), limits=Limits(items=2000, text=80_000))


def test_lists_within_limits_are_counted_right() -> None:
    """Counting steps over every kind of value without losing its place."""
    value = [None, 1, -1, 300, -300, 70_000, 2**40, -(2**40), 1.5, "a" * 40, "b" * 300,
    "c" * 70_000, b"d" * 300,
             b"e" * 70_000, (1,) * 300, {"k" * 40: [0] * 70_000}, {i: i for i in range(70_000)},
             2**64, uuid.UUID(int=1),
             1j, "\ud800" * 30]  # fmt: skip
    assert loads(dumps(value), limits=Limits(items=500_000)) == value
    with pytest.raises(LimitError):
        loads(dumps(value), limits=Limits(items=200_000))


@pytest.mark.parametrize(
    "value",
    [
        ["collections:deque", ["BOMB", None]],
        ["collections:Counter", "BOMB"],
        ["fractions:Fraction", ["1e999999999"]],
        ["fractions:Fraction", ["1e999999999", 1]],
        [f"{__name__}:Point", "BOMB"],
        ["collections:defaultdict", ["open", {}]],
    ],
)
def test_bombs_in_objects(value) -> None:
    """A long range, or a number written with an exponent, is nobody's way to fill the memory."""
    for bound in (10**6, 10**15):
        bomb = msgspec.msgpack.Ext(15, pack([0, bound, 1]))
        text = pack(value).replace(pack("BOMB"), pack(bomb))
        with pytest.raises(CodecError):
            loads(frame(ext(4, text)))


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (67, ["1", 1]),
        (68, [1, ["a"], [0], [[1]], None, False]),
        (68, ["t", [1], [0], [[1]], None, False]),
        (68, ["t", ["a"], [0], [{}], None, False]),
        (68, ["t", ["a"], [0], [[1]], None]),
        (69, [1, *[None] * 3, [], *[None] * 3, True, 0.0, {}]),
        (69, [True, None, None, None, {}, *[None] * 3, True, 0.0, {}]),
    ],
)
def test_nouns_are_typed(code, value) -> None:
    """A call or outcome whose parts are of other types is refused before anyone acts on it."""
    with pytest.raises(DecodeError):
        loads(frame(ext(code, pack(value))))


def test_known_heads_do_not_loosen_limits() -> None:
    """An array whose head was read before is refused under smaller limits all the same."""
    parts = dumps_parts(np.zeros(5000))
    loads_parts(parts)
    with pytest.raises(LimitError):
        loads_parts(parts, limits=Limits(total=1000))
    with pytest.raises(LimitError):
        dumps_parts(np.zeros(5000), limits=Limits(total=1000))


def test_readers_are_reused_soundly() -> None:
    """A failure while decoding leaves nothing behind, and threads do not meet."""
    wrong = []

    def work(n: int) -> None:
        for i in range(200):
            value = [(n, i), {"x": np.full(200, n)}]
            back = loads(dumps(value))
            if back[0] != (n, i) or back[1]["x"][0] != n:
                wrong.append(back)
            try:
                loads(frame(ext(1, b"\x91" + ext(1, b"\xc1"))))
                wrong.append(i)
            except DecodeError:
                pass

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_import_is_light() -> None:
    """Importing the codec, and using it on plain values, imports neither numpy nor upstream."""
    script = (
        "import sys, noob_cloud.codec as c; c.loads(c.dumps([1, (2,), {3: 4}]));"
        "heavy = ('numpy', 'pydantic', 'noob', 'noob_core', 'pyarrow');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_heads_are_bincode() -> None:
    """The head is what bincode 2 writes in its legacy configuration, spelled out."""
    data = dumps_parts({"a": np.zeros(100)})[0]
    magic, version, flags = data[:4], data[4:6], data[6:8]
    assert (magic, version, flags) == (b"NCF\0", b"\1\0", b"\1\0")
    body, count = struct.unpack("<QQ", data[8:24])
    offset, length, align = struct.unpack("<QQI", data[24:44])
    assert (count, length, align, offset % 64) == (1, 800, 64, 0)
    assert data[44 + body :] == bytes(offset - 44 - body)
    assert HEAD_SIZE == 24
