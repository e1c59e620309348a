"""The coordinator behind its routes: one queue, those who wait for it, and what it has seen."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, fields
from time import time
from typing import TYPE_CHECKING, TypeVar

from noob_cloud.blobs import BlobStore, FolderStore, MemoryStore
from noob_cloud.coordinator import wire
from noob_cloud.coordinator.desk import Desk
from noob_cloud.coordinator.events import Events
from noob_cloud.coordinator.outgoing import view
from noob_cloud.coordinator.records import Records
from noob_cloud.coordinator.waiting import Claims, Settlements
from noob_cloud.coordinator.workers import WorkerRow, Workers
from noob_cloud.coordinator.writer import Writer
from noob_cloud.exceptions import DecodeError, TaskStateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from noob_cloud.coordinator.settings import CoordinatorSettings
    from noob_cloud.identity import Identity
    from noob_cloud.queue import Clock

T = TypeVar("T")
_KEPT_SECONDS = 300
_REQUESTS_KEPT = 3600.0
"""How long, in seconds, a request is remembered so that it does not happen twice."""
_CLEANUP_SECONDS = 60.0
_COLLECT_SECONDS = 3600.0
_BLOBS_KEPT = 24 * 3600.0
"""How long, in seconds, a blob stays that no task, run or tube names (yet)."""
_BRIEF = 1_000
"""Up to so many tasks a request is served without leaving the event loop."""
_SLOWEST = 1.0
"""Longest pause of the upkeep, in seconds."""


@dataclass(slots=True)
class Counts:
    """What happened since the start."""

    submitted: int = 0
    claimed: int = 0
    completed: int = 0
    failed: int = 0
    refused: int = 0
    """Outcomes of lost leases."""


class Coordinator:
    """Everything that the routes need. Its methods are for one event loop.

    Args:
        settings: what it keeps where, and what a request may cost.
        clock: the queue's, instead of the machine's.
    """

    def __init__(self, settings: CoordinatorSettings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.tokens = settings.tokens
        self.blobs: BlobStore = (
            MemoryStore() if settings.blob_dir is None else FolderStore(settings.blob_dir)
        )
        self.desk = Desk(
            settings.db_path is not None,
            settings.db_path or "",
            lease_seconds=settings.lease_seconds,
            synchronous=settings.synchronous,
            epoch=settings.epoch,
            blobs=self.blobs,
            clock=clock,
        )
        self.desk.max_batch = settings.max_batch
        self.records = Records(
            self.desk,
            self.blobs,
            takeovers=settings.run_takeovers,
            timeout=settings.run_timeout,
        )
        # with FULL a commit waits for the disk, and several threads' commits are joined
        self.writer = Writer(8 if settings.synchronous == "FULL" else 1)
        self.claims = Claims(self.desk, self.writer)
        self.settlements = Settlements(self.desk, self.writer)
        self.workers = Workers(timeout=settings.worker_timeout)
        self.events = Events()
        self.counts = Counts()
        self.history: deque[dict[str, float]] = deque(maxlen=_KEPT_SECONDS)
        """Tasks submitted, claimed, completed, failed in each of the latest seconds."""
        self.started_at = time()
        self.draining = False
        self.open_runs: dict[int, str] = {}
        """Runs without an outcome, by their driver's task."""
        self.cancelled_runs: set[str] = set()
        self._background: list[asyncio.Task[None]] = []

    # ---- lifecycle

    async def start(self) -> None:
        """Prepare the file and begin the upkeep."""
        self.writer.start()
        await self.writer.do(self.desk.prepare)
        self.open_runs = await self.writer.do(self.records.open_runs)
        self.cancelled_runs = await self.writer.do(self.records.cancelled_runs)
        self._background = [
            asyncio.create_task(self.claims.serve()),
            asyncio.create_task(self._upkeep()),
        ]

    def drain(self) -> None:
        """Take no more work, and let everyone who waits go."""
        self.draining = True
        self.claims.close()
        self.settlements.close()
        self.events.close()

    async def stop(self) -> None:
        """End the upkeep and close the file."""
        self.drain()
        for task in self._background:
            task.cancel()
        for task in self._background:
            with suppress(asyncio.CancelledError):
                await task
        await asyncio.to_thread(self.writer.stop)
        self.desk.close()

    def do(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run `work` in the writer's thread."""
        return self.writer.do(work)

    # ---- the hot operations

    async def submit(
        self, who: Identity, body: wire.Submit, now: float | None = None, *, small: bool = False
    ) -> wire.Submitted:
        """Add tasks; `small` says that the body is."""
        who.require("client", "worker")
        if self.cancelled_runs:
            for group in body.groups:
                if group.options.run_id in self.cancelled_runs:
                    raise TaskStateError(f"The run {group.options.run_id} was cancelled.")
        desk = self.desk
        if small and sum(len(group.epochs) for group in body.groups) <= _BRIEF:
            ids = await self.writer.do_brief(
                lambda at_once: desk.submit_groups(body, now=now, at_once=at_once)
            )
        else:
            ids = await self.writer.do(lambda: desk.submit_groups(body, now=now))
        self.counts.submitted += len(ids)
        self.claims.wake()
        return wire.Submitted(ids)

    async def claim(
        self,
        who: Identity,
        ask: wire.Ask,
        now: float | None = None,
        gone: asyncio.Future[None] | None = None,
    ) -> wire.Claimed:
        """Lease tasks, as soon as there are any within the time the worker is willing to wait."""
        who.require("worker")
        tags = _tags(who, ask)
        self._seen(ask.worker_id, who, tags)
        wait = min(ask.wait, self.settings.max_wait)
        lots = await self.claims.claim(ask, tags, wait=wait, gone=gone, now=now)
        self._claimed(ask.worker_id, lots)
        return wire.Claimed(lots)

    async def settle(
        self,
        who: Identity,
        body: wire.Outcomes,
        now: float | None = None,
        *,
        again: bool = False,
        small: bool = False,
    ) -> wire.Settled:
        """Take outcomes, and lease more tasks in the same commit; `small` says that the body is.

        With `again` the request has been sent before: what it settled then is not refused now.
        """
        who.require("worker")
        ask = body.claim
        tags = frozenset[str]()
        if ask is not None:
            tags = _tags(who, ask)
        desk = self.desk
        if small and not again and _size(body) <= _BRIEF:
            settled = await self.writer.do_brief(
                lambda at_once: desk.settle(body, tags, now=now, at_once=at_once)
            )
        else:
            settled = await self.writer.do(lambda: desk.settle(body, tags, now=now, again=again))
        done = sum(len(group.ids) for group in body.done)
        refused = len(settled.refused)
        counts = self.counts
        counts.completed += max(0, done - refused)
        counts.failed += len(settled.statuses)
        counts.refused += refused
        row = self._seen(body.worker_id, who, None if ask is None else tags)
        if row is not None:
            row.completed += done
            row.failed += len(settled.statuses)
            gone = done + len(body.failed) + sum(len(group.ids) for group in body.released)
            row.running = max(0, row.running - gone)
        if ask is not None:
            self._claimed(ask.worker_id, settled.lots)
        await self._after(body, settled)
        return settled

    async def beat(self, who: Identity, body: wire.Beat, now: float | None = None) -> wire.Beaten:
        """Extend leases."""
        who.require("worker")
        row = self._seen(body.worker_id, who, who.claimable(frozenset(body.tags)) or None)
        if row is not None:
            row.running = max(body.running, sum(len(group.ids) for group in body.held))
        return await self.writer.do(lambda: self.desk.beat(body, now=now))

    async def wait_settled(self, body: wire.Wait) -> wire.Views:
        """Return tasks that have their outcome, as soon as enough of them have."""
        if len(body.ids) > self.settings.max_batch:
            raise DecodeError(f"Ask for up to {self.settings.max_batch} tasks at once.")
        ids = list(dict.fromkeys(body.ids))
        enough = len(ids) if body.at_least is None else min(body.at_least, len(ids))
        seconds = min(body.timeout, self.settings.max_wait)
        return wire.Views([view(x) for x in await self.settlements.wait(ids, seconds, enough)])

    # ---- what follows from them

    async def _after(self, body: wire.Outcomes, settled: wire.Settled) -> None:
        for group in body.done:
            self.settlements.tell(group.ids)
        if body.released or any(status != "dead" for status in settled.statuses.values()):
            self.claims.wake()
        for failure in body.failed:
            if settled.statuses.get(failure.task_id) == "dead":
                self.settlements.tell((failure.task_id,))
                self.events.add(
                    "task.dead",
                    task_id=failure.task_id,
                    worker_id=body.worker_id,
                    error=failure.error[:500],
                )
        if self.open_runs:
            ids = [i for done in body.done for i in done.ids]
            ids += [i for held in body.started for i in held.ids]
            ids += [failure.task_id for failure in body.failed]
            await self.look_at_runs(ids)

    async def look_at_runs(self, task_ids: Iterable[int]) -> None:
        """Notice which runs began or ended with these tasks."""
        for task_id in task_ids:
            run_id = self.open_runs.get(task_id)
            if run_id is not None:
                await self.look_at_run(task_id, run_id)

    async def look_at_run(self, task_id: int, run_id: str) -> None:
        """Notice whether a run has ended, and say so."""
        run = await self.writer.do(lambda: self.records.run(run_id))
        if run.status in ("waiting", "running"):
            return
        if self.open_runs.pop(task_id, None) is not None:
            if run.status == "cancelled":
                self.cancelled_runs.add(run_id)
            self.events.add(f"run.{run.status}", run_id=run_id, done=run.done, error=run.error)

    def _seen(self, worker_id: str, who: Identity, tags: frozenset[str] | None) -> WorkerRow | None:
        if not worker_id:
            return None
        row, joined = self.workers.seen(worker_id, who, tags, time())
        if joined:
            self.events.add("worker.joined", worker_id=worker_id, tags=sorted(row.tags))
        return row

    def _claimed(self, worker_id: str, lots: list[wire.Lot]) -> None:
        if not lots:
            return
        count = sum(len(lot.ids) for lot in lots)
        self.counts.claimed += count
        row = self.workers.get(worker_id)
        if row is not None:
            row.claimed += count
            row.running += count

    # ---- upkeep

    async def _upkeep(self) -> None:
        before = Counts()
        next_second = next_cleanup = next_collection = time() + 1.0
        while True:
            due = await self.writer.do(self.desk.due_in)
            await asyncio.sleep(max(0.05, min(_SLOWEST, due, next_second - time())))
            if await self.writer.do(self.desk.tick):
                self.claims.wake()
            if time() < next_second:
                continue
            next_second = time() + 1.0
            before = self._count(before)
            for row in self.workers.sweep(time()):
                self.events.add("worker.lost", worker_id=row.worker_id)
            for task_id, run_id in list(self.open_runs.items()):
                await self.look_at_run(task_id, run_id)
            if next_second >= next_cleanup:
                next_cleanup = next_second + _CLEANUP_SECONDS
                await self.writer.do(self.desk.cleanup)
                await self.writer.do(lambda: self.records.forget_requests(time() - _REQUESTS_KEPT))
            if next_second >= next_collection:
                next_collection = next_second + _COLLECT_SECONDS
                await asyncio.to_thread(self.records.collect_blobs, _BLOBS_KEPT)

    def _count(self, before: Counts) -> Counts:
        now = Counts(**{field.name: getattr(self.counts, field.name) for field in fields(Counts)})
        second = {x.name: getattr(now, x.name) - getattr(before, x.name) for x in fields(Counts)}
        self.history.append({"at": round(time(), 1), **second})
        return now


def _size(body: wire.Outcomes) -> int:
    """How many tasks a request is about."""
    size = len(body.failed) + (0 if body.claim is None else body.claim.limit)
    for groups in (body.done, body.released, body.started):
        size += sum(len(group.ids) for group in groups)
    return size


def _tags(who: Identity, ask: wire.Ask) -> frozenset[str]:
    """Return the tags that a worker may claim now: its identity's, narrowed by its request.

    Every worker may ask for runs to drive; for those of a tag if it has the tag.
    """
    if ask.tags is None:
        return who.claimable()
    asked = frozenset(ask.tags)
    drives = {tag for tag in asked if tag.partition("+")[0] == wire.DRIVE_TAG}
    allowed = who.claimable(asked | {tag.partition("+")[2] for tag in drives})
    drives = {tag for tag in drives if tag == wire.DRIVE_TAG or tag.partition("+")[2] in allowed}
    return (allowed & asked) - {wire.DRIVE_TAG} | drives
