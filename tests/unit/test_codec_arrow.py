"""Arrow data travels out of band where pyarrow is installed, and says so where it is not."""

from __future__ import annotations

import sys

import pytest
from msgspec import msgpack

from noob_cloud.codec import (
    CodecError,
    DecodeError,
    canonical,
    dumps,
    dumps_parts,
    loads,
    loads_parts,
)
from noob_cloud.codec.frame import assemble
from noob_cloud.codec.limits import DEFAULT


def test_arrow_round_trip() -> None:
    """Buffers, record batches and tables come back equal, copied or in place."""
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"a": [1, 2, None], "b": ["x", "y", "z"]})
    for value in (pa.py_buffer(b"bytes"), table, table.to_batches()[0], table.slice(0, 0)):
        for copy in (True, False):
            for back in (
                loads(dumps([value]), copy=copy)[0],
                loads_parts(dumps_parts(value), copy=copy),
            ):
                assert back.equals(value)
                assert isinstance(back, type(value))
        assert canonical(value) == canonical(loads(dumps(value)))
    empty = pa.RecordBatch.from_pylist([], schema=table.schema)
    assert loads(dumps(empty)).equals(empty)


def test_damaged_arrow() -> None:
    """Damaged Arrow data is a value or a CodecError."""
    pa = pytest.importorskip("pyarrow")
    frame = dumps(pa.table({"a": list(range(20)), "b": ["x"] * 20}))
    for at in range(0, len(frame), 3):
        hurt = bytearray(frame)
        hurt[at] ^= 255
        try:
            loads(bytes(hurt))
        except CodecError:
            continue


def test_arrow_without_pyarrow(monkeypatch) -> None:
    """A reader without pyarrow says what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    body = msgpack.encode(msgpack.Ext(35, msgpack.encode([0, 0])))
    frame = b"".join(assemble(body, [memoryview(b"data")], 1, DEFAULT))

    with pytest.raises(DecodeError, match="pip install pyarrow"):
        loads(frame)
