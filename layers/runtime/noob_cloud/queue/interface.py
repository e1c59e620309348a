"""What every task queue can do: the SQLite file here, and a coordinator's over HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from noob_cloud.task import Task, TaskPriority, TaskStatus, Token

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from noob_cloud.queue.bodies import Blobs
    from noob_cloud.queue.checkpoints import Checkpoint

TaskRef = int | Task | tuple[int, Token]
"""A task: the `Task` that was claimed, its id with the token, or its id alone.

With the id alone the queue object that claimed the task supplies the token.
"""


class BlobName(str):
    """The cid of a value's frame that is in the queue's blob store already."""

    __slots__ = ()


class Encoded(bytes):
    """A value that is already a frame of `noob_cloud.codec`: stored and handed on as it is."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """What a worker must stop: the tasks that it named and holds no more."""

    lost: frozenset[int] = frozenset()
    """Every task that is not this worker's any more, the cancelled ones included."""
    cancelled: frozenset[int] = frozenset()
    """Those of `lost` that somebody cancelled."""


@dataclass(frozen=True, slots=True)
class QueueStats:
    """How many tasks are where, at one moment."""

    ready: int = 0
    parked: int = 0
    delayed: int = 0
    claimed: int = 0
    running: int = 0
    completed: int = 0
    dead: int = 0
    cancelled: int = 0
    ready_by_tags: dict[str, int] = field(default_factory=dict)
    """Ready and parked tasks by their tags: `"gpu|cuda"` any-of, `"+a+b"` all-of, `""` untagged."""

    @property
    def waiting(self) -> int:
        """Tasks that wait for a worker, a slot of their key, or their time."""
        return self.ready + self.parked + self.delayed

    @property
    def live(self) -> int:
        """Tasks without an outcome."""
        return self.waiting + self.claimed + self.running


@runtime_checkable
class Queue(Protocol):
    """Submit, claim under a lease, settle.

    Every method takes `now=`, the time in Unix seconds; without it the queue's clock says. A worker
    whose lease is gone gets `LeaseLostError`; an unknown id is `TaskNotFoundError`.
    """

    @property
    def blobs(self) -> Blobs:
        """Where the documents of tubes are, and large values."""
        ...

    def submit_task(
        self,
        node_id: str,
        epoch: int,
        priority: int = TaskPriority.NORMAL,
        affinity_tags: Iterable[str] = (),
        timeout_seconds: float = 300.0,
        max_retries: int = 3,
        *,
        required_tags: Iterable[str] = (),
        data: Any = None,
        delay: float = 0.0,
        idempotency_key: str | None = None,
        key: str | None = None,
        run_id: str | None = None,
        queue_timeout: float | None = None,
        memory: int | None = None,
        now: float | None = None,
    ) -> int:
        """Add one task and return its id."""
        ...

    def submit_many(
        self, tasks: Iterable[Mapping[str, Any]], *, now: float | None = None
    ) -> list[int]:
        """Add every task in one commit; the ids are in the order of `tasks`."""
        ...

    def claim_task(
        self,
        worker_id: str,
        affinity_tags: Iterable[str] = (),
        *,
        accept_untagged: bool = True,
        lease_seconds: float | None = None,
        wait: float = 0.0,
        decode: bool = True,
        now: float | None = None,
    ) -> Task | None:
        """Lease the next task that this worker may run; None if there is none within `wait` s."""
        ...

    def claim_many(
        self,
        worker_id: str,
        limit: int = 1,
        affinity_tags: Iterable[str] = (),
        *,
        accept_untagged: bool = True,
        lease_seconds: float | None = None,
        wait: float = 0.0,
        decode: bool = True,
        now: float | None = None,
    ) -> list[Task]:
        """Lease up to `limit` tasks in one commit, the most urgent first."""
        ...

    def start_task(self, task: TaskRef, *, now: float | None = None) -> None:
        """Say that the work begins: the task is RUNNING and `timeout_seconds` counts from here."""
        ...

    def complete_task(self, task: TaskRef, result: Any = None, *, now: float | None = None) -> None:
        """Settle the task with its result."""
        ...

    def complete_many(
        self, results: Iterable[tuple[TaskRef, Any]], *, now: float | None = None
    ) -> list[int]:
        """Settle each task; return the ids that were refused because their lease is lost."""
        ...

    def complete_and_claim(
        self,
        results: Iterable[tuple[TaskRef, Any]],
        worker_id: str,
        limit: int = 1,
        affinity_tags: Iterable[str] = (),
        *,
        accept_untagged: bool = True,
        lease_seconds: float | None = None,
        decode: bool = True,
        now: float | None = None,
    ) -> tuple[list[int], list[Task]]:
        """`complete_many` and `claim_many` in one commit: the refused ids and the new tasks."""
        ...

    def fail_task(
        self,
        task: TaskRef,
        error: str | BaseException,
        traceback: str | None = None,
        *,
        retryable: bool = True,
        now: float | None = None,
    ) -> TaskStatus:
        """Report a failure: DELAYED when it will be tried again after a backoff, else DEAD."""
        ...

    def refuse_task(
        self,
        task: TaskRef,
        error: str,
        traceback: str | None = None,
        *,
        now: float | None = None,
    ) -> TaskStatus:
        """Hand a task back that this worker has other code for: READY, and no attempt is counted.

        DEAD when for long only such workers have claimed it.
        """
        ...

    def heartbeat(
        self,
        tasks: TaskRef | Sequence[TaskRef],
        *,
        lease_seconds: float | None = None,
        now: float | None = None,
    ) -> HeartbeatReply:
        """Extend the leases, never past `timeout_seconds`; say which are lost or cancelled.

        A single lost task that was not cancelled raises `LeaseLostError`.
        """
        ...

    def release(self, tasks: TaskRef | Sequence[TaskRef], *, now: float | None = None) -> None:
        """Hand tasks back unworked: ready at once, and no attempt is counted."""
        ...

    def cancel_task(self, task_id: int, *, now: float | None = None) -> bool:
        """Cancel the task, running or not; False if it already has its outcome."""
        ...

    def get_task(self, task_id: int, *, decode: bool = True) -> Task:
        """Everything about one task, its result included."""
        ...

    def list_tasks(
        self,
        status: TaskStatus | str | None = None,
        run_id: str | None = None,
        *,
        limit: int = 100,
        after: int = 0,
        decode: bool = True,
    ) -> list[Task]:
        """Tasks in the order of their ids, beginning behind `after`."""
        ...

    def stats(self) -> QueueStats:
        """How many tasks are where."""
        ...

    def redrive(
        self, task_ids: Iterable[int] | None = None, *, now: float | None = None
    ) -> list[int]:
        """Bring dead letters (all of them without `task_ids`) back with a full set of attempts."""
        ...

    def wait_settled(
        self,
        task_ids: Iterable[int],
        timeout: float | None = None,
        *,
        at_least: int | None = None,
        decode: bool = True,
    ) -> list[Task]:
        """Those of `task_ids` that have an outcome, as soon as all (or `at_least`) have one.

        After `timeout` seconds, those that have one by then.
        """
        ...

    def set_limit(
        self,
        key: str,
        concurrency: int | None = None,
        rate: tuple[int, float] | None = None,
        *,
        now: float | None = None,
    ) -> None:
        """At most `concurrency` tasks of this key at once, at most `rate[0]` in `rate[1]` s."""
        ...

    def checkpoint(self, name: str) -> Checkpoint:
        """How far the follower of this name has come; version 0 if there is none."""
        ...

    def move_checkpoint(
        self,
        name: str,
        expected: int,
        state: bytes,
        tasks: Sequence[tuple[int, Mapping[str, Any]]] = (),
        *,
        undo_above: int | None = None,
        forget_below: int = 0,
        now: float | None = None,
    ) -> list[int]:
        """Cancel, submit and move the checkpoint in one commit; return the new tasks' ids."""
        ...

    def close(self) -> None:
        """Let go of the file or connection; a closed queue can be used again."""
        ...
