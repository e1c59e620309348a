"""Fuzz the decoder: any bytes are a value or a CodecError, and a value decodes the same again.

    python tests/fuzz/fuzz_codec.py [-max_total_time=60] [CORPUS]

Runs under Atheris. Without arguments it begins from the golden vectors, in a folder of its own.
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

try:
    import atheris
except ImportError:  # tests/unit/test_fuzz_codec.py feeds the target itself then
    atheris = None

if atheris is not None and __name__ == "__main__":
    with atheris.instrument_imports(include=["noob_cloud.codec"]):
        from noob_cloud.codec import CodecError, Limits, canonical, dumps, loads, loads_parts
else:
    from noob_cloud.codec import CodecError, Limits, canonical, dumps, loads, loads_parts

VECTORS = Path(__file__).parents[1] / "vectors"
LIMITS = Limits(total=1 << 16, items=5000, text=10_000)
HEAD = struct.Struct("<4sHHQQ")


def decode(frame: bytes) -> None:
    """Decode one frame; anything but a value or a CodecError is a finding."""
    try:
        value = loads(frame, limits=LIMITS)
    except CodecError:
        return
    assert canonical(loads(dumps(value))) == canonical(value), "a value that changes on its way"


def test_one_input(data: bytes) -> None:
    """Try the bytes as a frame, as parts, and as a body behind a sound head."""
    decode(data)
    with suppress(CodecError):
        loads_parts([data[:44], data[44:]], limits=LIMITS, copy=False)
    if data:
        body = data[1:]
        decode(HEAD.pack(b"NCF\0", 1, data[0] & 3, len(body), 0) + body)


def seeds() -> list[bytes]:
    """Return the frames of the golden vectors, the long ones left out."""
    frames = [
        bytes.fromhex(entry["frame"])
        for path in sorted(VECTORS.glob("*.json"))
        for entry in json.loads(path.read_text())
    ]
    return [frame for frame in frames if len(frame) < 2000]


def main() -> None:
    """Run under Atheris with libFuzzer's arguments."""
    if atheris is None:
        sys.exit("Atheris is not installed: pip install atheris")
    with tempfile.TemporaryDirectory() as folder:
        for number, frame in enumerate(seeds()):
            (Path(folder) / f"{number}.frame").write_bytes(frame)
        atheris.Setup([*sys.argv, folder], test_one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
