"""What an executor knows of one worker server: its places, its breaker, how fast it is."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Any

from noob_cloud.executors.breaker import BreakerState, CircuitBreaker
from noob_cloud.executors.worker_client import WorkerClient

if TYPE_CHECKING:
    from collections.abc import Iterable

    from noob_cloud.executors.worker_config import WorkerConfig

_SMOOTHING = 0.3
_PLACES = 4
"""Places of a worker that has not yet said how many it has."""


class RemoteWorker:
    """State of one worker server; its executor's lock guards it."""

    MOST_SILENT_ROUNDS = 3
    """Questions without an answer after which running calls are taken from it."""

    def __init__(
        self, index: int, config: WorkerConfig, *, threshold: int, recovery_seconds: float
    ) -> None:
        self.index = index
        self.config = config
        self.client = WorkerClient(config)
        self.breaker = CircuitBreaker(threshold, recovery_seconds=recovery_seconds)
        self.active = 0
        self.reachable = True
        """Whether it answered when last asked; until then it is believed to."""
        self.silent_rounds = 0
        """Questions in a row that it did not answer."""
        self.reported_places: int | None = None
        self.busy_until = 0.0
        """It said that it was full, and when to come back."""
        self.fault: Exception | None = None
        """Why it cannot be used at all: it knows our token not, or not for this."""
        self.tubes: set[str] = set()
        """Tubes that have been sent there."""
        self.counts: Counter[str] = Counter()
        self._latency: float | None = None

    @property
    def name(self) -> str:
        """How it is called in messages and metrics."""
        return str(self.config.worker_id)

    @property
    def places(self) -> int:
        """Calls at once."""
        return self.config.max_tasks or self.reported_places or _PLACES

    @property
    def latency(self) -> float | None:
        """Usual seconds of a call, the last ones counting most; None before the first."""
        return self._latency

    def serves(self, affinity: Iterable[str], required: Iterable[str]) -> bool:
        """Whether its tags allow the call."""
        return self.config.serves(affinity, required)

    def free(self, *, now: float) -> bool:
        """Whether it may be given a call now."""
        return (
            self.fault is None
            and self.reachable
            and self.active < self.places
            and now >= self.busy_until
            and self.breaker.allows(now=now)
        )

    def usable_from(self, *, now: float) -> float:
        """Return when it may be given a call at the earliest, as far as that is known."""
        return inf if self.fault is not None else self.breaker.opens_until(now=now)

    def begin(self, *, now: float) -> None:
        """Take a place."""
        self.active += 1
        self.breaker.begin(now=now)

    def end(self, seconds: float, *, now: float, answered: bool) -> None:
        """Give the place back; learn from how the call went."""
        self.active -= 1
        if answered:
            self.breaker.succeed()
            before = seconds if self._latency is None else self._latency
            self._latency = before + _SMOOTHING * (seconds - before)
        else:
            self.breaker.fail(now=now)

    def turn_away(self, *, until: float) -> None:
        """Give the place back: the worker was full, which says nothing about its health."""
        self.active -= 1
        self.breaker.abandon()
        self.busy_until = until

    def hear(self, said: dict[str, Any] | None) -> None:
        """Take what it says of itself on `/health`; None: it said nothing."""
        self.reachable = said is not None and said.get("status") != "draining"
        places = None if said is None else said.get("max_tasks")
        if isinstance(places, int) and 0 < places < 100_000:  # noqa: PLR2004 - a sane number
            self.reported_places = places
        self.silent_rounds = self.silent_rounds + 1 if said is None else 0
        if said is None:
            self.tubes.clear()  # it may come back as a new process

    def state(self, *, now: float) -> str:
        """Say in a word or two whether it can be used."""
        if self.fault is not None:
            return f"refuses us ({self.fault})"
        if not self.reachable:
            return "open (unreachable)"
        state = self.breaker.state(now=now)
        return state.value

    def metrics(self, *, now: float) -> dict[str, Any]:
        """Return its counters and state."""
        return {
            "worker_id": self.name,
            "url": self.config.url,
            "tags": sorted(self.config.tags),
            "state": self.state(now=now),
            "breaker": (self.breaker.state(now=now) if self.reachable else BreakerState.OPEN).value,
            "breaker_opened": self.breaker.opened,
            "active": self.active,
            "places": self.places,
            "latency_seconds": self._latency,
            **{name: self.counts[name] for name in ("completed", "failed", "lost", "busy")},
        }
