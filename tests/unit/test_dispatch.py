"""The dispatcher keeps its footing on an executor that misbehaves."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest
from noob_cloud_testtubes import chain, load, node, scalar

from noob_cloud.exceptions import WorkerError
from noob_cloud.runner import ExecutorRunner

SPEC = chain("dispatch", two=node("double", "value=src.index"), out=scalar("two.value"))


class Short(Executor):
    """Gives no results for any task."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        """Answer at once."""
        future: Future[Any] = Future()
        future.set_result([])
        return future


class Refusing(Executor):
    """Takes one task, never runs it, and refuses the next."""

    def __init__(self) -> None:
        self.taken: list[Future[Any]] = []

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        """Take the first."""
        if self.taken:
            raise RuntimeError("no more")
        self.taken.append(Future())
        return self.taken[0]


def test_results_of_wrong_length() -> None:
    """A task that comes back without a result for each call is its worker's error."""
    runner = ExecutorRunner(load(SPEC), executor=Short())
    with runner, pytest.raises(WorkerError, match="one result each"):
        runner.run(3)


def test_submit_that_raises_leaves_nothing_sent() -> None:
    """Tasks that were sent before the executor refused one are cancelled."""
    executor = Refusing()
    runner = ExecutorRunner(load(SPEC), executor=executor)
    with runner, pytest.raises(RuntimeError, match="no more"):
        runner.run(4)
    assert [future.cancelled() for future in executor.taken] == [True]


class Counting(ThreadPoolExecutor):
    """Counts how many tasks it has at most."""

    def __init__(self) -> None:
        super().__init__(4)
        self.now = self.most = 0

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run the task, and count it until it is done."""
        self.now += 1
        self.most = max(self.most, self.now)
        future = super().submit(*args, **kwargs)
        future.add_done_callback(self._less)
        return future

    def _less(self, _: Future[Any]) -> None:
        self.now -= 1


def test_concurrency_of_a_node_is_kept() -> None:
    """No more calls of a node are out at once than its placement allows."""
    with Counting() as executor:
        placement = {"two": {"concurrency": 2}}
        runner = ExecutorRunner(load(SPEC), executor=executor, placement=placement)
        with runner:
            assert runner.run(20) == [2 * i for i in range(20)]
    assert executor.most <= 2
