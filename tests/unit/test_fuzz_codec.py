"""The fuzz target of the codec runs, for a moment under Atheris and always on random bytes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

TARGET = Path(__file__).parents[1] / "fuzz" / "fuzz_codec.py"
_spec = importlib.util.spec_from_file_location("fuzz_codec", TARGET)
fuzz = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzz)
SEEDS = fuzz.seeds()


def test_seeds_pass() -> None:
    """Every golden vector goes through the target."""
    assert len(SEEDS) > 150
    for frame in SEEDS:
        fuzz.test_one_input(frame)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_damaged_vectors_pass(frame, data) -> None:
    """Damaged golden vectors are a value or a CodecError."""
    at = data.draw(st.integers(0, len(frame)))
    cut = data.draw(st.integers(0, 4))
    fuzz.test_one_input(frame[:at] + data.draw(st.binary(max_size=6)) + frame[at + cut :])


def test_atheris_finds_nothing_at_once(tmp_path) -> None:
    """A short run under Atheris, guided by coverage."""
    pytest.importorskip("atheris")
    done = subprocess.run(
        [sys.executable, str(TARGET), "-atheris_runs=5000", "-max_total_time=15",
         f"-artifact_prefix={tmp_path}/"],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-4000:]
