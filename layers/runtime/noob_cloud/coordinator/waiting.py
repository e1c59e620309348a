"""Requests that wait: for a task to claim, or for tasks to be settled."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from noob_cloud.coordinator import wire
    from noob_cloud.coordinator.desk import Desk
    from noob_cloud.coordinator.writer import Writer
    from noob_cloud.queue.stored import StoredTask

LOOK_EVERY = 1.0
"""How often, in seconds, to look for what other processes have written to the queue's file."""
_GATHER = 0.002
"""How long to wait for more outcomes before answering, in seconds."""


@dataclass(eq=False)
class _Waiter:
    """A worker that found nothing to claim."""

    ask: wire.Ask
    tags: frozenset[str]
    badge: int
    lots: asyncio.Future[list[wire.Lot]]


class Claims:
    """Claim now, or as soon as there is something: the longest waiting worker first."""

    def __init__(self, desk: Desk, writer: Writer) -> None:
        self._desk = desk
        self._writer = writer
        self._waiting: dict[_Waiter, None] = {}
        self._news = asyncio.Event()
        self._changes = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def wake(self) -> None:
        """Tasks may have become ready."""
        self._changes += 1
        if self._waiting:
            self._news.set()

    async def claim(
        self,
        ask: wire.Ask,
        tags: frozenset[str],
        badge: int = 0,
        *,
        wait: float,
        gone: asyncio.Future[None] | None = None,
        now: float | None = None,
    ) -> list[wire.Lot]:
        """Lease tasks now, or within `wait` seconds unless the worker is gone by then."""
        seen = self._changes
        lots = await self._writer.do(lambda: self._desk.claim_lots(ask, tags, badge, now=now))
        if lots or wait <= 0 or self._closed:
            return lots
        loop = asyncio.get_running_loop()
        waiter = _Waiter(ask, tags, badge, loop.create_future())
        self._waiting[waiter] = None
        if self._changes != seen:
            self._news.set()
        try:
            futures: set[asyncio.Future[object]] = {waiter.lots}  # type: ignore[arg-type] # only waited for
            if gone is not None:
                futures.add(gone)  # type: ignore[arg-type]
            await asyncio.wait(futures, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.pop(waiter, None)
            if not waiter.lots.done():
                waiter.lots.cancel()
        if waiter.lots.cancelled():
            return []
        lots = waiter.lots.result()
        if gone is not None and gone.done():
            await self.give_back(lots)
            return []
        return lots

    async def give_back(self, lots: Sequence[wire.Lot]) -> None:
        """Hand back what nobody is there to take."""
        from noob_cloud.coordinator import wire  # noqa: PLC0415 - a type everywhere else

        held = [wire.Held(lot.token, lot.ids) for lot in lots]
        if held:
            body = wire.Outcomes("", released=held)
            await self._writer.do(lambda: self._desk.settle(body, frozenset()))
            self.wake()

    async def serve(self) -> None:
        """Hand tasks to those who wait, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY if self._waiting else None):
                    await self._news.wait()
            except TimeoutError:
                pass  # another process may have submitted: look
            self._news.clear()
            if self._waiting:
                await self._round()

    async def _round(self) -> None:
        waiting = list(self._waiting)

        trouble: list[Exception] = []

        def work() -> list[tuple[_Waiter, list[wire.Lot]]]:
            served: list[tuple[_Waiter, list[wire.Lot]]] = []
            nothing_for: set[tuple[frozenset[str], bool]] = set()
            for waiter in waiting:
                group = (waiter.tags, waiter.ask.accept_untagged)
                if group in nothing_for or waiter.lots.done():
                    continue
                try:
                    lots = self._desk.claim_lots(waiter.ask, waiter.tags, waiter.badge)
                except Exception as error:  # noqa: BLE001 - raised when the others have theirs
                    trouble.append(error)
                    break
                if lots:
                    served.append((waiter, lots))
                else:
                    nothing_for.add(group)
            return served

        for waiter, lots in await self._writer.do(work):
            if waiter.lots.done():
                await self.give_back(lots)
            else:
                self._waiting.pop(waiter, None)
                waiter.lots.set_result(lots)
        if trouble:
            raise trouble[0]

    def close(self) -> None:
        """Let everyone who waits go with nothing."""
        self._closed = True
        for waiter in list(self._waiting):
            if not waiter.lots.done():
                waiter.lots.set_result([])


@dataclass(eq=False)
class _Interest:
    """Someone who waits for tasks to be settled."""

    settled: set[int] = field(default_factory=set)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Settlements:
    """Wait for tasks to have their outcome."""

    def __init__(self, desk: Desk, writer: Writer) -> None:
        self._desk = desk
        self._writer = writer
        self._interested: dict[int, set[_Interest]] = {}
        self._all: set[_Interest] = set()
        self._closed = False

    def tell(self, ids: Iterable[int]) -> None:
        """These tasks may have been settled."""
        if not self._interested:
            return
        for task_id in ids:
            for interest in self._interested.get(task_id, ()):
                interest.settled.add(task_id)
                interest.news.set()

    async def wait(self, ids: Sequence[int], seconds: float, at_least: int) -> list[StoredTask]:
        """Return those settled, as soon as `at_least` of them are, or after `seconds`."""
        interest = _Interest()
        for task_id in ids:
            self._interested.setdefault(task_id, set()).add(interest)
        self._all.add(interest)
        try:
            return await self._wait(interest, list(ids), seconds, at_least)
        finally:
            self._all.discard(interest)
            for task_id in ids:
                others = self._interested.get(task_id)
                if others is not None:
                    others.discard(interest)
                    if not others:
                        del self._interested[task_id]

    async def _wait(
        self, interest: _Interest, ids: list[int], seconds: float, at_least: int
    ) -> list[StoredTask]:
        give_up = monotonic() + seconds
        found: dict[int, StoredTask] = {}
        asked = ids
        while True:
            interest.news.clear()
            interest.settled.clear()
            for task in await self._look(asked):
                found[task.task_id] = task
            left = give_up - monotonic()
            if len(found) >= at_least or left <= 0 or self._closed:
                return [found[task_id] for task_id in ids if task_id in found]
            try:
                async with asyncio.timeout(min(left, LOOK_EVERY)):
                    await interest.news.wait()
                await asyncio.sleep(_GATHER)
                asked = list(interest.settled) or ids
            except TimeoutError:
                asked = [task_id for task_id in ids if task_id not in found]

    def _look(self, ids: list[int]) -> asyncio.Future[list[StoredTask]]:
        return self._writer.do(lambda: self._desk.settled_among(ids))

    def close(self) -> None:
        """Answer everyone who waits with what there is."""
        self._closed = True
        for interest in self._all:
            interest.news.set()
