"""Runs without a client, and their results, in the queue's file. No user code is imported.

A run's state is that of its driver's task; it is written down when that task has its outcome, so
that it outlives the task. What belongs together is one transaction, so that a coordinator that is
killed at any moment, or another one on the same file, finds a run whole or not at all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from msgspec.msgpack import Ext

from noob_cloud import codec
from noob_cloud.cid import cid as cid_of_bytes
from noob_cloud.coordinator import wire
from noob_cloud.coordinator.run import RunState
from noob_cloud.coordinator.statements import SQL
from noob_cloud.exceptions import (
    ConflictError,
    DecodeError,
    ForbiddenError,
    LeaseLostError,
    RunNotFoundError,
    TaskStateError,
)
from noob_cloud.queue import look, outcomes, submit
from noob_cloud.queue.interface import BlobName
from noob_cloud.task import RunDriver, TaskPriority, TaskStatus, Token

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from noob_cloud.blobs import BlobStore
    from noob_cloud.coordinator.desk import Desk
    from noob_cloud.identity import Identity
    from noob_cloud.queue.ledger import Ledger

_INLINE: Final = 64 * 1024
"""Results above this many bytes go to the blob store."""
_PAGE: Final = 1_000
"""Tasks of a run that are cancelled, or results that are forgotten, in one transaction."""
_STATES: Final = {
    TaskStatus.CLAIMED: "running",
    TaskStatus.RUNNING: "running",
    TaskStatus.COMPLETED: "completed",
    TaskStatus.DEAD: "failed",
    TaskStatus.CANCELLED: "cancelled",
}


class Runs:
    """Runs and their results. Every method blocks.

    Args:
        desk: the queue.
        blobs: where large results go.
        takeovers: how often a run may lose its driver.
        timeout: longest time that one driver may drive a run, in seconds.
    """

    def __init__(self, desk: Desk, blobs: BlobStore, *, takeovers: int, timeout: float) -> None:
        self._desk = desk
        self._blobs = blobs
        self._takeovers = takeovers
        self._timeout = timeout

    # ---- beginning

    def add(
        self,
        driver: RunDriver,
        created_by: str,
        now: float,
        *,
        priority: int = TaskPriority.NORMAL,
        tags: Sequence[str] = (),
        trace: str | None = None,
    ) -> RunState:
        """Write the run down and submit its driver's task, in one commit; the same adds nothing.

        Raises:
            ConflictError: the run_id is another run's.
        """
        batch = submit.Batch(self._recipe(driver, priority, tags))
        batch.nodes, batch.epochs, batch.places = [wire.DRIVER_NODE], [0], [0]
        batch.payloads = [self._desk.pack(driver)]
        total = driver.n if driver.inputs is None else len(driver.inputs)

        def work(ledger: Ledger) -> RunState:
            row = ledger.execute(SQL.run, (driver.run_id,)).fetchone()
            if row is not None:
                self._check_same(ledger, row, driver, total)
            else:
                (task_id,) = submit.add_batches(ledger, [batch], 1, now)
                names = (driver.run_id, driver.tube, driver.n, total, task_id, now, created_by)
                ledger.execute(SQL.add_run, names)
                self._desk.trace_tasks(ledger, [task_id], trace, now)
                row = ledger.execute(SQL.run, (driver.run_id,)).fetchone()
            return _standing(ledger, row, now)

        return self._desk.transact(work)

    def _recipe(self, driver: RunDriver, priority: int, tags: Sequence[str]) -> submit.Recipe:
        drive = [f"{wire.DRIVE_TAG}+{tag}" for tag in tags] or [wire.DRIVE_TAG]
        return submit.Recipe(
            priority, drive, (), self._timeout, self._takeovers, 0.0, None, driver.run_id, None
        )

    def _check_same(
        self, ledger: Ledger, row: Sequence[Any], driver: RunDriver, total: int | None
    ) -> None:
        same = (row[1], row[2], row[3]) == (driver.tube, driver.n, total)
        task = look.find(ledger, row[4], 0.0, decode=True) if same else None
        if task is not None:  # it is cleaned away a day after the run's end
            same = codec.cid_of(task.payload) == codec.cid_of(driver)
        if not same:
            raise ConflictError(
                f"The run {driver.run_id} is known here already: tube {row[1]}, {row[3]} results,"
                f" driver's task {row[4]}. This one is of tube {driver.tube}, {total} results, or"
                " has other inputs or another placement; give it a run_id of its own.",
                run_id=driver.run_id,
                tube=row[1],
                other_tube=driver.tube,
            )

    # ---- looking

    def get(self, run_id: str) -> RunState:
        """Return a run as it stands.

        Raises:
            RunNotFoundError: there is none with this id.
        """
        now = self._desk.clock_now()
        return self._desk.transact(lambda ledger: _standing(ledger, _row(ledger, run_id), now))

    def latest(self, limit: int) -> list[RunState]:
        """Return the latest runs."""
        now = self._desk.clock_now()

        def work(ledger: Ledger) -> list[RunState]:
            rows = ledger.execute(SQL.runs, (limit,)).fetchall()
            return [_standing(ledger, row, now) for row in rows]

        return self._desk.transact(work)

    def open(self) -> dict[int, str]:
        """Return the runs without an outcome, by their driver's task."""
        rows = self._desk.transact(lambda ledger: ledger.execute(SQL.open_runs).fetchall())
        return {task_id: run_id for run_id, task_id in rows}

    def ended(self, known: Mapping[int, str]) -> list[RunState]:
        """Return which of these runs have ended; the cost goes by those, not by all."""
        settled = self._desk.settled_among(list(known))
        return [self.get(known[task.task_id]) for task in settled]

    # ---- who may do what with a run's tasks

    def guard(self, ledger: Ledger, run_ids: Iterable[str | None], who: Identity | None) -> None:
        """Return if tasks may join these runs. Inside a transaction.

        Args:
            ledger: of the transaction.
            run_ids: names of runs; those of clients of their own are not known here.
            who: a worker, which must drive each of them; None for a client.

        Raises:
            TaskStateError: one was cancelled.
            ForbiddenError: the worker does not drive it.
        """
        for run_id in run_ids:
            row = None if run_id is None else ledger.execute(SQL.run_state, (run_id,)).fetchone()
            if row is not None and row[1] == "cancelled":
                raise TaskStateError(f"The run {run_id} was cancelled.", run_id=run_id)
            if who is not None and (row is None or not _drives(ledger, row[0], who)):
                raise ForbiddenError(
                    f"{who.name!r} is a worker, and does not drive the run {run_id}: only tasks of"
                    " a run that it drives are its to submit, to read or to cancel.",
                    role=who.role,
                    needs=["client"],
                )

    def check_drives(self, run_id: str | None, who: Identity) -> None:
        """Return if a worker drives this run.

        Raises:
            ForbiddenError: it does not.
        """
        self._desk.transact(lambda ledger: self.guard(ledger, [run_id], who))

    def driven(self, run_ids: Iterable[str | None], who: Identity) -> set[str]:
        """Return which of these runs a worker drives now."""
        names = {run_id for run_id in run_ids if run_id is not None}

        def work(ledger: Ledger) -> set[str]:
            rows = ((name, ledger.execute(SQL.run_state, (name,)).fetchone()) for name in names)
            return {name for name, row in rows if row is not None and _drives(ledger, row[0], who)}

        return self._desk.transact(work) if names else names

    # ---- ending

    def cancel(self, run_id: str, now: float) -> tuple[bool, int]:
        """Cancel a run's driver; from this commit on the run takes no more tasks.

        Returns:
            False if it had its outcome; and its driver's task.
        """

        def work(ledger: Ledger) -> tuple[bool, int]:
            run = _standing(ledger, _row(ledger, run_id), now)
            if run.ended:
                return False, run.task_id
            outcomes.cancel(ledger, run.task_id, now)
            ledger.execute(SQL.end_run, (run_id, "cancelled", now, None, None))
            return True, run.task_id

        return self._desk.transact(work)

    def cancel_tasks(self, run_id: str, after: int, now: float) -> tuple[list[int], int | None]:
        """Cancel a page of a run's tasks; return the ids, and behind which id the next page is."""

        def work(ledger: Ledger) -> tuple[list[int], int | None]:
            page = look.listing(ledger, None, run_id, (_PAGE, after), now, decode=False)
            found = [task.task_id for task in page if not task.status.settled]
            cancelled = [task_id for task_id in found if outcomes.cancel(ledger, task_id, now)]
            return cancelled, page[-1].task_id if len(page) == _PAGE else None

        return self._desk.transact(work)

    def redrive(self, task_ids: Iterable[int] | None, now: float) -> list[int]:
        """Bring dead letters back; a run whose driver is one of them has no outcome any more."""
        del now  # they are ready at once

        def work(ledger: Ledger) -> list[int]:
            found = outcomes.redrive(ledger, task_ids)
            for task_id in found:
                ledger.execute(SQL.reopen_run, (task_id,))
            return found

        return self._desk.transact(work)

    def forget_one(self, before: float) -> bool:
        """Forget a run that ended before a time, or a page of its results; say if there was one.

        Blobs that only its results named are collected later.
        """

        def work(ledger: Ledger) -> bool:
            row = ledger.execute(SQL.old_run, (before,)).fetchone()
            if row is None:
                return False
            if ledger.execute(SQL.drop_results, (row[0], _PAGE)).rowcount < _PAGE:
                ledger.execute(SQL.drop_run, row)
            return True

        return self._desk.transact(work)

    # ---- results

    def add_results(self, run_id: str, page: wire.Posted, who: Identity) -> int:
        """Keep results that a run's driver posts; return how many the run has.

        Raises:
            LeaseLostError: another worker drives the run now.
            DecodeError: they do not continue what is there.
        """
        rows = [
            (run_id, page.first + i, *self._put(packed)) for i, packed in enumerate(page.results)
        ]
        token = Token(*page.token)

        def work(ledger: Ledger) -> int:
            row = _row(ledger, run_id)
            if row[4] != page.task_id:
                raise DecodeError(f"Task {page.task_id} does not drive the run {run_id}.")
            if not who.holds(token.epoch):
                raise LeaseLostError(
                    f"task {page.task_id} was not claimed by {who.name!r}",
                    task_id=page.task_id,
                    cancelled=False,
                )
            ledger.hold(page.task_id, token)
            count: int = row[11]
            if page.first > count:
                raise DecodeError(f"The run has {count} results; {page.first} is not the next.")
            for result in rows:
                ledger.execute(SQL.add_result, result)
            return max(count, page.first + len(rows))

        return self._desk.transact(work)

    def _put(self, packed: Any) -> tuple[str, bytes | None]:
        value = wire.admit(packed)
        if isinstance(value, BlobName):
            return str(value), None
        frame = bytes(value) if type(packed) is Ext else codec.canonical(value)
        if len(frame) > _INLINE:
            return self._blobs.put(frame), None
        return cid_of_bytes(frame), frame

    def results(self, run_id: str, first: int, limit: int) -> tuple[list[wire.Result], int]:
        """Return results from `first` on, a large one as its cid alone; and how many there are."""

        def work(ledger: Ledger) -> tuple[list[Any], int]:
            count: int = _row(ledger, run_id)[11]
            return ledger.execute(SQL.results, (run_id, first, limit)).fetchall(), count

        rows, count = self._desk.transact(work)
        found = [
            wire.Result(
                position,
                cid,
                Ext(wire.BLOB, cid.encode()) if frame is None else Ext(wire.PACKED, frame),
            )
            for position, cid, frame in rows
        ]
        return found, count


def _row(ledger: Ledger, run_id: str) -> Any:
    row = ledger.execute(SQL.run, (run_id,)).fetchone()
    if row is None:
        raise RunNotFoundError(f"No run {run_id[:100]!r} is known here.", run_id=run_id[:100])
    return row


def _standing(ledger: Ledger, row: Sequence[Any], now: float) -> RunState:
    """Ask the driver's task how the run stands, and write its outcome down."""
    if row[7] is not None:
        return RunState(*row)
    run = RunState(*row[:7], "waiting", *row[8:])  # type: ignore[call-arg] # a row of run
    task = look.find(ledger, run.task_id, now, decode=False)
    if task is None:
        return run
    state = _STATES.get(task.status, "waiting")
    failed = state == "failed"
    found = replace(
        run,
        status=state,
        finished_at=task.finished_at,
        error=task.error if failed else None,
        traceback=task.traceback if failed else None,
        worker_id=task.worker_id,
    )
    if task.status.settled:
        outcome = (run.run_id, state, found.finished_at, found.error, found.traceback)
        ledger.execute(SQL.end_run, outcome)
    return found


def _drives(ledger: Ledger, task_id: int, who: Identity) -> bool:
    lease = ledger.lease_at(task_id)
    return lease is not None and who.holds(lease.epoch)
