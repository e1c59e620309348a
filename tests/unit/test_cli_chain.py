"""`noob-cloud chain`, on anvil."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from noob_cloud.blockchain.errors import NetworkRetiredError, ReadOnlyError, RpcError
from noob_cloud.blockchain.ethereum import create_task_cid
from noob_cloud.cli.app import run_app

if TYPE_CHECKING:
    from noob_cloud.blockchain.localchain import LocalChain

pytestmark = pytest.mark.blockchain
pytest_plugins = ["noob_cloud.testing.chain"]


@pytest.fixture
def as_account(local_anvil: LocalChain, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the environment of one of the chain's accounts."""

    def be(account: int, contract: str | None = None) -> None:
        monkeypatch.setenv("NOOB_CLOUD_CHAIN_NETWORK", "local")
        monkeypatch.setenv("NOOB_CLOUD_CHAIN_RPC_URL", str(local_anvil.url))
        monkeypatch.setenv("NOOB_CLOUD_CHAIN_PRIVATE_KEY", local_anvil.keys[account])
        if contract is not None:
            monkeypatch.setenv("NOOB_CLOUD_CHAIN_CONTRACT_ADDRESS", contract)

    return be


def said(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> Any:
    """What a command prints with `--json`."""
    assert run_app(["chain", *args, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_deploy_register_status_withdraw(
    local_anvil: LocalChain, as_account: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands of the guide, one after the other."""
    from noob_cloud.testing.chain import Deployed  # noqa: PLC0415 - pytest loads it as a plugin

    as_account(0)
    found = said(capsys, "deploy", "--challenge-seconds", "60", "--min-stake-eth", "0.5")
    address = found["contract_address"]
    as_account(1, address)
    assert said(capsys, "register", "--stake-eth", "1")["stake_eth"] == "1"
    assert said(capsys, "register", "--stake-eth", "0.25")["stake_eth"] == "1.25"

    contract = Deployed(local_anvil, address)
    boss, worker = contract.coordinator(0), contract.coordinator(1)
    cid = create_task_cid("task")
    boss.submit_task(cid, "0.001")
    worker.claim_task(cid)
    worker.submit_result(cid, create_task_cid("result"))
    local_anvil.advance(60)
    worker.verify_task(cid)
    contract.close()

    seen = said(capsys, "status", "--task", cid)
    assert seen["contract"]["min_stake"] == 5 * 10**17
    assert seen["worker"]["credit_eth"] == "0.001"
    assert [(task["cid"], task["state"]) for task in seen["tasks"]] == [(cid, "verified")]
    paid = said(capsys, "withdraw")
    assert (paid["withdrawn_eth"], paid["to"]) == ("0.001", worker.address)
    assert said(capsys, "withdraw") == {"withdrawn_eth": "0"}


def test_words_for_people(
    local_anvil: LocalChain, as_account: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without `--json` deploy prints the address alone, and the rest is readable."""
    as_account(0)
    assert run_app(["chain", "deploy"]) == 0
    address = capsys.readouterr().out.strip()
    assert len(address) == 42
    as_account(1, address)
    assert run_app(["chain", "register", "--stake-eth", "1"]) == 0
    assert "has 1 ether at stake" in capsys.readouterr().out
    assert run_app(["chain", "status"]) == 0
    assert address in capsys.readouterr().out
    assert run_app(["chain", "withdraw"]) == 0
    assert "Nothing is owed" in capsys.readouterr().out


def test_networks(capsys: pytest.CaptureFixture[str]) -> None:
    """All networks are listed, the dead ones with their successors."""
    found = {row["name"]: row for row in said(capsys, "networks")}
    assert found["polygon"]["chain_id"] == 137
    assert found["mumbai"]["successor"] == "amoy"


def test_errors_and_their_codes(
    local_anvil: LocalChain, as_account: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong settings end with 2, no node with 3, a refusal of the contract with 1."""
    assert said(capsys, "status", code=2)["error"] == "UsageError"
    retired = ["--network", "goerli", "--rpc-url", "http://127.0.0.1:1"]
    assert said(capsys, "deploy", *retired, code=2)["error"] == NetworkRetiredError.__name__
    nobody = ["--network", "local", "--rpc-url", "http://127.0.0.1:1"]
    keyless = said(capsys, "deploy", *nobody, code=2)
    assert keyless["error"] == ReadOnlyError.__name__
    as_account(0)
    assert said(capsys, "deploy", *nobody, code=3)["error"] == RpcError.__name__
    other = ["--chain-id", "1", "--rpc-url", str(local_anvil.url)]
    assert said(capsys, "deploy", *other, code=3)["error"] == "WrongChainError"
    refused = said(capsys, "deploy", "--unbonding-seconds", "1", code=1)
    assert refused["error"] == "SettingRefused"
    assert refused["values"] == {"setting": "unbondingPeriod"}
