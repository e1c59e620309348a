"""Look at tasks without moving them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob_cloud.exceptions import TaskNotFoundError
from noob_cloud.queue import leases
from noob_cloud.queue.bodies import result_at
from noob_cloud.queue.interface import QueueStats
from noob_cloud.queue.ledger import COMPLETED
from noob_cloud.queue.outcomes import find_ready
from noob_cloud.queue.statements import SQL
from noob_cloud.queue.stored import Place, StoredTask
from noob_cloud.task import TaskStatus, Token

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from noob_cloud.queue.bodies import Chunk
    from noob_cloud.queue.ledger import Ledger

PAGE = 256
"""Rows that a listing reads at once."""
_AFTER = {
    TaskStatus.CLAIMED: SQL.leases_after,
    TaskStatus.RUNNING: SQL.leases_after,
    TaskStatus.COMPLETED: SQL.settled_after,
    TaskStatus.CANCELLED: SQL.settled_after,
    TaskStatus.DEAD: SQL.dead_rows_after,
    TaskStatus.DELAYED: SQL.delayed_after,
}


def get(ledger: Ledger, task_id: int, now: float, *, decode: bool) -> StoredTask:
    """Return one task; `TaskNotFoundError` if there is none, or it has been cleaned away."""
    found = find(ledger, task_id, now, decode=decode)
    if found is None:
        raise TaskNotFoundError(f"no task has the id {task_id}", task_id=task_id)
    return found


def find(ledger: Ledger, task_id: int, now: float, *, decode: bool) -> StoredTask | None:
    """Return one task, or None."""
    chunk = ledger.find_chunk(task_id)
    return None if chunk is None else _at(ledger, chunk, task_id, now, decode=decode)


def _at(
    ledger: Ledger, chunk: Chunk, task_id: int, now: float, *, decode: bool
) -> StoredTask | None:
    place = Place(
        chunk, ledger.words.terms(chunk.terms), ledger.values, TaskStatus.READY, decode=decode
    )
    known = (
        _settled(ledger, place, task_id)
        or _leased(ledger, place, task_id)
        or _dead(ledger, place, task_id)
        or _ready(ledger, place, task_id, now)
        or _delayed(ledger, place, task_id)
    )
    if not known:
        return None
    failure = ledger.execute(SQL.failure, (task_id,)).fetchone()
    if failure is not None:
        place.error, place.traceback = failure
    return StoredTask.at(task_id, place)


def _settled(ledger: Ledger, place: Place, task_id: int) -> bool:
    row = ledger.execute(SQL.settled_of, (task_id,)).fetchone()
    if row is None or row[0] + row[1] <= task_id:
        return False
    first, n, status, claims, epoch, worker_id, started_at, finished_at, body = row
    place.status = TaskStatus.COMPLETED if status == COMPLETED else TaskStatus.CANCELLED
    _claimed_by(place, claims, epoch, worker_id, started_at)
    place.finished_at = finished_at
    place.results = result_at(body, n, task_id - first)
    return True


def _leased(ledger: Ledger, place: Place, task_id: int) -> bool:
    row = ledger.lease_at(task_id)
    if row is None:
        return False
    place.status = TaskStatus.CLAIMED if row.started_at is None else TaskStatus.RUNNING
    _claimed_by(place, row.claims, row.epoch, row.worker_id, row.started_at)
    place.lease_expires_at = row.expires_at
    return True


def _dead(ledger: Ledger, place: Place, task_id: int) -> bool:
    row = ledger.execute(SQL.dead_of, (task_id,)).fetchone()
    if row is None:
        return False
    place.status = TaskStatus.DEAD
    _claimed_by(place, *row[1:5])
    place.finished_at = row[5]
    return True


def _ready(ledger: Ledger, place: Place, task_id: int, now: float) -> bool:
    row = find_ready(ledger, task_id, place.chunk.key)
    if row is None:
        return False
    limited = ledger.lane_of_key(row[0]).limited
    if limited and not ledger.limits.allowance(limited, now):
        place.status = TaskStatus.PARKED
    _claimed_by(place, row[3], 0, None, None)
    return True


def _delayed(ledger: Ledger, place: Place, task_id: int) -> bool:
    row = ledger.execute(SQL.delayed_of, (task_id,)).fetchone()
    if row is None or row[0] + row[1] <= task_id:
        return False
    place.status = TaskStatus.DELAYED
    place.available_at = row[2]
    _claimed_by(place, row[5], 0, None, None)
    return True


def _claimed_by(
    place: Place, claims: int, epoch: int, worker_id: str | None, started_at: float | None
) -> None:
    place.token = Token(epoch, claims) if claims else None
    place.worker_id = worker_id
    place.started_at = started_at


def listing(
    ledger: Ledger,
    status: TaskStatus | None,
    run_id: str | None,
    page: tuple[int, int],
    now: float,
    *,
    decode: bool,
) -> list[StoredTask]:
    """Return up to `page[0]` tasks with ids above `page[1]`, in order of their ids."""
    limit, after = page
    found: list[StoredTask] = []
    for task_id in _ids(ledger, status, run_id, after):
        chunk = ledger.find_chunk(task_id)
        if chunk is None or (run_id is not None and chunk.run_id != run_id):
            continue
        task = _at(ledger, chunk, task_id, now, decode=decode)
        if task is not None and (status is None or task._place.status is status):  # noqa: SLF001 - the rest stays packed
            found.append(task)
            if len(found) >= limit:
                break
    return found


def _ids(
    ledger: Ledger, status: TaskStatus | None, run_id: str | None, after: int
) -> Iterator[int]:
    at = after
    while True:
        if run_id is not None:
            rows = ledger.execute(SQL.tasks_of_run_after, (at, run_id, PAGE)).fetchall()
        elif status in _AFTER:
            rows = ledger.execute(_AFTER[status], (at, PAGE)).fetchall()
        else:
            rows = ledger.execute(SQL.tasks_after, (at, PAGE)).fetchall()
        for last, n in rows:
            yield from range(max(after, last - n) + 1, last + 1)
        if len(rows) < PAGE or rows[-1][0] <= at:
            return
        at = rows[-1][0]


def check_known(ledger: Ledger, task_ids: Iterable[int]) -> None:
    """Raise `TaskNotFoundError` for an id that was never given, or has been cleaned away."""
    last = 0
    for task_id in sorted(task_ids):
        if task_id > last:
            last = ledger.chunk_of(task_id).last


def settled_among(
    ledger: Ledger, task_ids: set[int], now: float, *, decode: bool
) -> list[StoredTask]:
    """Return those of these tasks that have an outcome: the cost goes by outcomes, not by tasks."""
    ids = sorted(task_ids)
    found: list[int] = []
    for low, high, _ in leases.runs(ids, [None] * len(ids)):
        for first, n in ledger.execute(SQL.settled_between, (low, high)).fetchall():
            found += range(max(low, first), min(high, first + n - 1) + 1)
        found += [row[0] for row in ledger.execute(SQL.dead_between, (low, high)).fetchall()]
    tasks = (find(ledger, task_id, now, decode=decode) for task_id in sorted(found))
    return [task for task in tasks if task is not None]


def stats(ledger: Ledger, now: float) -> QueueStats:
    """Count the tasks by where they stand."""
    ready = parked = 0
    by_tags: dict[str, int] = {}
    for lane_id, n in ledger.execute(SQL.count_ready).fetchall():
        lane = ledger.words.lane(lane_id)
        if lane.limited and not ledger.limits.allowance(lane.limited, now):
            parked += n
        else:
            ready += n
        name = "|".join(sorted(lane.affinity)) + "".join(f"+{x}" for x in sorted(lane.required))
        by_tags[name] = by_tags.get(name, 0) + n

    def row(query: str) -> Any:
        return ledger.execute(query).fetchone()

    claimed, running = row(SQL.count_leases)
    completed, cancelled = row(SQL.count_settled)
    return QueueStats(
        ready=ready,
        parked=parked,
        delayed=row(SQL.count_delayed)[0],
        claimed=claimed,
        running=running,
        completed=completed,
        dead=row(SQL.count_dead)[0],
        cancelled=cancelled,
        ready_by_tags=by_tags,
    )
