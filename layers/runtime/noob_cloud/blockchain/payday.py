"""Be paid: verify one's results when nobody has challenged them in time, and withdraw.

What is to be verified is remembered as delayed tasks in a queue file, so that a restart goes on.
"""

from __future__ import annotations

import logging
import threading
from time import time
from typing import TYPE_CHECKING, Any, Final

from noob_cloud.blockchain.errors import ChainError
from noob_cloud.blockchain.rpc import quantity
from noob_cloud.blockchain.snapshot import Reader
from noob_cloud.blockchain.views import TaskState

if TYPE_CHECKING:
    from decimal import Decimal

    from noob_cloud.blockchain.ethereum import EthereumTaskCoordinator
    from noob_cloud.blockchain.views import ChainTask
    from noob_cloud.queue import TaskQueue
    from noob_cloud.task import Task

__all__ = ["Payday", "chain_time", "same_account"]

_log = logging.getLogger(__name__)
_TAG: Final = "chain-verify"
_BATCH: Final = 50
"""Results that are verified by one transaction: it costs a quarter of as many alone."""
_SOONEST: Final = 1.0
"""Seconds until a result that could not be verified is looked at again."""


class Payday:
    """Verifies the results of one worker, and withdraws what it earned.

    Args:
        coordinator: signs with the worker's key.
        ledger: remembers what is to be verified; in a file it survives a restart.
        withdraw_at: ether of credit from which on it is withdrawn; None: never.
        withdraw_to: address that it goes to; None: the worker's own.
        poll_seconds: how long one look for what is due waits.
        longest_wait: seconds after which a result is looked at again that is not due, or that is
            challenged: a ruling may come at any time.
    """

    def __init__(
        self,
        coordinator: EthereumTaskCoordinator,
        ledger: TaskQueue,
        *,
        withdraw_at: Decimal | None = None,
        withdraw_to: str | None = None,
        poll_seconds: float = 1.0,
        longest_wait: float = 600.0,
    ) -> None:
        self._coordinator = coordinator
        self._reader = Reader(coordinator)
        self._longest = longest_wait
        self._ledger = ledger
        self._withdraw_at = withdraw_at
        self._withdraw_to = withdraw_to
        self._poll = poll_seconds
        self._name = f"payday-{coordinator.address}"
        self._over = threading.Event()
        self.verified = 0
        """Results that were paid."""

    def remember(self, task: ChainTask) -> None:
        """Verify this result when its time for challenges is over; said twice, it is kept once."""
        key = f"verify/{task.cid}/{task.generation}/{task.deadline}"
        what = {"task": task.cid, "generation": task.generation, "result": task.result_cid}
        self._submit(what, task.deadline - chain_time(self._coordinator), key)

    def run(self) -> None:
        """Verify until `stop`."""
        while not self._over.is_set():
            try:
                self.step()
            except Exception as error:  # noqa: BLE001 - one bad look must not end all payment
                _log.warning("results could not be verified, and will be tried again: %s", error)
                self._over.wait(_SOONEST)

    def stop(self) -> None:
        """Begin nothing more."""
        self._over.set()

    def step(self) -> list[str]:
        """Verify what is due, in one transaction; return the cids that are paid now.

        Raises:
            ChainError: the chain cannot be asked; what was due is due again in a minute.
        """
        tasks = self._ledger.claim_many(
            self._name, _BATCH, [_TAG], accept_untagged=False, lease_seconds=60.0, wait=self._poll
        )
        if not tasks:
            return []
        try:
            return self._settle(tasks)
        except ChainError:
            self._ledger.release(tasks)
            raise

    def _settle(self, tasks: list[Task]) -> list[str]:
        now = chain_time(self._coordinator)
        due: dict[str, Task] = {}
        wanted = [(task.payload["task"], task.payload["generation"]) for task in tasks]
        for task, found in zip(tasks, self._reader.tasks(wanted), strict=True):
            cid = found.cid
            mine = same_account(found.worker, self._coordinator.address)
            if mine and found.state is TaskState.CLAIMED and found.deadline > now:
                self._again(task)
            elif not mine or found.state not in (TaskState.SUBMITTED, TaskState.CHALLENGED):
                self._ledger.complete_task(task, {"state": str(found.state), "ours": mine})
            elif found.state is TaskState.SUBMITTED and found.deadline <= now:
                due[cid] = task
            else:
                self._later(task, found.deadline - now)
        paid = self._coordinator.verify_tasks(list(due)) if due else []
        for cid, task in due.items():
            if cid in paid:
                self._ledger.complete_task(task, {"state": "verified", "ours": True})
            else:
                self._later(task, _SOONEST)
        self.verified += len(paid)
        self._withdraw()
        return paid

    def _later(self, task: Task, seconds: float) -> None:
        self._submit(task.payload, seconds, None)
        self._ledger.complete_task(task, {"state": "later", "ours": True})

    def _again(self, task: Task) -> None:
        """Submit a result again that left the chain with its block."""
        try:
            self._coordinator.submit_result(task.payload["task"], task.payload["result"])
        finally:
            self._later(task, _SOONEST)

    def _submit(self, what: dict[str, Any], delay: float, key: str | None) -> None:
        self._ledger.submit_task(
            "chain_verify",
            0,
            required_tags=[_TAG],
            data=what,
            delay=min(max(_SOONEST, delay), self._longest),
            max_retries=1000,
            idempotency_key=key,
        )

    def _withdraw(self) -> None:
        if self._withdraw_at is None:
            return
        owed = self._coordinator.credits()
        if owed and owed >= self._withdraw_at:
            self._coordinator.withdraw(self._withdraw_to)
            _log.info("%s ether was withdrawn", owed)


def chain_time(coordinator: EthereumTaskCoordinator) -> int:
    """Return the time that the next block may have: the chain's own, or this machine's if later."""
    block: dict[str, Any] = coordinator.rpc.call("eth_getBlockByNumber", "latest", False)
    return max(quantity(block.get("timestamp"), "The node"), int(time()))


def same_account(one: str | None, other: str | None) -> bool:
    """Whether two addresses are the same, in whichever letters."""
    return one is not None and other is not None and one.lower() == other.lower()
