"""Lease the next tasks that a worker may run."""

from __future__ import annotations

import json
from heapq import merge
from typing import TYPE_CHECKING, NamedTuple

from noob_cloud.queue.bodies import Chunk
from noob_cloud.queue.ledger import LeaseRow
from noob_cloud.queue.limits import UNLIMITED
from noob_cloud.queue.statements import SQL
from noob_cloud.queue.stored import Place, StoredTask
from noob_cloud.queue.terms import ID_MASK, ORDER_MASK
from noob_cloud.task import TaskStatus, Token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from noob_cloud.queue.ledger import Ledger
    from noob_cloud.queue.terms import Lane

    Row = tuple[int, int, int, int, int]
    """Of `ready`: key, n, terms, claims, tries."""

FEW_LANES = 4
"""Up to this many lanes are read one by one; of more, the empty ones are left out first."""
ROWS = 128
"""Most rows that are read from a lane at once."""


class Claim(NamedTuple):
    """Who claims, what, for how long."""

    worker_id: str
    limit: int
    tags: frozenset[str]
    accept_untagged: bool
    lease_seconds: float
    epoch: int
    decode: bool


def claim(ledger: Ledger, wanted: Claim, now: float) -> list[StoredTask]:
    """Lease up to `limit` tasks, the most urgent first. Inside a transaction."""
    lanes = ledger.words.eligible(wanted.tags, accept_untagged=wanted.accept_untagged)
    if ledger.limits:
        lanes = tuple(x for x in lanes if not x.limited or ledger.limits.allowance(x.limited, now))
    if len(lanes) > FEW_LANES:
        lanes = _with_tasks(ledger, lanes)
    if not lanes:
        return []
    if wanted.limit == 1 and len(lanes) == 1 and not lanes[0].limited:
        return _claim_one(ledger, lanes[0], wanted, now)
    if len(lanes) == 1 and not lanes[0].limited:
        taken = _take_from(ledger, lanes[0], wanted.limit)
    else:
        taken = _take(ledger, lanes, wanted.limit, now)
    tasks: list[StoredTask] = []
    for row in _joined(taken):
        tasks += _lease(ledger, row, wanted, now)
    return tasks


def _claim_one(ledger: Ledger, lane: Lane, wanted: Claim, now: float) -> list[StoredTask]:
    """Lease the first task of one lane, with as few statements as there can be."""
    found = ledger.execute(SQL.lane_head, (lane.first_key, lane.end_key)).fetchone()
    if found is None:
        return []
    key, n, terms_id, claims, tries = found[:5]
    if n == 1:
        ledger.execute(SQL.drop_ready, (key,))
    else:
        ledger.execute(SQL.shorten_ready, (key, 1))
    place = _grant(ledger, (key, 1, terms_id, claims, tries), wanted, now)
    return [StoredTask.at(key & ID_MASK, _in(ledger, place, Chunk(found[5:]), wanted))]


def _with_tasks(ledger: Ledger, lanes: tuple[Lane, ...]) -> tuple[Lane, ...]:
    asked = json.dumps([lane.first_key for lane in lanes])
    heads = ledger.execute(SQL.lane_heads, (asked,)).fetchall()
    return tuple(lane for lane, head in zip(lanes, heads, strict=True) if head[0] is not None)


def _take_from(ledger: Ledger, lane: Lane, limit: int) -> list[Row]:
    """Remove the first tasks of one lane from the ready ones: one range goes in one statement."""
    execute = ledger.execute
    taken: list[Row] = []
    need = limit
    while need > 0:
        asked = min(need, ROWS)
        rows = execute(SQL.lane_rows, (lane.first_key, lane.end_key, asked)).fetchall()
        if not rows:
            break
        whole = 0
        for row in rows:
            n = row[1]
            if n > need:
                break
            need -= n
            whole += 1
        taken += rows[:whole]
        if whole == 1:
            execute(SQL.drop_ready, (rows[0][0],))
        elif whole:
            execute(SQL.drop_ready_range, (rows[0][0], rows[whole - 1][0]))
        if whole < len(rows):
            if need:
                key, _, terms_id, tried, tries = rows[whole]
                execute(SQL.shorten_ready, (key, need))
                taken.append((key, need, terms_id, tried, tries))
            break
        if len(rows) < asked:
            break
    return taken


def _take(ledger: Ledger, lanes: tuple[Lane, ...], limit: int, now: float) -> list[Row]:
    """Remove the most urgent tasks of several lanes, and no more of a key than its limits allow."""
    allowed = {x.limited: ledger.limits.allowance(x.limited, now) for x in lanes if x.limited}
    spent: dict[str, int] = {}
    taken: list[Row] = []
    need = limit
    size = min(limit, ROWS)
    for row in merge(*(_rows_of(ledger, lane, size) for lane in lanes), key=_order):
        key, n, terms_id, tried, tries = row
        limited = ledger.lane_of_key(key).limited
        take = min(n, need, allowed[limited] if limited else UNLIMITED)
        if take <= 0:
            continue
        if take == n:
            ledger.execute(SQL.drop_ready, (key,))
        else:
            ledger.execute(SQL.shorten_ready, (key, take))
        taken.append((key, take, terms_id, tried, tries))
        if limited:
            allowed[limited] -= take
            spent[limited] = spent.get(limited, 0) + take
        need -= take
        if need == 0:
            break
    for limited, n in spent.items():
        ledger.limits.spend(limited, n, now)
    return taken


def _rows_of(ledger: Ledger, lane: Lane, size: int) -> Iterator[Row]:
    at = lane.first_key
    while True:
        rows = ledger.execute(SQL.lane_rows, (at, lane.end_key, size)).fetchall()
        yield from rows
        if len(rows) < size:
            return
        at = rows[-1][0] + 1


def _order(row: Row) -> int:
    return row[0] & ORDER_MASK


def _joined(rows: list[Row]) -> list[Row]:
    """Join rows of neighbouring tasks that stand alike: one lease row a batch."""
    joined: list[Row] = []
    for row in rows:
        if joined:
            key, n, *rest = joined[-1]
            if key + n == row[0] and rest == list(row[2:]):
                joined[-1] = (key, n + row[1], row[2], row[3], row[4])
                continue
        joined.append(row)
    return joined


def _lease(ledger: Ledger, row: Row, wanted: Claim, now: float) -> Iterator[StoredTask]:
    lease = _grant(ledger, row, wanted, now)
    for chunk in ledger.chunks_of(lease.id, lease.end - 1):
        place = _in(ledger, lease, chunk, wanted)
        low, end = max(lease.id, chunk.first), min(lease.end, chunk.last + 1)
        yield from StoredTask.row(low, end - low, place)


def _grant(ledger: Ledger, row: Row, wanted: Claim, now: float) -> LeaseRow:
    key, n, terms_id, claims, tries = row
    deadline = now + ledger.words.terms(terms_id).timeout_seconds
    expires = min(now + wanted.lease_seconds, deadline)
    lease = LeaseRow(
        key & ID_MASK, n, key, terms_id, claims + 1, tries, wanted.epoch, wanted.worker_id, now,
        expires, deadline, None,
    )  # fmt: skip
    ledger.execute(SQL.add_lease, lease)
    ledger.remind(expires)
    return lease


def _in(ledger: Ledger, lease: LeaseRow, chunk: Chunk, wanted: Claim) -> Place:
    terms = ledger.words.terms(lease.terms)
    place = Place(chunk, terms, ledger.values, TaskStatus.CLAIMED, decode=wanted.decode)
    place.token = Token(wanted.epoch, lease.claims)
    place.worker_id = wanted.worker_id
    place.lease_expires_at = lease.expires_at
    return place
