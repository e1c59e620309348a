"""Limits of a key: how many of its tasks may run at once, and how many in a span of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from noob_cloud.queue.statements import SQL

if TYPE_CHECKING:
    from collections.abc import Callable
    from sqlite3 import Cursor

UNLIMITED = 1 << 60


@dataclass(slots=True)
class Limit:
    """What `set_limit` said of a key, and where it stands."""

    key: str
    concurrency: int | None
    rate: int | None
    seconds: float | None
    running: int
    """Leases held."""
    tokens: float
    """Claims that the rate allowed at `filled_at`: a bucket of `rate` that fills in `seconds`."""
    filled_at: float

    def fill(self, now: float) -> None:
        """Add the tokens that have accrued; a clock that went back adds none."""
        if self.rate is not None and self.seconds is not None:
            gained = max(0.0, now - self.filled_at) * self.rate / self.seconds
            self.tokens = min(float(self.rate), self.tokens + gained)
        self.filled_at = now

    def allowance(self, now: float) -> int:
        """How many more of its tasks may be claimed."""
        free = UNLIMITED
        if self.concurrency is not None:
            free = max(0, self.concurrency - self.running)
        if self.rate is not None:
            self.fill(now)
            # a full bucket computed in floats may be a hair under its whole number
            free = min(free, int(self.tokens + 1e-9))
        return free


class Limits:
    """The limited keys of one file, as this process knows them inside its transaction."""

    def __init__(self, execute: Callable[..., Cursor]) -> None:
        self._execute = execute
        self._limits: dict[str, Limit] = {}

    def __bool__(self) -> bool:
        return bool(self._limits)

    def __contains__(self, key: str | None) -> bool:
        return key in self._limits

    def load(self) -> None:
        """Read what another process, or a rollback, has changed."""
        self._limits = {row[0]: Limit(*row) for row in self._execute(SQL.limits)}

    def allowance(self, key: str, now: float) -> int:
        """How many more tasks of this key may be claimed."""
        limit = self._limits.get(key)
        return UNLIMITED if limit is None else limit.allowance(now)

    def spend(self, key: str, n: int, now: float) -> None:
        """`n` tasks of this key have been claimed."""
        limit = self._limits.get(key)
        if limit is None:
            return
        limit.fill(now)
        limit.running += n
        if limit.rate is not None:
            limit.tokens -= n
        self._execute(SQL.spend_limit, (key, n, limit.tokens, limit.filled_at))

    def free(self, key: str, n: int) -> None:
        """`n` leases of this key have ended."""
        limit = self._limits.get(key)
        if limit is None:
            return
        limit.running -= n
        self._execute(SQL.free_limit, (key, n))
