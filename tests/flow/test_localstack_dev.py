"""`noob-cloud dev` on both clouds, until Ctrl-C: `-m by_command`.

pytest -m by_command tests/flow/test_localstack_dev.py       # three minutes
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("moto.server")
pytest.importorskip("aws_cdk")

from localdev.local import ROOT

from .localdev_stacks import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.by_command,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc"),
    pytest.mark.skipif(shutil.which("node") is None, reason="the CDK needs Node.js"),
    pytest.mark.skipif(
        not (ROOT / "node_modules" / "aws-cdk").exists() and shutil.which("cdk") is None,
        reason="npm ci installs the CDK's command line",
    ),
    pytest.mark.timeout(600),
]


@pytest.mark.parametrize("cloud", ["emulated", "localstack"])
def test_dev_until_interrupted(tmp_path: Path, cloud: str) -> None:
    """It says what runs, a line for each, under the project's name; Ctrl-C leaves no process."""
    project, folder = tmp_path / "project", tmp_path / "cloud"
    (project / "src").mkdir(parents=True)
    (project / "noob-cloud.toml").write_text('name = "mine"\n')
    (project / "src" / "mine.py").write_text("def double(value: int) -> int: return 2 * value\n")
    words = [sys.executable, "-m", "noob_cloud.cli", "dev", "--cloud", cloud, "--port", "0"]
    words += ["--project", str(project), "--directory", str(folder)]
    with (tmp_path / "said").open("w+") as said:
        process = subprocess.Popen(words, stdout=said, stderr=said, cwd=ROOT)
        try:
            until(lambda: process.poll() is not None or _ready(tmp_path), seconds=400)
            assert process.poll() is None, (tmp_path / "said").read_text()
            places = [folder, (folder / "tasks").readlink()]
            assert len(_processes(places)) >= 4  # it, the cloud, the agent, a coordinator
            process.send_signal(signal.SIGINT)
            assert process.wait(40) == 0
        finally:
            process.kill()
            process.wait()

    told = (tmp_path / "said").read_text()
    for name in ("mine-lambda-1024", "mine-submit", "mine-events", "mine-coordinator"):
        assert name in told
    assert "export NOOB_CLOUD_DEPLOYMENT=mine" in told
    assert "Everything is down." in told
    assert not _processes(places)
    assert not places[1].exists()


def _ready(folder: Path) -> bool:
    return "Ctrl-C takes everything down" in (folder / "said").read_text()


def _processes(folders: list[Path]) -> list[str]:
    """Return the processes that name a folder in their command or their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if any(os.fsencode(folder) in words for folder in folders):
                found.append(words.decode(errors="replace"))
    return found
