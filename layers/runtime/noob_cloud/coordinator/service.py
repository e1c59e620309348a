"""The coordinator behind its routes: one queue, those who wait for it, and what it has seen."""

from __future__ import annotations

import asyncio
from collections import deque
from time import time
from typing import TYPE_CHECKING, TypeVar

from noob_cloud import tracing
from noob_cloud.blobs import BlobStore, FolderStore, MemoryStore
from noob_cloud.coordinator import traces, wire
from noob_cloud.coordinator.capacity_aws import AwsProvider
from noob_cloud.coordinator.capacity_loop import CapacityLoop
from noob_cloud.coordinator.counts import Counts, Health
from noob_cloud.coordinator.desk import Desk
from noob_cloud.coordinator.events import Events
from noob_cloud.coordinator.outgoing import fitting, view, withhold
from noob_cloud.coordinator.placing import Placing
from noob_cloud.coordinator.records import Records
from noob_cloud.coordinator.runs import Runs
from noob_cloud.coordinator.upkeep import Upkeep
from noob_cloud.coordinator.waiting import Claims, Settlements
from noob_cloud.coordinator.workers import WorkerRow, Workers
from noob_cloud.coordinator.writer import Writer
from noob_cloud.exceptions import LimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from noob_cloud.coordinator.capacity_loop import Provider
    from noob_cloud.coordinator.run import RunState
    from noob_cloud.coordinator.settings import CoordinatorSettings
    from noob_cloud.identity import Identity
    from noob_cloud.queue import Clock
    from noob_cloud.queue.ledger import Ledger

T = TypeVar("T")
_KEPT_SECONDS = 300
_NO_RUN = frozenset((None,))
_BRIEF = 1_000
"""Up to so many tasks a request is served without leaving the event loop."""


class Coordinator:
    """Everything that the routes need. Its methods are for one event loop.

    Args:
        settings: what it keeps where, and what a request may cost.
        clock: the queue's, instead of the machine's.
        blobs: where large values are, instead of the settings' folder.
        provider: starts the workers of pools, instead of AWS.
    """

    def __init__(
        self,
        settings: CoordinatorSettings,
        *,
        clock: Clock | None = None,
        blobs: BlobStore | None = None,
        provider: Provider | None = None,
    ) -> None:
        self.settings = settings
        self.tokens = settings.tokens
        if blobs is None:
            folder = settings.blob_dir
            blobs = MemoryStore() if folder is None else FolderStore(folder)
        self.blobs = blobs
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
        self.records = Records(self.desk, self.blobs, presign_bytes=settings.presign_bytes)
        self.runs = Runs(
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
        self.health = Health()
        self.history: deque[dict[str, float]] = deque(maxlen=_KEPT_SECONDS)
        """Tasks submitted, claimed, completed, failed in each of the latest seconds."""
        self.started_at = time()
        self.placing = None if settings.pools is None else Placing(settings.pools, self._pool_of)
        """Sends tasks to pools, where there are any."""
        self.capacity: CapacityLoop | None = None
        """Starts their workers."""
        pools = settings.pools
        if pools is not None and settings.scale_pools and pools.managed:
            self.capacity = CapacityLoop(self, pools, provider or AwsProvider())
        self.draining = False
        self.open_runs: dict[int, str] = {}
        """Runs without an outcome, by their driver's task."""
        self._upkeep = Upkeep(self)

    # ---- lifecycle

    async def start(self) -> None:
        """Prepare the file and begin the upkeep."""
        await asyncio.to_thread(tracing.active)
        self.writer.start()
        await self.writer.do(self.desk.prepare)
        self.open_runs = await self.writer.do(self.runs.open)
        if self.placing is not None:
            placing, now = self.placing, self.desk.clock_now()
            await self.writer.do(lambda: placing.begin(self.desk, now))
        self._upkeep.start()

    def drain(self) -> None:
        """Take no more work, and let everyone who waits go."""
        self.draining = True
        self.claims.close()
        self.settlements.close()
        self.events.close()

    async def stop(self) -> None:
        """End the upkeep and close the file."""
        self.drain()
        await self._upkeep.stop()
        if self.capacity is not None:
            await self.capacity.keep()
        await asyncio.to_thread(self.writer.stop)
        self.desk.close()
        if self.desk.traced:
            await asyncio.to_thread(tracing.flush)

    def do(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run `work` in the writer's thread."""
        return self.writer.do(work)

    async def aside(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread where it may take long: large blobs are read and hashed there."""
        return await asyncio.to_thread(work)

    # ---- the hot operations

    async def submit(
        self,
        who: Identity,
        body: wire.Submit,
        now: float | None = None,
        *,
        mark: int = 0,
        small: bool = False,
        trace: str | None = None,
    ) -> wire.Submitted:
        """Add tasks; `mark` is a checksum of the body, and `small` says that it is.

        `trace` is the `traceparent` of what they belong to.
        """
        who.require("client", "worker")
        if self.placing is not None:
            body = self.placing.admit(body)
        desk, runs = self.desk, self.runs
        worker = None if who.may("client") else who
        names = {group.options.run_id for group in body.groups}

        def guard(ledger: Ledger) -> None:
            runs.guard(ledger, names, worker)

        def work(at_once: bool = False) -> list[int]:  # noqa: FBT001, FBT002 - as the writer calls it
            return desk.submit_groups(
                body,
                sender=who.name,
                mark=mark,
                guard=None if names == _NO_RUN and worker is None else guard,
                trace=trace,
                now=now,
                at_once=at_once,
            )

        if small and sum(len(group.epochs) for group in body.groups) <= _BRIEF:
            ids = await self.writer.do_brief(work)
        else:
            ids = await self.writer.do(work)
        self.counts.submitted += len(ids)
        self.news()
        return wire.Submitted(ids)

    async def move(
        self, who: Identity, name: str, body: wire.Move, now: float | None = None, *, mark: int = 0
    ) -> wire.Submitted:
        """Move a client's checkpoint, submit tasks and cancel others, in one commit."""
        who.require("client")
        if self.placing is not None:
            body.tasks = self.placing.admit(body.tasks)
        runs, names = self.runs, {group.options.run_id for group in body.tasks.groups}

        def work() -> tuple[list[int], list[int]]:
            return self.desk.move(
                name,
                body,
                sender=who.name,
                mark=mark,
                guard=lambda ledger: runs.guard(ledger, names, None),
                now=now,
            )

        ids, undone = await self.writer.do(work)
        self.counts.submitted += len(ids)
        await self.cancelled(undone)
        self.news()
        return wire.Submitted(ids)

    async def cancelled(self, task_ids: list[int]) -> None:
        """Tell those who wait for tasks that these were cancelled."""
        self.settlements.tell(task_ids)
        self.claims.wake()  # they may have been their keys' last
        await self.look_at_runs(task_ids)

    async def claim(
        self,
        who: Identity,
        ask: wire.Ask,
        now: float | None = None,
        gone: asyncio.Future[None] | None = None,
        again: float | None = None,
    ) -> wire.Claimed:
        """Lease tasks, as soon as there are any within the time the worker is willing to wait.

        With `again` the request was first sent so many seconds ago, and its answer lost: what that
        one leased is taken back, since nobody knows of it.
        """
        who.require("worker")
        tags, pool = self._claimable(who, ask)
        self._seen(ask.worker_id, who, tags, pool)
        wait = min(ask.wait, self.settings.max_wait)
        if again is not None:
            await self.writer.do(lambda: self.desk.take_back(ask, who.badge, again, now=now))
        asked_at = time()
        lots = await self.claims.claim(ask, tags, who.badge, wait=wait, gone=gone, now=now)
        self._claimed(ask.worker_id, lots, asked_at)
        return wire.Claimed(lots)

    async def settle(
        self,
        who: Identity,
        body: wire.Outcomes,
        now: float | None = None,
        *,
        again: float | None = None,
        small: bool = False,
    ) -> wire.Settled:
        """Take outcomes, and lease more tasks in the same commit; `small` says that the body is.

        With `again` the request was first sent so many seconds ago: what it settled then is not
        refused now, and what it leased is taken back.
        What another identity claimed is refused, whatever the token.
        """
        who.require("worker")
        size = self._check_size(_size(body))
        foreign = [] if who.role == "admin" else _drop_foreign(body, who)
        ask = body.claim
        tags, pool = frozenset[str](), None
        if ask is not None:
            tags, pool = self._claimable(who, ask)
        desk, badge, asked_at = self.desk, who.badge, time()
        if small and again is None and size + (0 if ask is None else ask.limit) <= _BRIEF:
            settled = await self.writer.do_brief(
                lambda at_once: desk.settle(body, tags, badge, now=now, at_once=at_once)
            )
        else:
            settled = await self.writer.do(
                lambda: desk.settle(body, tags, badge, now=now, again=again)
            )
        settled.refused += foreign
        done = sum(len(group.ids) for group in body.done)
        refused = len(settled.refused)
        counts = self.counts
        counts.completed += max(0, done - refused)
        failed = sum(x.task_id in settled.statuses and not x.refused for x in body.failed)
        counts.failed += failed
        counts.refused += refused
        row = self._seen(body.worker_id, who, None if ask is None else tags, pool)
        if row is not None:
            row.completed += done
            row.failed += failed
            gone = done + len(body.failed) + sum(len(group.ids) for group in body.released)
            row.running = max(0, row.running - gone)
        if ask is not None:
            self._claimed(ask.worker_id, settled.lots, asked_at)
        await self._after(body, settled)
        return settled

    async def beat(self, who: Identity, body: wire.Beat, now: float | None = None) -> wire.Beaten:
        """Extend leases; what another identity claimed is lost to this one."""
        who.require("worker")
        self._check_size(sum(len(group.ids) for group in body.held))
        foreign = [group for group in body.held if not who.holds(group.token[0])]
        if foreign:
            body.held = [group for group in body.held if who.holds(group.token[0])]
        tags, pool = who.claimable(frozenset(body.tags)), None
        if self.placing is not None:
            tags, _, pool = self.placing.router.claimable(tags, False)
        row = self._seen(body.worker_id, who, tags or None, pool)
        if row is not None:
            row.running = max(body.running, sum(len(group.ids) for group in body.held))
        beaten = await self.writer.do(lambda: self.desk.beat(body, now=now))
        beaten.lost += [task_id for group in foreign for task_id in group.ids]
        return beaten

    def _check_size(self, size: int) -> int:
        limit = self.settings.max_batch
        if size > limit:
            raise LimitError(
                f"The request is about {size} tasks; the limit is {limit}. Send several.",
                limit=limit,
            )
        return size

    async def wait_settled(self, who: Identity, body: wire.Wait) -> wire.Views:
        """Return tasks that have their outcome, as soon as enough of them have."""
        self._check_size(len(body.ids))
        ids = list(dict.fromkeys(body.ids))
        enough = len(ids) if body.at_least is None else min(body.at_least, len(ids))
        seconds = min(body.timeout, self.settings.max_wait)
        views = [view(x) for x in await self.settlements.wait(ids, seconds, enough)]
        room = len(views) if body.most_bytes is None else fitting(views, body.most_bytes)
        return wire.Views(await self.readable(who, views[:room]), room < len(views))

    async def readable(self, who: Identity, views: list[wire.View]) -> list[wire.View]:
        """Return tasks as this identity may see them.

        A worker reads what it claimed, and the tasks of a run that it drives; of any other it
        learns where it stands, and neither what it was given nor what came of it.
        """
        if who.may("client"):
            return views
        others = [x for x in views if x.token is None or not who.holds(x.token[0])]
        if others:
            names = {x.terms.run_id for x in others}
            driven = await self.writer.do(lambda: self.runs.driven(names, who))
            for found in others:
                if found.terms.run_id not in driven:
                    withhold(found)
        return views

    def news(self) -> None:
        """Tasks may have become ready: tell those who wait for some, and who starts workers."""
        self.claims.wake()
        if self.capacity is not None:
            self.capacity.wake()

    # ---- what follows from them

    async def _after(self, body: wire.Outcomes, settled: wire.Settled) -> None:
        for group in body.done:
            self.settlements.tell(group.ids)
        if (
            body.released
            or any(status != "dead" for status in settled.statuses.values())
            or ((body.done or body.failed) and self.desk.limits_keys)
        ):
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
        self._ended(await self.writer.do(lambda: self.runs.get(run_id)), task_id)

    async def look_at_open_runs(self) -> None:
        """Notice which runs have ended, whoever has ended them."""
        known = dict(self.open_runs)
        if known:
            for run in await self.writer.do(lambda: self.runs.ended(known)):
                self._ended(run, run.task_id)

    def _ended(self, run: RunState, task_id: int) -> None:
        if run.ended and self.open_runs.pop(task_id, None) is not None:
            self.events.add(f"run.{run.status}", run_id=run.run_id, done=run.done, error=run.error)

    def _claimable(self, who: Identity, ask: wire.Ask) -> tuple[frozenset[str], str | None]:
        """Return what a worker may claim now, and its place; a place decides on untagged tasks."""
        tags = _tags(who, ask)
        if self.placing is None:
            return tags, None
        tags, ask.accept_untagged, pool = self.placing.router.claimable(tags, ask.accept_untagged)
        return tags, pool

    def _pool_of(self, worker_id: str) -> str | None:
        row = self.workers.get(worker_id)
        if row is None:
            raise LookupError(worker_id)
        return row.pool

    def _seen(
        self,
        worker_id: str,
        who: Identity,
        tags: frozenset[str] | None,
        pool: str | None = None,
    ) -> WorkerRow | None:
        if not worker_id:
            return None
        row, joined = self.workers.seen(worker_id, who, tags, time())
        row.pool = pool or row.pool
        if joined:
            self.events.add("worker.joined", worker_id=worker_id, tags=sorted(row.tags))
        return row

    def _claimed(self, worker_id: str, lots: list[wire.Lot], asked_at: float) -> None:
        if not lots:
            return
        if self.desk.traced:
            traces.tell_claims(worker_id, lots, asked_at)
        count = sum(len(lot.ids) for lot in lots)
        self.counts.claimed += count
        row = self.workers.get(worker_id)
        if row is not None:
            row.claimed += count
            row.running += count


def _drop_foreign(body: wire.Outcomes, who: Identity) -> list[int]:
    """Take what another identity claimed out of a request; return those tasks."""
    tokens = [group.token for group in body.done]
    tokens += [group.token for group in (*body.released, *body.started)]
    tokens += [failure.token for failure in body.failed]
    if all(who.holds(epoch) for epoch, _ in tokens):
        return []
    dropped: set[int] = set()
    for name in ("done", "released", "started"):
        groups = getattr(body, name)
        kept = [group for group in groups if who.holds(group.token[0])]
        dropped.update(i for group in groups if group not in kept for i in group.ids)
        setattr(body, name, kept)
    dropped.update(x.task_id for x in body.failed if not who.holds(x.token[0]))
    body.failed = [x for x in body.failed if who.holds(x.token[0])]
    return sorted(dropped)


def _size(body: wire.Outcomes) -> int:
    """How many tasks a request settles."""
    size = len(body.failed)
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
