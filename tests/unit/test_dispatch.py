"""The dispatcher keeps its footing on an executor that misbehaves."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import noob_cloud_testnodes as testnodes
import pytest
from noob_cloud_testtubes import chain, load, node, scalar

from noob_cloud.exceptions import WorkerError, WorkerLostError
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


FLAKY = chain("dispatch_flaky", two=node("flaky", "value=src.index"), out=scalar("two.value"))
FAILING = chain(
    "dispatch_failing", two=node("fail_noted", "value=src.index"), out=scalar("two.value")
)


class Chunks(ThreadPoolExecutor):
    """Keeps which epochs each task had."""

    def __init__(self) -> None:
        super().__init__(1)
        self.epochs: list[tuple[int, ...]] = []

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run the task."""
        self.epochs.append(args[-1].epochs)
        return super().submit(*args, **kwargs)


def test_failure_costs_only_what_had_not_ended() -> None:
    """Of a task whose call raises, what ended before it stays, and what comes after goes on."""
    testnodes.LOG.clear()
    results: list[Any] = []
    with Chunks() as executor:
        runner = ExecutorRunner(load(FAILING), executor=executor, window=12)
        with runner, pytest.raises(testnodes.BadTileError, match="no tile 4") as caught:
            results.extend(runner.iter(12))
    ran = [entry[1] for entry in testnodes.LOG if entry[0] == "ran"]
    assert results == [0, 1, 2, 3]
    assert max(map(len, executor.epochs)) > 1
    assert len(ran) == len(set(ran)), "a call ran twice"
    assert (caught.value.node_id, caught.value.epoch) == ("two", 4)


def test_retries_of_a_node_on_any_executor() -> None:
    """A node with `retries` is tried again where the executor itself knows nothing of them."""
    testnodes.LOG.clear()
    with Chunks() as executor:
        placement = {"two": {"retries": 2}}
        runner = ExecutorRunner(load(FLAKY), executor=executor, placement=placement, window=4)
        with runner:
            assert runner.run(4) == [0, 1, 2, 3]
    assert testnodes.LOG.count(("flaky", 2)) == 3


def test_retries_end() -> None:
    """A node that raises once more than its `retries` allow ends its epoch."""
    testnodes.LOG.clear()
    with Chunks() as executor:
        placement = {"two": {"retries": 1}}
        runner = ExecutorRunner(load(FLAKY), executor=executor, placement=placement)
        with runner, pytest.raises(testnodes.BadTileError, match="not yet 2"):
            runner.run(4)
    assert testnodes.LOG.count(("flaky", 2)) == 2


def test_timeout_is_each_calls_own() -> None:
    """Calls with a timeout do not share one before it is known how long they take."""
    with Chunks() as executor:
        placement = {"two": {"timeout": 30}}
        runner = ExecutorRunner(load(SPEC), executor=executor, placement=placement, window=16)
        with runner:
            assert runner.run(16) == [2 * i for i in range(16)]
    assert executor.epochs[:16] == [(i,) for i in range(16)]


class Losing(Executor):
    """Loses every worker."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        """Fail without a word of the node."""
        future: Future[Any] = Future()
        future.set_exception(WorkerLostError("killed by SIGSEGV"))
        return future


def test_lost_worker_names_node_and_epoch() -> None:
    """An error that no node raised says all the same which node and epoch it hit."""
    runner = ExecutorRunner(load(SPEC), executor=Losing(), window=1)
    with runner, pytest.raises(WorkerLostError) as caught:
        runner.run(2)
    assert (caught.value.node_id, caught.value.epoch) == ("two", 0)
    assert caught.value.__notes__ == ["while running two in epoch 0"]


class Interrupting(Executor):
    """Its third task was interrupted where it ran."""

    def submit(self, _run: Any, _document: bytes, call: Any) -> Future[Any]:
        """Answer at once."""
        future: Future[Any] = Future()
        if call.epochs == (2,):
            future.set_exception(KeyboardInterrupt())
        else:
            future.set_result([(2 * epoch,) for epoch in call.epochs])
        return future


def test_interrupt_raised_elsewhere_waits_for_its_turn() -> None:
    """What a node raises comes in the order of the epochs, whatever it is: run() ends with it."""
    runner = ExecutorRunner(load(SPEC), executor=Interrupting(), window=8)
    with runner:
        assert runner.run(8) == [0, 2]
