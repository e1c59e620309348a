"""Settle tasks: completed, failed and tried again, dead, cancelled, redriven."""

from __future__ import annotations

from operator import gt
from typing import TYPE_CHECKING, Any

from noob_cloud.exceptions import TaskStateError
from noob_cloud.queue import leases
from noob_cloud.queue.bodies import pack_results
from noob_cloud.queue.ledger import CANCELLED, COMPLETED, LeaseRow, Piece
from noob_cloud.queue.statements import SQL
from noob_cloud.queue.terms import ID_MASK
from noob_cloud.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from noob_cloud.queue.ledger import Ledger
    from noob_cloud.queue.terms import Terms
    from noob_cloud.task import Token


class Backoff:
    """Exponential backoff with full jitter: up to `base * 2 ** (tries - 1)` and `cap` seconds.

    Full jitter (a uniform draw from zero to the bound) spreads retries best; see M. Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    def __init__(self, base: float, cap: float, rng: Random) -> None:
        self.base = base
        self.cap = cap
        self.rng = rng

    def delay(self, tries: int) -> float:
        """Seconds to wait after the `tries`-th failed attempt."""
        bound = min(self.cap, self.base * 2.0 ** min(tries - 1, 60))
        return self.rng.uniform(0.0, bound)


class Results:
    """Tasks and their packed results, in order of the ids."""

    __slots__ = ("ids", "tokens", "values")

    def __init__(self, ids: list[int], tokens: list[Token | None], values: list[Any]) -> None:
        if any(map(gt, ids, ids[1:])):
            order = sorted(range(len(ids)), key=ids.__getitem__)
            ids = [ids[i] for i in order]
            tokens = [tokens[i] for i in order]
            values = [values[i] for i in order]
        self.ids = ids
        self.tokens = tokens
        self.values = values


def complete(ledger: Ledger, results: Results, now: float) -> list[int]:
    """Settle tasks with their results; return the ids that are lost."""
    lost: list[int] = []
    at = 0
    for low, high, token in leases.runs(results.ids, results.tokens):
        while results.ids[at] < low:
            at += 1  # the same task twice: the first result counts
        for piece in ledger.held(low, high, token):
            if isinstance(piece, int):
                lost.append(piece)
                continue
            first = at + piece.low - low
            body = pack_results(results.values[first : first + piece.n])
            ledger.settle(piece, COMPLETED, now, body)
        at += high - low + 1
    return lost


def complete_one(
    ledger: Ledger, ref: tuple[int, Token | None], body: bytes | None, now: float
) -> None:
    """Settle one task; `LeaseLostError` if the token does not hold it."""
    task_id, token = ref
    if token is not None and not ledger.limits:
        row = ledger.execute(SQL.end_single_lease, (task_id, token.attempt, token.epoch)).fetchone()
        if row is not None:
            ledger.execute(
                SQL.add_settled,
                (task_id, 1, COMPLETED, token.attempt, token.epoch, *row, now, body),
            )
            return
    ledger.settle(ledger.hold(*ref), COMPLETED, now, body)


def fail(
    ledger: Ledger,
    ref: tuple[int, Token | None],
    failure: tuple[str, str | None, bool],
    backoff: Backoff,
    now: float,
) -> TaskStatus:
    """Note the failure; let the task wait for its next attempt, or bury it."""
    piece = ledger.hold(*ref)
    error, traceback, retryable = failure
    row = piece.row
    ledger.end(piece)
    ledger.execute(SQL.add_failure, (piece.low, error, traceback))
    tries = row.tries + 1
    if not retryable or tries > ledger.words.terms(row.terms).max_retries:
        ledger.bury(piece.low, row, now)
        return TaskStatus.DEAD
    pause = backoff.delay(tries)
    terms, key = ledger.again(piece, error, now)
    if pause > 0:
        ledger.delay((key, 1, terms, row.claims, tries), now + pause)
        return TaskStatus.DELAYED
    ledger.make_ready(key, 1, terms, row.claims, tries)
    return TaskStatus.READY


def cancel(ledger: Ledger, task_id: int, now: float) -> bool:
    """Settle one task as cancelled, wherever it stands; False if it has its outcome."""
    chunk = ledger.chunk_of(task_id)
    row = ledger.lease_at(task_id)
    if row is not None:
        ledger.settle(Piece(row, task_id, task_id), CANCELLED, now, None)
        return True
    found = take_waiting(ledger, task_id, chunk.key)
    if found is None:
        return False
    claims = found[3]
    ledger.execute(SQL.add_settled, (task_id, 1, CANCELLED, claims, 0, None, None, now, None))
    return True


def take_waiting(
    ledger: Ledger, task_id: int, name: str | None
) -> tuple[int, int, int, int, int] | None:
    """Take one task out of the ready or delayed ones; return its (key, 1, terms, claims, tries)."""
    row = find_ready(ledger, task_id, name)
    if row is not None:
        key, n, terms, claims, tries = row
        at = task_id - (key & ID_MASK)
        if at == 0 and n == 1:
            ledger.execute(SQL.drop_ready, (key,))
        elif at == 0:
            ledger.execute(SQL.shorten_ready, (key, 1))
        else:
            ledger.execute(SQL.cut_ready, (key, at))
            if at + 1 < n:
                rest = (key + at + 1, n - at - 1, terms, claims, tries)
                ledger.execute(SQL.add_ready, rest)
        return (key + at, 1, terms, claims, tries)
    found = ledger.execute(SQL.delayed_of, (task_id,)).fetchone()
    if found is None or found[0] + found[1] <= task_id:
        return None
    first, n, due, key, terms, claims, tries = found
    at = task_id - first
    if at:
        ledger.execute(SQL.cut_delayed, (first, at))
    else:
        ledger.execute(SQL.drop_delayed, (first,))
    if at + 1 < n:
        later = (task_id + 1, n - at - 1, due, key + at + 1, terms, claims, tries)
        ledger.execute(SQL.add_delayed, later)
    return (key + at, 1, terms, claims, tries)


def find_ready(
    ledger: Ledger, task_id: int, name: str | None
) -> tuple[int, int, int, int, int] | None:
    """The row of `ready` that this task is in."""
    terms = ledger.words.terms(ledger.chunk_of(task_id).terms)
    for limited in ("", name):
        lane = None if limited is None else ledger.words.find_lane(terms, limited)
        if lane is None:
            continue
        first = lane.first_key | terms.priority << 40
        row: tuple[int, int, int, int, int] | None = ledger.execute(
            SQL.ready_of, (first, first | task_id)
        ).fetchone()
        if row is not None and task_id < (row[0] & ID_MASK) + row[1]:
            return row
    return _find_elsewhere(ledger, task_id, terms) if ledger.climb is not None else None


def _find_elsewhere(
    ledger: Ledger, task_id: int, terms: Terms
) -> tuple[int, int, int, int, int] | None:
    """The same for a task that is tried again with the tags of a larger place."""
    for lane in ledger.words.lanes():
        if lane.affinity != terms.affinity or not lane.required > terms.required:
            continue
        first = lane.first_key | terms.priority << 40
        row: tuple[int, int, int, int, int] | None = ledger.execute(
            SQL.ready_of, (first, first | task_id)
        ).fetchone()
        if row is not None and task_id < (row[0] & ID_MASK) + row[1]:
            return row
    return None


def redrive(ledger: Ledger, task_ids: Iterable[int] | None) -> list[int]:
    """Bring dead letters back with all their attempts; return their ids."""
    if task_ids is None:
        wanted = [row[0] for row in ledger.execute(SQL.dead_after, (0, -1)).fetchall()]
    else:
        wanted = sorted(set(task_ids))
    found = []
    for task_id in wanted:
        chunk = ledger.chunk_of(task_id)
        row = ledger.execute(SQL.dead_of, (task_id,)).fetchone()
        if row is None:
            raise TaskStateError(f"task {task_id} is not in the dead-letter list", task_id=task_id)
        found.append((task_id, chunk, row))
    for task_id, chunk, row in found:
        terms = ledger.words.terms(chunk.terms)
        key = ledger.lane_for(terms, chunk.key).first_key | terms.priority << 40 | task_id
        ledger.execute(SQL.drop_dead, (task_id,))
        ledger.execute(SQL.add_ready, (key, 1, chunk.terms, row[1], 0))
    return wanted


def expire(ledger: Ledger, row: LeaseRow, now: float) -> None:
    """A lease has run out: its tasks are ready at once, or dead after their last attempt."""
    piece = Piece(row, row.id, row.end - 1)
    ledger.end(piece)
    terms = ledger.words.terms(row.terms)
    tries = row.tries + 1
    ran_out = now >= row.deadline
    for task_id in range(row.id, row.end):
        why = (
            f"ran longer than its timeout_seconds={terms.timeout_seconds:g}"
            if ran_out
            else "lost its lease: the worker died, hung or was cut off"
        )
        error = f"attempt {row.claims} by {row.worker_id} {why}"
        if tries > terms.max_retries:
            ledger.execute(SQL.add_failure, (task_id, error, None))
            ledger.bury(task_id, row, now)
    if tries <= terms.max_retries:
        terms_id, key = ledger.again(piece, error, now)
        ledger.make_ready(key, row.n, terms_id, row.claims, tries)
