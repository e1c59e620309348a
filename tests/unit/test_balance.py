"""Each strategy chooses as it says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest

from noob_cloud.executors.balance import Balancer, LoadBalancingStrategy


@dataclass
class Worker:
    index: int
    active: int = 0
    places: int = 4
    latency: float | None = None


@pytest.fixture
def workers() -> list[Worker]:
    return [Worker(0), Worker(1), Worker(2)]


def test_round_robin_takes_turns(workers: list[Worker]) -> None:
    """Each worker gets its turn, again and again."""
    balancer = Balancer(LoadBalancingStrategy.ROUND_ROBIN)

    chosen = [balancer.choose(workers).index for _ in range(6)]

    assert chosen == [0, 1, 2, 0, 1, 2]


def test_round_robin_skips_absent(workers: list[Worker]) -> None:
    """A worker that was no candidate for a while is next when it is back."""
    balancer = Balancer(LoadBalancingStrategy.ROUND_ROBIN)
    for _ in range(4):
        balancer.choose(workers[:2])

    assert balancer.choose(workers).index == 2


def test_least_loaded_goes_by_share() -> None:
    """The share of places taken decides, not the number of calls."""
    small, large = Worker(0, active=1, places=2), Worker(1, active=3, places=20)

    assert Balancer(LoadBalancingStrategy.LEAST_LOADED).choose([small, large]) is large


def test_fastest_response_goes_by_time() -> None:
    """The worker expected to answer first is chosen: its time, times the calls it would have."""
    balancer = Balancer(LoadBalancingStrategy.FASTEST_RESPONSE)
    slow, fast = Worker(0, latency=0.4), Worker(1, latency=0.1)
    assert balancer.choose([slow, fast]) is fast

    fast.active = 4

    assert balancer.choose([slow, fast]) is slow


def test_fastest_response_tries_unknown(workers: list[Worker]) -> None:
    """A worker that has not been tried yet is tried."""
    workers[0].latency = workers[1].latency = 0.01

    assert Balancer(LoadBalancingStrategy.FASTEST_RESPONSE).choose(workers).index == 2


def test_random_reaches_all(workers: list[Worker]) -> None:
    """Every worker is chosen about as often."""
    balancer = Balancer(LoadBalancingStrategy.RANDOM, rng=Random(7))

    counts = Counter(balancer.choose(workers).index for _ in range(3000))

    assert all(900 < counts[index] < 1100 for index in range(3))


def test_strategy_by_name() -> None:
    """The name of a strategy does as well; a wrong one is refused."""
    assert Balancer("least_loaded").strategy is LoadBalancingStrategy.LEAST_LOADED  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fastest_first"):
        Balancer("fastest_first")  # type: ignore[arg-type]
