"""Money that a run may spend: counted before it leaves, and never more than was allowed."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from noob_cloud.blockchain.amounts import to_eth
from noob_cloud.blockchain.errors import (
    ChainError,
    NotMinedError,
    RpcError,
    TransactionRevertedError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from noob_cloud.blockchain.ethereum import EthereumTaskCoordinator
    from noob_cloud.blockchain.receipts import Receipt
    from noob_cloud.blockchain.transactions import Message

__all__ = ["BudgetExceededError", "Purse"]


class BudgetExceededError(ChainError, RuntimeError):
    """The budget does not allow it: `wanted`, `spent` and `budget` are in wei."""

    wanted: int
    spent: int
    budget: int


class Purse:
    """Sends transactions as far as a budget goes: values, fees, bonds and gas together.

    What is still there for gas also bounds the fee that is offered, so that a transaction that is
    replaced by dearer ones stays within the budget, too. What comes back (refunds, bonds) may be
    spent again.

    Args:
        coordinator: signs.
        budget: the most that may be spent, in wei; None: no limit.
    """

    def __init__(self, coordinator: EthereumTaskCoordinator, budget: int | None) -> None:
        self.coordinator = coordinator
        self.budget = budget
        self.items: Counter[str] = Counter()
        """Wei by what they were spent on: value of each kind of call, and `gas`. What came back
        is below zero."""
        self.counted: set[str] = set()
        """Tasks whose price is among them."""
        self._highest = coordinator.account.fees.ceiling
        self._lock = threading.Lock()

    @property
    def spent(self) -> int:
        """Wei, less what came back."""
        return self.items.total()

    @property
    def spent_eth(self) -> Decimal:
        """The same in ether."""
        return to_eth(self.spent)

    def check(self, wanted: int, what: str) -> None:
        """Refuse what the budget does not allow.

        Raises:
            BudgetExceededError: it does not.
        """
        if self.budget is not None and self.spent + wanted > self.budget:
            raise BudgetExceededError(
                f"{what} would cost up to {to_eth(wanted):f} ether; {to_eth(self.spent):f} of the"
                f" budget of {to_eth(self.budget):f} are spent. Raise budget_eth, or run less.",
                wanted=wanted,
                spent=self.spent,
                budget=self.budget,
            )

    def count(self, what: str, wei: int) -> None:
        """Count what was spent before, or came back (below zero)."""
        with self._lock:
            self.items[what] += wei

    def pay(self, messages: Sequence[Message], doing: str) -> list[Receipt]:
        """Do transactions one after the other, and wait for them.

        Raises:
            BudgetExceededError: they might cost more than is left; nothing was sent.
            TransactionRevertedError: the contract refuses one of them.
        """
        account = self.coordinator.account
        with self._lock:
            tried = account.tried(messages, doing)
            value, gas = sum(each.value for each in tried), sum(each.gas for each in tried)
            self.check(value + gas * account.fees.now().max_fee, doing)
            highest = self._highest
            if self.budget is not None and gas:
                highest = min(highest, (self.budget - self.spent - value) // gas)
            account.fees.ceiling = highest
            try:
                receipts = account.transact(tried, doing)
            except (NotMinedError, RpcError, TransactionRevertedError):
                self.items[doing] += value  # they may be mined yet
                self.items["gas"] += gas * highest
                raise
            finally:
                account.fees.ceiling = self._highest
            if value:
                self.items[doing] += value
            self.items["gas"] += sum(each.gas_used * each.gas_price for each in receipts)
            return receipts
