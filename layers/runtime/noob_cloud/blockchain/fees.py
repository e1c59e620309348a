"""What a transaction offers for a gas (EIP-1559), and never more than the ceiling."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from noob_cloud.blockchain.errors import FeeCeilingError, RpcAnswerError, RpcError
from noob_cloud.blockchain.rpc import quantity

if TYPE_CHECKING:
    from collections.abc import Callable

    from noob_cloud.blockchain.config import BlockchainConfig
    from noob_cloud.blockchain.rpc import Rpc

__all__ = ["GWEI", "Fee", "FeeMarket"]

GWEI: Final = 10**9
"""Wei of a gwei."""
_HEADROOM: Final = 2
"""Times the base fee: six full blocks in a row raise it to that (1.125 ** 6)."""
_REPLACE: Final = (1125, 1000)
"""Nodes take a replacement that offers an eighth more, tip and all (geth asks a tenth)."""
_FRESH: Final = 3.0
"""Seconds that what a node said of fees is used."""
_SAFETY: Final = (5, 4)
"""Gas that is allowed, by what a node estimates: state may have changed until it is mined."""


@dataclass(frozen=True, slots=True)
class Fee:
    """What is offered for a gas, in wei."""

    max_fee: int
    """At most, the base fee included."""
    tip: int
    """At most, to whoever makes the block."""

    def raised(self, least: Fee, ceiling: int) -> Self:
        """Return what replaces a transaction that offered this: an eighth more, and the market's.

        Raises:
            FeeCeilingError: that is above the ceiling.
        """
        up, down = _REPLACE
        tip = max(-(-self.tip * up // down), least.tip, 1)
        most = max(-(-self.max_fee * up // down), least.max_fee, tip)
        if most > ceiling:
            raise FeeCeilingError(
                f"A replacement has to offer {most / GWEI:g} gwei a gas; the ceiling is"
                f" {ceiling / GWEI:g} (max_fee_gwei). The transaction waits as it is.",
                wanted=most,
                ceiling=ceiling,
            )
        return type(self)(most, tip)


class FeeMarket:
    """What the chain asks at the moment; one look serves every transaction of a few seconds.

    Args:
        rpc: of the chain.
        config: with the ceiling and the tip.
        clock: seconds that only go on.
    """

    def __init__(
        self, rpc: Rpc, config: BlockchainConfig, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        known = config.known
        ceiling = known.max_fee_gwei if config.max_fee_gwei is None else config.max_fee_gwei
        self.ceiling = int(ceiling * GWEI)
        """The most that is offered for a gas, in wei."""
        self._least_tip = int(known.minimum_tip_gwei * GWEI)
        tip = config.priority_fee_gwei
        self._tip = None if tip is None else int(tip * GWEI)
        self._rpc = rpc
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[float, Fee] | None = None

    def now(self) -> Fee:
        """Return what a transaction should offer now.

        Raises:
            FeeCeilingError: the chain's base fee and tip are above the ceiling.
            RpcError: no node says.
        """
        with self._lock:
            if self._seen is None or self._clock() - self._seen[0] > _FRESH:
                self._seen = (self._clock(), self._look())
            return self._seen[1]

    def _look(self) -> Fee:
        block, tip = self._rpc.call_many(
            [("eth_getBlockByNumber", ("latest", False)), ("eth_maxPriorityFeePerGas", ())],
            errors=True,
        )
        if isinstance(block, RpcAnswerError):
            raise block
        return self.of(block, tip)

    def of(self, block: Any, suggested: Any) -> Fee:
        """Return what to offer by a block and the tip that a node suggests.

        Raises:
            FeeCeilingError: that is above the ceiling.
            RpcError: the node does not say.
        """
        if not isinstance(block, dict) or "baseFeePerGas" not in block:
            raise RpcError("The node names no base fee for the latest block (EIP-1559).")
        base = quantity(block["baseFeePerGas"], "The node")
        tip = self._tip
        if tip is None:
            unknown = isinstance(suggested, RpcAnswerError)
            tip = GWEI if unknown else quantity(suggested, "The node")
            tip = max(tip, self._least_tip)
        if base + tip > self.ceiling:
            raise FeeCeilingError(
                f"The chain asks {(base + tip) / GWEI:g} gwei a gas; the ceiling is"
                f" {self.ceiling / GWEI:g}. Wait, or raise max_fee_gwei.",
                wanted=base + tip,
                ceiling=self.ceiling,
            )
        return Fee(min(_HEADROOM * base + tip, self.ceiling), tip)


def with_safety(gas: int) -> int:
    """Return the gas that a transaction is allowed, by what a node estimates."""
    up, down = _SAFETY
    return gas * up // down
