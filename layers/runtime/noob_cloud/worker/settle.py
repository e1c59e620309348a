"""Tell a queue what became of tasks, again and again while it is away."""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay
from tenacity.wait import wait_random_exponential

from noob_cloud import codec
from noob_cloud.exceptions import (
    CodeMismatchError,
    LeaseLostError,
    NoobCloudError,
    TaskNotFoundError,
    UnavailableError,
)
from noob_cloud.queue.interface import Encoded
from noob_cloud.worker import child
from noob_cloud.worker.execute import failure_of
from noob_cloud.worker.traced import tell_outcomes

if TYPE_CHECKING:
    from collections.abc import Callable

    from noob_cloud.queue.interface import Queue
    from noob_cloud.task import Outcome, Task
    from noob_cloud.worker.child import Reply
    from noob_cloud.worker.held import Held, Holding

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

OUTAGE_SECONDS = 200.0
"""How long the queue may be away before a finished task's outcome is given up: three minutes of a
coordinator's restart and some more. The lease then runs out, and another worker runs the task."""
_OTHER_CODE: Final = f"{CodeMismatchError.__module__}.{CodeMismatchError.__qualname__}"
TROUBLE: Final = (NoobCloudError, OSError, sqlite3.Error)
"""What a queue raises when it cannot, or will not, do what it is told."""


class Settler:
    """Settles tasks as they end, as many at once as have ended meanwhile.

    Args:
        queue: whose tasks they are.
        holding: where they are held.
        claim: the worker and its tags, as `complete_and_claim` takes them.
    """

    def __init__(self, queue: Queue, holding: Holding, claim: dict[str, Any]) -> None:
        self._queue = queue
        self._holding = holding
        self._claim = claim

    def run(self) -> None:
        """Settle until the loop is over."""
        while done := self._holding.collect():
            try:
                self._settle(done)
            finally:
                self._holding.forget(held for held, _reply in done)

    def release(self, held: list[Held]) -> None:
        """Hand tasks back: another worker may have them at once, and no attempt is counted."""
        ours = [one.task for one in held if not one.lost]
        if ours:
            self._insist(lambda: self._queue.release(ours))
            self._holding.counts["released"] += len(ours)
            tell_outcomes(held, "released")
        self._holding.forget(held)

    def _settle(self, done: list[tuple[Held, Reply]]) -> None:
        results: list[tuple[Held, Encoded]] = []
        stopped: list[Held] = []
        for held, (kind, body) in done:
            if held.lost:
                self._holding.counts["lost"] += 1
            elif held.stop.reason is not None:
                stopped.append(held)
            elif kind in (child.OUTCOME, child.RAISED):
                results.append((held, Encoded(body)))
            else:
                self._fail(held, kind, body)
        self.release(stopped)
        if results:
            self._complete(results)

    def _complete(self, done: list[tuple[Held, Encoded]]) -> None:
        """Settle tasks with their results, and claim as many in the same call."""
        results = [(held.task, body) for held, body in done]
        wanted = self._holding.reserve(after=len(done))

        def say() -> tuple[list[int], list[Task]]:
            if not wanted:
                return self._queue.complete_many(results), []
            return self._queue.complete_and_claim(results, limit=wanted, **self._claim)

        said = self._insist(say)
        refused, tasks = said if said is not None else ([held.task.task_id for held, _ in done], [])
        self._holding.counts["lost"] += len(refused)
        self._holding.counts["completed"] += len(done) - len(refused)
        self._holding.go_on()
        tell_outcomes((held for held, _ in done if held.task.task_id not in refused), "completed")
        self._holding.forget(held for held, _body in done)
        self.release(self._holding.take(tasks, reserved=wanted))

    def _fail(self, held: Held, kind: bytes, body: bytes) -> None:
        traceback: str | None = None
        retryable = refused = False
        if kind == child.ERROR:
            outcome: Outcome = codec.loads(body)
            error, traceback = failure_of(outcome)
            retryable = outcome.retryable
            refused = outcome.error_type == _OTHER_CODE
        else:
            error = f"noob_cloud.exceptions.DecodeError: {body.decode(errors='replace')}"
        task = held.task
        if refused:
            self._refuse(held, error, traceback)
            return
        _log.warning(
            "task %s (%s, epoch %s) failed: %s", task.task_id, task.node_id, task.epoch, error
        )
        self._holding.counts["failed"] += 1
        self._insist(lambda: self._queue.fail_task(task, error, traceback, retryable=retryable))
        tell_outcomes([held], "failed")

    def _refuse(self, held: Held, error: str, traceback: str | None) -> None:
        """Hand back a task whose code is another one here, and claim none for a while."""
        task = held.task
        pause = self._holding.pause()
        _log.warning(
            "task %s (%s) is handed back, and nothing is claimed for %g s: %s",
            task.task_id,
            task.node_id,
            pause,
            error,
        )
        self._holding.counts["refused"] += 1
        self._insist(lambda: self._queue.refuse_task(task, error, traceback))
        tell_outcomes([held], "refused")

    def _insist(self, say: Callable[[], _T]) -> _T | None:
        """Say something to the queue, again while it is away; None when that was in vain."""
        retrying = Retrying(
            retry=retry_if_exception_type((UnavailableError, sqlite3.OperationalError)),
            wait=wait_random_exponential(multiplier=0.1, max=5.0),
            stop=stop_after_delay(OUTAGE_SECONDS),
        )
        try:
            return retrying(say)
        except RetryError as error:
            _log.error("the queue stays away, so outcomes are dropped: %s", error)
        except (LeaseLostError, TaskNotFoundError):
            self._holding.counts["lost"] += 1
        except TROUBLE as error:
            _log.error("the queue refuses: %s", error)
        return None
