"""The circuit breaker, with the time passed in."""

from __future__ import annotations

import pytest

from noob_cloud.executors.breaker import BreakerState, CircuitBreaker


@pytest.fixture
def breaker() -> CircuitBreaker:
    return CircuitBreaker(3, recovery_seconds=10.0, max_recovery_seconds=30.0)


def trip(breaker: CircuitBreaker, *, now: float) -> None:
    for _ in range(breaker.threshold):
        breaker.fail(now=now)


def test_opens_at_threshold(breaker: CircuitBreaker) -> None:
    """It lets calls through until the threshold of failures in a row is reached."""
    breaker.fail(now=0.0)
    breaker.fail(now=0.0)
    assert breaker.allows(now=0.0)

    breaker.fail(now=0.0)

    assert breaker.state(now=0.0) is BreakerState.OPEN
    assert not breaker.allows(now=9.9)


def test_success_resets_count(breaker: CircuitBreaker) -> None:
    """Only failures in a row count."""
    for _ in range(5):
        breaker.fail(now=0.0)
        breaker.fail(now=0.0)
        breaker.succeed()

    assert breaker.state(now=0.0) is BreakerState.CLOSED


def test_half_open_lets_one_through(breaker: CircuitBreaker) -> None:
    """After the recovery time one trial call may be made, and no second beside it."""
    trip(breaker, now=0.0)
    assert breaker.state(now=10.0) is BreakerState.HALF_OPEN
    assert breaker.allows(now=10.0)

    breaker.begin(now=10.0)

    assert not breaker.allows(now=10.0)


def test_trial_success_closes(breaker: CircuitBreaker) -> None:
    """A trial that succeeds closes it, and the recovery time starts anew."""
    trip(breaker, now=0.0)
    breaker.begin(now=10.0)
    breaker.succeed()

    assert breaker.state(now=10.0) is BreakerState.CLOSED
    assert breaker.allows(now=10.0)


def test_trial_failure_doubles_recovery(breaker: CircuitBreaker) -> None:
    """Each failed trial doubles the recovery time, up to its limit."""
    trip(breaker, now=0.0)
    breaker.begin(now=10.0)
    breaker.fail(now=10.0)
    assert breaker.state(now=29.9) is BreakerState.OPEN
    assert breaker.state(now=30.0) is BreakerState.HALF_OPEN

    breaker.begin(now=30.0)
    breaker.fail(now=30.0)

    assert breaker.state(now=59.9) is BreakerState.OPEN
    assert breaker.state(now=60.0) is BreakerState.HALF_OPEN
    assert breaker.opened == 3


def test_abandoned_trial_frees_place(breaker: CircuitBreaker) -> None:
    """A trial that was turned away tells nothing: another may be made."""
    trip(breaker, now=0.0)
    breaker.begin(now=10.0)
    breaker.abandon()

    assert breaker.allows(now=10.0)


def test_late_failures_do_not_reopen(breaker: CircuitBreaker) -> None:
    """Calls that began before it opened and fail later do not push the recovery further away."""
    trip(breaker, now=0.0)
    breaker.fail(now=9.0)

    assert breaker.state(now=10.0) is BreakerState.HALF_OPEN
    assert breaker.opened == 1


def test_threshold_is_checked() -> None:
    """A threshold below one is refused by name."""
    with pytest.raises(ValueError, match="circuit_breaker_threshold is 0"):
        CircuitBreaker(0)
