"""The example of the chain runs as it is typed, and its results are right."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.blockchain,
    # looked for, not imported: that would raise the recursion limit of every test after it
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("skimage", "eth_tester")),
        reason="the example needs skimage and eth_tester",
    ),
]


def test_example() -> None:
    """A liar is caught among strangers, and everybody else is paid."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.blockchain_image_processing", "--images", "4"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )

    assert done.returncode == 0, done.stderr
    assert "equal to the SynchronousRunner's result" in done.stdout
    assert "What to type next" in done.stdout
