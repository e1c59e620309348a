"""Pytest fixtures: a chain for each test, in this process or anvil's, with a contract on it.

    from noob_cloud.testing.chain import *      # in conftest.py

    def test_paid(contract):
        boss, worker = contract.coordinator(0), contract.coordinator(1)

`contract` runs on both kinds of chain; where anvil is not installed, its half is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from noob_cloud.blockchain.ethereum import EthereumTaskCoordinator, Terms, deploy
from noob_cloud.blockchain.localchain import LocalChain, anvil_chain, embedded_chain, find_anvil

if TYPE_CHECKING:
    from collections.abc import Iterator

    from noob_cloud.blockchain.config import BlockchainConfig

__all__ = ["Deployed", "any_chain", "contract", "local_anvil", "local_chain"]


@dataclass
class Deployed:
    """A task coordinator on a local chain; account 0 owns it, is paid its fees and rules."""

    chain: LocalChain
    address: str
    _opened: list[EthereumTaskCoordinator] = field(default_factory=list)

    @classmethod
    def on(cls, chain: LocalChain, terms: Terms | None = None) -> Deployed:
        """Put a contract on a chain."""
        address, _ = deploy(chain.config(), terms=terms, rpc=chain.rpc)
        return cls(chain, address)

    def config(self, account: int = 0, **settings: Any) -> BlockchainConfig:
        """Return the settings of one account."""
        return self.chain.config(account, contract_address=self.address, **settings)

    def coordinator(self, account: int = 0, **settings: Any) -> EthereumTaskCoordinator:
        """Return the coordinator as one account sees it."""
        made = EthereumTaskCoordinator(self.config(account, **settings), rpc=self.chain.rpc)
        self._opened.append(made)
        return made

    def close(self) -> None:
        """Close what was opened."""
        for each in self._opened:
            each.close()


@pytest.fixture
def local_chain() -> Iterator[LocalChain]:
    """A chain in this process."""
    with embedded_chain() as chain:
        yield chain


@pytest.fixture
def local_anvil() -> Iterator[LocalChain]:
    """A node of its own: anvil."""
    if find_anvil() is None:
        pytest.skip("anvil is not installed: run npm ci")
    with anvil_chain() as chain:
        yield chain


@pytest.fixture(params=["local_chain", "local_anvil"])
def any_chain(request: pytest.FixtureRequest) -> LocalChain:
    """Each kind of chain in turn."""
    chain: LocalChain = request.getfixturevalue(request.param)
    return chain


@pytest.fixture
def contract(any_chain: LocalChain) -> Iterator[Deployed]:
    """A task coordinator on each kind of chain."""
    made = Deployed.on(any_chain)
    yield made
    made.close()
