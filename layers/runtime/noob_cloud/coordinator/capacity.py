"""How many workers, where: a decision made anew each second from what waits, runs and was spent.

`plan` is pure: it knows no clock and calls nobody. What is ready is given to the places that may
run it, first to the workers that are there, then to new ones in the order of preference, as far as
limits, budget and cool-downs let it; what the ramp of a place holds back waits for it, since that
is seconds. A service becomes smaller when fewer workers have been enough for its cool-down, and
never smaller than the workers that hold tasks. A Lambda ends by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, floor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ENDLESS = float("inf")
_LEAST_SHARE = 1e-4
"""A task is worth at least so much of a slot: 10,000 short ones a worker and target time."""
_HAIR = 1e-9


@dataclass(frozen=True, slots=True)
class Place:
    """Where workers of one kind can be had: a pool, or one size of a Lambda pool."""

    name: str
    pool: str
    """The pool whose limit it shares."""
    kind: str
    """lambda (each worker is started, and ends by itself), fargate and ec2 (a service has so many),
    own (others start them)."""
    target: tuple[str, ...] = ()
    """The function; or cluster and service."""
    memory: int | None = None
    """Of one worker, in MiB."""
    most: int = 1
    """Workers of the whole pool."""
    least: int = 0
    """Workers that stay when nothing is to be done."""
    slots: int = 1
    """Tasks at once in one worker."""
    price: float = 0.0
    """Money for a worker-second."""
    start_price: float = 0.0
    """Money for a start."""
    life_seconds: float = 900.0
    """How long a start may cost money at most."""
    cooldown_seconds: float = 120.0
    start_seconds: float = 30.0
    """After how long a start that was not heard of has failed."""
    burst: float = _ENDLESS
    """Starts at once."""
    refill: float = _ENDLESS
    """Starts a second."""
    drives: bool = True
    """Whether its workers drive runs without a client."""
    limit_seconds: float | None = None
    """How long a started worker is told to stay at most; None: as long as it can."""
    tags: frozenset[str] = frozenset()
    """What its workers offer, ours not among them."""

    @property
    def by_itself(self) -> bool:
        """Whether each worker is started by a call of its own, and ends by itself."""
        return self.kind == "lambda"

    @property
    def most_a_start(self) -> float:
        """Money that a start may cost."""
        return self.price * self.life_seconds + self.start_price


@dataclass(frozen=True, slots=True)
class Demand:
    """Ready tasks that the same places may run."""

    places: tuple[str, ...]
    """Any of these."""
    tasks: int
    run_id: str | None = None
    age: float = 0.0
    """How long the oldest has been ready, in seconds."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A place as it stands."""

    place: Place
    alive: int = 0
    """Workers heard of of late."""
    starting: int = 0
    """Started, and not heard of yet."""
    busy: int = 0
    """Workers that hold tasks."""
    held: int = 0
    """Tasks that they hold."""
    desired: int = 0
    """Of a service: how many workers it was told to have."""
    high: int = 0
    """Most workers that were wanted within the cool-down."""
    tokens: float = _ENDLESS
    """Starts that the ramp allows now."""
    blocked: bool = False
    """Whether it cools down after starts that failed."""
    seconds: float | None = None
    """How long a task takes there; None: not measured."""

    @property
    def have(self) -> int:
        """Workers that are there, or about to be."""
        if self.place.by_itself or self.place.kind == "own":
            return self.alive + self.starting
        return min(self.alive, self.desired) + self.starting


@dataclass(frozen=True, slots=True)
class Money:
    """What was spent, and what workers that are there may still cost."""

    per_day: float | None = None
    per_run: float | None = None
    spent: float = 0.0
    """Today."""
    reserved: float = 0.0
    runs: Mapping[str, float] = field(default_factory=dict)
    """Spent and reserved by each run."""


@dataclass(frozen=True, slots=True)
class State:
    """All that a decision is made from."""

    standings: Sequence[Standing]
    """In the order of preference."""
    demands: Sequence[Demand] = ()
    money: Money = field(default_factory=Money)
    target_seconds: float = 60.0
    """In this time what is ready is to be done."""
    assumed_seconds: float = 60.0
    """How long a task takes where nothing is measured."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start so many workers, each by a call."""

    place: Place
    count: int
    runs: Mapping[str, int] = field(default_factory=dict)
    """How many of them for which run."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Let a service have so many workers."""

    place: Place
    workers: int
    runs: Mapping[str, int] = field(default_factory=dict)
    """How many of the new ones for which run."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, and why."""

    actions: tuple[Start | Scale, ...] = ()
    wanted: Mapping[str, int] = field(default_factory=dict)
    """Workers that each place should have, were there neither limit nor budget in the way."""
    unserved: int = 0
    """Ready tasks for which nothing may be started now."""
    over_budget: bool = False
    """Whether money was in the way."""


def plan(state: State) -> Decision:
    """Decide what to start, and what to make larger or smaller."""
    return _Desk(state).decide()


class _Slate:
    """What is allotted to one place."""

    def __init__(self, standing: Standing, state: State) -> None:
        self.standing = standing
        self.place = standing.place
        seconds = state.assumed_seconds if standing.seconds is None else standing.seconds
        share = min(1.0, max(_LEAST_SHARE, seconds / state.target_seconds))
        self.each = standing.place.slots / share
        """Tasks that one worker does in the target time."""
        self.load = float(standing.held)
        self.added: dict[str, int] = {}

    @property
    def new(self) -> int:
        return sum(self.added.values())

    @property
    def spare(self) -> int:
        """Tasks that its workers could take besides."""
        return max(0, floor((self.standing.have + self.new) * self.each - self.load + _HAIR))

    @property
    def wanted(self) -> int:
        return max(self.place.least, ceil(self.load / self.each - _HAIR))


class _Desk:
    def __init__(self, state: State) -> None:
        self._state = state
        self._slates = {x.place.name: _Slate(x, state) for x in state.standings}
        self._room: dict[str, int] = {}
        for standing in state.standings:
            place = standing.place
            room = self._room.get(place.pool, place.most)
            self._room[place.pool] = room - standing.have
        money = state.money
        self._left = _ENDLESS
        if money.per_day is not None:
            self._left = money.per_day - money.spent - money.reserved
        self._of_runs: dict[str, float] = {}
        self._over_budget = False

    def decide(self) -> Decision:
        unserved = 0
        wanted_more: dict[str, float] = {}
        ordered = sorted(self._state.demands, key=lambda x: (len(x.places), -x.age))
        for demand in ordered:
            slates = [x for name, x in self._slates.items() if name in demand.places]
            left = self._give(demand, slates)
            left = self._grow(demand, left, slates)
            unserved += left
            if left and slates:  # it would be the first's, were nothing in the way
                first = slates[0]
                name = first.place.name
                wanted_more[name] = wanted_more.get(name, 0.0) + left / first.each
        for slate in self._slates.values():
            self._keep_least(slate)
        wanted = {
            name: slate.wanted + ceil(wanted_more.get(name, 0.0) - _HAIR)
            for name, slate in self._slates.items()
        }
        actions = [self._action(slate) for slate in self._slates.values()]
        return Decision(
            tuple(x for x in actions if x is not None), wanted, unserved, self._over_budget
        )

    def _give(self, demand: Demand, slates: list[_Slate]) -> int:
        """Give tasks to workers that are there; return how many are left."""
        left = demand.tasks
        for slate in slates:
            taken = min(left, slate.spare)
            slate.load += taken
            left -= taken
        return left

    def _grow(self, demand: Demand, left: int, slates: list[_Slate]) -> int:
        """Give tasks to new workers, as far as may be; return how many are left."""
        for slate in slates:
            if left <= 0:
                break
            if slate.standing.blocked or slate.place.kind == "own":
                continue
            count = min(ceil(left / slate.each - _HAIR), self._room[slate.place.pool])
            count = self._hire(slate, count, demand.run_id)
            taken = min(left, slate.spare) if count else 0
            slate.load += taken
            left -= taken
        return left

    def _keep_least(self, slate: _Slate) -> None:
        short = slate.place.least - slate.standing.have - slate.new
        if short > 0 and not slate.standing.blocked and slate.place.kind != "own":
            self._hire(slate, min(short, self._room[slate.place.pool]), None)

    def _hire(self, slate: _Slate, count: int, run_id: str | None) -> int:
        """Add up to `count` workers: as many as there is money for."""
        cost = slate.place.most_a_start
        affordable = min(count, _times(self._left, cost), _times(self._run_left(run_id), cost))
        if affordable < count:
            self._over_budget = True
        if affordable <= 0:
            return 0
        slate.added[run_id or ""] = slate.added.get(run_id or "", 0) + affordable
        self._room[slate.place.pool] -= affordable
        self._left -= affordable * cost
        if run_id is not None:
            self._of_runs[run_id] = self._run_left(run_id) - affordable * cost
        return affordable

    def _run_left(self, run_id: str | None) -> float:
        money = self._state.money
        if run_id is None or money.per_run is None:
            return _ENDLESS
        if run_id not in self._of_runs:
            self._of_runs[run_id] = money.per_run - money.runs.get(run_id, 0.0)
        return self._of_runs[run_id]

    def _action(self, slate: _Slate) -> Start | Scale | None:
        standing, place = slate.standing, slate.place
        if place.kind == "own":
            return None
        allowed = min(slate.new, floor(min(standing.tokens, 1e9)))
        runs = _cut(slate.added, allowed)
        if place.by_itself:
            return Start(place, allowed, runs) if allowed > 0 else None
        larger = standing.have + allowed
        if larger > standing.desired:
            return Scale(place, larger, _cut(runs, larger - standing.desired))
        enough = max(slate.wanted, standing.high, standing.busy, place.least)
        return Scale(place, enough) if enough < standing.desired else None


def _times(money: float, cost: float) -> int:
    """How often `cost` can be paid."""
    if cost <= 0 or money == _ENDLESS:
        return 1 << 40
    count = max(0, floor(money / cost))
    return count - 1 if count and count * cost > money else count


def _cut(added: Mapping[str, int], most: int) -> dict[str, int]:
    """Keep the first `most` of what was added."""
    kept: dict[str, int] = {}
    for run_id, count in added.items():
        taken = min(count, most)
        most -= taken
        if taken > 0:
            kept[run_id] = taken
    return kept
