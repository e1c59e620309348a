"""The workers that this coordinator has heard of since it started."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import nsmallest
from typing import TYPE_CHECKING

from noob_cloud.coordinator.wire import DRIVER

if TYPE_CHECKING:
    from noob_cloud.identity import Identity

_KEPT = 50_000
"""Most workers remembered."""
_FORGOTTEN = 5_000
"""So many are forgotten at once, the longest silent first."""


@dataclass(slots=True)
class WorkerRow:
    """One worker, as its requests tell."""

    worker_id: str
    identity: str
    """Whose token it uses."""
    tags: frozenset[str]
    """What it may claim."""
    first_seen: float
    last_seen: float
    running: int = 0
    """Tasks it holds."""
    claimed: int = 0
    completed: int = 0
    failed: int = 0
    pool: str | None = None
    """The place that it is of."""
    lost: bool = False
    """It has been silent for too long."""


class Workers:
    """Workers by their id."""

    def __init__(self, *, timeout: float) -> None:
        self._timeout = timeout
        self._rows: dict[str, WorkerRow] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, worker_id: str) -> WorkerRow | None:
        """Return the row of a worker."""
        return self._rows.get(worker_id)

    def seen(
        self, worker_id: str, identity: Identity, tags: frozenset[str] | None, now: float
    ) -> tuple[WorkerRow, bool]:
        """Note a sign of life; return its row, and whether it is new or back."""
        row = self._rows.get(worker_id)
        if row is None:
            if len(self._rows) >= _KEPT:
                for old in nsmallest(_FORGOTTEN, self._rows.values(), key=lambda x: x.last_seen):
                    del self._rows[old.worker_id]
            row = WorkerRow(worker_id, identity.name, tags or frozenset(), now, now)
            self._rows[worker_id] = row
            return row, True
        back = row.lost
        row.last_seen = now
        row.lost = False
        row.identity = identity.name
        if tags is not None:
            row.tags = tags
        return row, back

    def sweep(self, now: float) -> list[WorkerRow]:
        """Return the workers that have been silent for too long since the last sweep."""
        for row in self._rows.values():  # a clock that was set back makes nobody immortal
            row.last_seen = min(row.last_seen, now)
        gone = [
            row
            for row in self._rows.values()
            if not row.lost and now - row.last_seen > self._timeout
        ]
        for row in gone:
            row.lost = True
            row.running = 0
        return gone

    def alive(self, since: float) -> list[WorkerRow]:
        """Workers that were heard of since then."""
        return [row for row in self._rows.values() if row.last_seen >= since and not row.lost]

    def rows(self) -> list[WorkerRow]:
        """Every worker, those alive first, by name; not again as the driver of runs that it is."""
        return sorted(
            (row for row in self._rows.values() if not self._drives(row.worker_id)),
            key=lambda row: (row.lost, row.worker_id),
        )

    def _drives(self, worker_id: str) -> bool:
        """Whether this is the name under which a worker that is known drives runs."""
        return worker_id.endswith(DRIVER) and worker_id.removesuffix(DRIVER) in self._rows
