"""A run that needs no client, as everybody sees it: the coordinator, its clients, its drivers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from noob_cloud.exceptions import DecodeError, LimitError
from noob_cloud.task import RunDriver

if TYPE_CHECKING:
    from collections.abc import Sequence

ENDED: Final = frozenset(("completed", "failed", "cancelled"))
"""What becomes of a run."""


@dataclass(frozen=True, slots=True)
class RunState:
    """A run, as it stands."""

    run_id: str
    tube: str
    n: int | None
    total: int | None
    """Results to come, where that is known."""
    task_id: int
    """Its driver's task."""
    created_at: float
    created_by: str
    status: str
    """waiting, running, completed, failed, cancelled."""
    finished_at: float | None
    error: str | None
    traceback: str | None
    done: int
    """Results so far."""
    worker_id: str | None = None
    """Who drives it."""

    @property
    def ended(self) -> bool:
        """Whether it has its outcome."""
        return self.status in ENDED


def new_run_id() -> str:
    """Return a name for a run."""
    return f"run-{uuid4().hex[:16]}"


def driver_of(
    tube: str,
    n: int | None,
    inputs: Sequence[dict[str, Any]] | None,
    *,
    run_id: str | None,
    placement: Any,
    most: int,
) -> RunDriver:
    """Return the payload of a run's driver task.

    Raises:
        DecodeError: there are both `n` and `inputs`, or `n` is negative.
        LimitError: there are more than `most` inputs.
    """
    if n is not None and inputs is not None:
        raise DecodeError("A run has n epochs, or one for each of inputs; give one of the two.")
    if n is not None and n < 0:
        raise DecodeError(f"n is a number from 0 on, not {n}.")
    if inputs is not None and len(inputs) > most:
        raise LimitError(f"A run takes up to {most} inputs; send several runs.", limit=most)
    given = None if inputs is None else tuple(inputs)
    return RunDriver(run_id or new_run_id(), tube, n, given, placement)
