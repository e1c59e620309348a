"""What every executor promises, with the standard library's as the measure.

Another executor joins by a line in `EXECUTORS`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    ProcessPoolExecutor,
    as_completed,
    wait,
)
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from noob_cloud_testfunctions import (
    Counter,
    add,
    double,
    fail,
    fail_on_seven,
    make_lock,
    nap,
    wait_for_file,
)

from noob_cloud.deployment import Deployment
from noob_cloud.executors import ProcessExecutor, ServerlessExecutor

from .servers import TOKEN, coordinator, worker_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _serverless(stack: ExitStack) -> Callable[[], Executor]:
    folder = Path(stack.enter_context(TemporaryDirectory()))
    url, _ = stack.enter_context(coordinator(folder))
    for name in ("s1", "s2"):
        stack.enter_context(worker_server(folder, name, max_tasks=1, coordinator=url))
    return partial(ServerlessExecutor, Deployment.at(url, TOKEN))


PICKLING: dict[str, Callable[[ExitStack], Callable[[], Executor]]] = {
    "ProcessPoolExecutor": lambda _: partial(ProcessPoolExecutor, 2),
    "ProcessExecutor": lambda _: partial(ProcessExecutor, 2),
}
CANNOT_TRAVEL = "pickle|wire format"
EXECUTORS = {**PICKLING, "ServerlessExecutor": _serverless}
"""What starts the makers of an executor with two workers that runs any importable function."""


@pytest.fixture(params=EXECUTORS, scope="module")
def make(request) -> Iterator[Callable[[], Executor]]:
    with ExitStack() as stack:
        yield EXECUTORS[request.param](stack)


@pytest.fixture(scope="module")
def executor(make) -> Iterator[Executor]:
    with make() as executor:
        yield executor


def test_submit_gives_result(executor):
    """A call's result comes home."""
    assert executor.submit(double, 21).result(20) == 42
    assert executor.submit(double, 1, plus=3).result(20) == 5


@pytest.mark.parametrize("kind", PICKLING)
def test_submit_method(kind):
    """A bound method runs on a copy of its object, where objects travel."""
    counter = Counter()

    with ExitStack() as stack, PICKLING[kind](stack)() as executor:
        assert [executor.submit(counter.bump).result(20) for _ in range(3)] == [1, 1, 1]
    assert counter.count == 0


def test_exception_comes_home(executor):
    """What a call raises is raised here, with the remote traceback as its cause."""
    future = executor.submit(fail, "luck")

    with pytest.raises(ValueError, match="no luck") as caught:
        future.result(20)

    assert "in fail" in str(caught.value.__cause__)
    assert isinstance(future.exception(), ValueError)


def test_argument_that_cannot_travel(executor):
    """An argument that cannot be sent is the call's error and harms no other."""
    bad = executor.submit(double, threading.Lock())
    good = executor.submit(double, 1)

    with pytest.raises(TypeError, match=CANNOT_TRAVEL):
        bad.result(20)
    assert good.result(20) == 2


def test_function_that_cannot_travel(executor):
    """A function that cannot be sent, nor found by its name, is the call's error."""
    with pytest.raises(Exception, match=r"pickle|no name"):
        executor.submit(lambda: 1).result(20)


def test_result_that_cannot_travel(executor):
    """A result that cannot be sent is the call's error."""
    with pytest.raises(TypeError, match=CANNOT_TRAVEL):
        executor.submit(make_lock).result(20)


def test_map_in_order(executor):
    """Results come in the order of the arguments, whatever the chunks."""
    assert list(executor.map(double, range(50))) == [2 * n for n in range(50)]
    assert list(executor.map(add, range(50), range(60), chunksize=7)) == [2 * n for n in range(50)]
    assert list(executor.map(double, [])) == []


def test_map_raises_in_place(executor):
    """The results before the one that raises are yielded first."""
    results = executor.map(fail_on_seven, range(10))

    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="seven"):
        next(results)


def test_map_rejects_chunksize(executor):
    """A chunk has at least one item."""
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(double, [1], chunksize=0)


def test_map_timeout(executor):
    """The iterator of map raises when its time is up."""
    with pytest.raises(TimeoutError):
        list(executor.map(nap, [0.0, 0.4], timeout=0.1))


def test_result_timeout(executor):
    """Waiting for a result ends when its time is up; the call goes on."""
    future = executor.submit(nap, 0.3, "late")

    with pytest.raises(TimeoutError):
        future.result(0.01)
    assert future.result(20) == "late"
    assert future.done()


def test_wait_and_as_completed(executor, tmp_path):
    """The functions of concurrent.futures work on the futures."""
    slow = executor.submit(wait_for_file, str(tmp_path / "gate"))
    fast = executor.submit(double, 1)

    done, _ = wait([slow, fast], timeout=20, return_when=FIRST_COMPLETED)
    assert done == {fast}
    (tmp_path / "gate").touch()
    assert {future.result() for future in as_completed([slow, fast], timeout=20)} == {2, None}
    done, rest = wait([slow, fast], timeout=20)
    assert not rest
    assert len(done) == 2


def test_many_waiters(executor):
    """Threads that wait for one future are all woken."""
    future = executor.submit(nap, 0.2, 5)
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(future.result(20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert seen == [5] * 8


def test_callback(executor):
    """A callback is called once with the future, before or after it is done."""
    called: list[object] = []
    arrived = threading.Event()
    future = executor.submit(nap, 0.05, 1)
    future.add_done_callback(lambda f: (called.append(f), arrived.set()))

    assert arrived.wait(20)
    future.add_done_callback(called.append)
    assert called == [future, future]


def test_callback_that_raises(executor):
    """A callback that raises harms nothing."""
    future = executor.submit(nap, 0.05, 1)
    future.add_done_callback(lambda _: 1 / 0)

    assert future.result(20) == 1
    assert executor.submit(double, 1).result(20) == 2


def test_callback_submits(executor):
    """A callback may submit."""
    results: list[object] = []
    arrived = threading.Event()

    def again(_):
        executor.submit(double, 2).add_done_callback(
            lambda f: (results.append(f.result()), arrived.set())
        )

    executor.submit(double, 1).add_done_callback(again)

    assert arrived.wait(20)
    assert results == [4]


def test_cancel_waiting(executor):
    """A call that has not started can be cancelled, and is not run."""
    futures = [executor.submit(nap, 0.1) for _ in range(12)]
    last = futures[-1]

    assert last.cancel()
    assert last.cancelled()
    assert last.done()
    with pytest.raises(CancelledError):
        last.result()
    assert not wait(futures, timeout=20).not_done
    assert not futures[0].cancel()


def test_cancelled_callback(executor):
    """Cancelling calls the callbacks."""
    futures = [executor.submit(nap, 0.1) for _ in range(12)]
    called: list[object] = []
    futures[-1].add_done_callback(called.append)

    futures[-1].cancel()

    assert called == [futures[-1]]
    wait(futures, timeout=20)


def test_many_submitters(executor):
    """Threads may submit at once; each gets its own results."""
    wrong: list[object] = []

    def work(base):
        futures = [executor.submit(double, base + n) for n in range(100)]
        wrong.extend(f for n, f in enumerate(futures) if f.result(30) != 2 * (base + n))

    threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not wrong


def test_asyncio(executor):
    """An event loop can await calls."""

    async def run():
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, double, n) for n in range(20)]
        return await asyncio.gather(*calls)

    assert asyncio.run(run()) == [2 * n for n in range(20)]


def test_shutdown_finishes(make):
    """Shutting down waits for what was submitted, and refuses more."""
    executor = make()
    futures = [executor.submit(nap, 0.02, n) for n in range(10)]

    executor.shutdown()

    assert [future.result(0) for future in futures] == list(range(10))
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(double, 1)
    executor.shutdown()


def test_shutdown_without_wait(make):
    """Without waiting, what was submitted still finishes."""
    executor = make()
    futures = [executor.submit(nap, 0.02, n) for n in range(5)]

    executor.shutdown(wait=False)

    assert [future.result(20) for future in futures] == list(range(5))


def test_shutdown_cancels(make, tmp_path):
    """What waits can be cancelled; what runs finishes."""
    gate = tmp_path / "gate"
    executor = make()
    futures = [executor.submit(double, 0)]
    futures += [executor.submit(wait_for_file, str(gate)) for _ in range(30)]
    assert futures[0].result(20) == 0

    shutdown = threading.Thread(target=partial(executor.shutdown, cancel_futures=True))
    shutdown.start()
    while not futures[-1].done():  # the standard library's cancels without a word to who waits
        time.sleep(0.01)
    gate.touch()
    shutdown.join(20)

    assert not shutdown.is_alive()
    assert all(future.done() for future in futures)
    assert futures[-1].cancelled()


def test_shutdown_unused(make):
    """An executor that was never used shuts down at once."""
    executor = make()

    executor.shutdown()
    executor.shutdown(wait=False)


def test_some_fail(executor):
    """Of many calls some fail: each future has its own outcome."""
    futures = [executor.submit(fail_on_seven, n % 10) for n in range(100)]

    errors = [n for n, future in enumerate(futures) if future.exception(20)]

    assert errors == list(range(7, 100, 10))
