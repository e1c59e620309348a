"""What waits for a worker, by the places that may run it and by run."""

from __future__ import annotations

from collections import defaultdict
from math import ceil
from typing import TYPE_CHECKING, Final

from noob_cloud.coordinator.capacity import Demand
from noob_cloud.coordinator.statements import SQL
from noob_cloud.coordinator.wire import DRIVE_TAG

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from noob_cloud.coordinator.capacity import Place
    from noob_cloud.coordinator.routing import Router
    from noob_cloud.queue.ledger import Ledger
    from noob_cloud.queue.terms import Lane

MOST_ROWS: Final = 2_000
"""Rows of ready tasks that are read of a lane: what is beyond waits for the next look."""
_RUNS_A_DRIVER: Final = 2
_PATIENCE: Final = 10.0
"""How long a run may wait for a driver, in seconds, before more workers are wanted for it."""
_Found = dict[tuple[tuple[str, ...], str | None], list[float]]


def demands(
    ledger: Ledger, router: Router, places: Sequence[Place], have: Mapping[str, int], now: float
) -> list[Demand]:
    """Return what is ready. Inside a transaction.

    Args:
        ledger: of the queue.
        router: says which places may run a lane's tasks.
        places: in the order of preference.
        have: workers that each place has, or is about to have.
        now: Unix time.
    """
    ledger.refresh()
    found: _Found = defaultdict(lambda: [0.0, 0.0])
    for lane in ledger.words.lanes():
        allowed = float("inf")
        if lane.limited:
            allowed = ledger.limits.allowance(lane.limited, now)
        if allowed <= 0:
            continue
        rows = ledger.execute(SQL.ready_of_lane, (lane.first_key, lane.end_key, MOST_ROWS))
        drive = _drive_tag(lane)
        for n, run_id, available_at in rows.fetchall():
            if drive is None:
                names = router.admitting(lane.affinity, lane.required)
            else:
                names = _driving(places, drive)
            count = min(n, allowed)
            allowed -= count
            if drive is not None:
                count = _drivers(
                    count, sum(have.get(name, 0) for name in names), now - available_at
                )
            entry = found[names, run_id]
            entry[0] += count
            entry[1] = max(entry[1], now - available_at)
            if allowed <= 0:
                break
    return [
        Demand(names, ceil(count), run_id, age) for (names, run_id), (count, age) in found.items()
    ]


def held(ledger: Ledger) -> dict[str, dict[str, int]]:
    """Return how many tasks of each run each worker holds. Inside a transaction."""
    found: dict[str, dict[str, int]] = {}
    for worker_id, run_id, count in ledger.execute(SQL.held_by_worker).fetchall():
        runs = found.setdefault(worker_id, {})
        runs[run_id or ""] = runs.get(run_id or "", 0) + count
    return found


def _drive_tag(lane: Lane) -> str | None:
    """Return the tag of runs to drive, if the lane is of such: empty for any worker's."""
    for tag in lane.affinity:
        kind, _, wanted = tag.partition("+")
        if kind == DRIVE_TAG:
            return wanted
    return None


def _driving(places: Iterable[Place], tag: str) -> tuple[str, ...]:
    return tuple(x.name for x in places if x.drives and (not tag or tag in x.tags))


def _drivers(runs: float, have: int, waited: float) -> float:
    """Return how many tasks' worth of workers runs need: those there drive two each besides."""
    if have and waited < _PATIENCE:
        return 0.0
    return ceil(runs / _RUNS_A_DRIVER)
