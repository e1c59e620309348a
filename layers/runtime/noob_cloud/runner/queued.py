"""A queue that survives crashes: a file, or a coordinator's."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

from noob_cloud.exceptions import RunnerError
from noob_cloud.executors.queue import QueueExecutor
from noob_cloud.queue import TaskQueue
from noob_cloud.runner.executor import ExecutorRunner
from noob_cloud.worker.claim import ClaimLoop
from noob_cloud.worker.slots import slots

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from noob_cloud.executors.worker_config import WorkerConfig
    from noob_cloud.queue import Queue
    from noob_cloud.worker.slots import Slots

_STOP_SECONDS = 5.0


@dataclass
class QueuedRunner(ExecutorRunner):
    """Run the stateless stages of a tube as tasks in a queue.

    A runner that crashes is resumed by one with the same `run_id`: it replays the tube, and finds
    in the queue what was done. What its predecessor saw fail or cancelled is tried again.

    Args:
        tube: the tube to run.
        queue: a `TaskQueue`, a coordinator's `RemoteQueue`, or a coordinator's URL.
        workers: a number of worker processes on this machine; a list of worker servers, which
            tasks are pushed to; None when workers elsewhere pull from the queue.
        run_id: names the run, to resume it.
        token: for a coordinator's URL; by default the environment's `NOOB_CLOUD_TOKEN`.
        timeout_seconds: longest run of one attempt where the placement names none.
        max_retries: further attempts after the loss of a worker, where the placement names none.
            What a node raises ends the run, unless the placement gives the node `retries`.
        lease_seconds: how soon others may claim what this runner's own workers held when this
            process died; they renew their leases three times as often.
    """

    queue: Queue | str | None = None
    workers: int | Sequence[WorkerConfig] | None = None
    run_id: str = field(default_factory=lambda: uuid4().hex)
    token: str | None = field(default=None, repr=False)
    timeout_seconds: float = 300.0
    max_retries: int = 3
    lease_seconds: float = 10.0
    _loops: list[tuple[ClaimLoop, Thread, Slots]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if self.queue is None:
            raise RunnerError(
                'QueuedRunner needs a queue, for example queue=TaskQueue(db_path="./queue.db"), or '
                'the URL of a coordinator, queue="http://127.0.0.1:8080"'
            )
        if isinstance(self.workers, int) and self.workers < 1:
            raise RunnerError(
                f"workers is {self.workers}; give at least 1, or None when workers elsewhere pull"
            )
        if self.workers is None and isinstance(self.queue, TaskQueue) and self.queue.path is None:
            raise RunnerError(
                "nobody else can pull from a queue in memory; give workers=2, or a queue in a file"
            )
        super().__post_init__()

    def _close(self) -> None:
        """Cancel what is left, and stop this runner's own workers."""
        try:
            super()._close()
        finally:
            self._stop_workers()

    def _open(self) -> QueueExecutor:
        queue = self._connect()
        self._start_workers(queue)
        return QueueExecutor(
            queue,
            run_id=self.run_id,
            timeout_seconds=self.timeout_seconds,
            max_retries=self.max_retries,
        )

    def _connect(self) -> Queue:
        if isinstance(self.queue, str):
            from noob_cloud.queue.remote import RemoteQueue  # noqa: PLC0415 - loads the client

            self.queue = RemoteQueue(self.queue, token=self.token)
        assert self.queue is not None  # noqa: S101 - checked when the runner was made
        return self.queue

    def _start_workers(self, queue: Queue) -> None:
        name = f"runner-{self.runner_id}"
        if isinstance(self.workers, int):
            self._start(queue, slots(self.workers, isolate=True, allowed_modules=None), name)
            return
        for worker in self.workers or ():
            from noob_cloud.worker.push import HttpSlots  # noqa: PLC0415 - loads the client

            self._start(queue, HttpSlots(worker), f"{name}-{worker.worker_id}", worker.tags)

    def _start(self, queue: Queue, places: Slots, name: str, tags: Iterable[str] = ()) -> None:
        loop = ClaimLoop(
            queue,
            places,
            worker_id=name,
            tags=tags,
            lease_seconds=self.lease_seconds,
            poll_seconds=0.5,
            drain_seconds=0.0,
            documents=queue.blobs.get,
        )
        thread = Thread(target=loop.run, name=name, daemon=True)
        self._loops.append((loop, thread, places))  # first: from here on `_close` ends them
        places.warm()
        thread.start()

    def _stop_workers(self) -> None:
        loops, self._loops = self._loops, []
        for loop, _thread, _places in loops:
            loop.stop()
        end = monotonic() + _STOP_SECONDS
        for _loop, thread, places in loops:
            if thread.ident is not None:
                thread.join(max(0.0, end - monotonic()))
            with suppress(OSError):
                places.close()
