"""What travels on the hot routes."""

from __future__ import annotations

import math
import pickle
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from noob_cloud import codec
from noob_cloud.codec.limits import DEFAULT, Limits
from noob_cloud.coordinator import by_hand, wire
from noob_cloud.exceptions import DecodeError, LimitError
from noob_cloud.queue import Encoded

PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
)


@given(PLAIN | st.lists(PLAIN) | st.dictionaries(st.text(), PLAIN) | st.tuples(PLAIN, PLAIN))
def test_value_there_and_back(value: object) -> None:
    """Any value of the codec travels, through a frame, as what it was."""
    body = wire.Submit([wire.Group(wire.Options(), "n", [0], [wire.pack(value)])])
    found = wire.from_frame(wire.Submit, wire.to_frame(body), DEFAULT)
    packed = found.groups[0].payloads[0]

    assert wire.unpack(packed) == value
    assert type(wire.unpack(packed)) is type(value)
    assert codec.loads(wire.unpack(packed, decode=False)) == value


def test_encoded_value_is_handed_on() -> None:
    """A frame that is there already is not encoded again."""
    frame = Encoded(codec.dumps({"a": (1, 2)}))

    packed = wire.pack(frame)

    assert bytes(packed.data) == frame
    assert wire.admit(packed) == frame
    assert type(wire.admit(packed)) is Encoded


@pytest.mark.parametrize("packed", [Ext(1, b"x"), Ext(wire.PACKED, b"x"), Ext(wire.BLOB, b"cid")])
def test_extension_that_is_no_frame(packed: Ext) -> None:
    """An extension from the network is a frame or an error: never a cid to read by."""
    with pytest.raises(DecodeError):
        wire.admit(packed)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"NCF\x00",
        pickle.dumps([1]),
        codec.dumps({"groups": []}),
        codec.dumps([[], 3]),
        wire.to_frame(wire.Ask("w"))[:-1],
        wire.to_frame(wire.Ask("w")) + b"x",
    ],
)
def test_no_frame_of_a_submit(data: bytes) -> None:
    """Bytes that are no such frame are a DecodeError, whatever they are."""
    with pytest.raises(DecodeError):
        wire.from_frame(wire.Submit, data, DEFAULT)


def test_frame_with_too_many_values() -> None:
    """A small frame that would grow large is refused before it does."""
    body = wire.Submit([wire.Group(wire.Options(), "n", [0] * 2000)])

    with pytest.raises(LimitError):
        wire.from_frame(wire.Submit, wire.to_frame(body), Limits(items=1000))


def test_shown_as_json() -> None:
    """What JSON has no word for is shown by its repr; what is large by its beginning."""
    when = datetime(2026, 1, 1, tzinfo=UTC)

    assert by_hand.shown(wire.pack({"a": [1, "ä"]})) == {"a": [1, "ä"]}
    assert by_hand.shown(wire.pack((1, 2))) == [1, 2]
    assert by_hand.shown(wire.pack(1 + 2j)) == "(1+2j)"
    assert by_hand.shown(wire.pack(when)).startswith("2026-01-01")
    assert by_hand.shown(wire.pack(math.nan)) is None
    assert by_hand.shown(Ext(wire.BLOB, b"bafkr")) == {"cid": "bafkr"}
    assert "bytes of JSON" in by_hand.shown(wire.pack("x" * 200_000))
    assert by_hand.shown(Ext(wire.PACKED, b"junk")).startswith("<DecodeError")
