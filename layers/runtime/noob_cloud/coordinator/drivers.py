"""A worker's other half: it holds the driver tasks of runs without a client.

Driving takes no place of the worker's own: a run's stages need those, maybe this very worker's.
Each run is driven in a process of its own, which is killed when its lease is lost.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING

from noob_cloud import codec
from noob_cloud.coordinator.wire import DRIVE_TAG, DRIVER
from noob_cloud.exceptions import DecodeError, TaskCancelledError, WorkerLostError
from noob_cloud.task import Outcome, RunDriver
from noob_cloud.worker import child
from noob_cloud.worker.claim import ClaimLoop
from noob_cloud.worker.slots import Stop, failed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from noob_cloud.queue.remote import RemoteQueue
    from noob_cloud.task import Task
    from noob_cloud.worker.child import Reply


def drive_tags(tags: Iterable[str]) -> list[str]:
    """Return the tags by which a worker asks for driver tasks."""
    return [DRIVE_TAG, *sorted(f"{DRIVE_TAG}+{tag}" for tag in tags)]


class Drivers:
    """Drives up to `limit` runs at once, until it is stopped.

    Args:
        queue: the coordinator's.
        token: the worker's token, for the processes that drive.
        worker_id: the worker's name.
        tags: what the worker may claim.
        allowed_modules: prefixes of the modules that a tube may import; None: any.
        limit: runs at once.
        where: how the processes find the coordinator, as `serverless.find` takes it; by default
            they ask where the queue does.
        options: further arguments of `ClaimLoop`.
    """

    def __init__(
        self,
        queue: RemoteQueue,
        *,
        token: str | None,
        worker_id: str,
        tags: Iterable[str] = (),
        allowed_modules: Sequence[str] | None = None,
        limit: int = 2,
        where: str | None = None,
        **options: float,
    ) -> None:
        self._setup = {
            "url": queue.url,
            "where": where,
            "token": token,
            "path": list(sys.path),
            "allowed_modules": None if allowed_modules is None else list(allowed_modules),
        }
        self._loop = ClaimLoop(
            queue,
            _Places(limit),
            worker_id=worker_id + DRIVER,
            tags=drive_tags(tags),
            accept_untagged=False,
            drive=self._drive,
            **{"drain_seconds": 0.0, **options},  # type: ignore[arg-type] # numbers, all of them
        )
        self._thread = Thread(target=self._loop.run, name="noob-drivers", daemon=True)

    @property
    def active(self) -> list[Task]:
        """The tasks of the runs that are driven now."""
        return self._loop.active

    @property
    def holds(self) -> bool:
        """Whether any run's lease is held."""
        return self._loop.holds

    def start(self) -> None:
        """Begin to ask for runs."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for no more and hand the runs back: another worker goes on with them."""
        self._loop.stop()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the runs are handed back."""
        if self._thread.ident is not None:  # a signal may come before the start
            self._thread.join(timeout)

    def _drive(self, task: Task, stop: Stop, trace: str | None) -> Reply:
        payload = task.payload
        driver = codec.loads(payload) if isinstance(payload, bytes) else payload
        if not isinstance(driver, RunDriver):
            return failed(DecodeError(f"Task {task.task_id} is no driver's task."))
        setup = {**self._setup, "driver": driver, "task_id": task.task_id, "lease": task.token}
        process = _Process(codec.dumps(setup), trace)
        try:
            if not stop.enter(process):
                return failed(TaskCancelledError("the run was handed back"))
            return process.answer()
        finally:
            stop.leave()
            process.close()


class _Process:
    """A process that drives one run."""

    def __init__(self, setup: bytes, trace: str | None) -> None:
        belongs = {} if trace is None else {"TRACEPARENT": trace}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "noob_cloud.coordinator.driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **belongs},
        )
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        with suppress(BrokenPipeError):  # it has died: its answer says so
            self._process.stdin.write(len(setup).to_bytes(8, "big") + setup)
            self._process.stdin.flush()

    def answer(self) -> Reply:
        """Wait for the run's outcome; that it died is one too."""
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        frame = self._process.stdout.read()
        status = self._process.wait()
        if not frame:
            return failed(WorkerLostError(f"the process that drove the run ended with {status}"))
        outcome: Outcome = codec.loads(frame)
        return (child.OUTCOME if outcome.ok else child.ERROR), frame

    def interrupt(self) -> None:
        """End the process at once: what it did stays in the queue."""
        if self._process.poll() is None:
            self._process.kill()

    def close(self) -> None:
        """End the process, and let go of its pipes."""
        self.interrupt()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


class _Places:
    """How many runs at once; nothing but driving happens here."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def run(
        self, frame: bytes, *, timeout: float | None, stop: Stop, kind: bytes = child.CALL
    ) -> Reply:
        """Refuse: this is no driver's task."""
        del frame, timeout, stop, kind
        return failed(DecodeError("only runs are driven here"))

    def warm(self) -> None:
        """Have nothing to get ready."""

    def load(self, document: bytes) -> Reply:
        """Refuse: a tube is loaded where its run is driven."""
        del document
        return failed(DecodeError("only runs are driven here"))

    def close(self) -> None:
        """Have nothing to end: each run's process ends with the run."""
