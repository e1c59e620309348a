"""Networks, settings, amounts and fees."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from noob_cloud.blockchain.amounts import to_eth, to_wei
from noob_cloud.blockchain.config import BlockchainConfig
from noob_cloud.blockchain.errors import (
    ConfigError,
    ExtraMissingError,
    FeeCeilingError,
    NetworkRetiredError,
    RpcError,
    need,
)
from noob_cloud.blockchain.fees import GWEI, Fee, FeeMarket
from noob_cloud.blockchain.networks import NETWORKS, find_network
from noob_cloud.blockchain.rpc import Rpc
from noob_cloud.testing import FakeClock

if TYPE_CHECKING:
    from pathlib import Path

KEY = "0x" + "5e" * 32
URL = "https://polygon-mainnet.example/v2/NODE-KEY"


# ---- networks


@pytest.mark.parametrize(
    ("name", "chain_id"),
    [
        ("mainnet", 1),
        ("sepolia", 11155111),
        ("hoodi", 560048),
        ("polygon", 137),
        ("amoy", 80002),
        ("arbitrum one", 42161),
        ("optimism", 10),
        ("base", 8453),
        ("local", 31337),
        ("hardhat", 31337),
        ("ganache", 1337),
    ],
)
def test_networks_of_the_user_document(name: str, chain_id: int) -> None:
    """Each network is known by name and by number, and can be used."""
    config = BlockchainConfig(network=name)
    assert config.chain_id == chain_id
    assert BlockchainConfig(chain_id=chain_id).known == config.known == find_network(name)
    assert config.known.poa == (name in ("polygon", "amoy"))
    assert config.finality == config.known.confirmations >= 1


@pytest.mark.parametrize(
    ("name", "chain_id", "successor", "number"),
    [
        ("goerli", 5, "hoodi", 560048),
        ("mumbai", 80001, "amoy", 80002),
        ("holesky", 17000, "hoodi", 560048),
    ],
)
def test_networks_that_were_shut_down(
    name: str, chain_id: int, successor: str, number: int
) -> None:
    """A dead network is refused by name and by number, with its successor."""
    said = rf"was shut down in 20\d\d-\d\d: use {successor} \(chain id {number}"
    with pytest.raises(NetworkRetiredError, match=said):
        BlockchainConfig(network=name)
    with pytest.raises(NetworkRetiredError, match=said):
        BlockchainConfig(chain_id=chain_id)
    assert NETWORKS[successor].check().retired is None


def test_successors_live() -> None:
    """Whoever is sent on is sent to a network that runs."""
    for network in NETWORKS.values():
        if network.successor is not None:
            assert NETWORKS[network.successor].retired is None


def test_chain_that_nobody_here_knows() -> None:
    """A number of no network of ours is taken as it is; a name is not."""
    assert BlockchainConfig(chain_id=424242).known.name == "chain-424242"
    with pytest.raises(ValidationError, match="'atlantis' is no network"):
        BlockchainConfig(network="atlantis")


# ---- settings


def test_settings_of_the_user_document() -> None:
    """The user's four settings are enough; neither key is shown."""
    config = BlockchainConfig(
        rpc_url=URL, chain_id=137, contract_address="0x" + "ab" * 20, private_key=KEY
    )
    assert config.urls == (URL,)
    assert config.has_key
    for text in (repr(config), str(config), config.model_dump_json(), repr(config.model_dump())):
        assert "5e5e" not in text
        assert "NODE-KEY" not in text


def test_settings_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything can be set in the environment; several nodes by comma."""
    monkeypatch.setenv("NOOB_CLOUD_CHAIN_NETWORK", "base")
    monkeypatch.setenv("NOOB_CLOUD_CHAIN_RPC_URL", "https://a.example/k, https://b.example")
    monkeypatch.setenv("NOOB_CLOUD_CHAIN_PRIVATE_KEY", KEY)
    monkeypatch.setenv("NOOB_CLOUD_CHAIN_CONFIRMATIONS", "finalized")
    config = BlockchainConfig(agreement=2)
    assert (config.chain_id, config.finality, config.patience) == (8453, "finalized", 3600)
    assert config.urls == ("https://a.example/k", "https://b.example")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "say chain_id, or network"),
        ({"network": "base", "chain_id": 1}, "has chain id 8453, not 1"),
        ({"chain_id": 1, "private_key": "0x5e"}, "a private key is 64 hex digits"),
        ({"chain_id": 1, "contract_address": "0xYourContract"}, "0x and 40 hex digits"),
        ({"chain_id": 1, "rpc_url": "ws://x"}, "begins with https"),
        ({"chain_id": 1, "private_key": KEY, "kms_key_id": "k"}, "exclude each other"),
        ({"chain_id": 1, "keystore": "k.json"}, "wants keystore_password"),
        ({"chain_id": 1, "confirmations": 0}, "from 1"),
        ({"chain_id": 1, "rpc_url": URL, "agreement": 2}, "wants 2 nodes, and rpc_url has 1"),
        ({"chain_id": 1, "max_fee_gwei": -1}, "greater than 0"),
        ({"chain_id": 1, "rpc": URL}, "Extra inputs"),
    ],
)
def test_wrong_settings(wrong: dict[str, object], said: str) -> None:
    """A wrong setting is named, and what it held is not shown: it may be a key."""
    with pytest.raises(ValidationError, match=said) as caught:
        BlockchainConfig(**wrong)
    assert "5e5e" not in str(caught.value)


def test_extra_that_is_missing() -> None:
    """Where a package of the extra is not installed one is told what to install."""
    with pytest.raises(ExtraMissingError, match=r"pip install 'noob-cloud\[chain\]'"):
        need("a_package_that_is_not_there")


def test_import_is_light() -> None:
    """Settings, client and command line load nothing of the chain's before it is used."""
    heavy = ("web3", "eth_tester", "eth_account", "coincurve", "eth_abi", "boto3", "httpx")
    script = (
        "import noob_cloud.blockchain.ethereum, noob_cloud.blockchain.localchain, sys;"
        f" print(*[m for m in {heavy!r} if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == []


# ---- amounts


@pytest.mark.parametrize(
    ("amount", "wei"),
    [
        (0.001, 10**15),
        (0.1, 10**17),
        (1, 10**18),
        ("0.000000000000000001", 1),
        (Decimal("1.5"), 15 * 10**17),
        ("123456789012.123456789012345678", 123456789012123456789012345678),
        (0, 0),
    ],
)
def test_amounts_are_exact(amount: object, wei: int) -> None:
    """Ether becomes wei by its digits: 0.1 is a tenth, whatever a float is."""
    assert to_wei(amount) == wei  # type: ignore[arg-type]
    assert to_wei(to_eth(wei)) == wei


@pytest.mark.parametrize("amount", ["a lot", -1, float("nan"), float("inf"), 1e-19, True, 1e30])
def test_amounts_that_are_none(amount: object) -> None:
    """What is no amount of ether is refused with the value."""
    with pytest.raises(ConfigError, match="stake_eth is "):
        to_wei(amount, name="stake_eth")  # type: ignore[arg-type]


# ---- fees


def market(**settings: object) -> FeeMarket:
    config = BlockchainConfig(chain_id=1, **settings)
    return FeeMarket(Rpc([_Silent()], 1), config, clock=FakeClock())


class _Silent:
    name = "silent"

    def post(self, body: bytes) -> bytes:
        raise RpcError(f"asked {body!r}")


def block(base: int) -> dict[str, str]:
    return {"baseFeePerGas": hex(base)}


def test_fee_has_headroom_up_to_the_ceiling() -> None:
    """Twice the base fee and the tip are offered, but never more than the ceiling."""
    fees = market(max_fee_gwei=50)
    assert fees.of(block(10 * GWEI), hex(GWEI)) == Fee(21 * GWEI, GWEI)
    assert fees.of(block(40 * GWEI), hex(GWEI)) == Fee(50 * GWEI, GWEI)
    with pytest.raises(FeeCeilingError, match="asks 51 gwei a gas; the ceiling is 50"):
        fees.of(block(50 * GWEI), hex(GWEI))


def test_tip_is_the_users_or_the_nodes() -> None:
    """A tip that was set is used; of the node's suggestion at least what the network wants."""
    assert market(priority_fee_gwei=3).of(block(GWEI), hex(GWEI)).tip == 3 * GWEI
    polygon = BlockchainConfig(network="polygon")
    fees = FeeMarket(Rpc([_Silent()], 137), polygon)
    assert fees.of(block(GWEI), hex(GWEI)).tip == 25 * GWEI


def test_node_without_base_fee() -> None:
    """A chain from before EIP-1559 is refused in words."""
    with pytest.raises(RpcError, match="no base fee"):
        market().of({}, hex(GWEI))


def test_replacement_offers_an_eighth_more() -> None:
    """A replacement offers at least an eighth more of both, and stays below the ceiling."""
    raised = Fee(1000, 100).raised(Fee(10, 1), 2000)
    assert raised == Fee(1125, 113)
    assert raised.raised(Fee(1900, 500), 2000) == Fee(1900, 500)
    with pytest.raises(FeeCeilingError, match="The transaction waits as it is"):
        Fee(1000, 100).raised(Fee(10, 1), 1100)


def test_recursion_limit_stays(tmp_path: Path) -> None:
    """Modules of the chain raise the limit: a nested document would then end the process."""
    script = (
        "import sys; before = sys.getrecursionlimit()\n"
        "from noob_cloud.blockchain.errors import need\n"
        "need('eth_account'); need('web3'); print(sys.getrecursionlimit() == before)\n"
        "from noob_cloud.blockchain.localchain import embedded_chain\n"
        "with embedded_chain() as chain:\n"
        "    print(sys.getrecursionlimit() == before)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert told.stdout.split() == ["True", "True"], told.stderr
