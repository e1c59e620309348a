"""Write the golden vectors of the wire format: `python tests/vectors/generate.py`.

Each vector is a value as a Python expression and its bytes in hex. An implementation elsewhere
reads `frame` to the value, and writes `canonical` from it byte for byte; `frame` may only differ
where docs/WIRE_FORMAT.md leaves a choice. tests/unit/test_vectors.py holds this one to them.
"""

from __future__ import annotations

import collections
import datetime  # noqa: ICN001 - its names are what the expressions use
import decimal
import fractions
import json
import pathlib
import struct
import uuid
import zoneinfo
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import msgpack
from noob import MetaSignal
from noob_core import Epoch

from noob_cloud import task
from noob_cloud.cid import cid
from noob_cloud.codec import canonical, dumps

FOLDER = Path(__file__).parent

PLAIN = """
None; True; False; 0; 127; 128; 255; 256; 65535; 65536; 2**32 - 1; 2**32; 2**64 - 1
-1; -32; -33; -128; -129; -32768; -32769; -2**31; -2**31 - 1; -2**63
0.0; -0.0; 1.5; float('inf'); float('-inf'); float('nan'); 5e-324
''; 'a'; 'é'; '\U0001f600'; 'x' * 31; 'x' * 32; 'x' * 256; b''; b'bytes'; b'\\x00' * 256
[]; [1, [2, []]]; [0] * 15; [0] * 16; {}; {'a': 1, 'b': [None]}; {'b': 2, 'a': 1}
{1: 'int', None: 'none', 2.5: 'float', b'k': 'bytes', True + 1: 'two'}; {i: i for i in range(16)}
"""
EXTENDED = """
(); (1,); (1, (2, [3])); {(1, 'a'): 2}; set(); {1, 'a', None}; {300, 2, -1}; frozenset({(1,), (2,)})
2**64; -2**63 - 1; 2**71; 10**40; '\\ud800'; {'\\udfff': '\\ud800 lone'}
1j; complex(-0.0, float('nan')); range(10); range(5, 2**70, -1); slice(1, None, 2)
datetime(2026, 1, 2, 3, 4, 5, 6); datetime(2026, 1, 2, tzinfo=UTC)
datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo('Europe/Berlin'))
datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))
datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1), 'CET'))
date(1, 1, 1); date(9999, 12, 31); time(23, 59, 59, 999999); time(1, 2, tzinfo=UTC, fold=1)
timedelta(0); timedelta(days=-1, seconds=5, microseconds=7); timedelta.max
UUID(int=1); UUID('12345678-9abc-def0-1234-56789abcdef0'); Decimal('-1.50E+10'); Decimal('NaN')
PurePosixPath('a/b'); PureWindowsPath('C:/x'); Fraction(-1, 3); deque([1, 2], 5)
OrderedDict(b=1, a=2); defaultdict(list, {'a': [1]}); Counter('aab')
MISSING; Token(3, 4); TaskPriority.HIGH; TaskStatus.DEAD
StageCall('bafk', ('a', 'b'), (0, [1, ('m', 2)]), ((1, MISSING), ((2,), None)), 'bafc')
Outcome(ok=True, value=[(1,), (MISSING,)], duration=0.5, metrics={'rows': 2.0})
Outcome(ok=False, error_type='builtins.ValueError', args=('bad', 1), node_id='n', epoch=3)
Epoch(3); Epoch(0, [('map', 1), ('inner', 2)]); MetaSignal.NoEvent; MetaSignal.Exhausted
[{'a': ({1: {2}},)}, ()]
"""
BUFFERS = """
np.arange(3, dtype='<i4'); np.zeros((0, 3)); np.array(1.5); np.array(['a', 'bcd'])
np.array([b'x', b''])
np.arange(6.0).reshape(2, 3).T; np.array(['2026-01-01', 'NaT'], 'M8[D]'); np.array([True, False])
np.ones(2, [('a', 'i1'), ('b', '<f8', (2,)), ('c', [('d', '<u2')])]); np.ones(2, '>i4')
np.ones(2, 'f2')
np.ones(2, np.dtype([('a', 'i1'), ('b', 'f8')], align=True)); np.array([1j, 2])
np.arange(65.0); np.arange(600, dtype='u1').reshape(2, 300)
np.asfortranarray(np.arange(130.0).reshape(2, 65))
{'a': np.arange(65.0), 'b': (np.arange(513, dtype='u1'),), 'c': [np.arange(64.0)]}
np.float64(1.5); np.int8(-3); np.bool_(True); np.str_('abc'); np.str_(''); np.bytes_(b'x')
np.datetime64('2026-01-01')
"""


def frame(body: bytes, *, flags: int = 0, version: int = 1, table: bytes = b"") -> bytes:
    """Return a frame around `body`, sound or not."""
    head = struct.pack("<4sHHQQ", b"NCF\0", version, flags, len(body), len(table) // 20)
    return head + table + body


def extension(code: int, value: Any) -> bytes:
    """Return a frame whose body is one extension value."""
    payload = value if isinstance(value, bytes) else msgpack.encode(value)
    return frame(msgpack.encode(msgpack.Ext(code, payload)), flags=1)


def entry(offset: int, length: int, align: int) -> bytes:
    """Return one line of the buffer table."""
    return struct.pack("<QQI", offset, length, align)


def tuples(depth: int) -> bytes:
    """Return a frame of that many tuples inside each other."""
    body = msgpack.encode(msgpack.Ext(1, b"\x90"))
    for _ in range(depth - 1):
        body = msgpack.encode(msgpack.Ext(1, b"\x91" + body))
    return frame(body, flags=1)


REFUSED = {
    "empty": b"",
    "a pickle": b"\x80\x05K\x01." + bytes(30),
    "other magic": b"NCG" + frame(b"\1")[3:],
    "version 2": frame(b"\1", version=2),
    "unknown flag": frame(b"\1", flags=4),
    "body cut short": frame(b"\xa1x")[:-1],
    "bytes after the body": frame(b"\1") + b"\1",
    "two values in the body": frame(b"\1\1"),
    "no value in the body": frame(b""),
    "byte 0xc1": frame(b"\xc1"),
    "text that is not UTF-8": frame(b"\xa1\xff"),
    "array longer than the body": frame(b"\xdd\xff\xff\xff\xff"),
    "extension without the flag": frame(b"\xd4\x40\0"),
    "unknown extension": extension(127, b"x"),
    "name that is not registered": extension(4, ["os:system", "true"]),
    "tuple that is a map": extension(1, {}),
    "array of objects": extension(33, ["|O", [1], False, bytes(8)]),
    "array larger than its bytes": extension(33, ["<f8", [2], False, bytes(8)]),
    "array of a negative shape": extension(33, ["<f8", [-1], False, b""]),
    "array without its buffer": extension(33, ["|u1", [1], False, 0]),
    "record with overlapping fields": extension(
        33, [[["a", "b"], ["<i4", "<i4"], [[], []], [0, 2], 8], [1], False, bytes(8)]
    ),
    "UUID of 15 bytes": extension(12, bytes(15)),
    "integer of 4097 bytes": extension(5, bytes(4097)),
    "buffer elsewhere": frame(b"\1", table=entry(0, 0, 64)),
    "alignment of 3": frame(b"\1", table=entry(45, 0, 3)),
    "buffer cut short": frame(b"\1", table=entry(64, 1, 64)) + bytes(19),
    "padding that is not zero": frame(b"\1", table=entry(64, 0, 64)) + b"\1" * 19,
    "tuples 129 deep": tuples(129),
}

ACCEPTED = {
    "5": frame(b"\xd3\0\0\0\0\0\0\0\5"),
    "1.5": frame(b"\xca\x3f\xc0\0\0"),
    "'a'": frame(b"\xdb\0\0\0\1a"),
    "[1]": frame(b"\xdd\0\0\0\1\1"),
    "{'a': 2}": frame(b"\x82\xa1a\1\xa1a\2"),
    "{(1, 2): 3}": frame(b"\x81\x92\1\2\3"),
    "(1,)": frame(b"\xc9\0\0\0\2\1\x91\1", flags=1),
    "{1, 2}": extension(2, [2, 1, 2]),
    "2": extension(5, b"\0\2"),
    "'text'": extension(6, b"text"),
    "b'abc'": frame(
        msgpack.encode(msgpack.Ext(32, b"\0")), flags=1, table=entry(64, 3, 64)
    ) + bytes(17) + b"abc",
    "b'abc' * 2": frame(
        msgpack.encode(msgpack.Ext(32, b"\0")), flags=1, table=entry(47, 6, 1)
    ) + b"abcabc",
    "datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)": frame(b"\xd6\xff\0\0\0\1"),
}  # fmt: skip
"""Bytes that no writer of ours makes, yet every reader accepts."""


def namespace() -> dict[str, Any]:
    """Return the names that the expressions use."""
    names: dict[str, Any] = {"np": np, "MetaSignal": MetaSignal, "Epoch": Epoch}
    for module in (collections, datetime, decimal, fractions, pathlib, uuid, zoneinfo, task):
        names |= {name: getattr(module, name) for name in dir(module) if name[0] != "_"}
    return names


def vectors(expressions: str) -> list[dict[str, str]]:
    """Return the vectors of expressions separated by lines and semicolons."""
    names = namespace()
    made = []
    for expression in (part.strip() for part in expressions.replace("\n", "; ").split("; ")):
        if expression:
            value = eval(expression, names)
            frame, one = dumps(value), canonical(value)
            made.append(
                {"value": expression, "frame": frame.hex(), "canonical": one.hex(), "cid": cid(one)}
            )
    return made


def refused() -> list[dict[str, str]]:
    """Return bytes that no reader may accept."""
    return [{"why": why, "frame": data.hex()} for why, data in REFUSED.items()]


def accepted() -> list[dict[str, str]]:
    """Return other bytes for values."""
    return [{"value": value, "frame": data.hex()} for value, data in ACCEPTED.items()]


def files() -> dict[str, str]:
    """Return the text of each file of vectors, by its name."""
    made = {
        "plain.json": vectors(PLAIN),
        "extended.json": vectors(EXTENDED),
        "buffers.json": vectors(BUFFERS),
        "accepted.json": accepted(),
        "refused.json": refused(),
    }
    return {name: json.dumps(entries, indent=1) + "\n" for name, entries in made.items()}


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text)
