"""What a coordinator does by itself: what time does to tasks, and what is to be forgotten."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import fields
from time import time
from typing import TYPE_CHECKING

from noob_cloud.coordinator.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from noob_cloud.coordinator.service import Coordinator

_log = logging.getLogger(__name__)
REQUESTS_KEPT = 3600.0
"""How long, in seconds, a request is remembered so that it does not happen twice."""
BLOBS_KEPT = 24 * 3600.0
"""How long, in seconds, a blob stays that no task, run or tube names (yet)."""
TRACES_KEPT = 7 * 24 * 3600.0
"""How long, in seconds, it is known what a task belongs to in its client's trace."""
_CLEANUP_SECONDS = 60.0
_COLLECT_SECONDS = 3600.0
_SLOWEST = 1.0
"""Longest pause, in seconds."""
_AFTER_TROUBLE = 1.0


async def keep_on(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` again whenever it fails, until cancelled.

    A file that another process holds for long, or a disk that is full for a while, must not end
    for good what a coordinator does in the background.
    """
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001 - whatever it was, the log has it
            _log.exception("%s failed; it goes on in %g s", name, _AFTER_TROUBLE)
            await asyncio.sleep(_AFTER_TROUBLE)


class Upkeep:
    """The background work of one coordinator."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._tasks: list[asyncio.Task[None]] = []
        self._before = Counts()

    def start(self) -> None:
        """Begin."""
        rounds = {
            "the handing out of tasks": self._coordinator.claims.serve,
            "the clock": self._turn,
            "the cleaning": self._clean,
            "the collection of blobs": self._collect,
        }
        if self._coordinator.capacity is not None:
            rounds["the capacity"] = self._coordinator.capacity.serve
        self._tasks = [asyncio.create_task(keep_on(name, work)) for name, work in rounds.items()]

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _turn(self) -> None:
        service = self._coordinator
        next_second = time() + 1.0
        while True:
            due = await service.do(service.desk.due_in)
            await asyncio.sleep(max(0.05, min(_SLOWEST, due, next_second - time())))
            if await service.do(service.desk.tick):
                service.claims.wake()
            if time() < next_second:
                continue
            next_second = time() + 1.0
            self._count()
            for row in service.workers.sweep(time()):
                service.events.add("worker.lost", worker_id=row.worker_id)
            await service.look_at_open_runs()

    async def _clean(self) -> None:
        service = self._coordinator
        while True:
            await asyncio.sleep(_CLEANUP_SECONDS)
            await service.do(service.desk.cleanup)
            await service.do(lambda: service.records.forget_requests(time() - REQUESTS_KEPT))
            await service.do(lambda: service.records.forget_traces(time() - TRACES_KEPT))
            await self._forget_runs(time() - service.settings.runs_kept_hours * 3600.0)

    async def _forget_runs(self, before: float) -> None:
        service = self._coordinator
        more = True
        while more:  # a page at a time: others have their turn
            more = await service.do(lambda: service.runs.forget_one(before))

    async def _collect(self) -> None:
        service = self._coordinator
        while True:
            await asyncio.sleep(_COLLECT_SECONDS)
            await service.aside(lambda: service.records.collect_blobs(BLOBS_KEPT))

    def _count(self) -> None:
        counts, before = self._coordinator.counts, self._before
        now = Counts(**{field.name: getattr(counts, field.name) for field in fields(Counts)})
        second = {x.name: getattr(now, x.name) - getattr(before, x.name) for x in fields(Counts)}
        self._coordinator.history.append({"at": round(time(), 1), **second})
        self._before = now
