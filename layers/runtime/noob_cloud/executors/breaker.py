"""A circuit breaker: stop asking a worker that keeps failing, and try it again later."""

from __future__ import annotations

from enum import StrEnum


class BreakerState(StrEnum):
    """What the breaker lets through."""

    CLOSED = "closed"
    """Everything."""
    OPEN = "open"
    """Nothing, until the recovery time has passed."""
    HALF_OPEN = "half_open"
    """One call, whose end decides."""


class CircuitBreaker:
    """Opens after `threshold` failures in a row; half opens after `recovery_seconds`.

    Each time a trial call fails the recovery time doubles, up to `max_recovery_seconds`. The time
    is passed in, in seconds of any monotonic clock. Not thread-safe: guard it with its owner's
    lock.
    """

    def __init__(
        self,
        threshold: int = 5,
        *,
        recovery_seconds: float = 10.0,
        max_recovery_seconds: float = 120.0,
    ) -> None:
        if threshold < 1:
            raise ValueError(f"circuit_breaker_threshold is {threshold}; it must be at least 1")
        self.threshold = threshold
        self.failures = 0
        """Failures since the last success."""
        self.opened = 0
        """How often it has opened."""
        self._base = recovery_seconds
        self._most = max_recovery_seconds
        self._recovery = recovery_seconds
        self._opened_at: float | None = None
        self._trial = False

    def state(self, *, now: float) -> BreakerState:
        """Return what the breaker lets through now."""
        if self._opened_at is None:
            return BreakerState.CLOSED
        if now - self._opened_at < self._recovery:
            return BreakerState.OPEN
        return BreakerState.HALF_OPEN

    def opens_until(self, *, now: float) -> float:
        """Return the time from which a call may be made: now, unless it is open."""
        return now if self._opened_at is None else max(now, self._opened_at + self._recovery)

    def allows(self, *, now: float) -> bool:
        """Whether a call may be made now."""
        state = self.state(now=now)
        return state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and not self._trial)

    def begin(self, *, now: float) -> None:
        """Say that a call is being made; in a half open breaker it is the trial."""
        if self.state(now=now) is BreakerState.HALF_OPEN:
            self._trial = True

    def succeed(self) -> None:
        """Close: the worker has answered."""
        self.failures = 0
        self._opened_at = None
        self._trial = False
        self._recovery = self._base

    def fail(self, *, now: float) -> None:
        """Count a failure; open at the threshold, or at once when it was the trial."""
        self.failures += 1
        if self._trial:
            self._trial = False
            self._recovery = min(self._recovery * 2, self._most)
            self._open(now)
        elif self._opened_at is None and self.failures >= self.threshold:
            self._open(now)

    def abandon(self) -> None:
        """Say that the call ended without telling anything about the worker."""
        self._trial = False

    def _open(self, now: float) -> None:
        self._opened_at = now
        self.opened += 1
