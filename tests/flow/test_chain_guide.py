"""The guide's own commands lead to a worker that is paid."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from noob_cloud.blockchain.localchain import LocalChain

pytestmark = pytest.mark.blockchain
pytest_plugins = ["noob_cloud.testing.chain"]

GUIDE = Path(__file__).parents[2] / "docs" / "BLOCKCHAIN_DEPLOYMENT_GUIDE.md"


def test_guide(local_anvil: LocalChain, tmp_path: Path) -> None:
    """Deploy, register, submit, work, withdraw: as they stand, but for the wait."""
    text = GUIDE.read_text().partition("## A worker, and a run")[0]

    done = typed(text.partition("### 3.")[2], local_anvil, tmp_path)

    assert done.returncode == 0, done.stderr
    assert "0.001 ether went to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8" in done.stdout
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["tasks"][0]["state"] == "verified"
    assert "0x59c6995e" not in done.stdout + done.stderr, "the key is nobody's business"


def test_worker_and_run(local_anvil: LocalChain, tmp_path: Path) -> None:
    """Deploy, register; then a worker that stays and a run that pays it, as they stand."""
    first, _, rest = GUIDE.read_text().partition("## A worker, and a run")
    begin = first.partition("### 3.")[2].partition("### 5.")[0]

    done = typed(begin + rest.partition("### What both sides")[0], local_anvil, tmp_path)

    assert done.returncode == 0, done.stderr
    assert "[0, 1, 4, 9, 16]" in done.stdout
    assert "earns 0.005 ether for 5 results" in done.stdout
    assert "5 results paid" in done.stdout.splitlines()[-1]
    assert "0x59c6995e" not in done.stdout + done.stderr, "the key is nobody's business"


def test_listening(local_anvil: LocalChain, tmp_path: Path) -> None:
    """Deploy, submit a task by hand, listen: its event is a task of the queue."""
    first, _, rest = GUIDE.read_text().partition("## Listening")
    begin = first.partition("### 3.")[2].partition("### 6.")[0]

    done = typed(begin + rest.partition("\n## ")[0], local_anvil, tmp_path)

    assert done.returncode == 0, done.stderr
    assert "1 events submitted" in done.stderr
    assert "ready" in done.stdout


def typed(text: str, chain: LocalChain, folder: Path) -> subprocess.CompletedProcess[str]:
    """Type the commands of a part of the guide, but for the waits."""
    commands = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
    commands = (
        commands.replace(".venv-chain/bin/", f"{Path(sys.executable).parent}/")
        .replace("http://127.0.0.1:8545", str(chain.url))
        .replace("--challenge-seconds 20", "--challenge-seconds 1")
        .replace("time.sleep(25)", "time.sleep(2)")
        .replace("sleep 40", "sleep 5")
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith("NOOB_CLOUD_CHAIN")}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
