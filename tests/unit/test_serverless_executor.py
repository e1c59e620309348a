"""Functions and stages on a deployed kit: a coordinator, a worker's claim loop, and futures."""

from __future__ import annotations

import asyncio
import math
import operator
import time
import traceback
from concurrent.futures import BrokenExecutor, CancelledError, Future, as_completed, wait
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

import noob_cloud_testnodes as nodes
import numpy as np
import pytest
from noob_cloud_testtubes.case import chain, load, node, scalar
from tests.conformance.served import TOKEN, served

from noob_cloud import codec
from noob_cloud.blobs.by_cid import ByCid, Fetched, MissingBlobsError, resolving
from noob_cloud.deployment import Deployment
from noob_cloud.exceptions import (
    RunnerError,
    TaskFailedError,
    UnavailableError,
)
from noob_cloud.executors import ServerlessExecutor
from noob_cloud.executors import serverless as module
from noob_cloud.executors.serverless_function import name_of
from noob_cloud.queue import TaskQueue
from noob_cloud.queue.remote import RemoteQueue
from noob_cloud.runner import LambdaRunner, SynchronousRunner
from noob_cloud.worker.claim import ClaimLoop
from noob_cloud.worker.function import FunctionCall
from noob_cloud.worker.slots import slots

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from noob_cloud.coordinator.hot import Door
    from noob_cloud.queue import Queue

MODULES = ("noob_cloud_testnodes", "operator", "_operator", "builtins", "time")


@contextmanager
def worker(queue: Queue, name: str = "w") -> Iterator[ClaimLoop]:
    """A worker of this process that pulls from `queue`."""
    places = slots(2, isolate=False, allowed_modules=MODULES)
    loop = ClaimLoop(
        queue,
        places,
        worker_id=name,
        documents=queue.blobs.get,
        poll_seconds=0.2,
        pulse_seconds=0.05,
        drain_seconds=0.0,
    )
    thread = Thread(target=loop.run)
    thread.start()
    try:
        yield loop
    finally:
        loop.stop()
        thread.join(20)
        places.close()


@pytest.fixture(scope="module")
def coordinator() -> Iterator[tuple[str, Door]]:
    with served() as found:
        yield found


@pytest.fixture(scope="module")
def deployment(coordinator: tuple[str, Door]) -> Iterator[Deployment]:
    """A coordinator with one worker."""
    found = Deployment.at(coordinator[0], TOKEN)
    with worker(found.queue()):
        yield found


@pytest.fixture
def executor(deployment: Deployment) -> Iterator[ServerlessExecutor]:
    with ServerlessExecutor(deployment) as made:
        yield made


@pytest.fixture
def idle() -> Iterator[tuple[ServerlessExecutor, RemoteQueue, Door]]:
    """An executor on a coordinator without workers, that coordinator's queue and application."""
    with served() as (url, door):
        found = Deployment.at(url, TOKEN)
        made = ServerlessExecutor(found)
        yield made, found.queue(), door
        made.shutdown(cancel_futures=True)


# ---- functions


def test_result(executor: ServerlessExecutor) -> None:
    """A function's result comes home."""
    assert executor.submit(nodes.double, 21).result(20) == 42
    assert executor.submit(nodes.mixed, 1, 2, 3, last="x").result(20) == [1, [2, 3], "x"]
    assert executor.submit(nodes.gather_kwargs, a=1, b=[2]).result(20) == {"a": 1, "b": [2]}
    assert executor.submit(nodes.nothing, 1).result(20) is None
    assert executor.submit(len, [1, 2]).result(20) == 2
    assert executor.submit(nodes.async_double, 4).result(20) == 8


def test_map(executor: ServerlessExecutor) -> None:
    """Results come in the order of the items."""
    assert list(executor.map(nodes.double, range(50))) == [2 * n for n in range(50)]
    assert list(executor.map(operator.add, [1, 2], [10, 20], chunksize=7)) == [11, 22]
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(nodes.double, [1], chunksize=0)


def test_partial(executor: ServerlessExecutor) -> None:
    """A partial travels as its function and all its arguments."""
    adder = partial(partial(nodes.mixed, 1, last="x"), 2, last="y")

    assert executor.submit(adder, 3).result(20) == [1, [2, 3], "y"]


def test_many_are_few_requests(idle: tuple[ServerlessExecutor, RemoteQueue, Door]) -> None:
    """What is submitted together travels together."""
    executor, queue, door = idle
    sent: list[int] = []
    submit = door.coordinator.submit

    async def count(who: Any, body: Any, *args: Any, **more: Any) -> Any:
        sent.append(sum(len(group.epochs) for group in body.groups))
        return await submit(who, body, *args, **more)

    door.coordinator.submit = count
    futures = [executor.submit(nodes.double, n) for n in range(3000)]
    executor._outbox.flush(20)

    assert queue.stats().ready == 3000 == sum(sent)
    assert len(sent) <= 300
    assert [future.task_id for future in futures] == sorted(f.task_id for f in futures)


def test_run_id_and_names(idle: tuple[ServerlessExecutor, RemoteQueue, Door]) -> None:
    """Tasks stand in the queue under their function's name and the executor's run."""
    executor, queue, _ = idle
    executor.submit(nodes.double, 1)
    executor._outbox.flush(20)

    (task,) = queue.list_tasks(run_id=executor.run_id)

    assert task.node_id == "noob_cloud_testnodes.double"
    assert isinstance(task.payload, FunctionCall)


def test_tags(coordinator: tuple[str, Door]) -> None:
    """A function goes only to workers with the executor's tags."""
    found = Deployment.at(coordinator[0], TOKEN)
    queue = found.queue()
    with ServerlessExecutor(found, affinity_tags=["gpu"], required_tags=["big"]) as executor:
        future = executor.submit(nodes.double, 1)
        executor._outbox.flush(20)
        task = queue.claim_task("g", ["gpu", "big"])
        assert task is not None
        assert (task.affinity_tags, task.required_tags) == ({"gpu"}, {"big"})
        queue.complete_task(task, 5)
        assert future.result(20) == 5


# ---- errors


def test_exception_comes_home(executor: ServerlessExecutor) -> None:
    """What a function raises is raised here once, with the remote traceback and its place."""
    future = executor.submit(nodes.fail_at, 2)

    with pytest.raises(ValueError, match="2") as caught:
        future.result(20)

    assert type(caught.value) is type(future.exception())
    text = "".join(traceback.format_exception(caught.value))
    assert "in fail_at" in text
    assert "raised by noob_cloud_testnodes.fail_at, task" in text
    assert "on worker w" in text


def test_exception_is_not_tried_again(executor: ServerlessExecutor, deployment: Deployment) -> None:
    """A function that raises ran once, whatever `max_retries` says."""
    future = executor.submit(operator.truediv, 1, 0)

    with pytest.raises(ZeroDivisionError, match="division by zero"):
        future.result(20)

    assert deployment.queue().get_task(future.task_id).attempt == 1


def test_wrong_arguments(executor: ServerlessExecutor) -> None:
    """A call that does not fit the function is the call's TypeError."""
    with pytest.raises(TypeError, match="argument"):
        executor.submit(nodes.double, 1, 2, 3).result(20)


def test_value_that_cannot_travel(executor: ServerlessExecutor) -> None:
    """An argument, or a result, without a place in the wire format is the call's error alone."""
    with pytest.raises(TypeError, match="wire format"):
        executor.submit(nodes.double, object()).result(20)
    with pytest.raises(TypeError, match="wire format"):
        executor.submit(nodes.give_object, 1).result(20)
    assert executor.submit(nodes.double, 1).result(20) == 2


def test_module_that_workers_refuse(executor: ServerlessExecutor) -> None:
    """A function of a module that workers may not import says how to allow it."""
    with pytest.raises(TaskFailedError, match="--allow-module math"):
        executor.submit(math.sqrt, 4).result(20)


class Tool:
    @staticmethod
    def use() -> None:
        pass

    def method(self) -> None:
        pass


def _scripts_own() -> None:
    pass


_scripts_own.__module__ = "__main__"
replaced = nodes.double


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda: 1, "a lambda .* has no name; .*noob-cloud deploy"),
        (_scripts_own, "_scripts_own is defined in __main__, the script.*noob-cloud deploy"),
        (Tool, "Tool is a class; submit a function"),
        (Tool().method, "method of an object that lives here"),
        (Tool.use, "Tool.use is defined inside something else"),
        (operator.itemgetter(1), "no module and name"),
        (3, "cannot be called"),
    ],
)
def test_function_without_a_name(executor: ServerlessExecutor, function: Any, why: str) -> None:
    """What a worker could not find by its name is refused at once, with the way out."""
    with pytest.raises(TypeError, match=why):
        executor.submit(function)


def test_function_under_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function whose name now means another one is refused: a worker would call that."""
    original = nodes.double
    monkeypatch.setattr(nodes, "double", nodes.add)

    with pytest.raises(TypeError, match="not this function but another one"):
        name_of(original)


def test_other_code(executor: ServerlessExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with another version of the module refuses; when nobody has it the call says so."""
    monkeypatch.setattr("noob_cloud.queue.refusals.SHORTEST_PATIENCE", 0.1)
    executor._terms["timeout_seconds"] = 0.5
    source = module.tube_of(nodes.identity)
    source.__dict__["code"] = "bafkr4i" + "a" * 52
    executor._tubes[nodes.identity] = source
    executor._terms["max_retries"] = 0

    with pytest.raises(TaskFailedError, match=r"wants code .* install the same version"):
        executor.submit(nodes.identity, 1).result(20)


# ---- futures as arguments


def test_future_as_argument(executor: ServerlessExecutor) -> None:
    """A call waits for the futures among its arguments, wherever they stand."""
    first = executor.submit(nodes.double, 1)
    second = executor.submit(nodes.double, first)
    both = executor.submit(nodes.identity, {"a": [first, (second,)], "b": 3})

    assert both.result(20) == {"a": [2, (4,)], "b": 3}


def test_future_of_another_executor(executor: ServerlessExecutor) -> None:
    """Any future of the standard library may be an argument."""
    other: Future[int] = Future()
    waiting = executor.submit(nodes.double, other)
    assert not waiting.done()

    other.set_result(4)

    assert waiting.result(20) == 8


def test_large_result_stays_away(executor: ServerlessExecutor, deployment: Deployment) -> None:
    """A large result that is another call's argument goes there by its cid, and never here."""
    fetched: list[str] = []
    get = executor._queue.blobs.get
    executor._queue._decoder._values._blob = lambda cid: (fetched.append(cid), get(cid))[1]

    image = executor.submit(nodes.image, 1, side=200)
    mean = executor.submit(nodes.mean, image)

    assert mean.result(20) == pytest.approx(float(nodes.image(1, side=200).mean()))
    assert image.cid is not None
    assert image.cid not in fetched
    sent = deployment.queue().get_task(mean.task_id).payload
    assert sent.args == (ByCid(image.cid),)
    np.testing.assert_array_equal(image.result(20), nodes.image(1, side=200))
    assert image.result(0) is image.result(0)
    assert fetched.count(image.cid) == 1


def test_large_argument_travels_once(executor: ServerlessExecutor, deployment: Deployment) -> None:
    """An argument that many calls share is put into the blob store once, and sent by its cid."""
    put: list[int] = []
    blobs = executor._queue.blobs
    keep = blobs.put
    blobs.put = lambda data: (put.append(len(data)), keep(data))[1]
    large = np.arange(50_000, dtype=float)

    futures = [executor.submit(nodes.mixed, large, n) for n in range(5)]
    found = [future.result(20) for future in futures]

    assert [row[1] for row in found] == [[n] for n in range(5)]
    np.testing.assert_array_equal(found[0][0], large)
    assert sum(size > 400_000 for size in put) == 1
    payload = deployment.queue().get_task(futures[0].task_id).payload
    assert [type(value) for value in payload.args] == [ByCid, int]


def test_many_small_arguments_travel_by_cid_together(
    executor: ServerlessExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is large without having a large argument goes by its own cid."""
    monkeypatch.setattr(module, "_WHOLE", 100_000)
    rows = [b"x" * 30_000 for _ in range(10)]

    assert executor.submit(nodes.gather_args, *rows).result(20) == rows


def test_failed_argument(executor: ServerlessExecutor) -> None:
    """What a future among the arguments raised is what the call raises; it is not run."""
    bad = executor.submit(operator.truediv, 1, 0)
    after = executor.submit(nodes.double, executor.submit(nodes.double, bad))

    with pytest.raises(ZeroDivisionError):
        after.result(20)
    assert after.task_id is None


def test_failed_argument_by_cid(executor: ServerlessExecutor) -> None:
    """An error so large that it stands in the blob store fails the call that it is input of."""
    bad = executor.submit(nodes.fail_at_length, 6)
    after = executor.submit(nodes.double, bad)

    with pytest.raises(LookupError):
        after.result(20)


def test_cancelled_argument(idle: tuple[ServerlessExecutor, RemoteQueue, Door]) -> None:
    """A call whose argument was cancelled is cancelled."""
    executor, _, _ = idle
    first = executor.submit(nodes.double, 1)
    second = executor.submit(nodes.double, first)

    assert first.cancel()

    assert second.cancelled()
    assert wait([first, second], timeout=5).not_done == set()


# ---- cancel


def test_cancel_running(executor: ServerlessExecutor, deployment: Deployment) -> None:
    """Cancelling a call that runs stops it on its worker, and frees the worker."""
    future = executor.submit(nodes.dawdle, 1)
    queue = deployment.queue()
    while not queue.list_tasks("running", run_id=executor.run_id):
        time.sleep(0.01)

    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result(0)
    assert wait([future], timeout=5).done == {future}
    (task,) = queue.wait_settled([future.task_id], timeout=20)
    assert task.status == "cancelled"
    assert executor.submit(nodes.double, 1).result(20) == 2
    assert future.cancel()


def test_cancel_many(idle: tuple[ServerlessExecutor, RemoteQueue, Door]) -> None:
    """Cancelling thousands of calls is a few requests."""
    executor, queue, door = idle
    asked: list[int] = []
    cancel = door.coordinator.desk.cancel_many

    def count(ids: list[int], **more: Any) -> list[int]:
        asked.append(len(ids))
        return cancel(ids, **more)

    door.coordinator.desk.cancel_many = count
    futures = [executor.submit(nodes.double, n) for n in range(2500)]
    executor._outbox.flush(20)
    for future in futures:
        assert future.cancel()

    executor.shutdown()

    stats = queue.stats()
    assert (stats.ready, stats.cancelled) == (0, 2500)
    assert len(asked) <= 10


def test_done_cannot_be_cancelled(executor: ServerlessExecutor) -> None:
    """What has its outcome keeps it."""
    future = executor.submit(nodes.double, 1)
    assert future.result(20) == 2
    assert not future.cancel()


# ---- the end


def test_interrupt_cancels(idle: tuple[ServerlessExecutor, RemoteQueue, Door]) -> None:
    """Leaving the block by Ctrl-C cancels what is left, and does not wait for it."""
    executor, queue, _ = idle
    stuck: Future[int] = Future()
    futures = [executor.submit(nodes.double, n) for n in range(20)]
    futures.append(executor.submit(nodes.double, stuck))
    executor._outbox.flush(20)
    with pytest.raises(KeyboardInterrupt), executor:
        raise KeyboardInterrupt

    assert all(future.cancelled() for future in futures)
    assert queue.stats().live == 0


def test_shutdown_without_wait(deployment: Deployment) -> None:
    """Without waiting, what was submitted still finishes, and no more is taken."""
    executor = ServerlessExecutor(deployment)
    first = executor.submit(nodes.double, 1)
    second = executor.submit(nodes.double, first)

    executor.shutdown(wait=False)

    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(nodes.double, 1)
    assert second.result(20) == 4


def test_shutdown_unused(deployment: Deployment) -> None:
    """An executor that was never used shuts down at once, twice."""
    executor = ServerlessExecutor(deployment)
    executor.shutdown()
    executor.shutdown(wait=False)


def test_coordinator_that_never_comes_back() -> None:
    """Whoever waits learns that the coordinator is gone."""
    gone = RemoteQueue("http://127.0.0.1:1", TOKEN, patience=0.0)
    with ServerlessExecutor(queue=gone) as executor, pytest.raises(UnavailableError):
        executor.submit(len, []).result(20)


def test_coordinator_that_begins_anew(
    idle: tuple[ServerlessExecutor, RemoteQueue, Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that a coordinator has lost fail, and get no other task's result."""
    monkeypatch.setattr(module, "_LONGEST_POLL", 0.05)
    executor, _, _ = idle
    futures = [executor.submit(nodes.double, n) for n in range(3)]
    executor._outbox.flush(20)
    with served() as (url, _):
        other = Deployment.at(url, TOKEN).queue()
        other.submit_task("n", 0)
        other.complete_task(other.claim_task("w"), "somebody else's")
        executor._queue = other
        for future in futures:
            with pytest.raises(TaskFailedError, match="does not know task"):
                future.result(20)


def test_lost_executor_says_so() -> None:
    """An executor that has given its coordinator up takes no more, and says why."""
    gone = RemoteQueue("http://127.0.0.1:1", TOKEN, patience=0.0)
    executor = ServerlessExecutor(queue=gone)
    executor._abandon(UnavailableError("away"))
    with pytest.raises(BrokenExecutor, match="away"):
        executor.submit(len, [])
    executor.shutdown()


def test_without_a_place() -> None:
    """An executor, or a runner, without a deployment says what it wants."""
    with pytest.raises(TypeError, match='ServerlessExecutor\\("NAME"\\)'):
        ServerlessExecutor()
    with pytest.raises(RunnerError, match='deployment="NAME"'):
        LambdaRunner(load(chain("nowhere", out=scalar("src.index"))))


# ---- the standard library's helpers


def test_as_completed_and_asyncio(executor: ServerlessExecutor) -> None:
    """The helpers of concurrent.futures and asyncio work on the futures."""
    futures = [executor.submit(nodes.double, n) for n in range(10)]
    assert {future.result() for future in as_completed(futures, timeout=20)} == set(range(0, 20, 2))

    async def run() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *[loop.run_in_executor(executor, nodes.double, n) for n in range(5)]
        )

    assert asyncio.run(run()) == [0, 2, 4, 6, 8]


def test_later_ones_are_seen_while_the_oldest_wait(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that nobody can run keep no other call's result away."""
    monkeypatch.setattr(module, "_WATCHED", 3)
    with ServerlessExecutor(deployment) as executor:
        executor._terms["affinity_tags"] = ["nowhere"]
        stuck = [executor.submit(nodes.double, n) for n in range(10)]
        executor._terms["affinity_tags"] = []
        free = [executor.submit(nodes.double, n) for n in range(10)]

        assert [future.result(20) for future in free] == [2 * n for n in range(10)]
        assert not any(future.done() for future in stuck)
        executor.shutdown(cancel_futures=True)


# ---- stages


def test_runner_with_large_values(deployment: Deployment) -> None:
    """A tube whose values are large gives what it gives here; they travel by cid."""
    spec = chain(
        "serverless_large",
        image=node("image", "value=src.index", params={"side": 150}),
        bright=node("brighten", "image=image.image"),
        out=scalar("bright.value"),
    )
    expected = SynchronousRunner(load(spec)).run(3)
    with LambdaRunner(load(spec), deployment=deployment) as runner:
        found = runner.run(3)

    assert expected is not None
    assert found is not None
    for left, right in zip(expected, found, strict=True):
        np.testing.assert_array_equal(left, right)


def test_stage_inputs_by_cid(executor: ServerlessExecutor) -> None:
    """A stage's large input leaves as its cid."""
    from noob_cloud.task import StageCall  # noqa: PLC0415 - beside its use
    from noob_cloud.tubes import TubeSource  # noqa: PLC0415 - beside its use

    source = TubeSource.of(chain("serverless_one", a=node("brighten", "image=src.index")))
    large = np.ones((200, 200))
    call = StageCall(source.cid, ("a",), (0, 1), ((large,), (2 * large,)))

    payload = codec.loads(executor._submission(call, None)["data"])
    assert [type(row[0]) for row in payload.inputs] == [ByCid, ByCid]
    rows = executor.submit_call(call, tube=source).result(20)
    np.testing.assert_array_equal(rows[1][0], nodes.brighten(2 * large))


def test_local_queue(tmp_path: Path) -> None:
    """The executor works on any queue; a worker beside it pulls from the same."""
    queue = TaskQueue(persistent=True, db_path=str(tmp_path / "queue.db"))
    with worker(queue), ServerlessExecutor(queue=queue) as executor:
        image = executor.submit(nodes.image, 1, side=200)
        assert executor.submit(nodes.mean, image).result(20) > 0


# ---- values by cid


def test_by_cid_stays_what_it_is_outside() -> None:
    """Decoded where nobody looks for values, it is the cid again."""
    assert codec.loads(codec.dumps([ByCid("x")])) == [ByCid("x")]


def test_missing_values_are_named_at_once() -> None:
    """All that is missing is said in one go; what is there takes the place of its cid."""
    frame = codec.dumps({"a": ByCid("one"), "b": [ByCid("two"), ByCid("three")]})
    frames = {"one": codec.dumps(1)}

    with pytest.raises(MissingBlobsError) as caught, resolving(frames):
        codec.loads(frame)
    assert caught.value.data["cids"] == ["two", "three"]

    frames |= {"two": codec.dumps([ByCid("one")]), "three": codec.dumps(3)}
    with resolving(frames):
        assert codec.loads(frame) == {"a": 1, "b": [[1], 3]}


def test_fetched_keeps_what_fits() -> None:
    """What is asked for again is not fetched again, up to the limit."""
    asked: list[str] = []

    def fetch(cid: str) -> bytes:
        asked.append(cid)
        return cid.encode() * 4

    kept = Fetched(fetch, limit=10)
    for cid in ("a", "b", "a", "c", "a", "b", "large"):
        assert kept.get(cid) == cid.encode() * 4

    assert asked == ["a", "b", "c", "b", "large"]
