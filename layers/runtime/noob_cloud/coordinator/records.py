"""What the coordinator keeps beside tasks: tubes, runs, their results. It imports no user code.

A run's state is that of its driver's task; it is written down when that task has its outcome, so
that it outlives the task.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from msgspec.msgpack import Ext

from noob_cloud import codec
from noob_cloud.cid import cid as cid_of_bytes
from noob_cloud.cid import is_cid
from noob_cloud.coordinator import wire
from noob_cloud.coordinator.statements import SQL
from noob_cloud.exceptions import (
    BlobNotFoundError,
    DecodeError,
    LimitError,
    RunNotFoundError,
    TaskNotFoundError,
    TubeNotFoundError,
)
from noob_cloud.task import RunDriver, TaskPriority, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noob_cloud.blobs import BlobStore, Collected
    from noob_cloud.coordinator.desk import Desk
    from noob_cloud.tubes import TubeSource

_INLINE: Final = 64 * 1024
"""Results above this many bytes go to the blob store."""
_STATES: Final = {
    TaskStatus.CLAIMED: "running",
    TaskStatus.RUNNING: "running",
    TaskStatus.COMPLETED: "completed",
    TaskStatus.DEAD: "failed",
    TaskStatus.CANCELLED: "cancelled",
}


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run, as it stands."""

    run_id: str
    tube: str
    n: int | None
    total: int | None
    """Results to come, where that is known."""
    task_id: int
    """Its driver's task."""
    created_at: float
    created_by: str
    status: str
    """waiting, running, completed, failed, cancelled."""
    finished_at: float | None
    error: str | None
    traceback: str | None
    done: int
    """Results so far."""
    worker_id: str | None = None
    """Who drives it."""


class Records:
    """Tubes, runs and results in the queue's file. Every method blocks."""

    def __init__(self, desk: Desk, blobs: BlobStore, *, takeovers: int, timeout: float) -> None:
        self._desk = desk
        self._blobs = blobs
        self._takeovers = takeovers
        self._timeout = timeout

    # ---- tubes

    def put_tube(self, source: TubeSource, now: float) -> str:
        """Keep a tube's document; return its cid."""
        spec = source.value["spec"]
        name = str(spec.get("noob_id") or "")[:200]
        row = (source.cid, name, source.document, now)
        self._desk.transact(lambda execute: execute(SQL.add_tube, row))
        return source.cid

    def tube(self, cid: str) -> bytes:
        """Return a tube's document.

        Raises:
            TubeNotFoundError: no tube with this cid was sent here.
        """
        row = self._desk.transact(lambda execute: execute(SQL.tube, (cid,)).fetchone())
        if row is None and is_cid(cid) and self._blobs.has(cid):
            return self._blobs.get(cid)  # a runner's tube
        if row is None:
            raise TubeNotFoundError(
                f"No tube {cid[:100]} is known here; POST its document to /tubes first.",
                tube=cid[:100],
            )
        document: bytes = row[0]
        return document

    def tubes(self, limit: int) -> list[tuple[str, str, int, float]]:
        """Return (cid, name, bytes, created_at) of the latest tubes."""
        return self._desk.transact(lambda execute: execute(SQL.tubes, (limit,)).fetchall())

    # ---- runs

    def add_run(
        self,
        driver: RunDriver,
        created_by: str,
        now: float,
        *,
        priority: int = TaskPriority.NORMAL,
        tags: Sequence[str] = (),
    ) -> str:
        """Submit the driver's task and write the run down; the same run_id adds nothing.

        Raises:
            TubeNotFoundError: send the tube first.
        """
        self.tube(driver.tube)
        task_id = self._desk.submit_task(
            wire.DRIVER_NODE,
            0,
            priority,
            [f"{wire.DRIVE_TAG}+{tag}" for tag in tags] or [wire.DRIVE_TAG],
            self._timeout,
            self._takeovers,
            data=driver,
            idempotency_key=f"run:{driver.run_id}",
            run_id=driver.run_id,
            now=now,
        )
        total = driver.n if driver.inputs is None else len(driver.inputs)
        row = (driver.run_id, driver.tube, driver.n, total, task_id, now, created_by)

        def work(execute: Any) -> None:
            if execute(SQL.run, (driver.run_id,)).fetchone() is None:
                execute(SQL.add_run, row)

        self._desk.transact(work)
        return driver.run_id

    def run(self, run_id: str) -> RunRow:
        """Return a run as it stands.

        Raises:
            RunNotFoundError: there is none with this id.
        """
        row = self._desk.transact(lambda execute: execute(SQL.run, (run_id,)).fetchone())
        if row is None:
            raise RunNotFoundError(f"No run {run_id[:100]!r} is known here.", run_id=run_id[:100])
        return self._standing(row)

    def runs(self, limit: int) -> list[RunRow]:
        """Return the latest runs."""
        rows = self._desk.transact(lambda execute: execute(SQL.runs, (limit,)).fetchall())
        return [self._standing(row) for row in rows]

    def open_runs(self) -> dict[int, str]:
        """Return the runs without an outcome, by their driver's task."""
        rows = self._desk.transact(lambda execute: execute(SQL.open_runs).fetchall())
        return {task_id: run_id for run_id, task_id in rows}

    def cancelled_runs(self) -> set[str]:
        """Return the latest runs that were cancelled."""
        rows = self._desk.transact(lambda execute: execute(SQL.cancelled_runs).fetchall())
        return {row[0] for row in rows}

    def _standing(self, row: Sequence[Any]) -> RunRow:
        if row[7] is not None:
            return RunRow(*row)
        return self._look(RunRow(*row[:7], "waiting", *row[8:]))  # type: ignore[call-arg] # a row

    def _look(self, row: RunRow) -> RunRow:
        """Ask the driver's task how the run stands, and write its outcome down."""
        try:
            task = self._desk.get_task(row.task_id, decode=False)
        except TaskNotFoundError:
            return row
        state = _STATES.get(task.status, "waiting")
        failed = state == "failed"
        found = replace(
            row,
            status=state,
            finished_at=task.finished_at,
            error=task.error if failed else None,
            traceback=task.traceback if failed else None,
            worker_id=task.worker_id,
        )
        if task.status.settled:
            outcome = (row.run_id, state, found.finished_at, found.error, found.traceback)
            self._desk.transact(lambda execute: execute(SQL.end_run, outcome))
        return found

    def cancel_run(self, run_id: str, now: float) -> tuple[bool, list[int]]:
        """Cancel a run's driver and tasks; False if it has its outcome. Also the ids cancelled."""
        run = self.run(run_id)
        if run.status in ("completed", "failed", "cancelled"):
            return False, []
        cancelled = [run.task_id] if self._desk.cancel_task(run.task_id, now=now) else []
        self.run(run_id)
        after = 0
        while tasks := self._desk.list_tasks(run_id=run_id, after=after, limit=1000, decode=False):
            cancelled += [
                task.task_id
                for task in tasks
                if not task.status.settled and self._desk.cancel_task(task.task_id, now=now)
            ]
            after = tasks[-1].task_id
        return True, cancelled

    def reopen(self, task_ids: Sequence[int]) -> None:
        """Runs whose driver was redriven have no outcome any more."""

        def work(execute: Any) -> None:
            for task_id in task_ids:
                execute(SQL.reopen_run, (task_id,))

        self._desk.transact(work)

    # ---- results

    def add_results(self, run_id: str, page: wire.Posted) -> int:
        """Keep results that a run's driver posts; return how many the run has.

        Raises:
            LeaseLostError: another worker drives the run now.
            DecodeError: they do not continue what is there.
        """
        run = self.run(run_id)
        if run.task_id != page.task_id:
            raise DecodeError(f"Task {page.task_id} does not drive the run {run_id}.")
        rows = [
            (run_id, page.first + i, *self._put(packed)) for i, packed in enumerate(page.results)
        ]
        self._desk.holds(page.task_id, page.token)

        def work(execute: Any) -> int:
            count: int = execute(SQL.count_results, (run_id,)).fetchone()[0]
            if page.first > count:
                raise DecodeError(f"The run has {count} results; {page.first} is not the next.")
            for row in rows:
                execute(SQL.add_result, row)
            return max(count, page.first + len(rows))

        return self._desk.transact(work)

    def _put(self, packed: Any) -> tuple[str, bytes | None]:
        value = wire.admit(packed)
        frame = bytes(value) if type(packed) is Ext else codec.canonical(value)
        if len(frame) > _INLINE:
            return self._blobs.put(frame), None
        return cid_of_bytes(frame), frame

    def results(self, run_id: str, first: int, limit: int) -> list[wire.Result]:
        """Return results from `first` on; a large one as its cid alone."""
        rows = self._desk.transact(
            lambda execute: execute(SQL.results, (run_id, first, limit)).fetchall()
        )
        return [
            wire.Result(
                position,
                cid,
                Ext(wire.BLOB, cid.encode()) if frame is None else Ext(wire.PACKED, frame),
            )
            for position, cid, frame in rows
        ]

    # ---- blobs

    def blob(self, cid: str) -> bytes:
        """Return what has this cid: a blob, a result, or a tube's document.

        Raises:
            DecodeError: it is no cid.
            BlobNotFoundError: nothing here has it.
        """
        try:
            return self._blobs.get(cid)
        except BlobNotFoundError:
            for query in (SQL.result_by_cid, SQL.tube):
                row = self._desk.transact(
                    lambda execute, query=query: execute(query, (cid,)).fetchone()  # type: ignore[misc]
                )
                if row is not None:
                    data: bytes = row[0]
                    return data
            raise

    def put_blob(self, cid: str, data: bytes) -> str:
        """Keep bytes under their cid.

        Raises:
            DecodeError: the bytes have another cid.
        """
        found = cid_of_bytes(data)
        if found != cid:
            raise DecodeError(f"The body has the cid {found}, not {cid[:100]}.", cid=found)
        return self._blobs.put(data)

    def collect_blobs(self, grace_seconds: float) -> Collected:
        """Remove blobs that no task and no run's result names, and that are older than that."""
        rows = self._desk.transact(lambda execute: execute(SQL.live_cids).fetchall())
        return self._desk.collect_blobs([cid for (cid,) in rows], grace_seconds=grace_seconds)

    def forget_requests(self, before: float) -> None:
        """Drop the answers of requests that will not come again."""
        self._desk.transact(lambda execute: execute(SQL.drop_requests, (before,)))


def new_run_id() -> str:
    """Return a name for a run."""
    return f"run-{uuid4().hex[:16]}"


def driver_of(
    tube: str,
    n: int | None,
    inputs: Sequence[dict[str, Any]] | None,
    *,
    run_id: str | None,
    placement: Any,
    most: int,
) -> RunDriver:
    """Return the payload of a run's driver task.

    Raises:
        DecodeError: there are both `n` and `inputs`, or `n` is negative.
        LimitError: there are more than `most` inputs.
    """
    if n is not None and inputs is not None:
        raise DecodeError("A run has n epochs, or one for each of inputs; give one of the two.")
    if n is not None and n < 0:
        raise DecodeError(f"n is a number from 0 on, not {n}.")
    if inputs is not None and len(inputs) > most:
        raise LimitError(f"A run takes up to {most} inputs; send several runs.", limit=most)
    given = None if inputs is None else tuple(inputs)
    return RunDriver(run_id or new_run_id(), tube, n, given, placement)
