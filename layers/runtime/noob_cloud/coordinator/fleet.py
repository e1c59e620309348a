"""What the capacity loop remembers from one second to the next: starts, money, how long tasks take.

It knows no clock and calls nobody: it is told what is seen, and gives the `State` for `plan`.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from noob_cloud.coordinator.capacity import Money, Scale, Standing, Start, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from noob_cloud.coordinator.capacity import Decision, Demand, Place

_LONGEST_STEP: Final = 300.0
"""Longest time that is charged at once: longer ones the coordinator was away."""
_HALF_LIFE: Final = 60.0
"""How fast the measured length of tasks forgets, in seconds."""
_DAYS: Final = 3
"""Whose money is known: a clock that was set back over midnight finds that of the day before."""
_FIRST_PAUSE: Final = 10.0
_LONGEST_PAUSE: Final = 300.0
"""Cool-downs after starts that failed: twice as long each time."""


@dataclass(slots=True)
class Seen:
    """What is seen of one place."""

    workers: frozenset[str] = frozenset()
    """Those heard of of late."""
    busy: int = 0
    held: int = 0
    """Tasks that they hold."""
    done: int = 0
    """Tasks that they completed since the last look."""
    runs: Mapping[str, int] = field(default_factory=dict)
    """Tasks held by run."""


class Crew:
    """The workers of one place."""

    def __init__(self, place: Place, now: float) -> None:
        self.place = place
        self.seen = Seen()
        self.in_flight: deque[tuple[float, str]] = deque()
        """When each start was made that was not heard of yet, and for which run."""
        self.failed = 0
        """Starts that failed, ever."""
        self.blocked_until = 0.0
        self._pause = _FIRST_PAUSE
        self.desired = 0
        self._short_since: float | None = None
        self._since: deque[float] = deque()
        """When each worker that is there, or about to be, was started: the oldest first."""
        self._tokens = place.burst
        self._filled_at = now
        self._wanted: deque[tuple[float, int]] = deque()
        self._busy_seconds = 0.0
        self._done = 0.0

    # ---- looking

    @property
    def seconds(self) -> float | None:
        """How long a task takes here; None while none has ended."""
        return self._busy_seconds / self._done if self._done >= 1.0 else None

    def starting(self, now: float) -> int:
        """Workers that were started and are not there yet."""
        if self.place.by_itself:
            return len(self.in_flight)
        missing = max(0, self.desired - len(self.seen.workers))
        late = self._short_since is not None and now - self._short_since > self.place.start_seconds
        return 0 if late else missing

    def standing(self, now: float) -> Standing:
        """Return the place as it stands."""
        return Standing(
            self.place,
            alive=len(self.seen.workers),
            starting=self.starting(now),
            busy=self.seen.busy,
            held=self.seen.held,
            desired=self.desired,
            high=max((wanted for _at, wanted in self._wanted), default=0),
            tokens=self._tokens,
            blocked=now < self.blocked_until,
            seconds=self.seconds,
        )

    def reserved(self, now: float) -> float:
        """Money that the workers that are there may still cost."""
        place = self.place
        left = sum(max(0.0, place.life_seconds - (now - at)) for at in self._since)
        return left * place.price

    # ---- what happens

    def observe(self, seen: Seen, now: float, step: float) -> float:
        """Take in what is seen; return the money that the time since the last look has cost."""
        cost = self.place.price * step * len(self._since)
        fading = 0.5 ** (step / _HALF_LIFE)
        running = min(seen.held, seen.busy * self.place.slots)
        self._busy_seconds = self._busy_seconds * fading + running * step
        self._done = self._done * fading + seen.done
        self._tokens = min(
            self.place.burst, self._tokens + (now - self._filled_at) * self.place.refill
        )
        self._filled_at = now
        joined = len(seen.workers - self.seen.workers)
        self.seen = seen
        if self.place.by_itself:
            self._meet(joined, now)
        else:
            self._wait(now)
        self._count(now)
        while self._wanted and self._wanted[0][0] < now - self.place.cooldown_seconds:
            self._wanted.popleft()
        return cost

    def _meet(self, joined: int, now: float) -> None:
        for _ in range(min(joined, len(self.in_flight))):
            self.in_flight.popleft()
        if joined:
            self._pause = _FIRST_PAUSE
        late = 0
        while self.in_flight and now - self.in_flight[0][0] > self.place.start_seconds:
            self.in_flight.popleft()
            late += 1
        if late:
            self.block(late, now)

    def _wait(self, now: float) -> None:
        if len(self.seen.workers) >= self.desired:
            self._short_since = None
            return
        if self._short_since is None:
            self._short_since = now
        if now - self._short_since > self.place.start_seconds and now >= self.blocked_until:
            self.block(self.desired - len(self.seen.workers), now)

    def _count(self, now: float) -> None:
        """Let as many lives be counted as there are workers: who was first ends first."""
        have = len(self.seen.workers) + self.starting(now)
        while len(self._since) > have:
            self._since.popleft()
        while len(self._since) < have:
            self._since.append(now)

    def block(self, failed: int, now: float) -> None:
        """Start nothing for a while: starts have failed."""
        self.failed += failed
        self.blocked_until = now + self._pause
        self._pause = min(_LONGEST_PAUSE, 2 * self._pause)

    def started(self, runs: Mapping[str, int], now: float) -> None:
        """Note workers that were started by calls."""
        for run_id, count in runs.items():
            self.in_flight.extend((now, run_id) for _ in range(count))
        self._tokens -= sum(runs.values())
        self._count(now)

    def scaled(self, workers: int, now: float) -> None:
        """Note what the service was told to have."""
        if workers > self.desired:
            self._short_since = now
            self._tokens -= workers - self.desired
        self.desired = workers
        self._count(now)

    def set_back(self, seconds: float) -> None:
        """Move what was noted with a clock that was set back: nothing is to come that was."""
        self._filled_at -= seconds
        self.blocked_until -= seconds
        if self._short_since is not None:
            self._short_since -= seconds
        self.in_flight = deque((at - seconds, run_id) for at, run_id in self.in_flight)
        self._since = deque(at - seconds for at in self._since)
        self._wanted = deque((at - seconds, workers) for at, workers in self._wanted)

    def wanted(self, workers: int, now: float) -> None:
        """Note how many workers were wanted."""
        self._wanted.append((now, workers))


class Fleet:
    """Every place, and the money.

    Args:
        places: in the order of preference.
        now: Unix time.
        per_day: money of a day.
        per_run: money of a run.
        target_seconds: see `State`.
        assumed_seconds: see `State`.
    """

    def __init__(
        self,
        places: Iterable[Place],
        now: float,
        *,
        per_day: float | None = None,
        per_run: float | None = None,
        target_seconds: float = 60.0,
        assumed_seconds: float = 60.0,
    ) -> None:
        self.crews = {place.name: Crew(place, now) for place in places}
        self.per_day, self.per_run = per_day, per_run
        self.target_seconds, self._assumed = target_seconds, assumed_seconds
        self._at = now
        self.day = day_of(now)
        self._days: dict[str, defaultdict[str, float]] = {}
        self.spent = self._days.setdefault(self.day, defaultdict(float))
        """Money of today by place."""
        self.spent_by_run: defaultdict[str, float] = defaultdict(float)
        self.charges: dict[tuple[str, str, str], list[float]] = {}
        """Money and worker-seconds by (day, place, run) that are not written down yet."""

    # ---- each second

    def observe(self, seen: Mapping[str, Seen], demands: Sequence[Demand], now: float) -> State:
        """Take in what is seen, charge for the time since the last look; return what to plan by."""
        if day_of(now) != self.day:
            self.day = day_of(now)
            self.spent = self._days.setdefault(self.day, defaultdict(float))
            if len(self._days) > _DAYS:
                del self._days[next(iter(self._days))]
        if now < self._at:
            for crew in self.crews.values():
                crew.set_back(self._at - now)
        step = min(_LONGEST_STEP, max(0.0, now - self._at))
        self._at = now
        for name, crew in self.crews.items():
            here = seen.get(name, Seen())
            cost = crew.observe(here, now, step)
            if cost > 0:
                self._charge(crew, cost, here.runs)
        return State(
            [crew.standing(now) for crew in self.crews.values()],
            demands,
            self.money(now),
            self.target_seconds,
            self._assumed,
        )

    @property
    def spent_today(self) -> float:
        """Money of every place."""
        return sum(self.spent.values())

    def money(self, now: float) -> Money:
        """Return what was spent, and what may still be."""
        reserved = {name: crew.reserved(now) for name, crew in self.crews.items()}
        runs = dict(self.spent_by_run)
        if self.per_run is not None:
            for name, crew in self.crews.items():
                for run_id, share in _shares(crew).items():
                    runs[run_id] = runs.get(run_id, 0.0) + reserved[name] * share
        return Money(self.per_day, self.per_run, self.spent_today, sum(reserved.values()), runs)

    def left(self, decision: Decision, now: float) -> float | None:
        """Return the money left for starts today: 0 once it holds one up; None without a budget."""
        money = self.money(now)
        if money.per_day is None:
            return None
        left = max(0.0, money.per_day - money.spent - money.reserved)
        dearest = max((crew.place.most_a_start for crew in self.crews.values()), default=0.0)
        return 0.0 if decision.over_budget and left < dearest else left

    def decided(self, decision: Decision, now: float) -> None:
        """Note what was wanted."""
        for name, workers in decision.wanted.items():
            self.crews[name].wanted(workers, now)

    def done(self, action: Start | Scale, accepted: int, now: float) -> None:
        """Note that an action was carried out; of a `Start`, how many were taken."""
        crew = self.crews[action.place.name]
        if isinstance(action, Scale):
            crew.scaled(accepted, now)
            return
        runs, left = {}, accepted
        for run_id, count in action.runs.items():
            runs[run_id] = min(left, count)
            left -= runs[run_id]
        crew.started(runs, now)
        cost = accepted * action.place.start_price
        if cost > 0:
            self._charge(crew, cost, runs, seconds=0.0)
        if accepted < action.count:
            crew.block(action.count - accepted, now)

    # ---- money

    def _charge(
        self, crew: Crew, cost: float, runs: Mapping[str, int], seconds: float | None = None
    ) -> None:
        """Charge a place's cost to the runs whose tasks it holds; idle, to nobody."""
        name = crew.place.name
        if seconds is None:
            seconds = cost / crew.place.price if crew.place.price else 0.0
        self.spent[name] += cost
        whole = sum(runs.values())
        for run_id, count in (runs or {"": 1}).items():
            share = count / whole if whole else 1.0
            entry = self.charges.setdefault((self.day, name, run_id), [0.0, 0.0])
            entry[0] += cost * share
            entry[1] += seconds * share
            if run_id:
                self.spent_by_run[run_id] += cost * share

    def take_charges(self) -> list[tuple[str, str, str, float, float]]:
        """Return what is to be written down, and forget that it is."""
        charges, self.charges = self.charges, {}
        return [(*name, money, seconds) for name, (money, seconds) in charges.items()]


def _shares(crew: Crew) -> dict[str, float]:
    """Whose a place's workers are: of the runs that hold them, and that they were started for."""
    counts: Counter[str] = Counter(crew.seen.runs)
    counts.update(run_id for _at, run_id in crew.in_flight)
    whole = counts.total()
    return {run_id: count / whole for run_id, count in counts.items() if run_id} if whole else {}


def day_of(now: float) -> str:
    """Return the day in UTC."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()
