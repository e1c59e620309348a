"""Which of several workers gets the next call."""

from __future__ import annotations

from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class LoadBalancingStrategy(StrEnum):
    """How to choose among the workers that may run a call and have a free place."""

    ROUND_ROBIN = "round_robin"
    """Each in turn."""
    LEAST_LOADED = "least_loaded"
    """The one with the smallest share of its places taken."""
    RANDOM = "random"
    """Any, with equal chances."""
    FASTEST_RESPONSE = "fastest_response"
    """The one expected to answer first: its usual time, times the calls it would then have."""


class Candidate(Protocol):
    """What a strategy looks at."""

    index: int
    """Its place in the list of workers."""
    active: int
    """Calls it runs now."""

    @property
    def places(self) -> int:
        """Calls it may run at once."""
        ...

    @property
    def latency(self) -> float | None:
        """Usual seconds of a call there; None before the first."""
        ...


_C = TypeVar("_C", bound=Candidate)


class Balancer:
    """Chooses by one strategy; ties go to the worker that was chosen longest ago.

    Args:
        strategy: how to choose.
        rng: where chance comes from, for RANDOM.
    """

    def __init__(self, strategy: LoadBalancingStrategy, *, rng: Random | None = None) -> None:
        self.strategy = LoadBalancingStrategy(strategy)
        self._rng = rng or Random()  # noqa: S311 - spreads load, guards nothing
        self._turn = 0
        self._chosen: dict[int, int] = {}

    def choose(self, candidates: Sequence[_C]) -> _C:
        """Return one of `candidates`, of which there is at least one."""
        if self.strategy is LoadBalancingStrategy.RANDOM:
            return self._rng.choice(candidates)
        chosen = min(candidates, key=self._rank)
        self._turn += 1
        self._chosen[chosen.index] = self._turn
        return chosen

    def _rank(self, candidate: Candidate) -> tuple[float, int, int]:
        cost = 0.0
        if self.strategy is LoadBalancingStrategy.LEAST_LOADED:
            cost = candidate.active / candidate.places
        elif self.strategy is LoadBalancingStrategy.FASTEST_RESPONSE:
            cost = (candidate.latency or 0.0) * (candidate.active + 1)
        return (cost, self._chosen.get(candidate.index, 0), candidate.index)
