"""The coordinator's hand on its capacity: look, decide, start or scale, once a second.

It looks sooner when tasks were submitted. What an action could not do is tried again by the next
look, since each decision is made anew from what is there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import defaultdict
from time import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from noob_cloud.coordinator import demand
from noob_cloud.coordinator.capacity import Decision, Scale, Start, plan
from noob_cloud.coordinator.emf import lines
from noob_cloud.coordinator.fleet import Fleet, Seen, day_of
from noob_cloud.coordinator.statements import SQL
from noob_cloud.coordinator.wire import DRIVER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noob_cloud.coordinator.capacity import Demand, Place
    from noob_cloud.coordinator.counts import Health
    from noob_cloud.coordinator.pools import PoolsSettings
    from noob_cloud.coordinator.service import Coordinator
    from noob_cloud.queue.ledger import Ledger

_log = logging.getLogger(__name__)
_PAUSE: Final = 1.0
_SHORTEST: Final = 0.1
"""Between two looks, in seconds."""
HEARD: Final = 15.0
"""A worker that was silent for longer is taken for gone."""
IDLE_HEARD: Final = 5.0
"""The same for one that holds no task: it asks for some every second or two."""
_GRACE: Final = 3.0
"""How long a successor listens for workers that are there before it starts others."""
_SHARES_SECONDS: Final = 5.0
"""How often to look which run holds which worker."""
_KEEP_SECONDS: Final = 10.0
"""How often to write money down: as much may be forgotten in a crash."""
_EMF_SECONDS: Final = 60.0
_SERVICES: Final = ("fargate", "ec2")
_COMPARE_SECONDS: Final = 60.0
"""How often to ask what services have: a deployment sets them back to what its template says."""
_DAYS: Final = 40
_A_DAY: Final = 86_400.0


class Provider(Protocol):
    """Where workers are started. Every method blocks, and raises for what cannot be had."""

    def start(self, place: Place, count: int) -> int:
        """Start workers, each by a call; return how many were accepted."""
        ...

    def desired(self, place: Place) -> int:
        """Return how many workers a service was told to have."""
        ...

    def scale(self, place: Place, workers: int) -> None:
        """Tell a service how many workers to have."""
        ...


class CapacityLoop:
    """Has as many workers as there is work for, and money.

    Args:
        service: the coordinator.
        settings: its pools.
        provider: starts workers.
    """

    def __init__(self, service: Coordinator, settings: PoolsSettings, provider: Provider) -> None:
        self._service = service
        self._provider = provider
        self.places = settings.places()
        self.currency = settings.price_table().currency
        self.fleet = Fleet(
            self.places,
            time(),
            per_day=settings.budget.per_day,
            per_run=settings.budget.per_run,
            target_seconds=settings.target_seconds,
            assumed_seconds=settings.assumed_seconds,
        )
        self.decision = Decision()
        self.demands: Sequence[Demand] = ()
        self._news = asyncio.Event()
        self._completed: dict[str, int] = {}
        self._held: dict[str, dict[str, int]] = {}
        self._held_at = self._kept_at = self._told_at = self._compared_at = 0.0
        self._turned_at = 0.0
        self._known = False
        self._unseen = {x.name for x in self.places if x.kind in _SERVICES}
        """Services whose desired count is not known: they are left alone."""
        self._listens_until = 0.0
        self._said: set[str] = set()

    @property
    def health(self) -> Health:
        """Whether the coordinator's requests get their answers."""
        return self._service.health

    def wake(self) -> None:
        """Tasks may have become ready."""
        self._news.set()

    async def serve(self) -> None:
        """Look, decide and act until cancelled."""
        while True:
            if not self._known:
                await self._begin()
            await self.turn(time())
            await asyncio.sleep(_SHORTEST)
            try:
                async with asyncio.timeout(_PAUSE - _SHORTEST):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def turn(self, now: float) -> None:
        """Look once, decide and act."""
        self._news.clear()
        if now < self._turned_at:  # the clock was set back: nothing waits for it to come again
            self._held_at = self._kept_at = self._told_at = self._compared_at = 0.0
            self._listens_until = min(self._listens_until, now + _GRACE)
        self._turned_at = now
        if self._unseen:
            await self._find(now)
        if now - self._compared_at >= _COMPARE_SECONDS:
            self._compared_at = now
            await self._compare(now)
        seen, demands = await self._look(now)
        state = self.fleet.observe(seen, demands, now)
        self.demands, self.decision = demands, plan(state)
        self.fleet.decided(self.decision, now)
        if not self._service.draining:
            actions = self.decision.actions
            if now < self._listens_until:
                actions = tuple(x for x in actions if isinstance(x, Scale))
            actions = tuple(x for x in actions if x.place.name not in self._unseen)
            await asyncio.gather(*(self._act(action, now) for action in actions))
        self._say()
        if now - self._kept_at >= _KEEP_SECONDS:
            self._kept_at = now
            await self.keep()
        if self._service.settings.emf and now - self._told_at >= _EMF_SECONDS:
            self._told_at = now
            await self._tell(now)

    async def _begin(self) -> None:
        """Read what was spent, and what the services have."""
        fleet, day = self.fleet, self.fleet.day
        oldest = day_of(time() - _DAYS * _A_DAY)

        def work(ledger: Ledger) -> Any:
            ledger.execute(SQL.drop_spending, (oldest,))
            return (
                ledger.execute(SQL.spent_by_place, (day,)).fetchall(),
                ledger.execute(SQL.spent_by_runs).fetchall(),
                ledger.execute(SQL.any_lease).fetchone() is not None,
            )

        places, runs, leased = await self._service.do(lambda: self._service.desk.transact(work))
        fleet.spent.update({place: money for place, money, _seconds in places})
        fleet.spent_by_run.update(dict(runs))
        if leased:
            self._listens_until = time() + _GRACE
        self._known = True

    async def _find(self, now: float) -> None:
        """Ask how many workers the services have that were not found yet."""
        for name in sorted(self._unseen):
            crew = self.fleet.crews[name]
            if now < crew.blocked_until:
                continue
            try:
                desired = await asyncio.to_thread(self._provider.desired, crew.place)
            except Exception as error:  # noqa: BLE001 - AWS is away, or refuses: again later
                self._fail(crew.place, error, now)
                continue
            self._unseen.discard(name)
            crew.scaled(desired, now)
            crew.wanted(desired, now)  # for a cool-down it stays as it was found

    async def _compare(self, now: float) -> None:
        """Notice what others have told the services meanwhile."""
        for name, crew in self.fleet.crews.items():
            if crew.place.kind not in _SERVICES or name in self._unseen:
                continue
            try:
                desired = await asyncio.to_thread(self._provider.desired, crew.place)
            except Exception as error:  # noqa: BLE001 - AWS is away: what we told it stands
                _log.debug("the service of %s could not be looked at: %s", name, error)
                continue
            if desired != crew.desired:
                _log.info("the service of %s has %d, not %d", name, desired, crew.desired)
                crew.scaled(desired, now)

    # ---- look

    async def _look(self, now: float) -> tuple[dict[str, Seen], list[Demand]]:
        service, placing = self._service, self._service.placing
        assert placing is not None  # noqa: S101 - the loop is made where there are pools
        router = placing.router
        have = {
            name: len(crew.seen.workers) + crew.starting(now)
            for name, crew in self.fleet.crews.items()
        }
        again = now - self._held_at >= _SHARES_SECONDS

        def work(ledger: Ledger) -> tuple[list[Demand], dict[str, dict[str, int]] | None]:
            at = service.desk.clock_now()
            found = demand.demands(ledger, router, self.places, have, at)
            return found, demand.held(ledger) if again else None

        demands, held = await service.do(lambda: service.desk.transact(work))
        if held is not None:
            self._held, self._held_at = held, now
        return self._see(now), demands

    def _see(self, now: float) -> dict[str, Seen]:
        workers: dict[str, set[str]] = defaultdict(set)
        seen: dict[str, Seen] = defaultdict(Seen)
        runs: dict[str, dict[str, int]] = defaultdict(dict)
        completed: dict[str, int] = defaultdict(int)
        busy: dict[str, set[str]] = defaultdict(set)
        for row in self._service.workers.alive(now - HEARD):
            if row.pool is None or row.pool not in self.fleet.crews:
                continue
            if row.running <= 0 and row.last_seen < now - IDLE_HEARD:
                continue
            name = row.worker_id.removesuffix(DRIVER)
            workers[row.pool].add(name)  # it may drive a run before it asks for tasks
            if row.running > 0:
                busy[row.pool].add(name)
            here = seen[row.pool]
            if name == row.worker_id:
                here.held += max(0, row.running)
                completed[row.pool] += row.completed + row.failed
            for run_id, n in self._held.get(row.worker_id, {}).items():
                runs[row.pool][run_id] = runs[row.pool].get(run_id, 0) + n
        for name, here in seen.items():
            here.workers = frozenset(workers[name])
            here.busy = len(busy[name])
            here.runs = runs[name]
            here.done = max(0, completed[name] - self._completed.get(name, 0))
        self._completed = dict(completed)
        return dict(seen)

    # ---- act

    async def _act(self, action: Start | Scale, now: float) -> None:
        place = action.place
        count = action.count if isinstance(action, Start) else action.workers
        try:
            if isinstance(action, Start):
                accepted = await asyncio.to_thread(self._provider.start, place, count)
            else:
                await asyncio.to_thread(self._provider.scale, place, count)
                accepted = count
        except Exception as error:  # noqa: BLE001 - AWS is away, or refuses: after a pause again
            self._fail(place, error, now)
            return
        self.fleet.done(action, accepted, now)
        kind = "capacity.started" if isinstance(action, Start) else "capacity.scaled"
        self._service.events.add(kind, pool=place.name, workers=accepted)

    def _fail(self, place: Place, error: Exception, now: float) -> None:
        _log.warning("the pool %s cannot be had now: %s", place.name, error)
        self.fleet.crews[place.name].block(1, now)
        self._service.events.add("capacity.failed", pool=place.name, error=str(error)[:500])

    def _say(self) -> None:
        """Say once what keeps tasks waiting that only a person can change."""
        said = set()
        if self.decision.over_budget:
            said.add("budget")
        if any(not x.places for x in self.demands):
            said.add("nowhere")
        for what in said - self._said:
            _log.warning(
                "%s",
                "The budget is spent: no more workers are started."
                if what == "budget"
                else "Ready tasks have tags that no pool offers any more.",
            )
            self._service.events.add(f"capacity.{what}")
        self._said = said

    # ---- money and metrics

    async def keep(self) -> None:
        """Write down what was spent."""
        charges = self.fleet.take_charges()
        if charges:
            await self._service.do(
                lambda: self._service.desk.transact(lambda ledger: ledger.many(SQL.spend, charges))
            )

    async def _tell(self, now: float) -> None:
        stats = await self._service.do(self._service.desk.stats)
        name = self._service.settings.deployment or "noob-cloud"
        for line in lines(self, stats, name, now):
            sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
