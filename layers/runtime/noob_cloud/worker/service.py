"""The worker behind its server: what runs now, how much more may, and how it all ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from threading import Condition
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from noob_cloud import codec
from noob_cloud.exceptions import (
    DecodeError,
    LimitError,
    TaskNotFoundError,
    TaskStateError,
    TubeNotFoundError,
    TubeRefusedError,
    UnavailableError,
    WorkerBusyError,
)
from noob_cloud.worker import child
from noob_cloud.worker.puller import Puller
from noob_cloud.worker.slots import Stop, slots

if TYPE_CHECKING:
    from noob_cloud.task import Outcome, Task
    from noob_cloud.worker.settings import WorkerSettings


@dataclass(slots=True)
class Active:
    """A call that runs now."""

    task_id: str
    label: str
    """What the caller says it is, for people to read."""
    started_at: float
    timeout: float | None
    stop: Stop = field(default_factory=Stop)


@dataclass(slots=True)
class Counts:
    """What a worker has done since it started."""

    completed: int = 0
    failed: int = 0
    refused: int = 0
    """Calls turned away because the worker was at its limit."""
    seconds: float = 0.0
    """Time spent in calls."""
    bytes_in: int = 0
    bytes_out: int = 0


class WorkerService:
    """Runs calls for a server. Its methods block: call them off the event loop.

    Args:
        settings: how many at once, for how long, and which modules a tube may import.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.counts = Counts()
        self.started_at = time()
        self.draining = False
        self.tubes: set[str] = set()
        self._slots = slots(
            settings.max_tasks, isolate=settings.isolate, allowed_modules=settings.modules
        )
        self._active: dict[str, Active] = {}
        self._change = Condition()
        self._numbers = count(1)
        self._puller: Puller | None = None

    def start(self) -> None:
        """Get ready; load the preloaded tube, so that a mistake in it shows at once.

        Raises:
            Exception: what the tube's modules raised when they were imported.
        """
        self._slots.warm()
        if self.settings.coordinator is not None:
            self._puller = Puller(self.settings, self._slots)
        if self.settings.tube is not None:
            self.load(self.settings.tube.document)
        if self._puller is not None:
            self._puller.start()

    @property
    def pulled(self) -> list[Task]:
        """The tasks from the coordinator that run now."""
        return [] if self._puller is None else self._puller.active

    @property
    def active(self) -> list[Active]:
        """The calls that run now, oldest first."""
        with self._change:
            return list(self._active.values())

    def admit(
        self, task_id: str | None, *, label: str = "", timeout: float | None = None
    ) -> Active:
        """Take one of the worker's places for a call, to be given back by `run`.

        Raises:
            UnavailableError: the worker is shutting down.
            WorkerBusyError: it runs as many as it may.
            TaskStateError: a call with this id runs already.
        """
        with self._change:
            if self.draining:
                raise UnavailableError(f"worker {self.settings.worker_id} is shutting down")
            if len(self._active) >= self.settings.max_tasks:
                self.counts.refused += 1
                raise WorkerBusyError(
                    f"worker {self.settings.worker_id} runs {self.settings.max_tasks} tasks, its "
                    "limit (--max-tasks); try again shortly",
                    max_tasks=self.settings.max_tasks,
                )
            task_id = task_id or f"{self.settings.worker_id}-{next(self._numbers)}"
            if task_id in self._active:
                raise TaskStateError(f"a task with the id {task_id!r} runs here already")
            limit = self.settings.task_timeout
            entry = Active(task_id, label, time(), timeout if timeout is not None else limit)
            self._active[task_id] = entry
            return entry

    def leave(self, entry: Active) -> None:
        """Give the place back."""
        with self._change:
            self._active.pop(entry.task_id, None)
            self._change.notify_all()

    def run(self, entry: Active, frame: bytes) -> bytes:
        """Run an admitted call; return the frame of its outcome.

        Raises:
            TubeNotFoundError: the call's tube must be sent to `/load_tube` first.
            DecodeError: the body is not a frame.
            LimitError: it is over a limit of the wire format.
        """
        start = monotonic()
        kind, body = self._slots.run(frame, timeout=entry.timeout, stop=entry.stop)
        _check(kind, body)
        with self._change:
            self.counts.seconds += monotonic() - start
            self.counts.bytes_in += len(frame)
            self.counts.bytes_out += len(body)
            if kind == child.OUTCOME:
                self.counts.completed += 1
            else:
                self.counts.failed += 1
        return body

    def load(self, document: bytes) -> dict[str, Any]:
        """Know a tube from now on; return its cid and its nodes.

        Raises:
            TubeRefusedError: it names a module that may not be imported here.
            DecodeError: the body is not a tube's document.
            Exception: whatever the import of its modules raised.
        """
        from noob_cloud.worker.execute import raise_outcome  # noqa: PLC0415 - see execute

        kind, body = self._slots.load(document)
        _check(kind, body)
        outcome: Outcome = codec.loads(body)
        if not outcome.ok:
            if outcome.error_type == f"{TubeRefusedError.__module__}.{TubeRefusedError.__name__}":
                raise TubeRefusedError(outcome.message)
            raise_outcome(outcome)
        loaded: dict[str, Any] = outcome.value
        self.tubes.add(loaded["cid"])
        return loaded

    def cancel(self, task_id: str, *, reason: str = "the task was cancelled") -> None:
        """Stop a running call; its caller gets a `TaskCancelledError`.

        Raises:
            TaskNotFoundError: no call with this id runs here.
        """
        with self._change:
            entry = self._active.get(task_id)
        if entry is None:
            raise TaskNotFoundError(f"no task {task_id!r} runs here", task_id=task_id)
        entry.stop(reason)

    def drain(self, seconds: float | None = None) -> bool:
        """Take no more calls and let the running ones end; stop those that do not.

        Returns:
            Whether every call ended by itself.
        """
        end = monotonic() + (self.settings.drain_seconds if seconds is None else seconds)
        if self._puller is not None:
            self._puller.stop()
        with self._change:
            self.draining = True
            ended = self._change.wait_for(lambda: not self._active, max(0.0, end - monotonic()))
            left = list(self._active.values())
        for entry in left:
            entry.stop("the worker is shutting down")
        with self._change:
            self._change.wait_for(lambda: not self._active, 2.0)
        if self._puller is not None:
            self._puller.join(max(0.0, end - monotonic()) + 5.0)
        return ended

    def close(self) -> None:
        """End the places where calls run."""
        self._slots.close()


def _check(kind: bytes, body: bytes) -> None:
    if kind == child.UNKNOWN:
        cid = body.decode()
        raise TubeNotFoundError(
            f"no tube {cid} is known here; POST its document to /load_tube first", tube=cid
        )
    if kind == child.MALFORMED:
        raise DecodeError(body.decode())
    if kind == child.TOO_LARGE:
        raise LimitError(body.decode())
