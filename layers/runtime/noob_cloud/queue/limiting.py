"""Set a limit, and move the tasks that it binds into lanes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noob_cloud.queue.ledger import LeaseRow, Piece
from noob_cloud.queue.statements import SQL
from noob_cloud.queue.terms import LANE_SHIFT

if TYPE_CHECKING:
    from noob_cloud.queue.ledger import Ledger

_IN_LANE = (1 << LANE_SHIFT) - 1


def set_limit(
    ledger: Ledger,
    key: str,
    concurrency: int | None,
    rate: tuple[int, float] | None,
    now: float,
) -> None:
    """Write the limit and re-lane the tasks of this key that wait. Inside a transaction."""
    if not isinstance(key, str) or not key:
        raise TypeError(f"key is a string that is not empty, not {key!r}")
    if concurrency is not None and concurrency < 0:
        raise ValueError(f"concurrency is a whole number from 0 on, not {concurrency!r}")
    if rate is not None and (rate[0] < 1 or rate[1] <= 0):
        raise ValueError(f"rate is (tasks, seconds), both above 0, not {rate!r}")
    ledger.refresh()
    if concurrency is None and rate is None:
        ledger.execute(SQL.drop_limit, (key,))
        ledger.limits.load()
        return
    count, seconds = rate if rate is not None else (None, None)
    if key not in ledger.limits:
        ledger.execute(SQL.put_limit, (key, concurrency, count, seconds, now, 0))
        _move(ledger, key)
    running = ledger.execute(SQL.running_of, (key,)).fetchone()[0]
    ledger.execute(SQL.put_limit, (key, concurrency, count, seconds, now, running))
    ledger.limits.load()


def _move(ledger: Ledger, name: str) -> None:
    words = ledger.words
    words.learn_lanes()
    for lane in words.lanes():
        if lane.limited:
            continue
        rows = ledger.execute(SQL.ready_with_key, (name, lane.first_key)).fetchall()
        for key, terms in rows:
            home = words.lane_of(words.terms(terms), name)
            ledger.execute(SQL.move_ready, (key, home.first_key | key & _IN_LANE))
    for task_id, key, terms in ledger.execute(SQL.delayed_with_key, (name,)).fetchall():
        home = words.lane_of(words.terms(terms), name)
        ledger.execute(SQL.move_delayed, (task_id, home.first_key | key & _IN_LANE))
    for row in map(LeaseRow._make, ledger.execute(SQL.leases).fetchall()):
        for chunk in ledger.chunks_of(row.id, row.end - 1):
            if chunk.key == name and not ledger.lane_of_key(row.key).limited:
                home = words.lane_of(words.terms(row.terms), name)
                low = max(row.id, chunk.first)
                piece = Piece(row, low, min(row.end - 1, chunk.last))
                _move_lease(ledger, piece, home.first_key | piece.key & _IN_LANE)


def _move_lease(ledger: Ledger, piece: Piece, key: int) -> None:
    row = ledger.lease_at(piece.low)
    if row is not None:
        piece = Piece(row, piece.low, piece.high)
        ledger.carve(piece)
        ledger.execute(SQL.add_lease, row._replace(id=piece.low, n=piece.n, key=key))
