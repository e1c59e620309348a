"""Forget what is old: outcomes first, then the chunk that nothing is left of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noob_cloud.cid import cids_in
from noob_cloud.queue import outcomes
from noob_cloud.queue.bodies import pack_results, result_at
from noob_cloud.queue.statements import SQL

if TYPE_CHECKING:
    from noob_cloud.queue.ledger import Ledger

ROWS = 500
"""Rows looked at in one transaction."""


def forget(ledger: Ledger, before: float, after_id: int) -> tuple[int, int | None]:
    """Forget outcomes from before a time, of ids above `after_id`; return how many and where next.

    The ids go up with time, so the first page without an old outcome ends the search.
    """
    rows = ledger.execute(SQL.old_settled, (after_id, ROWS)).fetchall()
    count = 0
    for task_id, n, finished_at in rows:
        if finished_at <= before:
            ledger.execute(SQL.drop_settled, (task_id,))
            forget_tasks(ledger, task_id, task_id + n - 1)
            count += n
    return count, rows[-1][0] if count and len(rows) == ROWS else None


def forget_tasks(ledger: Ledger, low: int, high: int) -> None:
    """Drop what is known of tasks that stand nowhere any more."""
    ledger.execute(SQL.drop_failures, (low, high))
    for chunk in ledger.chunks_of(low, high):
        first, last = max(low, chunk.first), min(high, chunk.last)
        ledger.many(SQL.drop_unique, chunk.uniques(first, last))
        ledger.execute(SQL.forget_some, (chunk.last, last - first + 1))
        ledger.execute(SQL.drop_task, (chunk.last,))


def delete_run(ledger: Ledger, run_id: str, now: float) -> int:
    """Cancel and forget up to `ROWS` chunks of a run; return how many tasks that were."""
    count = 0
    for last, n in ledger.execute(SQL.tasks_of_run_after, (0, run_id, ROWS)).fetchall():
        for task_id in range(last - n + 1, last + 1):
            outcomes.cancel(ledger, task_id, now)
            if _drop_outcome(ledger, task_id):
                forget_tasks(ledger, task_id, task_id)
                count += 1
    return count


def _drop_outcome(ledger: Ledger, task_id: int) -> bool:
    if ledger.execute(SQL.drop_dead, (task_id,)).rowcount:
        return True
    row = ledger.execute(SQL.settled_of, (task_id,)).fetchone()
    if row is None or row[0] + row[1] <= task_id:
        return False
    first, n, *rest, body = row
    results = [result_at(body, n, i) for i in range(n)]
    ledger.execute(SQL.drop_settled, (first,))
    for low, high in ((first, task_id), (task_id + 1, first + n)):
        if low < high:
            kept = pack_results(results[low - first : high - first])
            ledger.execute(SQL.add_settled, (low, high - low, *rest, kept))
    return True


def named(ledger: Ledger, query: str, after_id: int) -> tuple[set[str], int | None]:
    """Return the cids that a page of bodies names, and where the next page begins."""
    found: set[str] = set()
    rows = ledger.execute(query, (after_id, ROWS)).fetchall()
    for _, body in rows:
        found |= cids_in(body)
    return found, rows[-1][0] if len(rows) == ROWS else None
