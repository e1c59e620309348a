"""What one may ask a queue: a task, a listing, counts, and to be told of outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noob_cloud.queue import look
from noob_cloud.queue.upkeep import Upkeep
from noob_cloud.task import Task, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from noob_cloud.queue.interface import QueueStats


class Questions(Upkeep):
    """The operations that move no task."""

    def get_task(self, task_id: int, *, decode: bool = True) -> Task:
        """Everything about one task, its result included."""
        return self._look(lambda now: look.get(self._ledger, task_id, now, decode=decode))

    def list_tasks(
        self,
        status: TaskStatus | str | None = None,
        run_id: str | None = None,
        *,
        limit: int = 100,
        after: int = 0,
        decode: bool = True,
    ) -> list[Task]:
        """Tasks in the order of their ids, beginning behind `after`."""
        wanted = None if status is None else TaskStatus(status)
        found = self._look(
            lambda now: look.listing(
                self._ledger, wanted, run_id, (limit, after), now, decode=decode
            )
        )
        return list(found)

    def stats(self) -> QueueStats:
        """How many tasks are where."""
        return self._look(lambda now: look.stats(self._ledger, now))

    def wait_settled(
        self,
        task_ids: Iterable[int],
        timeout: float | None = None,
        *,
        at_least: int | None = None,
        decode: bool = True,
    ) -> list[Task]:
        """Those of `task_ids` that have an outcome, as soon as all (or `at_least`) have one.

        After `timeout` seconds, those that have one by then.
        """
        wanted = list(dict.fromkeys(task_ids))
        left = set(wanted)
        found: dict[int, Task] = {}
        enough = len(wanted) if at_least is None else min(at_least, len(wanted))
        self._look(lambda _: look.check_known(self._ledger, wanted))

        def ask() -> bool | None:
            new = self._look(lambda now: look.settled_among(self._ledger, left, now, decode=decode))
            found.update((task.task_id, task) for task in new)
            left.difference_update(found)
            return len(found) >= enough or None

        self._until(ask, timeout)
        return [found[task_id] for task_id in wanted if task_id in found]
