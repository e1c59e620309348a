"""Every queue keeps the same promises: one suite, each implementation joins `FACTORIES`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from noob_cloud.exceptions import ConflictError, LeaseLostError, TaskNotFoundError, TaskStateError
from noob_cloud.queue import Clock, Queue, TaskQueue
from noob_cloud.queue.remote import RemoteQueue
from noob_cloud.task import StageCall, Task, TaskPriority, TaskStatus, Token

from .served import TOKEN, served


class FakeClock(Clock):
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.time = 1_000_000.0
        self.jumped = 0.0
        super().__init__(lambda: self.time + self.jumped, lambda: self.time)

    def advance(self, seconds: float) -> None:
        self.time += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock, as an administrator does."""
        self.jumped += seconds


Factory = Callable[[Path, FakeClock], AbstractContextManager[Queue]]


@contextmanager
def in_memory(_: Path, clock: FakeClock) -> Iterator[Queue]:
    with TaskQueue(persistent=False, clock=clock) as queue:
        yield queue


@contextmanager
def in_a_file(folder: Path, clock: FakeClock) -> Iterator[Queue]:
    with TaskQueue(db_path=folder / "queue.db", clock=clock) as queue:
        yield queue


@contextmanager
def exclusively(folder: Path, clock: FakeClock) -> Iterator[Queue]:
    path = folder / "queue.db"
    with TaskQueue(db_path=path, clock=clock, exclusive=True, synchronous="FULL") as queue:
        yield queue


@contextmanager
def over_http(folder: Path, clock: FakeClock) -> Iterator[Queue]:
    path = folder / "queue.db"
    with (
        served(clock=clock, db_path=path, lease_seconds=30.0, client_clock=True) as (url, _),
        RemoteQueue(url, TOKEN, patience=5.0) as queue,
    ):
        yield queue


FACTORIES: dict[str, Factory] = {
    "memory": in_memory,
    "file": in_a_file,
    "exclusive": exclusively,
    "coordinator": over_http,
}
"""Name -> a context manager that takes a folder and a clock and gives a new, empty queue."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=FACTORIES)
def queue(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Queue]:
    with FACTORIES[request.param](tmp_path, clock) as queue:
        yield queue


def claimed(queue: Queue, worker: str = "w", **kwargs: object) -> Task:
    task = queue.claim_task(worker, **kwargs)
    assert task is not None
    return task


# ---- the user's own example


def test_user_example(queue: Queue) -> None:
    """Submit, claim, start, complete, with a task's id alone."""
    task_id = queue.submit_task(
        node_id="gpu_process",
        epoch=1,
        priority=TaskPriority.CRITICAL,
        affinity_tags=["gpu", "cuda"],
        timeout_seconds=300,
        max_retries=3,
    )
    task = queue.claim_task(worker_id="gpu-worker-1", affinity_tags=["gpu"])
    assert task is not None
    assert (task.task_id, task.node_id, task.epoch) == (task_id, "gpu_process", 1)
    assert task.status is TaskStatus.CLAIMED
    queue.start_task(task.task_id)
    assert queue.get_task(task_id).status is TaskStatus.RUNNING
    queue.complete_task(task.task_id, {"objects": [1, 2]})

    done = queue.get_task(task_id)
    assert done.status is TaskStatus.COMPLETED
    assert done.result == {"objects": [1, 2]}
    assert isinstance(queue, Queue)


def test_fields_of_a_task(queue: Queue, clock: FakeClock) -> None:
    """A claimed task shows all that it was submitted with."""
    queue.submit_task(
        "n",
        7,
        TaskPriority.HIGH,
        ["gpu"],
        12.5,
        2,
        required_tags=["big"],
        data={"x": (1, 2)},
        idempotency_key="once",
        key="user",
        run_id="run",
    )
    task = claimed(queue, affinity_tags=["gpu", "big"])
    assert task.payload == {"x": (1, 2)}
    assert task.priority is TaskPriority.HIGH
    assert task.affinity_tags == {"gpu"}
    assert task.required_tags == {"big"}
    assert (task.timeout_seconds, task.max_retries) == (12.5, 2)
    assert (task.idempotency_key, task.key, task.run_id) == ("once", "user", "run")
    assert (task.worker_id, task.token, task.attempt) == ("w", Token(0, 1), 1)
    assert task.created_at == task.available_at == clock.time
    assert task.lease_expires_at == clock.time + 12.5


@pytest.mark.parametrize(
    "value", [None, True, 7, -(1 << 63), 1 << 70, 2.5, "text", "é", b"bytes", [1, (2,)], {1: {2}}]
)
def test_values_come_back(queue: Queue, value: object) -> None:
    """Payload and result come back as they went, of the same type."""
    task_id = queue.submit_task("n", 0, data=value)
    task = claimed(queue)
    assert task.payload == value
    assert type(task.payload) is type(value)
    queue.complete_task(task, value)
    assert queue.get_task(task_id).result == value


def test_nothing_to_claim(queue: Queue) -> None:
    """An empty queue gives None, and at once."""
    assert queue.claim_task("w") is None
    assert queue.claim_many("w", 10) == []


# ---- order


def test_priorities_then_first_in_first_out(queue: Queue) -> None:
    """CRITICAL > HIGH > NORMAL > LOW, and equal priorities in the order of submission."""
    order = [
        TaskPriority.LOW,
        TaskPriority.NORMAL,
        TaskPriority.CRITICAL,
        TaskPriority.HIGH,
        TaskPriority.CRITICAL,
        TaskPriority.NORMAL,
    ]
    for epoch, priority in enumerate(order):
        queue.submit_task("n", epoch, priority)
    assert [claimed(queue).epoch for _ in order] == [2, 4, 3, 1, 5, 0]


def test_order_holds_in_batches_and_across_tags(queue: Queue) -> None:
    """A batch of mixed tags and priorities is claimed in the same order as one by one."""
    tasks = [
        {"node_id": "n", "epoch": e, "priority": e % 4, "affinity_tags": ["a"] if e % 3 else []}
        for e in range(40)
    ]
    ids = queue.submit_many(tasks)
    assert len(set(ids)) == 40
    assert [queue.get_task(i).epoch for i in ids] == list(range(40))
    wanted = sorted(range(40), key=lambda e: e % 4)
    by_priority = {p: sorted(e for e in range(40) if e % 4 == p) for p in range(4)}
    got = [t.epoch for t in queue.claim_many("w", 25, ["a"])]
    got += [t.epoch for t in queue.claim_many("w", 25, ["a"])]
    assert [e % 4 for e in got] == [e % 4 for e in wanted]
    assert sorted(got) == list(range(40))
    assert {p: sorted(e for e in got if e % 4 == p) for p in range(4)} == by_priority


def test_chunk_is_claimed_piece_by_piece(queue: Queue) -> None:
    """A homogeneous chunk is claimed and settled task by task, by any number of workers."""
    ids = queue.submit_many([{"node_id": "n", "epoch": e, "data": e * e} for e in range(300)])
    first = queue.claim_many("w1", 7)
    second = queue.claim_many("w2", 280)
    third = queue.claim_many("w3", 100)
    assert [t.epoch for t in first + second + third] == list(range(300))
    assert [t.payload for t in second] == [e * e for e in range(7, 287)]
    assert queue.complete_many([(t, t.payload) for t in reversed(second)]) == []
    queue.complete_task(third[5], "x")
    queue.release(first)
    assert queue.get_task(ids[100]).result == 100 * 100
    assert queue.get_task(third[5].task_id).result == "x"
    assert queue.get_task(third[4].task_id).status is TaskStatus.CLAIMED
    assert [t.epoch for t in queue.claim_many("w", 100)] == list(range(7))
    stats = queue.stats()
    assert (stats.claimed, stats.completed, stats.ready) == (7 + 12, 281, 0)


# ---- tags


def test_affinity_is_hard(queue: Queue) -> None:
    """A tagged task never falls through to a worker without a matching tag."""
    queue.submit_task("n", 0, affinity_tags=["gpu", "tpu"])
    assert queue.claim_task("plain") is None
    assert queue.claim_task("cpu", ["cpu"]) is None
    assert claimed(queue, "tpu", affinity_tags=["tpu", "x"]).epoch == 0


def test_required_tags_are_all_of(queue: Queue) -> None:
    """A worker needs every required tag, besides any affinity tag."""
    queue.submit_task("n", 0, affinity_tags=["a", "b"], required_tags=["x", "y"])
    for tags in ([], ["a"], ["x", "y"], ["a", "x"], ["b", "y"]):
        assert queue.claim_task("w", tags) is None
    assert claimed(queue, affinity_tags=["b", "x", "y"]).epoch == 0


def test_tagged_worker_takes_untagged_tasks_unless_told(queue: Queue) -> None:
    """`accept_untagged=False` keeps a worker for tagged tasks alone."""
    queue.submit_task("n", 0)
    assert queue.claim_task("gpu", ["gpu"], accept_untagged=False) is None
    assert claimed(queue, affinity_tags=["gpu"]).epoch == 0


def test_later_tasks_pass_one_that_nobody_can_take(queue: Queue) -> None:
    """An urgent task for another kind of worker holds nobody up."""
    queue.submit_task("n", 0, TaskPriority.CRITICAL, ["gpu"])
    queue.submit_task("n", 1, TaskPriority.LOW)
    assert claimed(queue).epoch == 1


def test_many_tag_sets(queue: Queue) -> None:
    """Tasks of many different tag sets are claimed in order by a worker with all tags."""
    tags = [f"t{i}" for i in range(30)]
    queue.submit_many(
        [{"node_id": "n", "epoch": e, "affinity_tags": [tags[e % 30]]} for e in range(90)]
    )
    got = [t.epoch for t in queue.claim_many("w", 200, tags)]
    assert sorted(got) == list(range(90))


# ---- leases


def test_expired_lease_can_be_claimed(queue: Queue, clock: FakeClock) -> None:
    """A task whose lease has run out can be claimed by another worker, at once."""
    queue.submit_task("n", 0, timeout_seconds=1)
    claimed(queue, "w1")
    assert queue.claim_task("w2") is None
    clock.advance(1)
    again = claimed(queue, "w2")
    assert again.attempt == 2
    assert again.worker_id == "w2"


@pytest.mark.parametrize("action", ["start", "complete", "fail", "heartbeat", "release"])
def test_late_worker_is_refused(queue: Queue, clock: FakeClock, action: str) -> None:
    """A worker whose lease has gone to another can do nothing with the task."""
    queue.submit_task("n", 0)
    late = claimed(queue, "w1")
    clock.advance(31)
    current = claimed(queue, "w2")
    with pytest.raises(LeaseLostError, match=str(late.task_id)):
        {
            "start": queue.start_task,
            "complete": queue.complete_task,
            "fail": lambda task: queue.fail_task(task, "late"),
            "heartbeat": queue.heartbeat,
            "release": queue.release,
        }[action](late)
    assert queue.complete_many([(late, 1)]) == [late.task_id]
    queue.complete_task(current, "right")
    assert queue.get_task(current.task_id).result == "right"
    with pytest.raises(LeaseLostError):
        queue.complete_task(late, "wrong")


def test_running_task_of_a_dead_worker_is_retried(queue: Queue, clock: FakeClock) -> None:
    """A worker that dies after `start_task` costs an attempt, not the task."""
    task_id = queue.submit_task("n", 0, max_retries=1)
    queue.start_task(claimed(queue, "w1"))
    clock.advance(31)
    queue.start_task(claimed(queue, "w2"))
    clock.advance(31)
    assert queue.claim_task("w3") is None
    dead = queue.get_task(task_id)
    assert dead.status is TaskStatus.DEAD
    assert "w2" in (dead.error or "")
    assert dead.attempt == 2


def test_heartbeats_extend_the_lease(queue: Queue, clock: FakeClock) -> None:
    """A lease lives as long as its worker says so."""
    queue.submit_task("n", 0)
    task = claimed(queue, "w1")
    for _ in range(20):
        clock.advance(10)
        assert not queue.heartbeat([task]).lost
        assert queue.claim_task("w2") is None
    queue.complete_task(task)


def test_heartbeats_never_extend_the_timeout(queue: Queue, clock: FakeClock) -> None:
    """`timeout_seconds` ends an attempt that hangs, however alive its worker is."""
    task_id = queue.submit_task("n", 0, timeout_seconds=50, max_retries=0)
    task = claimed(queue, "w1")
    clock.advance(20)
    queue.start_task(task)
    for _ in range(4):
        clock.advance(10)
        assert not queue.heartbeat([task]).lost
    clock.advance(10)
    assert queue.claim_task("w2") is None
    assert queue.heartbeat([task]).lost == {task.task_id}
    dead = queue.get_task(task_id)
    assert dead.status is TaskStatus.DEAD
    assert "timeout_seconds=50" in (dead.error or "")


def test_handing_back_counts_no_attempt(queue: Queue) -> None:
    """A released task is ready at once, with all its attempts and a new token."""
    task_id = queue.submit_task("n", 0, max_retries=0)
    for attempt in range(1, 6):
        task = claimed(queue)
        assert task.attempt == attempt
        queue.release(task)
    assert queue.get_task(task_id).status is TaskStatus.READY
    queue.fail_task(claimed(queue), "once")
    assert queue.get_task(task_id).status is TaskStatus.DEAD


def test_heartbeat_tells_which_are_lost(queue: Queue, clock: FakeClock) -> None:
    """One call for all that a worker holds names those that it must stop."""
    queue.submit_many([{"node_id": "n", "epoch": e} for e in range(10)])
    tasks = queue.claim_many("w", 10)
    queue.cancel_task(tasks[3].task_id)
    queue.complete_task(tasks[5])
    reply = queue.heartbeat(tasks)
    assert reply.lost == {tasks[3].task_id, tasks[5].task_id}
    assert reply.cancelled == {tasks[3].task_id}


# ---- failure


def test_failure_backs_off_then_dies_with_its_traceback(queue: Queue, clock: FakeClock) -> None:
    """A failed task waits, is tried again, and ends in the dead-letter list."""
    task_id = queue.submit_task("n", 0, max_retries=2)
    for attempt in (1, 2):
        task = claimed(queue)
        assert task.attempt == attempt
        assert queue.fail_task(task, f"boom {attempt}", "Traceback ...") is TaskStatus.DELAYED
        waiting = queue.get_task(task_id)
        assert waiting.status is TaskStatus.DELAYED
        assert waiting.error == f"boom {attempt}"
        assert clock.time <= waiting.available_at <= clock.time + 2.0**attempt
        clock.advance(2.0**attempt)
    assert queue.fail_task(claimed(queue), ValueError("boom 3")) is TaskStatus.DEAD
    dead = queue.get_task(task_id)
    assert (dead.status, dead.error) == (TaskStatus.DEAD, "ValueError: boom 3")
    assert "ValueError: boom 3" in (dead.traceback or "")
    assert [t.task_id for t in queue.list_tasks(TaskStatus.DEAD)] == [task_id]
    assert queue.stats().dead == 1


def test_failure_for_good(queue: Queue) -> None:
    """`retryable=False` goes to the dead-letter list at once."""
    task_id = queue.submit_task("n", 0, max_retries=9)
    assert queue.fail_task(claimed(queue), "no", retryable=False) is TaskStatus.DEAD
    assert queue.claim_task("w") is None
    assert queue.get_task(task_id).status is TaskStatus.DEAD


def test_refused_task_is_for_another_worker(queue: Queue, clock: FakeClock) -> None:
    """It is ready at once, with every attempt left, and says what it wants."""
    task_id = queue.submit_task("n", 0, max_retries=0)
    for _ in range(5):
        assert queue.refuse_task(claimed(queue), "it wants code A, not B.") is TaskStatus.READY
        clock.time += 10.0
    assert (queue.get_task(task_id).error or "").startswith("it wants code A, not B. It was handed")

    queue.complete_task(claimed(queue, "another"), "done")

    assert queue.get_task(task_id).result == "done"


def test_task_that_everybody_refuses_is_dead(queue: Queue, clock: FakeClock) -> None:
    """When for as long as an attempt may take only workers with other code came, it says so."""
    task_id = queue.submit_task("n", 0, timeout_seconds=200)
    for _ in range(3):
        assert queue.refuse_task(claimed(queue), "other code.") is TaskStatus.READY
        clock.time += 90.0
    assert queue.refuse_task(claimed(queue), "other code.", "where") is TaskStatus.DEAD

    task = queue.get_task(task_id)
    assert "For 270 s no worker with that code has taken the task" in (task.error or "")
    assert task.traceback == "where"
    queue.redrive([task_id])
    assert queue.refuse_task(claimed(queue), "other code.") is TaskStatus.READY


def test_who_claims_between_two_refusals_had_the_code(queue: Queue, clock: FakeClock) -> None:
    """What counts is the time in which nobody else has claimed the task."""
    queue.submit_task("n", 0, timeout_seconds=10, max_retries=5)
    queue.refuse_task(claimed(queue), "other code.")
    clock.time += 100.0
    queue.fail_task(claimed(queue), "its node raised")
    clock.time += 100.0
    assert queue.refuse_task(claimed(queue), "other code.") is TaskStatus.READY


def test_only_who_holds_a_task_refuses_it(queue: Queue, clock: FakeClock) -> None:
    """A worker whose lease was lost hands nothing back."""
    queue.submit_task("n", 0)
    task = claimed(queue, lease_seconds=5.0)
    clock.time += 6.0
    claimed(queue, "another")
    with pytest.raises(LeaseLostError):
        queue.refuse_task(task, "other code.")


def test_redrive(queue: Queue) -> None:
    """A redriven task has all its attempts again, and a token above every earlier one."""
    ids = queue.submit_many([{"node_id": "n", "epoch": e, "max_retries": 0} for e in range(3)])
    for _ in ids:
        queue.fail_task(claimed(queue), "boom")
    assert queue.redrive([ids[1]]) == [ids[1]]
    task = claimed(queue)
    assert (task.task_id, task.attempt) == (ids[1], 2)
    with pytest.raises(TaskStateError):
        queue.redrive([ids[1]])
    queue.complete_task(task)
    assert queue.redrive() == [ids[0], ids[2]]
    assert queue.stats().dead == 0


# ---- delay, uniqueness, queue timeout


def test_delayed_task(queue: Queue, clock: FakeClock) -> None:
    """A delayed task is nobody's before its time."""
    task_id = queue.submit_task("n", 0, delay=60)
    assert queue.claim_task("w") is None
    assert queue.get_task(task_id).status is TaskStatus.DELAYED
    assert queue.stats().delayed == 1
    clock.advance(60)
    assert claimed(queue).task_id == task_id


def test_idempotency_key(queue: Queue) -> None:
    """A key is submitted once; again, alone or in a batch, its id comes back."""
    first = queue.submit_task("n", 0, idempotency_key="a")
    assert queue.submit_task("n", 0, idempotency_key="a") == first
    ids = queue.submit_many(
        [
            {"node_id": "n", "epoch": 2, "idempotency_key": "b"},
            {"node_id": "n", "epoch": 0, "idempotency_key": "a"},
            {"node_id": "n", "epoch": 2, "idempotency_key": "b"},
            {"node_id": "n", "epoch": 5},
        ]
    )
    assert ids[1] == first
    assert ids[0] == ids[2] != ids[3]
    assert [t.epoch for t in queue.claim_many("w", 9)] == [0, 2, 5]
    assert queue.get_task(ids[0]).idempotency_key == "b"


@pytest.mark.parametrize(
    "other",
    [
        {"node_id": "m", "epoch": 0, "data": {1, "a"}},
        {"node_id": "n", "epoch": 1, "data": {1, "a"}},
        {"node_id": "n", "epoch": 0, "data": {2, "a"}},
        {"node_id": "n", "epoch": 0},
    ],
)
def test_idempotency_key_of_another_task(queue: Queue, other: dict[str, Any]) -> None:
    """Under a known key another task is refused, both are named, and nothing is submitted."""
    given = {"node_id": "n", "epoch": 0, "data": {"a", 1}, "idempotency_key": "k"}
    first = queue.submit_many([given])
    for tasks in ([other], [{"node_id": "n", "epoch": 9}, other]):
        named = [task | {"idempotency_key": "k"} if task is other else task for task in tasks]
        with pytest.raises(ConflictError, match=f"'k' is that of task {first[0]}") as caught:
            queue.submit_many(named)
        assert caught.value.data["cid"] != caught.value.data["other_cid"]
    with pytest.raises(ConflictError, match="another task of this submission"):
        queue.submit_many([x | {"idempotency_key": "new"} for x in (given, other)])
    assert queue.submit_many([given | {"data": {1, "a"}, "priority": 0}]) == first
    assert queue.stats().ready == 1


def test_idempotency_key_of_a_large_task(queue: Queue) -> None:
    """A payload in the blob store is compared too; so is one that is tried more often."""
    call = StageCall("t", ("n",), ((("tube", 0),),), ((b"x" * 100_000,),))
    known = queue.submit_task("n", 0, data=call, idempotency_key="k")
    again = replace(call, retry_errors=True)
    assert queue.submit_task("n", 0, data=again, idempotency_key="k") == known
    other = replace(call, inputs=((b"y" * 100_000,),))
    with pytest.raises(ConflictError):
        queue.submit_task("n", 0, data=other, idempotency_key="k")


def test_queue_timeout(queue: Queue, clock: FakeClock) -> None:
    """A task that no worker claims in time is dead; one that was claimed in time is not."""
    lost = queue.submit_task("n", 0, affinity_tags=["gpu"], queue_timeout=10)
    kept = queue.submit_task("n", 1, queue_timeout=10)
    task = claimed(queue)
    clock.advance(11)
    assert queue.claim_task("w", ["gpu"]) is None
    dead = queue.get_task(lost)
    assert dead.status is TaskStatus.DEAD
    assert "queue_timeout=10" in (dead.error or "")
    assert queue.get_task(kept).status is TaskStatus.CLAIMED
    queue.complete_task(task)


# ---- limits


def test_concurrency_limit_of_a_key(queue: Queue) -> None:
    """At most so many tasks of a key are leased at once; the others are parked."""
    queue.set_limit("user", concurrency=2)
    ids = queue.submit_many([{"node_id": "n", "epoch": e, "key": "user"} for e in range(5)])
    other = queue.submit_task("n", 9)
    tasks = queue.claim_many("w", 10)
    assert [t.task_id for t in tasks] == [*ids[:2], other]
    assert queue.get_task(ids[2]).status is TaskStatus.PARKED
    assert (queue.stats().parked, queue.stats().ready) == (3, 0)
    queue.complete_task(tasks[0])
    assert [t.task_id for t in queue.claim_many("w", 10)] == [ids[2]]
    queue.fail_task(tasks[1], "boom", retryable=False)
    assert [t.task_id for t in queue.claim_many("w", 10)] == [ids[3]]
    queue.cancel_task(ids[2])
    assert [t.task_id for t in queue.claim_many("w", 10)] == [ids[4]]


def test_limit_binds_what_waits_already(queue: Queue, clock: FakeClock) -> None:
    """A limit that is set later binds waiting tasks; one that is lifted frees them."""
    queue.submit_many([{"node_id": "n", "epoch": e, "key": "user"} for e in range(4)])
    queue.submit_task("n", 4, key="user", delay=5)
    queue.set_limit("user", concurrency=1)
    assert [t.epoch for t in queue.claim_many("w", 9)] == [0]
    queue.set_limit("user", concurrency=2)
    assert [t.epoch for t in queue.claim_many("w", 9)] == [1]
    clock.advance(5)
    assert queue.claim_many("w", 9) == []
    queue.set_limit("user")
    assert [t.epoch for t in queue.claim_many("w", 9)] == [2, 3, 4]


def test_rate_limit_of_a_key(queue: Queue, clock: FakeClock) -> None:
    """At most `n` claims in a span of seconds, filling up evenly."""
    queue.set_limit("api", rate=(3, 60))
    queue.submit_many([{"node_id": "n", "epoch": e, "key": "api"} for e in range(8)])
    assert len(queue.claim_many("w", 10)) == 3
    assert queue.claim_task("w") is None
    clock.advance(20)
    assert [t.epoch for t in queue.claim_many("w", 10)] == [3]
    clock.advance(1000)
    assert len(queue.claim_many("w", 10)) >= 3


def test_expiry_frees_the_slot_of_its_key(queue: Queue, clock: FakeClock) -> None:
    """A dead worker does not hold its key's slot for ever."""
    queue.set_limit("user", concurrency=1)
    queue.submit_many([{"node_id": "n", "epoch": e, "key": "user"} for e in range(2)])
    claimed(queue, "w1")
    assert queue.claim_task("w2") is None
    clock.advance(31)
    again = claimed(queue, "w2")
    assert (again.epoch, again.attempt) == (0, 2)
    assert queue.claim_task("w2") is None


# ---- cancelling


def test_cancel_waiting_task(queue: Queue) -> None:
    """A cancelled task is never claimed, wherever it waited."""
    ids = queue.submit_many([{"node_id": "n", "epoch": e} for e in range(4)])
    late = queue.submit_task("n", 9, delay=60)
    assert queue.cancel_task(ids[1])
    assert queue.cancel_task(late)
    assert not queue.cancel_task(ids[1])
    assert [t.epoch for t in queue.claim_many("w", 9)] == [0, 2, 3]
    assert queue.get_task(ids[1]).status is TaskStatus.CANCELLED
    assert queue.stats().cancelled == 2


def test_cancel_running_task(queue: Queue) -> None:
    """The worker learns by its heartbeat, and its outcome is refused."""
    queue.submit_task("n", 0)
    task = claimed(queue)
    queue.start_task(task)
    assert queue.cancel_task(task.task_id)
    reply = queue.heartbeat(task)
    assert reply.cancelled == {task.task_id}
    with pytest.raises(LeaseLostError, match="cancelled"):
        queue.complete_task(task, 1)
    assert queue.get_task(task.task_id).status is TaskStatus.CANCELLED


# ---- looking


def test_unknown_task(queue: Queue) -> None:
    """An id that was never given is `TaskNotFoundError`."""
    for call in (queue.get_task, queue.cancel_task, queue.start_task, queue.complete_task):
        with pytest.raises(TaskNotFoundError, match="77"):
            call(77)


def test_list_tasks(queue: Queue) -> None:
    """Listings go by id, page by page, by status and by run."""
    a = queue.submit_many([{"node_id": "n", "epoch": e, "run_id": "a"} for e in range(10)])
    b = queue.submit_many([{"node_id": "n", "epoch": e, "run_id": "b"} for e in range(5)])
    queue.complete_many([(t, t.epoch) for t in queue.claim_many("w", 4)])
    running = claimed(queue)
    queue.start_task(running)
    assert [t.task_id for t in queue.list_tasks()] == a + b
    assert [t.task_id for t in queue.list_tasks(run_id="b")] == b
    assert [t.task_id for t in queue.list_tasks("completed")] == a[:4]
    assert [t.result for t in queue.list_tasks("completed", "a")] == [0, 1, 2, 3]
    assert [t.task_id for t in queue.list_tasks(TaskStatus.RUNNING)] == [a[4]]
    assert [t.task_id for t in queue.list_tasks("ready", limit=3)] == a[5:8]
    assert [t.task_id for t in queue.list_tasks("ready", limit=3, after=a[7])] == [
        *a[8:10],
        b[0],
    ]


def test_wait_settled(queue: Queue) -> None:
    """Waiting ends when all are settled, when enough are, or when the time is up."""
    ids = queue.submit_many([{"node_id": "n", "epoch": e} for e in range(3)])
    assert queue.wait_settled(ids, 0) == []
    queue.complete_task(claimed(queue), "first")
    assert [t.result for t in queue.wait_settled(ids, at_least=1)] == ["first"]
    queue.fail_task(claimed(queue), "boom", retryable=False)
    queue.cancel_task(ids[2])
    found = queue.wait_settled(ids)
    assert [t.status for t in found] == [
        TaskStatus.COMPLETED,
        TaskStatus.DEAD,
        TaskStatus.CANCELLED,
    ]


def test_complete_and_claim(queue: Queue) -> None:
    """One call settles the last batch and leases the next."""
    ids = queue.submit_many([{"node_id": "n", "epoch": e} for e in range(4)])
    batch = queue.claim_many("w", 2)
    lost, batch = queue.complete_and_claim([(t, t.epoch) for t in batch], "w", 2)
    assert lost == []
    assert [t.epoch for t in batch] == [2, 3]
    queue.cancel_task(ids[3])
    lost, batch = queue.complete_and_claim([(t, t.epoch) for t in batch], "w", 2)
    assert (lost, batch) == ([ids[3]], [])
    assert queue.get_task(ids[2]).result == 2


# ---- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"node_id": ""}, "node_id"),
        ({"priority": 9}, "priority"),
        ({"affinity_tags": "gpu"}, "affinity_tags"),
        ({"required_tags": [3]}, "required_tags"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds"),
        ({"max_retries": -1}, "max_retries"),
        ({"delay": -1}, "delay"),
        ({"queue_timeout": 0}, "queue_timeout"),
        ({"key": ""}, "key"),
        ({"idempotency_key": 5}, "idempotency_key"),
    ],
)
def test_bad_arguments(queue: Queue, arguments: dict[str, object], message: str) -> None:
    """A wrong argument is named, and nothing is submitted."""
    with pytest.raises((ValueError, TypeError), match=message):
        queue.submit_task(**{"node_id": "n", "epoch": 0, **arguments})
    with pytest.raises((ValueError, TypeError), match=message):
        queue.submit_many([{"node_id": "n", "epoch": 0}, {"node_id": "n", "epoch": 0, **arguments}])
    assert queue.stats().live == 0


def test_start_keeps_the_length_of_the_lease(queue: Queue, clock: FakeClock) -> None:
    """A worker that asked for a short lease and dies behind `start` is replaced as soon."""
    queue.submit_task("blur", 0)
    task = queue.claim_task("w1", lease_seconds=2.0)
    assert task is not None
    queue.start_task(task)

    clock.advance(2.5)

    again = queue.claim_task("w2")
    assert again is not None
    assert again.attempt == 2


# ---- checkpoints


def test_checkpoint_moves_with_its_tasks(queue: Queue) -> None:
    """Tasks and checkpoint are there together, and the version counts the moves."""
    assert queue.checkpoint("chain").version == 0

    ids = queue.move_checkpoint(
        "chain", 0, b"one", [(7, {"node_id": "n", "epoch": i, "data": i}) for i in range(3)]
    )

    found = queue.checkpoint("chain")
    assert (found.version, found.state) == (1, b"one")
    assert [queue.get_task(i).payload for i in ids] == [0, 1, 2]


def test_checkpoint_has_one_mover(queue: Queue) -> None:
    """Who expects another version is told, and nothing of theirs is done."""
    queue.move_checkpoint("chain", 0, b"one", [(1, {"node_id": "n", "epoch": 0})])

    with pytest.raises(ConflictError, match="'chain' is at version 1, not 0"):
        queue.move_checkpoint("chain", 0, b"two", [(1, {"node_id": "n", "epoch": 0})])

    assert queue.stats().ready == 1
    assert queue.checkpoint("chain").state == b"one"


def test_checkpoint_takes_back(queue: Queue) -> None:
    """What was submitted above a mark is cancelled, unless it has its outcome."""
    tasks = [(mark, {"node_id": "n", "epoch": mark}) for mark in (5, 6, 7)]
    low, done, high = queue.move_checkpoint("chain", 0, b"", tasks)
    first, second = queue.claim_many("w", 2)
    queue.complete_task(second, 1)
    assert (first.task_id, second.task_id) == (low, done)

    queue.move_checkpoint("chain", 1, b"", undo_above=5)

    assert [queue.get_task(i).status.value for i in (low, done, high)] == [
        "claimed",
        "completed",
        "cancelled",
    ]


def test_checkpoint_forgets(queue: Queue) -> None:
    """Below a mark nothing can be taken back any more."""
    (task_id,) = queue.move_checkpoint("chain", 0, b"", [(5, {"node_id": "n", "epoch": 0})])
    queue.move_checkpoint("chain", 1, b"", forget_below=6)

    queue.move_checkpoint("chain", 2, b"", undo_above=0)

    assert queue.get_task(task_id).status.value == "ready"


def test_checkpoint_of_many_kinds_of_tasks(queue: Queue) -> None:
    """Tasks that are scheduled differently keep their marks and their order."""
    tasks = [(i, {"node_id": f"n{i}", "epoch": i, "priority": i % 4}) for i in range(8)]
    ids = queue.move_checkpoint("a b/c", 0, bytes(range(256)), tasks)

    queue.move_checkpoint("a b/c", 1, b"", undo_above=3)

    found = [queue.get_task(i) for i in ids]
    assert [task.node_id for task in found] == [f"n{i}" for i in range(8)]
    assert [task.status.value for task in found] == ["ready"] * 4 + ["cancelled"] * 4
