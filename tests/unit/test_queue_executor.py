"""What an executor over a queue does when the queue, or the runner, does not get on."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from noob_cloud_testtubes.case import chain, load, node, scalar

from noob_cloud.executors import queue as queue_module
from noob_cloud.executors.queue import QueueExecutor
from noob_cloud.queue import TaskQueue
from noob_cloud.runner import QueuedRunner
from noob_cloud.runner import queued as queued_module
from noob_cloud.task import StageCall
from noob_cloud.tubes import TubeSource

if TYPE_CHECKING:
    from collections.abc import Sequence

SPEC = chain("queue_executor", a=node("double", "value=src.index"), out=scalar("a.value"))
SOURCE = TubeSource.of(SPEC)
CALL = StageCall(SOURCE.cid, ("a",), (0,), ((1,),))


class Leaving(TaskQueue):
    """A queue that takes tasks once, and then is away."""

    taken = False

    def submit_many(self, tasks: Sequence[dict[str, Any]], **more: Any) -> list[int]:
        """Take the first."""
        if self.taken:
            raise OSError("the disk is gone")
        self.taken = True
        return super().submit_many(tasks, **more)


class Deaf(TaskQueue):
    """A queue that never answers who cancels."""

    def __init__(self) -> None:
        super().__init__(persistent=False)
        self.asked = Event()
        self.over = Event()

    def cancel_task(self, task_id: int, **_: Any) -> bool:
        """Wait until the test is over."""
        del task_id
        self.asked.set()
        return self.over.wait(60)


def test_queue_that_leaves_while_a_failed_task_is_tried_again() -> None:
    """Whoever waits for the task learns of it, instead of waiting for ever."""
    queue = Leaving(persistent=False)
    before = QueueExecutor(queue, run_id="r")
    before.submit_call(CALL, tube=SOURCE)
    task = queue.claim_task("w")
    assert task is not None
    queue.fail_task(task, "broken", retryable=False)
    before.shutdown()

    queue.taken = False
    resumed = QueueExecutor(queue, run_id="r")
    future = resumed.submit_call(CALL, tube=SOURCE)
    assert isinstance(future.exception(timeout=60), OSError)
    resumed.shutdown()


def test_queue_that_is_away_does_not_keep_a_runner_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tasks that cannot be cancelled stay; the executor ends all the same."""
    monkeypatch.setattr(queue_module, "_FAREWELL_SECONDS", 0.01)
    queue = Deaf()
    executor = QueueExecutor(queue, run_id="r")
    future = executor.submit_call(CALL, tube=SOURCE)

    executor.shutdown(cancel_futures=True)

    assert future.cancelled()
    assert queue.asked.wait(60)
    queue.over.set()


class Unready:
    """Slots that are interrupted while they get ready."""

    limit = 1
    closed = False

    def warm(self) -> None:
        """Be interrupted."""
        raise KeyboardInterrupt

    def close(self) -> None:
        """Keep that it was called."""
        self.closed = True


def test_interrupt_while_workers_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that is interrupted before it is ready ends the workers it has started."""
    places = Unready()
    monkeypatch.setattr(queued_module, "slots", lambda *_, **__: places)
    runner = QueuedRunner(load(SPEC), queue=TaskQueue(persistent=False), workers=1)
    with pytest.raises(KeyboardInterrupt):
        runner.init()
    assert places.closed
    assert not runner.running
