"""`noob-cloud demo` does what it says, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from .leftovers import adopted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path


@pytest.fixture
def leftovers() -> Generator[Callable[[], list[str]], None, None]:
    """Name every descendant that still runs."""
    with adopted() as find:
        yield find


def demo(out: Path) -> subprocess.Popen[str]:
    """Start the demo, from another folder than the checkout."""
    return subprocess.Popen(
        [sys.executable, "-m", "noob_cloud.cli", "demo", "--out", str(out)],
        cwd=out,
        env=os.environ | {"COLUMNS": "160"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.timeout(300)
def test_the_demo_finds_things_and_checks_itself(tmp_path: Path, leftovers):
    """Coins, galaxies, nuclei and letters are found, as in one process; the sheet shows them."""
    process = demo(tmp_path)
    said, _ = process.communicate(timeout=280)

    assert process.returncode == 0, said
    assert "24 coins" in said
    assert "Equal to the SynchronousRunner's result." in said
    assert "What to type next" in said
    with Image.open(tmp_path / "contact-sheet.png") as sheet:
        assert sheet.width == 1800
        assert len(sheet.getcolors(1 << 24) or ()) > 1000
    assert leftovers() == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path, leftovers, sent: signal.Signals):
    """Ctrl-C, a kill, and even kill -9 take the coordinator and the workers with them."""
    process = demo(tmp_path)
    assert process.stdout is not None
    assert "A coordinator at" in process.stdout.readline()
    process.send_signal(sent)
    said, _ = process.communicate(timeout=30)

    assert process.returncode == (-signal.SIGKILL if sent == signal.SIGKILL else 130), said
    assert "Traceback" not in said
    deadline = time.monotonic() + 10
    while leftovers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert leftovers() == []
