"""What a coordinator has done since it started."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """What happened since the start."""

    submitted: int = 0
    claimed: int = 0
    completed: int = 0
    failed: int = 0
    refused: int = 0
    """Outcomes of lost leases."""
