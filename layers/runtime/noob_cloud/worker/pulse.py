"""Keep the leases of held tasks alive, and hear which are lost or cancelled."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

from noob_cloud.exceptions import LeaseLostError, TaskNotFoundError
from noob_cloud.worker.settle import TROUBLE

if TYPE_CHECKING:
    from noob_cloud.queue.interface import Queue
    from noob_cloud.worker.held import Held, Holding

_log = logging.getLogger(__name__)

_START_AFTER = 0.2
"""Seconds after which a task is told to be running; a shorter one is settled by then."""
_TICK = 0.1


class Pulse:
    """Sends heartbeats for what is held.

    Args:
        queue: whose tasks they are.
        holding: where they are held.
        lease_seconds: how long a lease lasts without a heartbeat.
        pulse_seconds: time between two heartbeats.
    """

    def __init__(
        self, queue: Queue, holding: Holding, *, lease_seconds: float, pulse_seconds: float
    ) -> None:
        self._queue = queue
        self._holding = holding
        self._lease = lease_seconds
        self._pulse = min(pulse_seconds, lease_seconds / 3)

    def run(self) -> None:
        """Send heartbeats until the loop is over."""
        last = monotonic()
        while not self._holding.over:
            with self._holding.change:
                self._holding.change.wait(_TICK)
            now = monotonic()
            held = self._holding.all
            for one in held:
                if one.began is not None and not one.told and now - one.began > _START_AFTER:
                    self._tell(one)
            if held and now - last >= self._pulse:
                last = now
                self._renew(held)

    def _tell(self, held: Held) -> None:
        """Say that a task runs: its timeout counts from here."""
        held.told = True
        try:
            self._queue.start_task(held.task)
        except (LeaseLostError, TaskNotFoundError):
            self._holding.lose(held, "its lease is lost")
        except TROUBLE as error:
            held.told = False
            _log.debug("the queue was not told that a task runs: %s", error)

    def _renew(self, held: list[Held]) -> None:
        try:
            reply = self._queue.heartbeat([one.task for one in held], lease_seconds=self._lease)
        except TROUBLE as error:
            _log.debug("no heartbeat: %s", error)
            return
        ours = {one.task.task_id: one for one in self._holding.all if one in held}
        for task_id in reply.lost:
            if task_id in ours:
                cancelled = task_id in reply.cancelled
                reason = "the task was cancelled" if cancelled else "its lease is lost"
                self._holding.lose(ours[task_id], reason)
