"""What time does: leases run out, delays end, tasks wait too long for a worker."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from noob_cloud.queue import outcomes
from noob_cloud.queue.ledger import LeaseRow
from noob_cloud.queue.statements import SQL

if TYPE_CHECKING:
    from noob_cloud.queue.ledger import Ledger

BATCH = 1000
LOOK_EVERY = 1.0
"""How long, in seconds, another process's timers may go unseen."""


def tick(ledger: Ledger, now: float) -> None:
    """Do what is due, if anything can be. Inside a transaction."""
    unseen = ledger.foreign and not 0 <= now - ledger.looked_at < LOOK_EVERY
    if now >= ledger.next_timer or unseen:
        turn(ledger, now)


def turn(ledger: Ledger, now: float) -> int:
    """Do everything that is due; return how many tasks moved."""
    moved = _expire(ledger, now) + _wake(ledger, now) + _give_up(ledger, now)
    due = [
        ledger.execute(query).fetchone()[0]
        for query in (SQL.next_expiry, SQL.next_delayed, SQL.next_queue_deadline)
    ]
    ledger.next_timer = min((at for at in due if at is not None), default=math.inf)
    ledger.looked_at = now
    ledger.foreign = False
    return moved


def _expire(ledger: Ledger, now: float) -> int:
    moved = 0
    while True:
        rows = ledger.execute(SQL.expired_leases, (now, BATCH)).fetchall()
        for row in rows:
            lease = LeaseRow(*row)
            outcomes.expire(ledger, lease, now)
            moved += lease.n
        if len(rows) < BATCH:
            return moved


def _wake(ledger: Ledger, now: float) -> int:
    """Delayed tasks whose time has come are ready."""
    moved = 0
    while True:
        rows = ledger.execute(SQL.due_delayed, (now, BATCH)).fetchall()
        for first, n, _, key, terms, claims, tries in rows:
            ledger.execute(SQL.drop_delayed, (first,))
            ledger.make_ready(key, n, terms, claims, tries)
            moved += n
        if len(rows) < BATCH:
            return moved


def _give_up(ledger: Ledger, now: float) -> int:
    """Tasks that no worker has claimed within their `queue_timeout` are dead."""
    moved = 0
    while True:
        rows = ledger.execute(SQL.due_queue_deadlines, (now, BATCH)).fetchall()
        for at, first, n in rows:
            ledger.execute(SQL.drop_queue_deadline, (at, first))
            for task_id in range(first, first + n):
                moved += _give_up_one(ledger, task_id, now)
        if len(rows) < BATCH:
            return moved


def _give_up_one(ledger: Ledger, task_id: int, now: float) -> int:
    chunk = ledger.find_chunk(task_id)
    if chunk is None:
        return 0
    row = outcomes.find_ready(ledger, task_id, chunk.key)
    if row is None or row[3] > 0:
        return 0
    outcomes.take_waiting(ledger, task_id, chunk.key)
    waited = ledger.words.terms(chunk.terms).queue_timeout
    error = f"no worker claimed the task within its queue_timeout={waited:g}"
    ledger.execute(SQL.add_failure, (task_id, error, None))
    ledger.execute(SQL.add_dead, (task_id, 0, 0, None, None, now))
    return 1


def set_clock(ledger: Ledger, boot: str, offset: float, tolerance: float) -> None:
    """Note how the wall clock stands to the steady one; shift every time by as much as it was set.

    So leases end when they would have ended, whichever process of the machine sees it first. After
    a restart of the machine nothing is shifted: the wall clock is all that there is.
    """
    found = ledger.execute(SQL.clock).fetchone()
    known = None if found is None else json.loads(found[0])
    if known is None or known[0] != boot:
        ledger.execute(SQL.put_clock, (json.dumps([boot, offset]),))
        return
    jump = offset - known[1]
    if abs(jump) > tolerance:
        for query in (SQL.shift_leases, SQL.shift_delayed, SQL.shift_queue_deadlines):
            ledger.execute(query, (jump,))
        ledger.execute(SQL.put_clock, (json.dumps([boot, offset]),))
        ledger.next_timer = -math.inf
