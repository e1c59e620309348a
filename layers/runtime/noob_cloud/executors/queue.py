"""Calls become tasks in a queue, for whoever pulls from it to do."""

from __future__ import annotations

import atexit
import os
from concurrent.futures import Executor, Future
from dataclasses import replace
from threading import Condition, Thread
from time import time
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from noob_cloud import codec
from noob_cloud.exceptions import TaskCancelledError, TaskFailedError
from noob_cloud.task import Outcome, StageCall, TaskStatus
from noob_cloud.worker.execute import exception_of, outcome_of_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from noob_cloud.plan import Stage
    from noob_cloud.queue.interface import Queue
    from noob_cloud.task import Task
    from noob_cloud.tubes import TubeSource

_POLL_SECONDS = 1.0
_FAREWELL_SECONDS = 5.0
"""How long a queue may be silent while it is told what to cancel, before it is left alone."""
_WATCHED = 1000
"""Tasks asked after at once: the oldest, whose results the runner needs first."""


class QueueExecutor(Executor):
    """Submit each call as a task of its own and resolve its future when the task is settled.

    A task's identity is what it computes: the run, the tube, the code, the stage, the epoch and
    the cid of the inputs. A runner that is started again with the same `run_id` therefore finds
    the tasks of its predecessor, done or under way, instead of making new ones.

    Args:
        queue: a `TaskQueue`, or a coordinator's `RemoteQueue`.
        run_id: names the run; the same name resumes it.
        timeout_seconds: longest run of one attempt where the placement names none.
        max_retries: further attempts after the loss of a worker, where the placement names none.
    """

    one_call_per_task = True
    retries_errors = True

    def __init__(
        self,
        queue: Queue,
        *,
        run_id: str,
        timeout_seconds: float = 300.0,
        max_retries: int = 3,
    ) -> None:
        self._queue = queue
        self._run_id = run_id
        self._timeout = timeout_seconds
        self._retries = max_retries
        self._published: set[str] = set()
        self._futures: dict[int, list[Future[Any]]] = {}
        self._submissions: dict[int, dict[str, Any]] = {}
        self._opened_at = time()
        self._changed = Condition()
        self._closed = False
        self._watcher: Thread | None = None
        _open.add(self)

    def submit(self, fn: Callable[..., Any], /, *_args: Any, **_kwargs: Any) -> Future[Any]:
        """Refuse: code is never sent to a queue, only stages of a tube that workers have."""
        raise TypeError(
            f"a queue takes stages of a tube, not {fn!r}; run functions on a ProcessExecutor"
        )

    def submit_call(
        self, call: StageCall, *, tube: TubeSource, stage: Stage | None = None
    ) -> Future[Any]:
        """Submit one call; its future gives one tuple of outputs for each of its epochs."""
        return self.submit_calls([call], tube=tube, stage=stage)[0]

    def submit_calls(
        self, calls: Sequence[StageCall], *, tube: TubeSource, stage: Stage | None = None
    ) -> list[Future[Any]]:
        """Submit calls in one commit; the futures are in their order."""
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if tube.cid not in self._published:  # where whoever pulls the task finds it
            self._queue.blobs.put(tube.document)
            self._published.add(tube.cid)
        submissions = [self._submission(call, stage) for call in calls]
        futures: list[Future[Any]] = [Future() for _ in submissions]
        try:
            self._expect(self._queue.submit_many(submissions), submissions, futures)
        except KeyboardInterrupt:  # they may be in the queue: their keys say which they are
            for task_id in self._queue.submit_many(submissions):
                self._queue.cancel_task(task_id)
            raise
        return futures

    def _expect(
        self,
        ids: Sequence[int],
        submissions: Sequence[dict[str, Any]] | None,
        futures: Sequence[Future[Any]],
    ) -> None:
        """Watch tasks; with their submissions those that failed long ago are tried again."""
        with self._changed:
            for task_id, future in zip(ids, futures, strict=True):
                self._futures.setdefault(task_id, []).append(future)
            if submissions is not None:
                self._submissions.update(zip(ids, submissions, strict=True))
            if self._watcher is None:
                self._watcher = Thread(target=self._watch, name="noob-queue-watch", daemon=True)
                self._watcher.start()
            self._changed.notify_all()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard library's signature
        """Stop watching; with `cancel_futures` cancel the tasks that have no outcome yet.

        A queue that is away meanwhile is given up after a few seconds; it keeps its tasks then.
        """
        _open.discard(self)
        with self._changed:
            self._closed = True
            pending = {i: list(f) for i, f in self._futures.items()} if cancel_futures else {}
            self._changed.notify_all()
        for futures in pending.values():
            for future in futures:
                future.cancel()
        if wait and self._watcher is not None:
            self._join(self._watcher, patient=not cancel_futures)

    def _join(self, watcher: Thread, *, patient: bool) -> None:
        """Wait until the watcher ends; without `patient`, only while the queue answers it."""
        while watcher.is_alive():
            left = len(self._futures)
            watcher.join(_FAREWELL_SECONDS)
            if not patient and len(self._futures) == left:
                return

    def _submission(self, call: StageCall, stage: Stage | None) -> dict[str, Any]:
        epoch = call.epochs[0]
        identity = (self._run_id, call.code, call.tube, call.nodes, call.epochs, call.inputs)
        retries = None if stage is None else stage.retries
        if retries:
            call = replace(call, retry_errors=True)
        submission: dict[str, Any] = {
            "node_id": "+".join(call.nodes),
            "epoch": epoch if isinstance(epoch, int) else epoch[0],
            "data": call,
            "idempotency_key": codec.cid_of(identity),
            "run_id": self._run_id,
            "timeout_seconds": self._timeout,
            "max_retries": self._retries if retries is None else retries,
        }
        if stage is not None:
            submission["affinity_tags"] = sorted(stage.affinity)
            submission["required_tags"] = sorted(stage.required)
            submission["timeout_seconds"] = stage.timeout or self._timeout
            submission["memory"] = stage.memory
        return submission

    def _watch(self) -> None:
        """Ask after the oldest tasks until all are settled or the executor is closed."""
        while True:
            with self._changed:
                while not self._futures and not self._closed:
                    self._changed.wait()
                cancelled = {
                    task_id
                    for task_id, futures in self._futures.items()
                    if all(future.cancelled() for future in futures)
                }
                wanted = [task_id for task_id in self._futures if task_id not in cancelled]
                watched = self._chosen(wanted)
                closed = self._closed
            try:
                self._cancel(cancelled)
                for task_id in cancelled:
                    self._futures.pop(task_id, None)
                    self._submissions.pop(task_id, None)
                if closed and not watched:
                    return
                if watched:
                    self._settle(self._ask(watched))
            except Exception as error:  # noqa: BLE001 - whoever waits for a future must learn of it
                self._abandon(error)
                return

    def _chosen(self, wanted: list[int]) -> list[int]:
        """Return the tasks to ask after now, of those without an outcome, the oldest first."""
        return wanted[:_WATCHED]

    def _ask(self, watched: list[int]) -> list[Task]:
        """Return those of these tasks that have an outcome, waiting a while for the first."""
        return self._queue.wait_settled(watched, timeout=_POLL_SECONDS, at_least=1)

    def _cancel(self, task_ids: Collection[int]) -> None:
        for task_id in task_ids:
            self._queue.cancel_task(task_id)

    def _settle(self, tasks: list[Task]) -> None:
        for task in tasks:
            with self._changed:
                futures = self._futures.pop(task.task_id, [])
                submission = self._submissions.pop(task.task_id, None)
            if submission is not None and self._failed_before(task):
                try:
                    self._try_again(task, submission, futures)
                except Exception as error:
                    refuse(futures, error)
                    raise
                continue
            for future in futures:
                if future.set_running_or_notify_cancel():
                    self._deliver(future, task)

    def _deliver(self, future: Future[Any], task: Task) -> None:
        """Resolve a future that has not been cancelled."""
        try:
            future.set_result(value_of(task))
        except Exception as error:  # noqa: BLE001 - it is raised where the result is read
            future.set_exception(error)

    def _failed_before(self, task: Task) -> bool:
        """Whether a runner before this one saw the task fail: resuming the run tries it again."""
        failed = task.status is not TaskStatus.COMPLETED or isinstance(task.result, Outcome)
        return failed and (task.finished_at or self._opened_at) < self._opened_at

    def _try_again(
        self, task: Task, submission: dict[str, Any], futures: list[Future[Any]]
    ) -> None:
        again = {**submission, "idempotency_key": f"{submission['idempotency_key']}/{task.task_id}"}
        (task_id,) = self._queue.submit_many([again])
        with self._changed:
            self._futures.setdefault(task_id, []).extend(futures)
            self._submissions[task_id] = again

    def _abandon(self, error: Exception) -> None:
        with self._changed:
            self._closed = True
            futures = [f for waiting in self._futures.values() for f in waiting]
            self._futures.clear()
            self._submissions.clear()
        refuse(futures, error)


def refuse(futures: Sequence[Future[Any]], error: Exception) -> None:
    """Resolve those that have not been cancelled with an error."""
    for future in futures:
        if future.set_running_or_notify_cancel():
            future.set_exception(error)


def value_of(task: Task) -> Any:
    """Return what a settled task computed, or raise what became of it."""
    if task.status is TaskStatus.COMPLETED:
        if isinstance(task.result, Outcome):  # what a node raised settles its task
            raise exception_of(task.result)
        return task.result
    if task.status is TaskStatus.CANCELLED:
        raise TaskCancelledError(
            f"task {task.task_id} ({task.node_id}, epoch {task.epoch}) was cancelled",
            task_id=task.task_id,
        )
    outcome = outcome_of_failure(task.error or "", task.traceback)
    if outcome.epoch is not None:  # a node raised it, in the last of several attempts
        raise exception_of(outcome)
    error = TaskFailedError(
        f"task {task.task_id} ({task.node_id}, epoch {task.epoch}) failed after "
        f"{task.attempt} attempts: {task.error}; `noob-cloud redrive {task.task_id}` tries it "
        "again",
        task_id=task.task_id,
    )
    if task.traceback:
        error.add_note(task.traceback)
    raise error


_open: WeakSet[QueueExecutor] = WeakSet()
"""Those of this process that have not been shut down."""


def _at_exit() -> None:
    """Cancel what nobody waits for any more, where a runner was left without `deinit`."""
    for executor in list(_open):
        executor.shutdown(cancel_futures=True)


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_open.clear)  # they are the parent's to end
