"""The nouns of the queue and the wire: task, lease, call, outcome. Frozen, without behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any


class TaskPriority(IntEnum):
    """Which task is claimed first; equal priorities go first in, first out."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


class TaskStatus(StrEnum):
    """Where a task is on its way."""

    DELAYED = "delayed"
    """Not before `available_at`: submitted with a delay, or waiting out a backoff."""
    PARKED = "parked"
    """Its concurrency or rate key is at its limit."""
    READY = "ready"
    CLAIMED = "claimed"
    RUNNING = "running"
    COMPLETED = "completed"
    DEAD = "dead"
    """In the dead-letter list: out of retries, or failed for good. `redrive` brings it back."""
    CANCELLED = "cancelled"

    @property
    def settled(self) -> bool:
        """Whether the task has its outcome and will not run again by itself."""
        return self in (TaskStatus.COMPLETED, TaskStatus.DEAD, TaskStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class Token:
    """The fencing token of a lease: it is compared with the row's own claim."""

    epoch: int
    """Epoch of the coordinator that granted the lease; 0 for a queue file of one's own."""
    attempt: int
    """1 for the first claim of the task, one more for each."""


@dataclass(frozen=True, slots=True)
class Task:
    """One stage for a batch of epochs, or one node for one epoch when submitted by hand."""

    task_id: int
    node_id: str
    epoch: int
    payload: Any = None
    """What the worker executes: a `StageCall` of a run, or whatever was given as `data`."""
    priority: TaskPriority = TaskPriority.NORMAL
    affinity_tags: frozenset[str] = frozenset()
    """A worker with any of these may claim it (empty: any worker)."""
    required_tags: frozenset[str] = frozenset()
    """A worker must have all of these."""
    timeout_seconds: float = 300.0
    """Longest run of one attempt, in seconds; heartbeats never extend it."""
    max_retries: int = 3
    """Further attempts after the first."""
    status: TaskStatus = TaskStatus.READY
    token: Token | None = None
    """The fencing token of the latest claim; None before the first."""
    worker_id: str | None = None
    lease_expires_at: float | None = None
    """Unix time, in seconds, after which any worker may claim the task again."""
    created_at: float = 0.0
    available_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    result: Any = None
    error: str | None = None
    """Message of the latest failure."""
    traceback: str | None = None
    """Traceback of the latest failure."""
    key: str | None = None
    """Concurrency and rate key."""
    idempotency_key: str | None = None
    run_id: str | None = None

    @property
    def attempt(self) -> int:
        """1 for the first claim, one more for each; 0 before the first."""
        return 0 if self.token is None else self.token.attempt


@dataclass(frozen=True, slots=True)
class StageCall:
    """Run one stage of one tube once for each of `epochs`."""

    tube: str
    """cid of the tube (`noob_cloud.tubes.TubeSource.cid`)."""
    nodes: tuple[str, ...]
    """The nodes of the stage, in the order of the plan."""
    epochs: tuple[Any, ...]
    """Each epoch in upstream's wire form (`Epoch.to_wire()`)."""
    inputs: tuple[tuple[Any, ...], ...]
    """For each epoch the values of the stage's input slots, `MISSING` where there is no event."""
    code: str | None = None
    """cid of the code that the tube's nodes come from; a worker with other code refuses."""
    retry_errors: bool = False
    """Whether what a node raises is worth another attempt; the loss of a worker always is."""


@dataclass(frozen=True, slots=True)
class RunDriver:
    """Drive one run that has no client: replay its plan and post its results."""

    run_id: str
    tube: str
    """cid of the tube; its document is at the coordinator."""
    n: int | None = None
    """Epochs to run; None with `inputs`."""
    inputs: tuple[dict[str, Any], ...] | None = None
    """Process-scoped input of each epoch; None where the tube needs none."""
    placement: Any = None
    """Where nodes may run, as `NAME.cloud.yaml` says it; None for anywhere."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt: a value, or an error with all that a user needs to find it."""

    ok: bool
    value: Any = None
    error_type: str | None = None
    """`module.QualName` of the exception."""
    message: str | None = None
    args: tuple[Any, ...] = ()
    """The exception's arguments, where they are plain values."""
    traceback: str | None = None
    node_id: str | None = None
    epoch: Any = None
    """The epoch that raised, in upstream's wire form."""
    retryable: bool = True
    duration: float = 0.0
    """Seconds from start to end on the worker."""
    metrics: dict[str, float] = field(default_factory=dict)


class _Missing:
    """No event arrived at this slot. One object a process; `is` compares it; has a codec tag."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __reduce__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING = _Missing()
