"""What tasks belong to in the traces of those who submitted them, beside the queue."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from noob_cloud import tracing
from noob_cloud.coordinator.statements import SQL
from noob_cloud.tracing.context import is_sampled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from noob_cloud.coordinator import wire
    from noob_cloud.queue.ledger import Ledger

_LONGEST = 55


def sampled(header: bytes) -> str | None:
    """Return the `traceparent` of a request; None: it is none, or its trace is not recorded."""
    if len(header) != _LONGEST:
        return None
    said = header.decode("latin-1")
    return said if is_sampled(said) else None


def add(ledger: Ledger, ids: Sequence[int], parent: str, now: float) -> None:
    """Keep what tasks belong to, a row for each range of them; inside a transaction."""
    for first, last in _ranges(ids):
        ledger.execute(SQL.add_trace, (first, last, parent, now))


def mark(ledger: Ledger, lots: Iterable[wire.Lot]) -> None:
    """Write on claimed tasks what they belong to."""
    for lot in lots:
        row = ledger.execute(SQL.find_trace, (lot.ids[0],)).fetchone()
        if row is not None and row[0] >= lot.ids[0]:
            lot.trace = row[1]


def tell_claims(worker_id: str, lots: Iterable[wire.Lot], asked_at: float) -> None:
    """Make the spans of claimed tasks; who executes them goes on from there."""
    spans = tracing.active()
    if spans is None:
        return
    now = time()
    for lot in lots:
        if lot.trace is not None:
            lot.trace = spans.claimed(
                lot.trace,
                node=lot.nodes if isinstance(lot.nodes, str) else lot.nodes[0],
                ready_at=lot.available_at,
                asked_at=asked_at,
                now=now,
                worker=worker_id,
                tasks=len(lot.ids),
                attempt=lot.token[1],
                run_id=lot.terms.run_id,
            )


def _ranges(ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = None
    for task_id in sorted(ids):
        if first is None or last is None:
            first = task_id
        elif task_id > last + 1:
            yield first, last
            first = task_id
        last = task_id
    if first is not None and last is not None:
        yield first, last
