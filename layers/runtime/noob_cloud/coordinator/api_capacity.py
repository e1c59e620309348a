"""The route of the capacity: how many workers are where, for whom, and what they cost."""

from __future__ import annotations

from math import inf
from time import time
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter

from noob_cloud.coordinator import models_capacity
from noob_cloud.coordinator.request import Caller, Service, errors
from noob_cloud.coordinator.statements import SQL

if TYPE_CHECKING:
    from noob_cloud.coordinator.capacity_loop import CapacityLoop
    from noob_cloud.coordinator.routing import Router
    from noob_cloud.queue.ledger import Ledger

router = APIRouter()
_LATEST: Final = 500
"""Rows of completed tasks that the lengths are taken from."""
_MOST_RUNS: Final = 100


@router.get(
    "/capacity",
    tags=["look"],
    summary="Workers by pool, and their cost",
    responses=errors(403),
)
async def capacity(service: Service, caller: Caller) -> models_capacity.CapacityBody:
    """Show where workers are had, how many there are, and what they cost; empty without pools."""
    caller.require("client")
    loop, placing = service.capacity, service.placing
    learned = {} if placing is None else placing.learned
    return models_capacity.CapacityBody(
        places=[] if loop is None or placing is None else _places(loop, placing.router),
        money=None if loop is None else _money(loop),
        learned=[
            models_capacity.LearnedBody(node_id=node, memory=memory, seconds=seconds)
            for node, (memory, seconds) in sorted(learned.items())
        ],
        target_seconds=60.0 if loop is None else loop.fleet.target_seconds,
        node_seconds=await service.do(lambda: service.desk.transact(_node_seconds)),
    )


def _places(loop: CapacityLoop, routes: Router) -> list[models_capacity.PlaceBody]:
    now = time()
    found = []
    by_name = {pool.name: pool for pool in routes.pools}
    for name, crew in loop.fleet.crews.items():
        standing, place, route = crew.standing(now), crew.place, by_name[name]
        found.append(
            models_capacity.PlaceBody(
                name=name,
                pool=place.pool,
                kind=place.kind,
                memory=place.memory,
                slots=place.slots,
                most=place.most,
                tags=sorted(place.tags),
                accept_untagged=route.accepts_untagged,
                max_seconds=_finite(route.max_seconds),
                max_memory=_finite(route.max_memory),
                price_hour=place.price * 3600.0,
                start_price=place.start_price,
                cooldown_seconds=place.cooldown_seconds,
                burst=_finite(place.burst),
                starts_per_second=_finite(place.refill),
                alive=standing.alive,
                busy=standing.busy,
                starting=standing.starting,
                desired=None if place.kind in ("lambda", "own") else standing.desired,
                wanted=loop.decision.wanted.get(name, 0),
                failed_starts=crew.failed,
                blocked=standing.blocked,
                seconds=standing.seconds,
                spent_today=loop.fleet.spent[name],
            )
        )
    return found


def _finite(number: float) -> float | None:
    return None if number == inf else number


def _money(loop: CapacityLoop) -> models_capacity.MoneyBody:
    money = loop.fleet.money(time())
    latest = list(loop.fleet.spent_by_run.items())[-_MOST_RUNS:]
    return models_capacity.MoneyBody(
        currency=loop.currency,
        day=loop.fleet.day,
        spent=money.spent,
        reserved=money.reserved,
        per_day=money.per_day,
        per_run=money.per_run,
        runs=dict(latest),
    )


def _node_seconds(ledger: Ledger) -> dict[str, float]:
    """Return the mean length of the latest tasks of each node. Inside a transaction."""
    found: dict[str, list[float]] = {}
    for first, n, started_at, finished_at in ledger.execute(SQL.node_seconds, (_LATEST,)):
        chunk = ledger.find_chunk(first)
        if chunk is not None and n == 1:  # tasks that were settled together say nothing of one
            found.setdefault(chunk.fields(first)[0], []).append(max(0.0, finished_at - started_at))
    return {node: sum(times) / len(times) for node, times in sorted(found.items())}
