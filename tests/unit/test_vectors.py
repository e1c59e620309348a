"""The golden vectors hold every implementation of the wire format to the same bytes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from noob_cloud.cid import cid
from noob_cloud.codec import CodecError, canonical, dumps, loads

FOLDER = Path(__file__).parents[1] / "vectors"
_spec = importlib.util.spec_from_file_location("vectors_generate", FOLDER / "generate.py")
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)
NAMES = generate.namespace()


def entries(*files: str) -> list[dict[str, str]]:
    return [entry for name in files for entry in json.loads((FOLDER / name).read_text())]


@pytest.mark.parametrize(
    "entry", entries("plain.json", "extended.json", "buffers.json"), ids=lambda e: e["value"][:40]
)
def test_vector(entry) -> None:
    """A value has these bytes and this cid, and the bytes are this value."""
    value = eval(entry["value"], NAMES)
    frame, one = bytes.fromhex(entry["frame"]), bytes.fromhex(entry["canonical"])

    assert dumps(value) == frame
    assert canonical(value) == one
    assert cid(one) == entry["cid"]
    for data in (frame, one):
        back = loads(data)
        assert type(back) is type(value)
        assert canonical(back) == one
        if isinstance(value, np.ndarray):
            assert back.dtype == value.dtype


@pytest.mark.parametrize("entry", entries("accepted.json"), ids=lambda e: e["value"])
def test_accepted_vector(entry) -> None:
    """Every reader accepts these bytes as this value."""
    value = eval(entry["value"], NAMES)
    back = loads(bytes.fromhex(entry["frame"]))

    assert type(back) is type(value)
    assert back == value


@pytest.mark.parametrize("entry", entries("refused.json"), ids=lambda e: e["why"])
def test_refused_vector(entry) -> None:
    """No reader accepts these bytes."""
    with pytest.raises(CodecError):
        loads(bytes.fromhex(entry["frame"]))


def test_vectors_are_what_the_generator_writes() -> None:
    """A change of the format shows here first: run `python tests/vectors/generate.py` if meant."""
    for name, text in generate.files().items():
        assert (FOLDER / name).read_text() == text
