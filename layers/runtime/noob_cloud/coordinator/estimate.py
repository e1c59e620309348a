"""What a run would take and cost, before it is launched: the places of its nodes, and their prices.

It is arithmetic on what is known of the tasks, and says which of it is an assumption. Every task
goes to the place that is preferred for it, with as many workers as the capacity loop would want.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Final

from noob_cloud.coordinator.routing import Pool, Router

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from noob_cloud.coordinator.capacity import Place

_START_SECONDS: Final = {"lambda": 2.0, "fargate": 45.0, "ec2": 240.0, "own": 0.0}
"""From the wish for a worker to its first claim, as a rule of thumb."""
_IDLE_SECONDS: Final = 5.0
"""How long a Lambda stays that finds nothing to do."""


@dataclass(frozen=True, slots=True)
class Work:
    """One stage of a tube, as it is to be run."""

    name: str
    """Its nodes, joined by `+`."""
    calls: float = 1.0
    """Tasks of an epoch."""
    affinity: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    timeout: float = 300.0
    memory: float = 0.0
    """In MiB."""
    seconds: float = 1.0
    """Of one task."""
    source: str = "assumed"
    """Where `seconds` comes from: measured, given or assumed."""
    concurrency: int | None = None
    pinned: bool = False
    """Whether it runs where the run is driven."""


@dataclass(frozen=True, slots=True)
class Row:
    """One stage: where, how long, for how much."""

    name: str
    place: str | None
    """None: it runs where the run is driven."""
    others: tuple[str, ...]
    """Where it may run besides."""
    memory: int | None
    """Of a worker there, in MiB."""
    tasks: int
    seconds: float
    source: str
    cost: float
    """Of the work alone."""


@dataclass(frozen=True, slots=True)
class Workers:
    """One place: how many workers, for how long, for how much."""

    place: str
    workers: int
    limit: int
    price_hour: float
    work_seconds: float
    """Of all tasks there."""
    seconds: float
    """From the start to the last task."""
    idle_seconds: float
    """That its workers are paid for while they start and wait for their end."""
    cost: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would take and cost."""

    epochs: int
    rows: tuple[Row, ...]
    places: tuple[Workers, ...]
    seconds: float
    cost: float
    ideal_seconds: float
    """With as many workers as tasks, there at once."""
    notes: tuple[str, ...] = field(default=())


def estimate(
    works: Sequence[Work],
    places: Sequence[Place],
    router: Router,
    epochs: int,
    *,
    target_seconds: float = 60.0,
    floors: Mapping[str, tuple[float, float]] | None = None,
) -> Estimate:
    """Estimate a run.

    Args:
        works: the stages, in the order of the plan.
        places: where workers can be had.
        router: routes to these places.
        epochs: of the run.
        target_seconds: see `State`.
        floors: what nodes are known to need more than: memory in MiB, and seconds.

    Raises:
        RoutingError: a stage may run nowhere.
    """
    by_name = {place.name: place for place in places}
    load: dict[str, float] = {}
    wanted: dict[str, float] = {}
    rows: list[Row] = []
    longest = 0.0
    for work in works:
        tasks = ceil(work.calls * epochs)
        if work.pinned:
            longest += work.seconds
            rows.append(Row(work.name, None, (), None, tasks, work.seconds, work.source, 0.0))
            continue
        memory, seconds = (floors or {}).get(work.name, (0.0, 0.0))
        needs = (max(work.timeout, _more(seconds)), max(work.memory, _more(memory)))
        names = router.route(work.affinity, work.required, *needs).pools
        place = by_name[names[0]]
        share = min(1.0, work.seconds / target_seconds)
        at_once = tasks if work.concurrency is None else min(tasks, work.concurrency)
        load[place.name] = load.get(place.name, 0.0) + tasks * work.seconds
        wanted[place.name] = wanted.get(place.name, 0.0) + max(1e-9, at_once * share) / place.slots
        longest += work.seconds
        rows.append(
            Row(
                work.name,
                place.name,
                names[1:],
                place.memory,
                tasks,
                work.seconds,
                work.source,
                tasks * work.seconds / place.slots * place.price,
            )
        )
    crews = tuple(_crews(places, wanted, load, longest))
    return Estimate(
        epochs,
        tuple(rows),
        crews,
        max((x.seconds for x in crews), default=longest * epochs),
        sum(x.cost for x in crews),
        longest,
    )


def _crews(
    places: Iterable[Place],
    wanted: Mapping[str, float],
    load: Mapping[str, float],
    longest: float,
) -> Iterable[Workers]:
    room: dict[str, int] = {}
    for place in places:
        if place.name not in wanted:
            continue
        left = room.get(place.pool, place.most)
        workers = max(1, min(ceil(wanted[place.name] - 1e-6), left))
        room[place.pool] = left - workers
        start = _START_SECONDS[place.kind]
        ramp = max(0.0, workers - place.burst) / place.refill
        work = max(longest, load[place.name] / (workers * place.slots))
        tail = _IDLE_SECONDS if place.by_itself else place.cooldown_seconds
        idle = 0.0 if place.kind == "own" else start + tail
        paid = load[place.name] / place.slots + workers * idle
        yield Workers(
            place.name,
            workers,
            place.most,
            place.price * 3600.0,
            load[place.name],
            start + ramp + work,
            idle * workers,
            paid * place.price + workers * place.start_price,
        )


def router_of(pools: Iterable[Mapping[str, object]]) -> Router:
    """Return the router of pools as a coordinator shows them."""
    endless = float("inf")
    return Router(
        tuple(
            Pool(
                str(pool["name"]),
                frozenset(pool["tags"]),  # type: ignore[call-overload] # a list of words
                bool(pool["accept_untagged"]),
                endless if pool["max_seconds"] is None else float(pool["max_seconds"]),  # type: ignore[arg-type] # a number
                endless if pool["max_memory"] is None else float(pool["max_memory"]),  # type: ignore[arg-type] # a number
            )
            for pool in pools
        )
    )


def _more(floor: float) -> float:
    return floor * (1.0 + 1e-9) if floor else 0.0
