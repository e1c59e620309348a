"""What a coordinator has done since it started, and how well it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from noob_cloud.coordinator.durability import Barrier


@dataclass(slots=True)
class Counts:
    """What happened since the start."""

    submitted: int = 0
    claimed: int = 0
    completed: int = 0
    failed: int = 0
    refused: int = 0
    """Outcomes of lost leases."""


@dataclass(slots=True)
class Health:
    """Whether requests get their answers."""

    errors: int = 0
    """Requests since the start that were answered by an error of the coordinator's own (5xx)."""
    barrier: Barrier | None = None
    """What answers wait for, where each waits for its commit to be in S3."""
    _told: int = 0

    def refuse(self) -> None:
        """Count a request that was answered by an error of ours."""
        self.errors += 1

    def take_errors(self) -> int:
        """Return how many there were since this was asked last."""
        new, self._told = self.errors - self._told, self.errors
        return new
