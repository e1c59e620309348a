"""The state of one open queue file, and the moves that every operation is made of.

Everything here runs inside a transaction that `commit.GroupCommit` has begun.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from noob_cloud.exceptions import LeaseLostError, TaskNotFoundError
from noob_cloud.queue.bodies import Chunk, Values
from noob_cloud.queue.limits import Limits
from noob_cloud.queue.statements import SQL
from noob_cloud.queue.terms import ID_MASK, LANE_SHIFT, Lane, Terms, Words

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from noob_cloud.task import Token


class LeaseRow(NamedTuple):
    """A row of `lease`: the tasks [id, id + n) of one claim."""

    id: int
    n: int
    key: int
    terms: int
    claims: int
    tries: int
    epoch: int
    worker_id: str
    granted_at: float
    expires_at: float
    deadline: float
    started_at: float | None

    @property
    def end(self) -> int:
        """First id behind it."""
        return self.id + self.n

    def holds(self, token: Token | None) -> bool:
        """Whether this token is the one of this claim."""
        return token is not None and token.attempt == self.claims and token.epoch == self.epoch


class Piece(NamedTuple):
    """The tasks [low, high] of one lease row."""

    row: LeaseRow
    low: int
    high: int

    @property
    def n(self) -> int:
        """How many tasks."""
        return self.high - self.low + 1

    @property
    def key(self) -> int:
        """Ready key of the first."""
        return self.row.key + self.low - self.row.id


class Ledger:
    """One connection's view of the tables."""

    def __init__(
        self, connection: sqlite3.Connection, values: Values, *, alone: bool = False
    ) -> None:
        self._alone = alone
        self.execute = connection.cursor().execute
        self.many = connection.cursor().executemany
        self.values = values
        self.words = Words(self.execute)
        self.limits = Limits(self.execute)
        self.next_timer = -math.inf
        """No timer that this process knows of is due before."""
        self.looked_at = -math.inf
        """When the timers of other processes were last looked for."""
        self.climb: Callable[[Piece, str, float], int | None] | None = None
        """Chooses other terms for the next attempt, by why the last one ended."""
        self.foreign = True
        """Whether another process has written since then."""
        self._version: int | None = None

    def undo(self) -> None:
        """Forget what a rolled-back transaction may have told."""
        self.words.forget()
        self._version = None
        self.next_timer = -math.inf

    def refresh(self) -> None:
        """Learn what other processes have written since the last call."""
        if self._alone and self._version == 0:
            return
        version = 0 if self._alone else self.execute(SQL.data_version).fetchone()[0]
        if version != self._version:
            self._version = version
            self.foreign = True
            self.words.learn_lanes()
            self.limits.load()

    def remind(self, at: float) -> None:
        """Something is due at `at`."""
        self.next_timer = min(self.next_timer, at)

    # ---- ids, chunks, lanes

    def find_chunk(self, task_id: int) -> Chunk | None:
        """Chunk of this task, if there is one."""
        row = self.execute(SQL.chunk_of, (task_id,)).fetchone()
        return None if row is None or task_id <= row[0] - row[1] else Chunk(row)

    def chunk_of(self, task_id: int) -> Chunk:
        """Chunk of this task; `TaskNotFoundError` if there is none."""
        chunk = self.find_chunk(task_id)
        if chunk is None:
            raise TaskNotFoundError(f"no task has the id {task_id}", task_id=task_id)
        return chunk

    def chunks_of(self, low: int, high: int) -> list[Chunk]:
        """Every chunk with a task in [low, high], in order."""
        rows = self.execute(SQL.chunks_of, (low, high)).fetchall()
        return [Chunk(row) for row in rows if row[0] - row[1] < high]

    def lane_for(self, terms: Terms, key: str | None) -> Lane:
        """Lane that tasks with these terms and this key wait in."""
        limited = key if key is not None and key in self.limits else ""
        return self.words.lane_of(terms, limited)

    def lane_of_key(self, key: int) -> Lane:
        """Lane of a ready key."""
        return self.words.lane(key >> LANE_SHIFT)

    # ---- waiting

    def make_ready(self, key: int, n: int, terms: int, claims: int, tries: int) -> None:
        """Put tasks that have left a lease or a delay among the ready ones."""
        low = key & ID_MASK
        for chunk in self.chunks_of(low, low + n - 1):
            first = max(low, chunk.first)
            last = min(low + n - 1, chunk.last)
            at = key + first - low
            if self.limits and chunk.key in self.limits:
                lane = self.lane_for(self.words.terms(terms), chunk.key)
                at = lane.first_key | (at & ((1 << LANE_SHIFT) - 1))
            self.execute(SQL.add_ready, (at, last - first + 1, terms, claims, tries))

    def delay(self, piece: tuple[int, int, int, int, int], at: float) -> None:
        """Let (key, n, terms, claims, tries) wait until `at`."""
        key, n, terms, claims, tries = piece
        self.execute(SQL.add_delayed, (key & ID_MASK, n, at, key, terms, claims, tries))
        self.remind(at)

    def again(self, piece: Piece, why: str, now: float) -> tuple[int, int]:
        """Return the terms and the ready key with which tasks are tried again."""
        terms_id = None if self.climb is None else self.climb(piece, why, now)
        if terms_id is None:
            return piece.row.terms, piece.key
        lane = self.lane_for(self.words.terms(terms_id), self.chunk_of(piece.low).key)
        return terms_id, lane.first_key | piece.key & ((1 << LANE_SHIFT) - 1)

    # ---- leases

    def lease_at(self, task_id: int) -> LeaseRow | None:
        """The lease that holds this task."""
        row = self.execute(SQL.lease_of, (task_id,)).fetchone()
        if row is None or row[0] + row[1] <= task_id:
            return None
        return LeaseRow(*row)

    def held(self, low: int, high: int, token: Token | None) -> Iterator[Piece | int]:
        """Pieces of [low, high] that this token holds; each task that it does not, as its id."""
        at = low
        while at <= high:
            row = self.lease_at(at)
            if row is None:
                yield at
                at += 1
                continue
            last = min(high, row.end - 1)
            if row.holds(token):
                yield Piece(row, at, last)
            else:
                yield from range(at, last + 1)
            at = last + 1

    def hold(self, task_id: int, token: Token | None) -> Piece:
        """The piece of this one task; `LeaseLostError` if the token does not hold it."""
        row = self.lease_at(task_id)
        if row is None or not row.holds(token):
            raise self.refusal(task_id, row)
        return Piece(row, task_id, task_id)

    def refusal(self, task_id: int, row: LeaseRow | None) -> LeaseLostError:
        """What a worker is told that does not hold this task."""
        self.chunk_of(task_id)
        if row is not None:
            return LeaseLostError(
                f"task {task_id} is held by {row.worker_id} under attempt {row.claims};"
                " this lease of it is lost",
                task_id=task_id,
                cancelled=False,
            )
        cancelled = self.is_cancelled(task_id)
        what = "has been cancelled" if cancelled else "is not leased to this worker any more"
        return LeaseLostError(f"task {task_id} {what}", task_id=task_id, cancelled=cancelled)

    def is_cancelled(self, task_id: int) -> bool:
        """Whether somebody cancelled this task."""
        row = self.execute(SQL.settled_of, (task_id,)).fetchone()
        return row is not None and task_id < row[0] + row[1] and row[2] == CANCELLED

    def carve(self, piece: Piece) -> None:
        """Take these tasks out of their lease row; the rest of it stays as it was."""
        row, low, high = piece
        last = row.end - 1
        if low == row.id and high == last:
            self.execute(SQL.drop_lease, (row.id,))
        elif low == row.id:
            self.execute(SQL.shorten_lease, (row.id, high + 1 - low))
        else:
            self.execute(SQL.cut_lease, (row.id, low - row.id))
            if high < last:
                rest = row._replace(id=high + 1, n=last - high, key=row.key + high + 1 - row.id)
                self.execute(SQL.add_lease, rest)

    def end(self, piece: Piece) -> None:
        """Take these tasks out of their lease and give their key its slots back."""
        self.carve(piece)
        if self.limits:
            limited = self.lane_of_key(piece.row.key).limited
            if limited:
                self.limits.free(limited, piece.n)

    # ---- outcomes

    def settle(self, piece: Piece, status: int, now: float, body: bytes | None) -> None:
        """Write the outcome of leased tasks; their lease ends."""
        self.end(piece)
        row = piece.row
        self.execute(
            SQL.add_settled,
            (piece.low, piece.n, status, row.claims, row.epoch, row.worker_id, row.started_at,
             now, body),
        )  # fmt: skip

    def bury(self, task_id: int, row: LeaseRow, now: float) -> None:
        """Put a task whose lease has ended into the dead-letter list."""
        self.execute(
            SQL.add_dead, (task_id, row.claims, row.epoch, row.worker_id, row.started_at, now)
        )


COMPLETED = 1
CANCELLED = 2
