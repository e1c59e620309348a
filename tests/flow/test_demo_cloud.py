"""`make demo` deploys, uses and breaks all stacks; without Node it is the demo without a cloud."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("moto.server")
pytest.importorskip("awslambdaric")
pytest.importorskip("aws_cdk")

from examples import cloud_demo, demo
from PIL import Image

from .leftovers import adopted
from .localdev_stacks import until

ROOT = Path(__file__).parents[2]
deployable = pytest.mark.skipif(cloud_demo.lacking() is not None, reason="needs Linux and Node.js")


def start(out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "examples.cloud_demo", "--out", str(out)],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "160"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_without_node_it_says_so_and_shows_the_demo_without_a_cloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine that cannot deploy gets a sentence, and a demo all the same."""
    shown: list[Path] = []
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(demo, "main", lambda out: shown.append(out) or 0)
    monkeypatch.setattr(sys, "argv", ["cloud_demo", "--out", str(tmp_path)])

    assert cloud_demo.main() == 0

    assert shown == [tmp_path]
    assert "noob-cloud demo" in capsys.readouterr().out


@deployable
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_deployment_leaves_no_process(tmp_path: Path, sent: signal.Signals) -> None:
    """Ctrl-C and a kill take the emulated cloud and the CDK with them."""
    with adopted() as left:
        process = start(tmp_path)
        assert process.stdout is not None
        while "127.0.0.1" not in (line := process.stdout.readline()):
            assert line, "it ended"
        until(lambda: any("cdk" in each for each in left()), seconds=60)
        process.send_signal(sent)
        said, _ = process.communicate(timeout=60)

        assert process.returncode == 130, said
        assert "Traceback" not in said
        until(lambda: not left())


@deployable
@pytest.mark.slow
@pytest.mark.by_command
@pytest.mark.timeout(600)
def test_the_whole_demo(tmp_path: Path) -> None:
    """Lambda, Fargate and GPU workers share two batches, and the loss of the coordinator none."""
    with adopted() as left:
        process = start(tmp_path)
        said, _ = process.communicate(timeout=580)

        assert process.returncode == 0, said
        for words in ("24 coins", "Equal to the SynchronousRunner's result", "0 lost",
                      "All 71 tasks of the stage tagged gpu ran in the GPU pool"):  # fmt: skip
            assert words in said
        with Image.open(tmp_path / "contact-sheet.png") as sheet:
            assert sheet.width == 1800
            assert len(sheet.getcolors(1 << 24) or ()) > 1000
        until(lambda: not left())
