"""`noob-cloud chain work` says what it lacks before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from noob_cloud.cli.app import run_app
from noob_cloud.testing.chain import Deployed

if TYPE_CHECKING:
    from pathlib import Path

    from noob_cloud.blockchain.localchain import LocalChain

pytestmark = [pytest.mark.blockchain, pytest.mark.usefixtures("here")]
pytest_plugins = ["noob_cloud.testing.chain"]
WORK = ["chain", "work", "--allow-module", "mine"]


@pytest.fixture(autouse=True)
def as_worker(local_anvil: LocalChain, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of an account that has not registered."""
    monkeypatch.setenv("NOOB_CLOUD_CHAIN_NETWORK", "local")
    monkeypatch.setenv("NOOB_CLOUD_CHAIN_RPC_URL", str(local_anvil.url))
    monkeypatch.setenv("NOOB_CLOUD_CHAIN_PRIVATE_KEY", local_anvil.keys[1])
    monkeypatch.setenv("NOOB_CLOUD_CHAIN_CONTRACT_ADDRESS", Deployed.on(local_anvil).address)


def test_worker_without_a_stake(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    """It names the account, and the command that registers it; nothing is made."""
    assert run_app([*WORK, "--listen"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "0x70997970C51812dc3A010C7d01b50e0d17dc79C8 has no stake" in told
    assert "noob-cloud chain register" in told
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    "queue",
    [("--queue", "events.db"), ("--deployment", "dev"), ("--coordinator", "http://127.0.0.1:1")],
    ids=lambda queue: queue[0],
)
def test_listen_and_queue(capsys: pytest.CaptureFixture[str], queue: tuple[str, str]) -> None:
    """Events come from the chain or from a queue, not from both."""
    assert run_app([*WORK, "--listen", *queue]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "leave --queue, --deployment and --coordinator away" in told


def test_without_a_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key the chain is only read, and nothing can be claimed."""
    monkeypatch.delenv("NOOB_CLOUD_CHAIN_PRIVATE_KEY")
    assert run_app([*WORK, "--listen"]) == 2
    assert "no key to sign with" in " ".join(capsys.readouterr().err.split())
