"""The networks that a contract can stand on, and what became of those that were shut down.

Sources: the networks' own documentation and chainlist.org's ids, as of late 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from noob_cloud.blockchain.errors import ConfigError, NetworkRetiredError

__all__ = ["NETWORKS", "Network", "find_network"]


@dataclass(frozen=True, slots=True)
class Network:
    """A chain, by its name and number."""

    name: str
    chain_id: int
    title: str
    currency: str = "ETH"
    test: bool = False
    """Its coins are worth nothing."""
    poa: bool = False
    """Its blocks have more `extraData` than Ethereum's own (proof of authority)."""
    layer2: bool = False
    """A transaction also pays for its data on Ethereum, beside the gas it uses."""
    confirmations: int = 1
    """Blocks that a receipt waits for by default, its own included."""
    minimum_tip_gwei: float = 0.0
    """The least priority fee that its nodes pass on."""
    max_fee_gwei: float = 200.0
    """The ceiling of the fee by default, in gwei a gas."""
    successor: str | None = None
    """The network to go to from here, where this one ended or will."""
    retired: str | None = None
    """When it was shut down; None: it runs."""
    explorer: str | None = None

    def check(self) -> Network:
        """Return the network if it can be used.

        Raises:
            NetworkRetiredError: it was shut down; the message names its successor.
        """
        if self.retired is None:
            return self
        follower = NETWORKS[self.successor] if self.successor else None
        way_out = (
            f"use {follower.name} (chain id {follower.chain_id}, {follower.title}) in its place"
            if follower
            else "it has no successor"
        )
        raise NetworkRetiredError(
            f"{self.title} (chain id {self.chain_id}) was shut down in {self.retired}: {way_out}.",
            network=self.name,
            successor=self.successor,
        )


_ALL: Final = (
    Network("mainnet", 1, "Ethereum", confirmations=3, explorer="https://etherscan.io"),
    Network(
        "goerli", 5, "Ethereum's test network Goerli",
        test=True, successor="hoodi", retired="2024-04",
    ),
    Network(
        "sepolia", 11155111, "Ethereum's test network Sepolia",
        test=True, successor="hoodi", explorer="https://sepolia.etherscan.io",
    ),
    Network(
        "holesky", 17000, "Ethereum's test network Holesky",
        test=True, successor="hoodi", retired="2025-10",
    ),
    Network(
        "hoodi", 560048, "Ethereum's test network Hoodi",
        test=True, explorer="https://hoodi.etherscan.io",
    ),
    Network(
        "polygon", 137, "Polygon PoS", currency="POL",
        poa=True, confirmations=5, minimum_tip_gwei=25.0, max_fee_gwei=1000.0,
        explorer="https://polygonscan.com",
    ),
    Network(
        "mumbai", 80001, "Polygon's test network Mumbai", currency="POL",
        test=True, poa=True, successor="amoy", retired="2024-04",
    ),
    Network(
        "amoy", 80002, "Polygon's test network Amoy", currency="POL",
        test=True, poa=True, minimum_tip_gwei=25.0, max_fee_gwei=1000.0,
        explorer="https://amoy.polygonscan.com",
    ),
    Network(
        "arbitrum", 42161, "Arbitrum One",
        layer2=True, max_fee_gwei=20.0, explorer="https://arbiscan.io",
    ),
    Network(
        "optimism", 10, "OP Mainnet (Optimism)",
        layer2=True, max_fee_gwei=20.0, explorer="https://optimistic.etherscan.io",
    ),
    Network(
        "base", 8453, "Base",
        layer2=True, max_fee_gwei=20.0, explorer="https://basescan.org",
    ),
    Network("local", 31337, "a local chain (anvil, Hardhat)", test=True),
    Network("ganache", 1337, "a local chain (Ganache)", test=True),
    Network("tester", 131277322940537, "a chain in this process (eth-tester)",
            test=True),
)  # fmt: skip
NETWORKS: Final[dict[str, Network]] = {network.name: network for network in _ALL}
"""Every network, by its name."""
_ALIASES: Final = {
    "arbitrum-one": "arbitrum",
    "arbitrum one": "arbitrum",
    "ethereum": "mainnet",
    "hardhat": "local",
    "anvil": "local",
    "matic": "polygon",
    "op": "optimism",
}


def find_network(which: str | int) -> Network | None:
    """Return a network by its name or chain id; None for a number that stands for none of ours.

    Raises:
        ConfigError: a name that none of them has.
    """
    if isinstance(which, int):
        return next((found for found in _ALL if found.chain_id == which), None)
    name = which.strip().lower().replace("_", "-")
    found = NETWORKS.get(_ALIASES.get(name, name))
    if found is None:
        raise ConfigError(
            f"{which!r} is no network that is known here; say one of {', '.join(NETWORKS)},"
            " or a chain_id.",
            network=which,
        )
    return found
