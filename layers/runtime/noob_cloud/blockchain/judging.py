"""Say whether to take results: a random sample is executed again before it is too late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from noob_cloud.blockchain.views import TaskState
from noob_cloud.cid import cid
from noob_cloud.codec import dumps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from noob_cloud.blockchain.checking import Checker
    from noob_cloud.blockchain.offers import Offer

__all__ = ["Judge"]

_SHARE: Final = 0.5
"""Of a challenge period that a result may wait for others, so that one sample is drawn of all."""


class Judge:
    """Draws samples, executes them again, and marks what is wrong.

    Args:
        checker: executes and compares.
        sample: the share of results that is executed again, and at least one of each worker each
            time; 0: none.
        period: seconds that a result may be challenged.
        rng: draws.
    """

    def __init__(self, checker: Checker, *, sample: float, period: int, rng: Random) -> None:
        self._checker = checker
        self._sample = sample
        self._period = period
        self._rng = rng
        self._caught: set[str] = set()

    def presses(self, offer: Offer, now: int) -> bool:
        """Whether a submitted result has waited for so long that it must be judged."""
        task = offer.task
        if task is None or task.state is not TaskState.SUBMITTED:
            return False
        return now >= task.deadline - self._period * _SHARE

    def judge(self, waiting: Sequence[Offer], now: int) -> list[Offer]:
        """Return those whose results are looked at: all that arrived, once nothing else is out.

        A worker that gave one wrong result has each of the others executed again, too.
        """
        arrived = [offer for offer in waiting if offer.arrived]
        if len(arrived) < len(waiting) and not any(self.presses(o, now) for o in arrived):
            return []
        chosen = self._drawn(arrived)
        while chosen:
            for offer in chosen:
                self._check(offer)
            chosen = [offer for offer in arrived if not offer.checked and self._known(offer)]
        return arrived

    def _drawn(self, arrived: Sequence[Offer]) -> list[Offer]:
        """Return a share at random, but at least one of each worker: names cost nothing."""
        chosen = [
            offer
            for offer in arrived
            if offer.wrong or self._known(offer) or self._rng.random() < self._sample
        ]
        if self._sample > 0:
            others: dict[str | None, list[Offer]] = {}
            for offer in arrived:
                others.setdefault(offer.worker, []).append(offer)
            for offer in chosen:
                others.pop(offer.worker, None)
            chosen += [self._rng.choice(of_one) for of_one in others.values()]
        return chosen

    def _known(self, offer: Offer) -> bool:
        return (offer.worker or "").lower() in self._caught

    def _check(self, offer: Offer) -> None:
        mine = self._checker.run(offer.payload, offer.document)
        offer.checked = True
        if offer.wrong is None and not self._checker.agrees(mine, offer.value):
            offer.wrong = f"executed again, it gives {_name(mine)} and not {offer.result_cid}"
        if offer.wrong is not None:
            self._caught.add((offer.worker or "").lower())
            offer.value = mine


def _name(value: Any) -> str:
    return cid(dumps(value))
