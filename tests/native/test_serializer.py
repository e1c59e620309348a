"""The Rust core writes the bytes that the codec in Python writes, and reads what that reads."""

from __future__ import annotations

import collections
import dataclasses
import gc
import os
import struct
import sys
import threading
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

native = pytest.importorskip("noob_cloud_core", reason="the Rust core is not installed")

from noob_cloud.cid import cid, format_cid  # noqa: E402 - the core is there
from noob_cloud.codec import dumps_batch, loads_batch, twin  # noqa: E402
from noob_cloud.codec.limits import Limits  # noqa: E402
from noob_cloud.codec.registry import register  # noqa: E402
from noob_cloud.exceptions import (  # noqa: E402
    CodecError,
    DecodeError,
    EncodeError,
    LimitError,
)
from noob_cloud.native import core  # noqa: E402
from noob_cloud.task import MISSING, Outcome, StageCall, Task, Token  # noqa: E402

if core is None:
    pytest.skip("the Rust core is left aside", allow_module_level=True)

FAST = native.FastSerializer()
STABLE = native.FastSerializer(stable=True)
BOTH = (FAST, STABLE)


@register
@dataclasses.dataclass
class Point:
    x: object
    y: tuple = ()
    area: float = dataclasses.field(default=0.0, init=False)


@register
@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    text: str


@register
class Pair(NamedTuple):
    left: object
    right: object


@register
class Record(msgspec.Struct):
    a: object
    b: int = 3


@register
class Colour(Enum):
    RED = 1


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(1 << 65), 1 << 65), st.floats(),
    st.text(st.characters()), st.text(max_size=40), st.binary(), st.binary(min_size=4000,
    max_size=5000), st.complex_numbers(), st.datetimes(), st.datetimes(timezones=st.timezones()),
    st.datetimes(timezones=st.just(UTC)), st.dates(), st.times(), st.timedeltas(), st.uuids(),
    st.decimals(allow_nan=False), st.fractions(), st.sampled_from([Colour.RED, MISSING,
    bytearray(b"abc"), memoryview(b"xyz"), np.float32(1.5), range(5), Path("a/b"), np.arange(4),
    np.arange(300.0), np.full(2, np.nan)]),
)  # fmt: skip
HASHABLE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.uuids()),
    lambda inner: st.one_of(
        st.tuples(inner, inner), st.frozensets(inner, max_size=4), st.builds(Name, st.text())
    ),
    max_leaves=6,
)
ANY = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=20),
        st.lists(inner, max_size=20).map(tuple),
        st.dictionaries(st.text(), inner, max_size=20),
        st.dictionaries(HASHABLE, inner, max_size=5),
        st.sets(HASHABLE, max_size=5),
        st.frozensets(HASHABLE, max_size=5),
        st.builds(Point, inner, st.tuples(inner)),
        st.builds(Pair, inner, inner),
        st.builds(Record, inner),
        st.builds(collections.deque, st.lists(inner, max_size=4)),
        st.builds(lambda value: Outcome(ok=True, value=value, args=(value,)), inner),
        st.builds(lambda value: Task(1, "n", 2, payload=value, token=Token(1, 2)), inner),
        st.builds(
            lambda rows, epoch: StageCall("t", ("a", "b"), (epoch,), tuple(rows)),
            st.lists(st.tuples(inner, inner), max_size=3),
            inner,
        ),
    ),
    max_leaves=30,
)


def outcome(work, *args, **more):
    """What a call gives, or the kind of error that it raises."""
    try:
        return work(*args, **more)
    except CodecError as error:
        return type(error), getattr(error, "limit", None)


@settings(max_examples=300, deadline=None)
@given(ANY)
def test_same_bytes_and_values(value) -> None:
    """Whatever the value, both write the same bytes, and read each other's as the same value."""
    frame, one = twin.dumps(value), twin.canonical(value)
    for serializer in BOTH:
        assert serializer.dumps(value) == frame
        assert serializer.canonical(value) == one
        assert serializer.cid_of(value) == cid(one)
        assert b"".join(serializer.dumps_parts(value)) == frame
        assert b"".join(serializer.canonical_parts(value)) == one
        for data in (frame, one):
            back, other = serializer.loads(data), twin.loads(data)
            assert type(back) is type(other)
            assert twin.canonical(back) == twin.canonical(other) == one
    assert [bytes(part) for part in FAST.dumps_parts(value)] == [
        bytes(part) for part in twin.dumps_parts(value)
    ]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 31, 32, 253, 254, 255, 256, 257, 65_535, 65_536])
def test_same_heads_at_every_border(count) -> None:
    """Where the length of a head changes, both change it."""
    for value in (
        "x" * count, b"x" * count, bytearray(count), [None] * count, (None,) * count,
        dict.fromkeys(range(count)), {str(n): n for n in range(count)}, set(range(count)),
        [("x" * count,)], (b"x" * count,), frozenset(["x" * count]), [[(True,) * count]],
        Point("x" * count), "\ud800" * count, 1 << count % 3000, -(1 << count % 3000),
    ):  # fmt: skip
        frame = twin.dumps(value)
        for serializer in BOTH:
            assert serializer.dumps(value) == frame
            assert serializer.loads(frame) == twin.loads(frame)
    for bits in (7, 8, 15, 16, 30, 31, 32, 59, 60, 61, 62, 63, 64, 65):
        for near in (-2, -1, 0, 1, 2):
            for value in ((1 << bits) + near, -(1 << bits) + near):
                assert FAST.dumps(value) == STABLE.dumps(value) == twin.dumps(value)
                assert FAST.loads(twin.dumps(value)) == value


def seeds() -> list[bytes]:
    values = [
        [1, {"a": (1, 2.5, None)}, {3, "x"}], {(1, 2): [Name("n")]}, Outcome(ok=False, args=(1,)),
        StageCall("t", ("a",), (1,), ((1, 2),)), [np.arange(100.0), np.arange(3)], 2**80, 1 + 2j,
        datetime(2026, 1, 1, tzinfo=UTC), uuid.UUID(int=7), Decimal("1.5"), timedelta(5),
        date(2026, 1, 1), Point(1, (2,)), Pair(1, 2), Record(1), Colour.RED, Token(1, 2),
        collections.deque([1]), {"k" * 50: "v" * 300}, range(4), "\ud800",
    ]  # fmt: skip
    return [twin.dumps(value) for value in values]


SEEDS = seeds()


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_same_refusals_of_damaged_frames(data) -> None:
    """Damaged bytes are the same value for both, or refused by both."""
    hurt = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(hurt) - 1))
        hurt[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    agree(bytes(hurt))


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 3))
def test_same_refusals_of_any_body(body, flags) -> None:
    """Any bytes behind a sound head are the same value for both, or refused by both."""
    agree(struct.pack("<4sHHQQ", b"NCF\0", 1, flags, len(body), 0) + body)


def agree(frame: bytes) -> None:
    limits = Limits(total=1 << 20, digits=200)
    expected = outcome(twin.loads, frame, limits=limits)
    for serializer in BOTH:
        for data in (frame, bytearray(frame), memoryview(frame)):
            found = outcome(serializer.loads, data, limits=limits)
            assert type(found) is type(expected)
            if type(expected) is tuple and expected and isinstance(expected[0], type):
                assert isinstance(found[0], type)
            else:
                assert twin.canonical(found) == twin.canonical(expected)


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        ([0] * 1000, Limits(items=100)),
        ({"a": [(1,) * 200]}, Limits(items=100)),
        ([b"x" * 9000], Limits(text=1000)),
        (["x" * 9000], Limits(text=1000)),
        ([1] * 1000, Limits(body=100)),
        ([["x" * 50] * 10] * 10, Limits(body=100)),
        (b"x" * 100_000, Limits(total=1000)),
        (np.zeros(1000), Limits(total=1000)),
        ([np.zeros(100)] * 3, Limits(buffers=2)),
        ((((),),), Limits(depth=2)),
        ({frozenset([frozenset()])}, Limits(depth=1)),
        (Point((Point(1),)), Limits(depth=2)),
        (2**800, Limits(digits=100)),
        ([1], Limits(total=float("inf"))),
    ],
)
def test_same_limits(value, limits) -> None:
    """What is over a limit is refused by both, writing and reading, as the same limit."""
    expected = outcome(twin.dumps, value, limits=limits)
    frame = twin.dumps(value)
    reading = outcome(twin.loads, frame, limits=limits)
    for serializer in BOTH:
        found = outcome(serializer.dumps, value, limits=limits)
        assert found == expected
        assert outcome(serializer.dumps_parts, value, limits=limits) in (expected, [expected])
        found = outcome(serializer.loads, frame, limits=limits)
        assert found == reading


def test_exact_limits_hold() -> None:
    """A value that just fits passes: no limit is off by one."""
    value = [("x" * 100,)] * 3
    frame = twin.dumps(value)
    body = len(frame) - 24
    for name, size in (("total", len(frame)), ("body", body), ("text", body), ("depth", 1)):
        assert FAST.dumps(value, limits=Limits(**{name: size})) == frame
        assert FAST.loads(frame, limits=Limits(**{name: size})) == value
        if name != "text":
            for work, data in ((FAST.dumps, value), (FAST.loads, frame)):
                assert outcome(work, data, limits=Limits(**{name: size - 1})) == (LimitError, name)


def test_deep_values_are_limits() -> None:
    """Lists nest to 250 between extensions at least, and nothing nests until the stack ends."""
    for depth, sound in ((250, True), (100_000, False)):
        value: list = []
        for _ in range(depth - 1):
            value = [value]
        found = outcome(FAST.dumps, value)
        assert (type(found) is bytes) is sound
        assert type(outcome(FAST.canonical, value)) is type(outcome(twin.canonical, value))
        body = b"\x91" * (depth - 1) + b"\x90"
        frame = struct.pack("<4sHHQQ", b"NCF\0", 1, 0, len(body), 0) + body
        assert (type(outcome(FAST.loads, frame)) is list) is sound
        while value:  # freeing it level by level keeps the test's own stack out of it
            value = value[0]
    loop: list = []
    loop.append((loop,))
    assert outcome(FAST.dumps, loop) == (LimitError, "depth")
    thread_found = []
    body = b"\x91" * 100_000 + b"\x90"
    frame = struct.pack("<4sHHQQ", b"NCF\0", 1, 0, len(body), 0) + body
    thread = threading.Thread(target=lambda: thread_found.append(outcome(FAST.loads, frame)))
    thread.start()
    thread.join()
    assert thread_found == [(LimitError, "depth")]


def test_canonical_room_is_the_same() -> None:
    """Canonical bytes exist for the same values: each container takes the same room."""
    for wrap in (lambda v: [v], lambda v: {"k": v}):
        for inside in (lambda v: v, lambda v: (v,), Point, lambda v: [{1: v}]):
            for depth in range(246, 254):
                value = 0
                for _ in range(depth):
                    value = wrap(value)
                value = inside(value)
                assert outcome(FAST.canonical, value) == outcome(twin.canonical, value)


# ---- what changes while it is walked


@dataclasses.dataclass
class Meddler:
    target: object
    change: object


def meddle(value: Meddler) -> int:
    value.change(value.target)
    return 1


register(Meddler, "tests:Meddler", encode=meddle, decode=lambda _: None)


def test_containers_that_change_while_they_are_encoded() -> None:
    """An encoder that changes what is being walked gets an error, never a torn frame."""
    for make, change in (
        (lambda m: [m, 1, 2, [3]], lambda target: target.clear()),
        (lambda m: [m, 1, 2], lambda target: target.append(3)),
        (lambda m: {"a": m, "b": [1], "c": 2}, lambda target: target.clear()),
        (lambda m: {"a": m, "b": 1}, lambda target: target.update(dict.fromkeys(range(100)))),
        (lambda m: {1: m, 2: [1]}, lambda target: target.clear()),
    ):
        for serializer in BOTH:
            meddler = Meddler(None, change)
            meddler.target = make(meddler)
            with pytest.raises(EncodeError, match="changed"):
                serializer.dumps(meddler.target)


def test_errors_of_encoders_come_through() -> None:
    """What a user's encoder raises is raised, and the serializer works on."""

    class Sad:
        pass

    def cry(_):
        raise ZeroDivisionError("sad")

    register(Sad, "tests:Sad", encode=cry, decode=cry)
    for value in (Sad(), [1, (Sad(),)], {"a": {Sad()}}):
        with pytest.raises(ZeroDivisionError):
            FAST.dumps(value)
    assert FAST.loads(FAST.dumps([1])) == [1]


def test_nothing_leaks() -> None:
    """References are given back, whether the walk ends well or not."""
    marker, key = object(), "a key of its own"
    good = {key: [("text", 2**70, {1, 2}), Point(1, (key,)), Name("x")], "b": b"x" * 5000}
    bad = {key: [marker, (marker,), {key: marker}]}
    frame = FAST.dumps(good)
    hurt = frame[:-3] + b"\xc1" + frame[-2:]

    def once() -> None:
        FAST.loads(FAST.dumps(good))
        FAST.canonical(good)
        FAST.cid_of(good)
        outcome(FAST.dumps, bad)
        outcome(FAST.loads, hurt)
        outcome(FAST.loads, frame[: len(frame) // 2])

    for _ in range(3):
        once()
    gc.collect()
    before = (sys.getrefcount(marker), sys.getrefcount(key), sys.getrefcount(None))
    blocks = sys.getallocatedblocks()
    for _ in range(200):
        once()
    gc.collect()
    after = (sys.getrefcount(marker), sys.getrefcount(key), sys.getrefcount(None))
    assert after[:2] == before[:2]
    assert abs(after[2] - before[2]) < 100
    assert sys.getallocatedblocks() - blocks < 500


def test_collection_is_as_it_was() -> None:
    """Decoding leaves cycle collection on where it was on, off where it was off, errors or not."""
    frame = FAST.dumps([{"a": i, (1,): Name("x")} for i in range(500)])
    seen = []

    class Watch:
        pass

    register(
        Watch,
        "tests:Watch",
        encode=lambda _: 1,
        decode=lambda _: seen.append(gc.isenabled()) or Watch(),
    )
    watched = FAST.dumps([[0] * 2000, Watch()])
    try:
        for wanted in (True, False):
            (gc.enable if wanted else gc.disable)()
            for data in (frame, watched, frame[:-1] + b"\xc1"):
                outcome(FAST.loads, data)
                assert gc.isenabled() is wanted
            assert seen.pop() is wanted
    finally:
        gc.enable()


# ---- batches and hashes


def test_batches() -> None:
    """A batch is what one call each gives; a wrong cid is found before anything is decoded."""
    array = np.arange(5000.0)
    values = [os.urandom(5000), array, {"x": np.zeros(1000), "y": b"z" * 9000}, [], 7, np.zeros(0)]
    for parallel in (True, False):
        pairs = dumps_batch(iter(values), parallel=parallel)
        assert [b"".join(parts) for parts, _ in pairs] == [twin.canonical(v) for v in values]
        assert [name for _, name in pairs] == [twin.cid_of(v) for v in values]
    assert any(np.shares_memory(np.frombuffer(part, "u1"), array) for part in pairs[1][0])
    assert pairs[0][0][1] is values[0]
    cids = [name for _, name in pairs]
    for frames in ([parts for parts, _ in pairs], [b"".join(parts) for parts, _ in pairs]):
        back = loads_batch(frames, cids=cids)
        assert [twin.canonical(v) for v in back] == [twin.canonical(v) for v in values]
        with pytest.raises(DecodeError, match="Frame 1 "):
            loads_batch(frames, cids=[cids[0], cids[0], *cids[2:]])
        with pytest.raises(ValueError, match="5 cids for 6 frames"):
            loads_batch(frames, cids=cids[:-1])
        with pytest.raises(LimitError):
            loads_batch(frames, limits=Limits(total=100))
    assert dumps_batch([]) == []
    with pytest.raises(EncodeError):
        dumps_batch([1, object()])


def test_hashes() -> None:
    """Digests and cids are those of BLAKE3, in one piece, in parts, and of many."""
    from blake3 import blake3  # noqa: PLC0415 - the peer

    for size in (0, 1, 1024, 70_000, 3 << 20):
        data = os.urandom(size)
        expected = blake3(data).digest()
        assert native.digest(data) == expected
        assert native.digest(bytearray(data)) == native.digest(memoryview(data)) == expected
        assert native.digest([data[:7], memoryview(data)[7:]]) == expected
        assert native.digest(iter([data])) == expected
        assert native.hash_many([data, [data[:9], data[9:]]]) == [expected] * 2
        assert native.hash_many([data[1:]], parallel=False) == [blake3(data[1:]).digest()]
        assert native.cid_many([data]) == [native.cid(data)] == [format_cid(expected)]
    with pytest.raises(TypeError):
        native.digest(5)
    with pytest.raises(TypeError):
        native.cid(["text"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_hashing_in_a_forked_process() -> None:
    """A process forked from one that hashed on all cores hashes on all cores, and ends."""
    data = bytes(3 << 20)
    expected = native.digest(data)
    child = os.fork()
    if child == 0:
        os._exit(0 if native.digest(data) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_threads_share_a_serializer() -> None:
    """Threads that write and read at once do not meet in what the serializer keeps."""
    wrong = []

    def work(n: int) -> None:
        for i in range(300):
            value = {"n": n, f"key-{n}-{i}": [(n, i), Name(str(n)), np.full(100, n)]}
            back = FAST.loads(FAST.dumps(value))
            if back["n"] != n or back[f"key-{n}-{i}"][:2] != [(n, i), Name(str(n))]:
                wrong.append(back)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
