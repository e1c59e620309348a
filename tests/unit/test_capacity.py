"""What is started and scaled: never over a limit, never over the money, and no flapping."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noob_cloud.coordinator.capacity import (
    Demand,
    Money,
    Place,
    Scale,
    Standing,
    Start,
    State,
    plan,
)
from noob_cloud.coordinator.fleet import Fleet, Seen
from noob_cloud.coordinator.workers import Workers
from noob_cloud.identity import Identity

SMALL = Place("small", "lambda", "lambda", most=100, price=0.01, burst=50, refill=5, drives=False)
LARGE = replace(SMALL, name="large", price=0.04)
SERVICE = Place("service", "service", "fargate", most=10, slots=2, price=0.02, life_seconds=3600)
GPU = Place("gpu", "gpu", "ec2", most=4, price=1.0, start_seconds=900, life_seconds=3600)


def starts(state: State) -> dict[str, int]:
    return {
        x.place.name: x.count if isinstance(x, Start) else x.workers for x in plan(state).actions
    }


@pytest.mark.parametrize(
    ("standings", "demand", "actions"),
    [
        ([Standing(SMALL)], 7, {"small": 7}),
        ([Standing(SMALL, alive=3)], 7, {"small": 4}),
        ([Standing(SMALL, starting=7)], 7, {}),
        ([Standing(SMALL, alive=3, held=3)], 7, {"small": 7}),
        ([Standing(SMALL)], 700, {"small": 100}),
        ([Standing(SMALL, tokens=20.5)], 700, {"small": 20}),
        ([Standing(SMALL, seconds=6.0)], 700, {"small": 70}),
        ([Standing(SMALL, seconds=0.001)], 700, {"small": 1}),
        ([Standing(SERVICE)], 7, {"service": 4}),
        ([Standing(SERVICE, desired=2, alive=1, starting=1)], 7, {"service": 4}),
        ([Standing(SERVICE, desired=2, alive=2, held=4)], 0, {}),
        ([Standing(SERVICE, desired=6, alive=6, held=2, busy=2)], 0, {"service": 2}),
        ([Standing(SERVICE, desired=6, alive=6, high=5)], 0, {"service": 5}),
        ([Standing(SERVICE, desired=6, alive=6)], 0, {"service": 0}),
        ([Standing(replace(SERVICE, least=2))], 0, {"service": 2}),
        ([Standing(SMALL, blocked=True), Standing(LARGE)], 7, {"large": 7}),
        ([Standing(replace(SMALL, most=5)), Standing(SERVICE)], 7, {"small": 5, "service": 1}),
        ([Standing(Place("mine", "mine", "own")), Standing(SMALL)], 7, {"small": 7}),
    ],
)
def test_how_many_workers(standings: Any, demand: int, actions: Any) -> None:
    """As many as the ready tasks need, less those there, within limits and ramps."""
    names = tuple(x.place.name for x in standings)
    assert starts(State(standings, [Demand(names, demand)])) == actions


def test_the_ramp_of_a_place_does_not_push_tasks_to_a_dearer_one() -> None:
    """Its starts come within seconds; a limit or a cool-down would last."""
    state = State([Standing(SMALL, tokens=0), Standing(GPU)], [Demand(("small", "gpu"), 5)])
    assert starts(state) == {}


def test_tasks_that_few_may_run_are_served_first() -> None:
    """What anybody may run must not take the only workers of what needs them."""
    places = [Standing(SMALL), Standing(GPU, alive=1, desired=1)]
    state = State(places, [Demand(("small", "gpu"), 1, age=50.0), Demand(("gpu",), 1)])
    assert starts(state) == {"small": 1}


def test_money_that_workers_may_still_cost_is_spent() -> None:
    """A start is paid with all that it may cost; without money for one, none is made."""
    cost = SMALL.most_a_start
    demands = [Demand(("small",), 50)]
    money = Money(per_day=10 * cost, spent=2 * cost, reserved=5 * cost)
    assert starts(State([Standing(SMALL)], demands, money)) == {"small": 3}
    decision = plan(State([Standing(SMALL)], demands, replace(money, spent=9 * cost)))
    assert decision.actions == ()
    assert decision.over_budget
    assert decision.unserved == 50


def test_a_run_without_money_does_not_stop_the_others() -> None:
    """Each run has its own budget, within that of the day."""
    cost = SMALL.most_a_start
    demands = [Demand(("small",), 5, run_id) for run_id in ("rich", "poor")]
    money = Money(per_run=3 * cost, runs={"poor": 2.5 * cost})
    (start,) = plan(State([Standing(SMALL)], demands, money)).actions
    assert isinstance(start, Start)
    assert dict(start.runs) == {"rich": 3}


# ---- for any state

PLACES = (SMALL, LARGE, SERVICE, replace(SERVICE, name="spot", pool="spot", least=1), GPU)
few = st.integers(0, 30)


@st.composite
def standings(draw: Any) -> list[Standing]:
    found = []
    room: dict[str, int] = {}
    for place in PLACES:
        left = room.setdefault(place.pool, place.most)
        if place.by_itself:
            alive = draw(st.integers(0, left))
            starting = draw(st.integers(0, left - alive))
            desired = 0
        else:
            desired = draw(st.integers(0, left))
            alive = draw(st.integers(0, left + 3))
            starting = draw(st.sampled_from([0, max(0, desired - alive)]))
        busy = draw(st.integers(0, alive))
        standing = Standing(
            place,
            alive,
            starting,
            busy,
            draw(st.integers(busy, busy * place.slots)),
            desired,
            draw(few),
            draw(st.sampled_from([0.0, 3.7, 50.0, float("inf")])),
            draw(st.booleans()),
            draw(st.sampled_from([None, 0.0, 0.01, 5.0, 60.0, 600.0])),
        )
        room[place.pool] -= standing.have
        found.append(standing)
    return found


demands = st.lists(
    st.builds(
        Demand,
        st.lists(st.sampled_from([x.name for x in PLACES]), max_size=4, unique=True).map(tuple),
        st.integers(0, 5000),
        st.sampled_from([None, "a", "b"]),
        st.floats(0, 100),
    ),
    max_size=6,
)
amounts = st.one_of(st.none(), st.floats(0, 20_000))
moneys = st.builds(
    Money,
    amounts,
    amounts,
    st.floats(0, 20_000),
    st.floats(0, 20_000),
    st.dictionaries(st.sampled_from("ab"), st.floats(0, 20_000)),
)
states = st.builds(State, standings(), demands, moneys)


@given(states)
def test_never_over_the_limit(state: State) -> None:
    """Of a pool, whatever its sizes; nor over a place's ramp."""
    have = {x.place.name: x.have for x in state.standings}
    new = {}
    for action in plan(state).actions:
        standing = next(x for x in state.standings if x.place is action.place)
        if isinstance(action, Start):
            assert 0 < action.count <= standing.tokens
            new[action.place.name] = action.count
        else:
            assert 0 <= action.workers <= action.place.most
            assert action.workers != standing.desired
            assert action.workers - standing.have <= max(standing.tokens, 0) or (
                action.workers < standing.desired
            )
            new[action.place.name] = max(0, action.workers - standing.have)
    for place in PLACES:
        pool = [x.name for x in PLACES if x.pool == place.pool]
        if any(new.get(name, 0) for name in pool):
            assert sum(have[name] + new.get(name, 0) for name in pool) <= place.most


@given(states)
def test_never_over_the_money(state: State) -> None:
    """What is started now may cost what is left, of the day and of each run."""
    money = state.money
    cost = 0.0
    by_run: dict[str, float] = {}
    for action in plan(state).actions:
        for run_id, count in action.runs.items():
            cost += count * action.place.most_a_start
            by_run[run_id] = by_run.get(run_id, 0.0) + count * action.place.most_a_start
        if isinstance(action, Start):
            assert sum(action.runs.values()) == action.count
    hair = 1e-6
    if money.per_day is not None and cost:
        assert money.spent + money.reserved + cost <= money.per_day + hair
    if money.per_run is not None:
        for run_id, spent in by_run.items():
            if run_id:
                assert money.runs.get(run_id, 0.0) + spent <= money.per_run + hair


@given(states)
def test_nobody_at_work_is_taken_away(state: State) -> None:
    """A service is not made smaller than the workers that hold tasks, nor below its least."""
    for action in plan(state).actions:
        if isinstance(action, Scale):
            standing = next(x for x in state.standings if x.place is action.place)
            if action.workers < standing.desired:
                assert action.workers >= max(standing.busy, standing.place.least, standing.high)


@given(states)
def test_nothing_is_started_for_nothing(state: State) -> None:
    """Each new worker is for a ready task that it may run, but for those that always stay."""
    wanted = {name for demand in state.demands if demand.tasks for name in demand.places}
    for action in plan(state).actions:
        standing = next(x for x in state.standings if x.place is action.place)
        if isinstance(action, Start) or action.workers > standing.desired:
            assert action.place.name in wanted or action.place.least


# ---- over time


class Cloud:
    """Workers that come a while after they are asked for, and work."""

    def __init__(self, *places: Place, delay: float = 20.0, **options: Any) -> None:
        self.now = 1_000_000.0
        self.fleet = Fleet(places, self.now, **options)
        self.places = places
        self.delay = delay
        self.coming: list[tuple[float, str]] = []
        self.workers: dict[str, list[str]] = {place.name: [] for place in places}
        self.number = 0
        self.actions: list[tuple[float, str, int]] = []

    def second(self, held: int, ready: int, run_id: str | None = None) -> None:
        """One second passes in which so many tasks run and wait."""
        self.now += 1.0
        for at, name in list(self.coming):
            if at <= self.now:
                self.coming.remove((at, name))
                self.number += 1
                self.workers[name].append(f"w{self.number}")
        seen = {}
        for place in self.places:
            there = self.workers[place.name]
            mine = min(held, len(there) * place.slots)
            held -= mine
            seen[place.name] = Seen(frozenset(there), -(-mine // place.slots), mine)
        names = tuple(place.name for place in self.places)
        waiting = [Demand(names, ready, run_id)] if ready else []
        state = self.fleet.observe(seen, waiting, self.now)
        decision = plan(state)
        self.fleet.decided(decision, self.now)
        for action in decision.actions:
            name = action.place.name
            count = action.count if isinstance(action, Start) else action.workers
            self.actions.append((self.now, name, count))
            self.fleet.done(action, count, self.now)
            there = len(self.workers[name]) + sum(x == name for _at, x in self.coming)
            more = count if isinstance(action, Start) else count - there
            self.coming += [(self.now + self.delay, name)] * max(0, more)
            del self.workers[name][len(self.workers[name]) + min(0, more) :]


def test_a_service_goes_from_zero_and_back_once() -> None:
    """Up at once, down when its cool-down has passed, and never to and fro between."""
    cloud = Cloud(SERVICE)
    for _ in range(60):
        cloud.second(0, 8)
    for _ in range(200):
        cloud.second(0, 0)
    assert [(name, count) for _at, name, count in cloud.actions] == [("service", 4), ("service", 0)]
    up, down = (at for at, _name, _count in cloud.actions)
    assert down - up >= SERVICE.cooldown_seconds


@given(st.lists(st.integers(0, 12), min_size=30, max_size=120))
def test_no_flapping(ready: list[int]) -> None:
    """However what waits goes up and down, a service is smaller only when less was enough for long.

    Between two steps down there is a cool-down, or a step up in between that was needed.
    """
    cloud = Cloud(replace(SERVICE, cooldown_seconds=30.0), delay=0.0)
    wants = []
    for count in ready:
        cloud.second(0, count)
        wants.append((cloud.now, -(-count // 2)))
    desired = 0
    for at, _name, count in cloud.actions:
        if count < desired:
            recent = [want for when, want in wants if at - 30.0 <= when <= at]
            assert count >= max(recent[:-1], default=0)
        else:
            assert count <= max(want for when, want in wants if when <= at)
        desired = count


def test_a_gpu_that_does_not_come_gives_way() -> None:
    """While it is awaited nothing else is started; when it is late the next place is asked."""
    slow = replace(GPU, start_seconds=100.0)
    cloud = Cloud(slow, SERVICE, delay=1e9)
    for _ in range(100):
        cloud.second(0, 2)
    assert {name for _at, name, _count in cloud.actions} == {"gpu"}
    for _ in range(10):
        cloud.second(0, 2)
    assert {name for _at, name, _count in cloud.actions} == {"gpu", "service"}


def test_starts_that_fail_are_not_repeated_at_once() -> None:
    """They are never heard of: the place cools down, twice as long each time."""
    cloud = Cloud(replace(SMALL, start_seconds=5.0), delay=1e9)
    for _ in range(300):
        cloud.second(0, 1)
    times = [at for at, _name, _count in cloud.actions]
    pauses = [b - a for a, b in pairwise(times)]
    assert len(times) < 8
    assert pauses == sorted(pauses)


def test_throttled_starts_are_counted_and_wait() -> None:
    """Of 10 starts 4 were accepted: the others are not in flight, and come after a pause."""
    fleet = Fleet([SMALL], 0.0)
    state = fleet.observe({}, [Demand(("small",), 10)], 1.0)
    (action,) = plan(state).actions
    fleet.done(action, 4, 1.0)
    state = fleet.observe({}, [Demand(("small",), 10)], 2.0)
    assert (state.standings[0].starting, state.standings[0].blocked) == (4, True)
    assert plan(state).actions == ()
    (action,) = plan(fleet.observe({}, [Demand(("small",), 10)], 12.0)).actions
    assert isinstance(action, Start)
    assert action.count == 6


def test_each_second_is_charged_to_who_has_the_workers() -> None:
    """In the parts of the tasks that the runs hold; idle workers cost the day alone."""
    fleet = Fleet([SMALL], 0.0)
    workers = frozenset({"a", "b", "c", "d"})
    fleet.observe({"small": Seen(workers)}, [], 0.0)
    fleet.observe({"small": Seen(workers, 4, 4, runs={"x": 3, "y": 1})}, [], 10.0)
    fleet.observe({"small": Seen(workers)}, [], 20.0)
    charges = {run_id: (money, seconds) for _d, _p, run_id, money, seconds in fleet.take_charges()}
    assert charges["x"] == pytest.approx((0.3, 30.0))
    assert charges["y"] == pytest.approx((0.1, 10.0))
    assert charges[""] == pytest.approx((0.4, 40.0))
    assert fleet.spent_today == pytest.approx(0.8)
    assert fleet.take_charges() == []


def test_a_day_begins_with_its_whole_budget() -> None:
    """At midnight in UTC; what is not written down yet stays the old day's."""
    day = 86_400.0
    fleet = Fleet([SMALL], day - 1.0)
    seen = {"small": Seen(frozenset("a"))}
    fleet.observe(seen, [], day - 1.0)
    fleet.observe(seen, [], day - 0.5)
    assert fleet.spent_today > 0
    fleet.observe({}, [], day + 0.5)
    assert fleet.spent_today == pytest.approx(0.01)
    assert {charge[0] for charge in fleet.take_charges()} == {"1970-01-01", "1970-01-02"}


@given(st.integers(1, 400), st.floats(0.5, 20.0))
def test_a_fleet_never_spends_more_than_its_day(tasks: int, budget: float) -> None:
    """Lambdas that all live as long as they may, for as much work as there is."""
    place = replace(SMALL, life_seconds=30.0, start_seconds=10.0)
    cloud = Cloud(place, delay=2.0, per_day=budget)
    born: dict[str, float] = {}
    for _ in range(120):
        there = cloud.workers["small"]
        for name in there:
            born.setdefault(name, cloud.now)
        cloud.workers["small"] = [x for x in there if cloud.now - born[x] < 27.0]
        cloud.second(tasks, tasks)
    assert cloud.fleet.spent_today <= budget + 1e-6


def test_the_length_of_tasks_is_measured() -> None:
    """Ten workers that end a task a second each need 1 s for it; without tasks it is unknown."""
    fleet = Fleet([SMALL], 0.0)
    ten = frozenset(map(str, range(10)))
    assert fleet.crews["small"].seconds is None
    for second in range(1, 20):
        fleet.observe({"small": Seen(ten, 10, 10, done=10)}, [], float(second))
    assert fleet.crews["small"].seconds == pytest.approx(1.0)


@pytest.mark.parametrize("seconds", [3600.0, 90_000.0])
def test_a_clock_that_is_set_back_stops_nothing(seconds: float) -> None:
    """Neither the ramp, nor cool-downs, nor starts that were not heard of wait for it."""
    place = replace(SMALL, start_seconds=30.0)
    fleet = Fleet((place,), 100_000.0, per_day=1000.0)
    now, ready = 100_000.0, [Demand((place.name,), 50)]
    started = []
    for second in range(200):
        now += 1.0 - (seconds if second == 5 else 0.0)
        for action in plan(fleet.observe({}, ready, now)).actions:
            started.append(second)
            fleet.done(action, action.count, now)
            reserved = fleet.money(now).reserved
            assert reserved <= 50 * place.most_a_start
    assert len(started) > 2  # starts that failed are tried again


def test_a_clock_that_is_set_back_over_midnight_finds_what_was_spent() -> None:
    fleet = Fleet((SMALL,), 86_390.0, per_day=10.0)
    fleet.spent[SMALL.name] = 4.0
    fleet.observe({}, [], 86_401.0)
    assert fleet.spent_today == 0.0
    fleet.observe({}, [], 86_395.0)
    assert fleet.spent_today == 4.0


def test_a_clock_that_is_set_back_makes_no_worker_immortal() -> None:
    workers = Workers(timeout=90.0)
    workers.seen("w", Identity("owner", "admin"), None, 10_000.0)
    assert workers.sweep(5_000.0) == []
    assert len(workers.alive(4_990.0)) == 1
    assert workers.alive(5_015.0) == []
    assert [row.worker_id for row in workers.sweep(5_091.0)] == ["w"]
