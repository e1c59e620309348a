"""Follow the events by which a contract offers tasks, into a queue, for `ChainWorker`."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final, Literal

from noob_cloud.blockchain.contract import coordinator_abi
from noob_cloud.blockchain.errors import RpcError, WrongChainError
from noob_cloud.blockchain.listener import ChainListener
from noob_cloud.blockchain.rpc import quantity
from noob_cloud.blockchain.worker import OFFERS, TAG

if TYPE_CHECKING:
    from noob_cloud.blockchain.listener import Target
    from noob_cloud.blockchain.rpc import Rpc

__all__ = ["ChainFeed"]

_log = logging.getLogger(__name__)
_BACK: Final = 10_000
"""Blocks before the newest that are read at the first start."""
_TERMS: Final[dict[str, Any]] = {
    "required_tags": [TAG],
    "timeout_seconds": 6 * 3600.0,  # with it, one attempt waits for its claim's confirmations
    "max_retries": 20,
}


class ChainFeed:
    """A listener for each kind of event after which a task may be claimed.

    Args:
        rpc: the nodes.
        queue: where tasks go.
        address: the contract's.
        start: first block that is read, where nothing was read before; None: 10,000 back.
        finality: how many blocks a block needs, itself included; or `safe`, or `finalized`.
        poll_seconds: between looks.
    """

    def __init__(
        self,
        rpc: Rpc,
        queue: Target,
        address: str,
        *,
        start: int | None = None,
        finality: int | Literal["safe", "finalized"] = 1,
        poll_seconds: float = 2.0,
    ) -> None:
        if start is None:
            start = max(0, quantity(rpc.call("eth_blockNumber"), "The node") - _BACK)
        self._poll = poll_seconds
        self._over = threading.Event()
        self._listeners = [
            ChainListener(
                rpc,
                queue,
                address,
                "0x" + topic.hex(),
                name=f"chain-{rpc.chain_id}-{address.lower()}-{event.name}",
                finality=finality,
                start=start,
                task=_TERMS,
            )
            for topic, event in coordinator_abi().events.items()
            if event.name in OFFERS
        ]

    def step(self) -> bool:
        """Read the next blocks; False: there were none."""
        more = [listener.step() for listener in self._listeners]
        return any(more)

    def run(self) -> None:
        """Follow until `stop`; while no node can be asked, wait.

        Raises:
            WrongChainError: the node is one of another chain.
            ReorgTooDeepError: the chain changed further back than is remembered.
        """
        while not self._over.is_set():
            try:
                more = self.step()
            except WrongChainError:
                raise
            except RpcError as error:
                _log.warning("the chain cannot be followed now: %s", error)
                more = False
            if not more:
                self._over.wait(self._poll)

    def stop(self) -> None:
        """Follow no more."""
        self._over.set()
