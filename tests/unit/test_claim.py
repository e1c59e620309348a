"""The claim loop: what it claims, runs, settles, gives up and hands back."""

from __future__ import annotations

import sqlite3
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

import noob_cloud_testnodes as nodes
import pytest
from noob_cloud_testtubes.case import chain, node, result

from noob_cloud.exceptions import ForbiddenError, UnavailableError
from noob_cloud.queue import TaskQueue
from noob_cloud.task import Outcome, StageCall, TaskStatus
from noob_cloud.tubes import TubeSource
from noob_cloud.worker import settle
from noob_cloud.worker.claim import ClaimLoop
from noob_cloud.worker.execute import exception_of, outcome_of_failure
from noob_cloud.worker.held import Holding
from noob_cloud.worker.threads import ThreadSlots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GATE = Event()
STARTED = Event()


def gated(value: int) -> int:
    """A node that waits until the test opens the gate."""
    STARTED.set()
    while not GATE.wait(0.01):
        continue
    return value


SPEC = chain(
    "claim",
    a=node("double", "value=src.index"),
    bad=node("fail_at", "value=src.index", params={"at": 3}),
    slow=node(f"{__name__}.gated", "value=src.index"),
    odd=node("identity", "value=src.index"),
    out=result("a=a.value"),
)


@pytest.fixture
def source() -> TubeSource:
    return TubeSource.of(SPEC)


@pytest.fixture
def queue() -> Iterator[TaskQueue]:
    made = TaskQueue(persistent=False, backoff=(0.001, 0.001))
    GATE.clear()
    STARTED.clear()
    yield made
    GATE.set()
    made.close()


class Worker:
    """A loop in a thread of this process."""

    def __init__(
        self, queue: Any, source: TubeSource | None, limit: int = 2, **options: Any
    ) -> None:
        self.slots = ThreadSlots(limit, allowed_modules=options.pop("allowed_modules", None))
        defaults = {"poll_seconds": 0.05, "pulse_seconds": 0.05, "drain_seconds": 0.3}
        self.loop = ClaimLoop(
            queue,
            self.slots,
            worker_id="w1",
            hand_tube=source.cid if source else None,
            documents=None if source is None else {source.cid: source.document}.__getitem__,
            **{**defaults, **options},
        )
        self.thread = Thread(target=self.loop.run, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.slots.close()


def stage(source: TubeSource, name: str, *values: Any, **more: Any) -> StageCall:
    return StageCall(
        source.cid, (name,), tuple(range(len(values))), tuple((v,) for v in values), **more
    )


def until(condition: Callable[[], bool], patience: float = 10.0) -> None:
    end = monotonic() + patience
    wait = Event()
    while not condition():
        assert monotonic() < end, "it did not come to pass"
        wait.wait(0.01)


def test_hands_back_what_it_has_other_code_for(
    queue: TaskQueue, source: TubeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attempt is counted, others may have the task at once, and this worker pauses."""
    monkeypatch.setattr("noob_cloud.worker.held._LONGEST_PAUSE", 600.0)
    monkeypatch.setattr("noob_cloud.worker.held._FIRST_PAUSE", 600.0)
    task_id = queue.submit_task("a", 0, data=stage(source, "a", 1, code="bafyother"), max_retries=0)

    with Worker(queue, source, limit=1) as worker:
        until(lambda: worker.loop.counts["refused"] == 1)
        until(lambda: queue.get_task(task_id).status is TaskStatus.READY)
        later = queue.submit_task("a", 1, data=stage(source, "a", 2))
        task = queue.get_task(task_id)
        assert task.status is TaskStatus.READY
        assert "wants code bafyother, but this worker has" in (task.error or "")
        other = queue.claim_many("other", 2)
        assert [x.task_id for x in other] == [task_id, later]
        assert worker.loop.counts == {"refused": 1}


def test_pause_grows_while_all_code_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a second to half a minute; tasks that came together count once, a good one resets it."""
    clock = [50.0]
    monkeypatch.setattr("noob_cloud.worker.held.monotonic", lambda: clock[0])
    holding = Holding(2)
    assert holding.reserve() == 2
    holding.take([], reserved=2)
    pauses = []
    for _ in range(7):
        pauses.append(holding.pause())
        assert holding.pause() == pauses[-1]
        assert holding.reserve() == 0
        clock[0] += pauses[-1]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert holding.reserve() == 2
    holding.go_on()
    assert holding.pause() == 1.0


def test_runs_calls_of_a_run(queue: TaskQueue, source: TubeSource) -> None:
    """The result of a run's task is the list of output tuples."""
    ids = queue.submit_many(
        [{"node_id": "a", "epoch": n, "data": stage(source, "a", n)} for n in range(20)]
    )
    with Worker(queue, source) as worker:
        settled = queue.wait_settled(ids, timeout=20)

    assert [task.result for task in settled] == [[(2 * n,)] for n in range(20)]
    assert worker.loop.counts["completed"] == 20


def test_runs_tasks_by_hand(queue: TaskQueue, source: TubeSource) -> None:
    """A task submitted by hand calls its node with its data, and has the node's value."""
    task_id = queue.submit_task("a", 0, data={"value": 21})
    with Worker(queue, source):
        (task,) = queue.wait_settled([task_id], timeout=20)

    assert task.result == 42


def test_raised_by_hand_is_retried_then_dead(queue: TaskQueue, source: TubeSource) -> None:
    """What a node raises is tried again, then kept with its traceback in the dead letters."""
    task_id = queue.submit_task("bad", 7, data=[3], max_retries=2)
    with Worker(queue, source) as worker:
        queue.wait_settled([task_id], timeout=20)

    task = queue.get_task(task_id)
    assert task.status is TaskStatus.DEAD
    assert worker.loop.counts["failed"] == 3
    assert "fail_at" in (task.traceback or "")
    error = exception_of(outcome_of_failure(task.error or "", task.traceback))
    assert isinstance(error, nodes.BadTileError)
    assert error.node_id == "bad"  # type: ignore[attr-defined]


def test_failures_are_logged_and_not_printed(
    queue: TaskQueue,
    source: TubeSource,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What a program prints is its own: a runner's workers say what fails in their log."""
    task_id = queue.submit_task("bad", 7, data=[3], max_retries=0)
    with Worker(queue, source):
        queue.wait_settled([task_id], timeout=20)

    assert [r.getMessage().partition(" failed:")[0] for r in caplog.records] == [
        f"task {task_id} (bad, epoch 7)"
    ]
    assert capsys.readouterr().out == ""


def test_raised_in_a_run_is_an_outcome(queue: TaskQueue, source: TubeSource) -> None:
    """A run's task whose node raises is settled with the error, for its driver to raise."""
    task_id = queue.submit_task("bad", 0, data=stage(source, "bad", 3))
    with Worker(queue, source):
        (task,) = queue.wait_settled([task_id], timeout=20)

    assert isinstance(task.result, Outcome)
    assert isinstance(exception_of(task.result), nodes.BadTileError)


def test_raised_in_a_run_with_retries(queue: TaskQueue, source: TubeSource) -> None:
    """With `retry_errors` it is a failure like any other."""
    call = stage(source, "bad", 3, retry_errors=True)
    task_id = queue.submit_task("bad", 0, data=call, max_retries=1)
    with Worker(queue, source) as worker:
        (task,) = queue.wait_settled([task_id], timeout=20)

    assert task.status is TaskStatus.DEAD
    assert worker.loop.counts["failed"] == 2


def test_unencodable_result_is_an_error(queue: TaskQueue, source: TubeSource) -> None:
    """A result without a place in the wire format fails its task by name, and nothing else."""
    task_id = queue.submit_task("src", 0)
    good = queue.submit_task("a", 0, data=1)
    with Worker(queue, source):
        queue.wait_settled([task_id, good], timeout=20)

    assert queue.get_task(good).result == 2


def test_cancellation_reaches_the_node(queue: TaskQueue, source: TubeSource) -> None:
    """Cancelling a running task stops its node; the slot is free for the next."""
    task_id = queue.submit_task("slow", 0, data=1)
    with Worker(queue, source, limit=1) as worker:
        assert STARTED.wait(10)
        queue.cancel_task(task_id)
        after = queue.submit_task("a", 0, data=4)
        (task,) = queue.wait_settled([after], timeout=20)

        assert task.result == 8
        assert queue.get_task(task_id).status is TaskStatus.CANCELLED
        until(lambda: worker.loop.counts["lost"] == 1)


def test_long_task_is_told_to_run(queue: TaskQueue, source: TubeSource) -> None:
    """A task that takes a while is RUNNING in the queue."""
    task_id = queue.submit_task("slow", 0, data=1)
    with Worker(queue, source, limit=1):
        until(lambda: queue.get_task(task_id).status is TaskStatus.RUNNING)
        GATE.set()
        (task,) = queue.wait_settled([task_id], timeout=20)

    assert task.result == 1


def test_timeout_counts_as_an_attempt(queue: TaskQueue, source: TubeSource) -> None:
    """A node that hangs is stopped at its timeout, and its task is tried again or dead."""
    task_id = queue.submit_task("slow", 0, data=1, timeout_seconds=0.2, max_retries=0)
    with Worker(queue, source, limit=1):
        queue.wait_settled([task_id], timeout=20)

    task = queue.get_task(task_id)
    assert task.status is TaskStatus.DEAD
    assert "longer than its" in (task.error or "")


def test_lost_lease_drops_the_result(queue: TaskQueue, source: TubeSource) -> None:
    """A worker whose lease went to another stops, and its outcome changes nothing."""
    task_id = queue.submit_task("slow", 0, data=1)
    with Worker(queue, source, limit=1, lease_seconds=30) as worker:
        assert STARTED.wait(10)
        (task,) = worker.loop.active
        queue.release(task)
        other = queue.claim_task("w2")
        assert other is not None
        until(lambda: worker.loop.counts["lost"] >= 1)
        queue.complete_task(other, "theirs")

    assert queue.get_task(task_id).result == "theirs"


def test_behind_a_long_task_nobody_waits(queue: TaskQueue, source: TubeSource) -> None:
    """What was claimed ahead is handed back when the one before it takes longer than expected."""
    quick = {"node_id": "a", "epoch": 0, "data": stage(source, "a", 1)}
    with Worker(queue, source, limit=1) as worker:
        queue.wait_settled(queue.submit_many([quick] * 20), timeout=20)
        slow = {**quick, "node_id": "slow", "data": stage(source, "slow", 1)}
        ids = queue.submit_many([slow, *[quick] * 5])
        assert STARTED.wait(10)
        until(lambda: queue.stats().ready == 5)
        others = queue.claim_many("w2", 5)
        assert [task.task_id for task in others] == ids[1:]
        assert worker.loop.counts["released"] <= 5
        queue.release(others)
        GATE.set()
        done = queue.wait_settled(ids, timeout=20)
    assert [task.result for task in done] == [[(1,)], *[[(2,)]] * 5]


def test_drain_hands_back(queue: TaskQueue, source: TubeSource) -> None:
    """A stopped worker hands back what it has not begun, and what does not end in time."""
    running = queue.submit_task("slow", 0, data=1)
    with Worker(queue, source, limit=1):
        assert STARTED.wait(10)
        waiting = queue.submit_task("a", 0, data=1)

    for task_id in (running, waiting):
        task = queue.get_task(task_id)
        assert task.status is TaskStatus.READY
    again = queue.claim_task("w2")
    assert again is not None


def test_drain_lets_running_end(queue: TaskQueue, source: TubeSource) -> None:
    """A stopped worker lets a running task end when there is time."""
    task_id = queue.submit_task("slow", 0, data=5)
    with Worker(queue, source, limit=1, drain_seconds=10.0) as worker:
        assert STARTED.wait(10)
        worker.loop.stop()
        GATE.set()

    assert queue.get_task(task_id).result == 5


def test_tags_are_hard(queue: TaskQueue, source: TubeSource) -> None:
    """A worker claims what its tags allow, and untagged tasks only by setting."""
    plain = queue.submit_task("a", 0, data=1)
    gpu = queue.submit_task("a", 1, data=2, affinity_tags=["gpu"])
    other = queue.submit_task("a", 2, data=3, affinity_tags=["tpu"])
    with Worker(queue, source, tags={"gpu"}, accept_untagged=False):
        queue.wait_settled([gpu], timeout=20)

    assert queue.get_task(gpu).result == 4
    assert queue.get_task(plain).status is TaskStatus.READY
    assert queue.get_task(other).status is TaskStatus.READY


def test_unknown_tube_fails_clearly(queue: TaskQueue, source: TubeSource) -> None:
    """A tube that nobody can give is named in the failure."""
    task_id = queue.submit_task("a", 0, data=stage(source, "a", 1), max_retries=0)
    with Worker(queue, None):
        queue.wait_settled([task_id], timeout=20)

    assert source.cid in (queue.get_task(task_id).error or "")


def test_refused_module_fails_clearly(queue: TaskQueue, source: TubeSource) -> None:
    """A tube outside the allow-list is never loaded; the failure names the module."""
    task_id = queue.submit_task("a", 0, data=stage(source, "a", 1), max_retries=0)
    with Worker(queue, source, allowed_modules=["somewhere_else"]):
        queue.wait_settled([task_id], timeout=20)

    task = queue.get_task(task_id)
    assert task.status is TaskStatus.DEAD
    assert "noob_cloud_testnodes" in (task.error or "")


def test_by_hand_without_a_tube(queue: TaskQueue) -> None:
    """Without --tube a task by hand fails at once and says what the worker lacks."""
    task_id = queue.submit_task("a", 0, data=1)
    with Worker(queue, None):
        queue.wait_settled([task_id], timeout=20)

    assert "--tube" in (queue.get_task(task_id).error or "")


class Flaky:
    """A queue whose every second word is lost on the way there."""

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue
        self.outages = 0
        self._turn = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._queue, name)

        def said(*args: Any, **kwargs: Any) -> Any:
            self._turn += 1
            if self._turn % 2:
                self.outages += 1
                raise UnavailableError("503")
            return method(*args, **kwargs)

        return said


def test_rides_out_an_outage(queue: TaskQueue, source: TubeSource) -> None:
    """While the queue is away nothing is lost: claims and outcomes are said again."""
    ids = queue.submit_many([{"node_id": "a", "epoch": n, "data": n} for n in range(10)])
    flaky = Flaky(queue)
    with Worker(flaky, source):
        tasks = queue.wait_settled(ids, timeout=30)

    assert [task.result for task in tasks] == [2 * n for n in range(10)]
    assert flaky.outages > 0


def test_gives_up_when_the_queue_stays_away(
    queue: TaskQueue, source: TubeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outcome that cannot be told for too long is dropped; the lease will run out."""
    monkeypatch.setattr(settle, "OUTAGE_SECONDS", 0.2)
    task_id = queue.submit_task("slow", 0, data=1)
    flaky = Flaky(queue)
    with Worker(flaky, source, limit=1) as worker:
        assert STARTED.wait(10)
        flaky.__class__ = Gone
        GATE.set()
        until(lambda: worker.loop.counts["lost"] == 1)
        flaky.__class__ = Flaky

    assert queue.get_task(task_id).status is not TaskStatus.COMPLETED


def test_refused_token_ends_the_loop(queue: TaskQueue, source: TubeSource) -> None:
    """A worker whose token is refused does not go on asking: `run` raises the reason."""

    class Strict(Flaky):
        def __getattr__(self, name: str) -> Any:
            def said(*_args: Any, **_kwargs: Any) -> Any:
                raise ForbiddenError("not a worker's token")

            return said

    loop = ClaimLoop(Strict(queue), ThreadSlots(1, allowed_modules=None), worker_id="w1")
    with pytest.raises(ForbiddenError, match="not a worker's token"):
        loop.run()


def test_queue_that_fails_otherwise(queue: TaskQueue, source: TubeSource) -> None:
    """Trouble of any kind with the queue is waited out; the worker does not die of it."""
    task_id = queue.submit_task("a", 0, data=1)

    class Broken(Flaky):
        def __getattr__(self, name: str) -> Any:
            method = getattr(self._queue, name)

            def said(*args: Any, **kwargs: Any) -> Any:
                self._turn += 1
                if self._turn < 5:
                    raise sqlite3.OperationalError("disk I/O error")
                return method(*args, **kwargs)

            return said

    with Worker(Broken(queue), source):
        (task,) = queue.wait_settled([task_id], timeout=20)

    assert task.result == 2


class Gone(Flaky):
    """A queue that is away."""

    def __getattr__(self, name: str) -> Any:
        def said(*_args: Any, **_kwargs: Any) -> Any:
            raise UnavailableError("503")

        return said
