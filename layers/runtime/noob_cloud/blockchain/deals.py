"""What a run does on the chain, each within its budget: buy, challenge, free, take back."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from noob_cloud.blockchain.amounts import to_eth, to_wei
from noob_cloud.blockchain.errors import TransactionRevertedError
from noob_cloud.blockchain.payday import chain_time, same_account
from noob_cloud.blockchain.purse import BudgetExceededError
from noob_cloud.blockchain.views import TaskState, to_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from noob_cloud.blockchain.contract import Event
    from noob_cloud.blockchain.offers import Offer, Report
    from noob_cloud.blockchain.purse import Purse
    from noob_cloud.blockchain.receipts import Receipt
    from noob_cloud.blockchain.snapshot import Reader

__all__ = ["Deals"]

_log = logging.getLogger(__name__)
_BATCH: Final = 50
"""Tasks of one transaction."""
_PAUSE: Final = 30.0
"""Seconds until the same is tried for a task again: what was done may not be deep enough yet."""


class Deals:
    """Sends what a run has to say to the contract.

    Args:
        purse: pays, and knows the contract.
        reader: reads the contract.
        report: is told what could not be done.
        reward: of each task, in wei.
    """

    def __init__(self, purse: Purse, reader: Reader, report: Report, *, reward: int) -> None:
        self.coordinator = purse.coordinator
        self.me = purse.coordinator.account.own_address()
        self._purse = purse
        self._reader = reader
        self._report = report
        self._reward = reward

    def buy(self, offers: list[Offer]) -> None:
        """Buy what no run of this name has bought before.

        Raises:
            BudgetExceededError: the budget does not allow it.
        """
        missing = self._not_ours_yet(offers)
        cost = self._price()
        if missing:
            self._purse.check(cost * len(missing), f"{len(missing)} tasks")
        for start in range(0, len(missing), _BATCH):
            part = missing[start : start + _BATCH]
            digests = [to_digest(offer.cid) for offer in part]
            message = self.coordinator.message(
                "submitTasks", digests, self._reward, value=cost * len(part)
            )
            receipts = self._purse.pay([message], "submitTasks")
            bought = {
                event.values["taskCID"]: event.values["generation"]
                for event in self._said(receipts)
                if event.name == "TaskSubmitted"
            }
            for offer in part:
                offer.generation = bought[offer.cid]
                offer.bought_at = time.monotonic()
                self._purse.counted.add(offer.cid)

    def _not_ours_yet(self, offers: list[Offer]) -> list[Offer]:
        """Return those that no run of this name has bought before."""
        found = self._reader.tasks([(offer.cid, None) for offer in offers])
        known = [
            (offer, generation)
            for offer, task in zip(offers, found, strict=True)
            if task.state is not TaskState.NONE
            for generation in range(task.generation + 2)  # one may wait behind what is held
        ]
        shares = self._reader.shares([(offer.cid, number) for offer, number in known], self.me)
        ours: set[str] = set()
        for (offer, generation), share in zip(known, shares, strict=True):
            if share:
                ours.add(offer.cid)
                offer.generation, offer.bought_at = generation, time.monotonic()
                if offer.cid not in self._purse.counted:
                    self._purse.counted.add(offer.cid)
                    self._purse.count("submitTasks", share)
        self._report.resumed += len(ours)
        return [offer for offer in offers if offer.cid not in ours]

    def buy_again(self, offers: list[Offer]) -> None:
        """Buy what was bought, and left the chain with its block."""
        past = time.monotonic() - _PAUSE
        lost = self._due("buy", [o for o in offers if (o.bought_at or 0.0) <= past])
        if lost:
            _log.warning("%s tasks have left the chain, and are bought again", len(lost))
            self._purse.count("submitTasks", -len(lost) * self._price())
            self._purse.counted.difference_update(offer.cid for offer in lost)
            self.buy(lost)

    def _price(self) -> int:
        return to_wei(self.coordinator.cost_of(to_eth(self._reward)))

    def challenge(self, offer: Offer) -> None:
        """Stake a bond on a worker's result being wrong, if there is time and money left."""
        worker, reason = offer.worker or "", offer.wrong or ""
        self._report.challenges.append((offer.cid, worker, reason))
        if offer.task is None or offer.state is not TaskState.SUBMITTED:
            self.note(
                f"{offer.cid} is {offer.state} already, so its result by {worker} was not"
                f" challenged: {reason}"
            )
            return
        bond = to_wei(self.coordinator.bond_for(offer.task.reward_eth))
        message = self.coordinator.message(
            "challengeTask", to_digest(offer.cid), reason[:500], value=bond
        )
        try:
            self._purse.pay([message], "challengeTask")
        except (BudgetExceededError, TransactionRevertedError) as error:
            self.note(f"The result of {offer.cid} was not challenged: {error}")
        else:
            offer.challenged, offer.bond = True, bond

    def free(self, offers: list[Offer], now: int) -> None:
        """Free what a worker has held for too long; others may have it then."""
        late = [o for o in offers if o.task is not None and o.task.deadline <= now]
        self._quietly("reclaimTasks", late)

    def settle(self, offers: Iterable[Offer]) -> list[str]:
        """End what can be ended of challenged tasks, and take back what they cost.

        Args:
            offers: of the run.

        Returns:
            cids that still wait for a ruling, or for the end of its time.
        """
        open_ = [offer for offer in offers if offer.done and not offer.closed]
        found = self._reader.tasks([(offer.cid, offer.generation) for offer in open_])
        now = chain_time(self.coordinator)
        for offer, task in zip(open_, found, strict=True):
            offer.task = task
        expired = [
            offer
            for offer in open_
            if offer.state is TaskState.CHALLENGED and offer.task and offer.task.deadline <= now
        ]
        self._quietly("expireChallenges", expired)
        self.cancel([o for o in open_ if o.state is TaskState.OPEN or o in expired])
        for offer in open_:
            offer.closed |= offer.state in (TaskState.VERIFIED, TaskState.NONE)
        return [offer.cid for offer in open_ if offer.challenged and not offer.closed]

    def cancel(self, offers: Iterable[Offer]) -> list[Offer]:
        """Take shares back; return what is cancelled."""
        by_cid = {offer.cid: offer for offer in offers}
        gone = []
        for event in self._quietly("cancelTasks", list(by_cid.values())):
            if event.name == "ShareRefunded" and same_account(event.values["submitter"], self.me):
                back = event.values["reward"] + event.values["fee"]
                self._purse.count("refunds", -back)
                offer = by_cid[event.values["taskCID"]]
                offer.closed = True
                if offer.challenged:  # whatever opened the task again gave the bond back
                    self._purse.count("bonds back", -offer.bond)
                gone.append(offer)
        return gone

    def _quietly(self, name: str, offers: list[Offer]) -> list[Event]:
        """Do something for many tasks whose state may have changed meanwhile."""
        said: list[Event] = []
        offers = self._due(name, offers)
        for start in range(0, len(offers), _BATCH):
            part = offers[start : start + _BATCH]
            digests = [to_digest(offer.cid) for offer in part]
            try:
                message = self.coordinator.message(name, digests)
                said += self._said(self._purse.pay([message], name))
            except (BudgetExceededError, TransactionRevertedError) as error:
                self.note(f"{name} of {len(digests)} tasks was not done: {error}")
        return said

    def _due(self, name: str, offers: list[Offer]) -> list[Offer]:
        """Return those for which this was not done just now."""
        now = time.monotonic()
        due = [o for o in offers if now - o.touched.get(name, -_PAUSE) >= _PAUSE]
        for offer in due:
            offer.touched[name] = now
        return due

    def _said(self, receipts: Sequence[Receipt]) -> list[Event]:
        return [event for receipt in receipts for event in self.coordinator.events(receipt)]

    def note(self, text: str) -> None:
        """Say once what could not be done."""
        if text not in self._report.notes:
            _log.warning("%s", text)
            self._report.notes.append(text)
