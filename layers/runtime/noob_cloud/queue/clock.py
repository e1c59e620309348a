"""The queue's clock: wall time, and how far it has jumped."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Wall time beside a clock that does not jump.

    Both are the machine's own, so every process of it sees the same difference between them; when
    that difference changes, the wall clock was set, and leases are shifted by as much.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wall = wall
        self.steady = steady

    def boot(self) -> str:
        """What tells this start of the machine from the next, when the steady clock begins anew."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return ""

    def offset(self) -> float:
        """Wall time at which the steady clock stood at zero."""
        return self.wall() - self.steady()
