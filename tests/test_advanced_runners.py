"""The queue and the runners as a user meets them: life cycle, priorities, affinity, integration."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from noob import SynchronousRunner as UpstreamRunner
from noob_cloud_testnodes import BadTileError
from noob_cloud_testtubes import Spec, case, chain, load, node, result, scalar
from tests.conformance.servers import TOKEN, free_port, worker_server

from noob_cloud.exceptions import LeaseLostError, NoWorkerError, TaskNotFoundError
from noob_cloud.runner import (
    DistributedRunner,
    ExecutorRunner,
    LoadBalancingStrategy,
    MultiProcessRunner,
    QueuedRunner,
    SynchronousRunner,
    TaskPriority,
    TaskQueue,
    TaskStatus,
    WorkerConfig,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["in memory", "in a file"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TaskQueue]:
    persistent = request.param == "in a file"
    made = TaskQueue(persistent=persistent, db_path=str(tmp_path / "q.db") if persistent else None)
    yield made
    made.close()


# ---- TaskQueue: life cycle


class TestTaskLifecycle:
    def test_task_goes_from_ready_to_completed(self, queue: TaskQueue) -> None:
        """A task is ready, claimed, running, completed; its result can be read."""
        task_id = queue.submit_task("blur", 7, now=0.0)
        assert queue.get_task(task_id).status is TaskStatus.READY

        task = queue.claim_task("w1", now=1.0)
        assert task is not None
        assert (task.task_id, task.node_id, task.epoch, task.attempt) == (task_id, "blur", 7, 1)
        assert queue.get_task(task_id).status is TaskStatus.CLAIMED

        queue.start_task(task_id, now=2.0)
        assert queue.get_task(task_id).status is TaskStatus.RUNNING

        queue.complete_task(task_id, {"mean": 1.5}, now=3.0)
        done = queue.get_task(task_id)
        assert done.status is TaskStatus.COMPLETED
        assert done.result == {"mean": 1.5}

    def test_empty_queue_gives_none(self, queue: TaskQueue) -> None:
        """There is nothing to claim where nothing was submitted."""
        assert queue.claim_task("w1") is None

    def test_claimed_task_is_not_claimed_again(self, queue: TaskQueue) -> None:
        """A task under a live lease belongs to one worker."""
        queue.submit_task("blur", 0, now=0.0)
        assert queue.claim_task("w1", now=1.0) is not None
        assert queue.claim_task("w2", now=1.0) is None

    def test_unknown_task_is_an_error(self, queue: TaskQueue) -> None:
        """An id that nobody was given is told so."""
        with pytest.raises(TaskNotFoundError):
            queue.get_task(4711)

    def test_payload_travels_with_the_task(self, queue: TaskQueue) -> None:
        """What is given as data is what the worker gets, with its types."""
        queue.submit_task("blur", 0, data={"size": (3, 4), "raw": b"\x00\x01"})
        task = queue.claim_task("w1")
        assert task is not None
        assert task.payload == {"size": (3, 4), "raw": b"\x00\x01"}

    def test_batches_keep_their_order(self, queue: TaskQueue) -> None:
        """submit_many, claim_many and complete_many work on many tasks in one call."""
        ids = queue.submit_many([{"node_id": "blur", "epoch": epoch} for epoch in range(5)])
        tasks = queue.claim_many("w1", 5)
        assert [task.task_id for task in tasks] == ids
        assert [task.epoch for task in tasks] == list(range(5))
        assert queue.complete_many([(task, task.epoch * 2) for task in tasks]) == []
        assert [queue.get_task(task_id).result for task_id in ids] == [0, 2, 4, 6, 8]

    def test_lease_that_ran_out_goes_to_another_worker(self, queue: TaskQueue) -> None:
        """Another worker may claim the task, and the late one can no longer settle it."""
        task_id = queue.submit_task("blur", 0, timeout_seconds=1, now=0.0)
        late = queue.claim_task("w1", now=0.0)
        again = queue.claim_task("w2", now=500.0)
        assert again is not None
        assert late is not None
        assert again.attempt == 2

        with pytest.raises(LeaseLostError):
            queue.complete_task(late, "late", now=501.0)
        queue.complete_task(again, "in time", now=500.5)
        assert queue.get_task(task_id).result == "in time"

    def test_running_task_past_its_timeout_is_tried_again(self, queue: TaskQueue) -> None:
        """A worker that died after `start_task` does not end the task."""
        queue.submit_task("blur", 0, timeout_seconds=10, now=0.0)
        task = queue.claim_task("w1", now=0.0)
        assert task is not None
        queue.start_task(task, now=1.0)
        assert queue.claim_task("w2", now=500.0) is not None

    def test_failed_task_is_tried_again_after_a_while(self, queue: TaskQueue) -> None:
        """A failure waits out a backoff; then the task is claimed as its next attempt."""
        task_id = queue.submit_task("blur", 0, max_retries=2, now=0.0)
        task = queue.claim_task("w1", now=0.0)
        assert task is not None
        assert queue.fail_task(task, "no light", now=1.0) is TaskStatus.DELAYED
        assert queue.claim_task("w1", now=1.0) is None

        again = queue.claim_task("w1", now=1e6)
        assert again is not None
        assert (again.task_id, again.attempt) == (task_id, 2)

    def test_task_out_of_retries_is_a_dead_letter_that_can_be_redriven(
        self, queue: TaskQueue
    ) -> None:
        """The dead letter keeps its error and traceback, and comes back on request."""
        task_id = queue.submit_task("blur", 0, max_retries=0, now=0.0)
        task = queue.claim_task("w1", now=0.0)
        assert task is not None
        status = queue.fail_task(task, "no light", "Traceback: no light", now=1.0)
        assert status is TaskStatus.DEAD
        dead = queue.get_task(task_id)
        assert dead.error is not None
        assert "no light" in dead.error
        assert dead.traceback == "Traceback: no light"
        assert [found.task_id for found in queue.list_tasks(TaskStatus.DEAD)] == [task_id]

        assert queue.redrive([task_id], now=2.0) == [task_id]
        assert queue.claim_task("w1", now=2.0) is not None

    def test_cancelled_task_is_not_claimed(self, queue: TaskQueue) -> None:
        """Cancelling settles a task that waits, and tells whoever works on it."""
        waiting = queue.submit_task("blur", 0, now=0.0)
        assert queue.cancel_task(waiting, now=0.0)
        assert queue.claim_task("w1", now=0.0) is None

        running = queue.submit_task("blur", 1, now=0.0)
        task = queue.claim_task("w1", now=0.0)
        assert task is not None
        queue.start_task(task, now=0.0)
        assert queue.cancel_task(running, now=1.0)
        assert running in queue.heartbeat([task], now=2.0).cancelled

    def test_delayed_task_waits_for_its_time(self, queue: TaskQueue) -> None:
        """A delay keeps a task from being claimed before."""
        queue.submit_task("blur", 0, delay=60, now=0.0)
        assert queue.claim_task("w1", now=59.0) is None
        assert queue.claim_task("w1", now=61.0) is not None

    def test_idempotency_key_makes_a_task_once(self, queue: TaskQueue) -> None:
        """Submitting the same key again gives the task that is there."""
        first = queue.submit_task("blur", 0, idempotency_key="blur of tile 7")
        assert queue.submit_task("blur", 0, idempotency_key="blur of tile 7") == first
        assert len(queue.list_tasks()) == 1

    def test_released_task_is_ready_at_once_and_costs_no_attempt(self, queue: TaskQueue) -> None:
        """Handing back is no failure."""
        queue.submit_task("blur", 0, max_retries=0, now=0.0)
        task = queue.claim_task("w1", now=0.0)
        assert task is not None
        queue.release(task, now=1.0)
        again = queue.claim_task("w2", now=1.0)
        assert again is not None

    def test_stats_count_what_is_where(self, queue: TaskQueue) -> None:
        """Every status has its number."""
        queue.submit_many([{"node_id": "blur", "epoch": epoch} for epoch in range(4)], now=0.0)
        queue.submit_task("blur", 9, delay=100, now=0.0)
        first, second = queue.claim_many("w1", 2, now=0.0)
        queue.start_task(first, now=0.0)
        queue.complete_task(first, None, now=0.0)
        del second
        stats = queue.stats()
        assert (stats.ready, stats.claimed, stats.completed, stats.delayed) == (2, 1, 1, 1)


class TestTaskPriorities:
    def test_most_urgent_first_then_first_in_first_out(self, queue: TaskQueue) -> None:
        """CRITICAL before HIGH before NORMAL before LOW; within one, in the order submitted."""
        wanted = [
            TaskPriority.LOW,
            TaskPriority.CRITICAL,
            TaskPriority.NORMAL,
            TaskPriority.HIGH,
            TaskPriority.CRITICAL,
            TaskPriority.LOW,
        ]
        for epoch, priority in enumerate(wanted):
            queue.submit_task("blur", epoch, priority=priority)
        claimed = []
        while (task := queue.claim_task("w1")) is not None:
            claimed.append(task.epoch)
        assert claimed == [1, 4, 3, 2, 0, 5]

    def test_late_urgent_task_overtakes(self, queue: TaskQueue) -> None:
        """A critical task submitted last is claimed next."""
        queue.submit_many([{"node_id": "blur", "epoch": epoch} for epoch in range(50)])
        queue.submit_task("alarm", 0, priority=TaskPriority.CRITICAL)
        task = queue.claim_task("w1")
        assert task is not None
        assert task.node_id == "alarm"


class TestTaskAffinity:
    def test_tagged_task_never_falls_through(self, queue: TaskQueue) -> None:
        """A worker without the tag does not get the task, however long it waits."""
        queue.submit_task("detect", 0, affinity_tags=["gpu"], now=0.0)
        assert queue.claim_task("cpu", now=0.0) is None
        assert queue.claim_task("cpu", affinity_tags=["fpga"], now=1e6) is None
        assert queue.claim_task("gpu", affinity_tags=["gpu"], now=1e6) is not None

    def test_any_of_the_affinity_tags_is_enough(self, queue: TaskQueue) -> None:
        """`affinity_tags` are any-of."""
        queue.submit_task("detect", 0, affinity_tags=["gpu", "cuda"])
        assert queue.claim_task("w1", affinity_tags=["cuda", "big"]) is not None

    def test_all_required_tags_are_needed(self, queue: TaskQueue) -> None:
        """`required_tags` are all-of."""
        queue.submit_task("train", 0, required_tags=["gpu", "big"])
        assert queue.claim_task("w1", affinity_tags=["gpu"]) is None
        assert queue.claim_task("w2", affinity_tags=["gpu", "big", "new"]) is not None

    def test_task_for_others_does_not_block_the_next(self, queue: TaskQueue) -> None:
        """A worker passes over what it may not run, whatever its priority."""
        for epoch in range(20):
            queue.submit_task("detect", epoch, TaskPriority.CRITICAL, affinity_tags=["gpu"])
        queue.submit_task("blur", 0, priority=TaskPriority.LOW)
        task = queue.claim_task("cpu")
        assert task is not None
        assert task.node_id == "blur"


class TestPersistence:
    def test_tasks_outlive_the_queue_object(self, tmp_path: Path) -> None:
        """Another queue object on the same file goes on where the first stopped."""
        path = str(tmp_path / "q.db")
        first = TaskQueue(persistent=True, db_path=path)
        ids = [first.submit_task("blur", epoch) for epoch in range(3)]
        task = first.claim_task("w1")
        assert task is not None
        first.complete_task(task, "kept")
        first.close()

        second = TaskQueue(persistent=True, db_path=path)
        assert second.get_task(ids[0]).result == "kept"
        rest = second.claim_many("w2", 5)
        assert [task.task_id for task in rest] == ids[1:]
        second.close()

    def test_two_queues_on_one_file_never_share_a_claim(self, tmp_path: Path) -> None:
        """What one has claimed the other does not see."""
        path = str(tmp_path / "q.db")
        left = TaskQueue(persistent=True, db_path=path)
        right = TaskQueue(persistent=True, db_path=path)
        left.submit_many([{"node_id": "blur", "epoch": epoch} for epoch in range(40)])
        seen = []
        for _ in range(20):
            seen += [*left.claim_many("l", 1), *right.claim_many("r", 1)]
        assert sorted(task.epoch for task in seen) == list(range(40))
        left.close()
        right.close()


# ---- the runners

WORK: Spec = chain(
    "advanced-work",
    many=node("spread_some", "value=src.index"),
    m=node("map", "value=many.value"),
    a=node("double", "value=m.value"),
    g=node("gather", "value=a.value", "n=m.n"),
    t=node("total", "items=g.value"),
    s=node("Accumulator", "value=t.sum"),
    out=result("g=g.value", "s=s.total"),
)
PLACES: Spec = chain(
    "advanced-places",
    a=node("whereabouts", "value=src.index"),
    b=node("whereabouts", "value=src.index"),
    out=result("a=a.value", "b=b.value"),
)


def upstream(spec: Spec, n: int) -> Any:
    runner = UpstreamRunner(load(spec))
    try:
        return runner.run(n)
    finally:
        runner.deinit()


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


class TestMultiProcessRunner:
    def test_gives_upstreams_answer_in_order(self) -> None:
        """The same list, from several processes."""
        with MultiProcessRunner(load(WORK), max_workers=2) as runner:
            assert runner.run(20) == upstream(WORK, 20)

    def test_stateless_nodes_run_elsewhere_and_state_stays_here(self) -> None:
        """Other processes do the work; generators and classes stay in this one."""
        spec = chain(
            "advanced-pids",
            a=node("process_id", "value=src.index"),
            b=node("process_id", "value=src.index", stateful=True),
            out=result("a=a.value", "b=b.value"),
        )
        with MultiProcessRunner(load(spec), max_workers=2) as runner:
            results = runner.run(20)
        assert results is not None
        assert os.getpid() not in {one["a"] for one in results}
        assert {one["b"] for one in results} == {os.getpid()}

    def test_leaves_no_processes_behind(self) -> None:
        """The workers end with the runner, however it ends."""
        before = children()
        runner = MultiProcessRunner(load(WORK), max_workers=2)
        runner.process()
        assert children() - before
        runner.deinit()
        assert not _still_there(children() - before)

        list(runner.iter(2))
        assert not _still_there(children() - before)

    def test_error_comes_home_with_its_node_and_epoch(self) -> None:
        """The exception is the user's own class, and says where it was raised."""
        spec = chain(
            "advanced-error",
            detect=node("fail_at", "value=src.index", params={"at": 3}),
            out=scalar("detect.value"),
        )
        with MultiProcessRunner(load(spec), max_workers=2) as runner:
            with pytest.raises(BadTileError, match="no tile 3") as caught:
                runner.run(8)
            told = "\n".join(getattr(caught.value, "__notes__", []))
            assert "detect" in told
            assert "3" in told
            assert isinstance(runner.process(), int)

    def test_large_arrays_arrive_whole(self) -> None:
        """Arrays of megabytes come back as they were, and stay so."""
        one = case("array_large")
        with MultiProcessRunner(one.tube(), max_workers=2) as runner:
            found = runner.run(4)
        expected = UpstreamRunner(one.tube()).run(4)
        assert found is not None
        assert expected is not None
        for ours, theirs in zip(found, expected, strict=True):
            assert ours["m"] == theirs["m"]
            assert all((a == b).all() for a, b in zip(ours["keep"], theirs["keep"], strict=True))


def _still_there(pids: set[int]) -> set[int]:
    gone = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            process.wait(5)
        except psutil.NoSuchProcess:
            gone.append(pid)
        except psutil.TimeoutExpired:
            continue
        else:
            gone.append(pid)
    # Python's own resource tracker stays as long as the program.
    left = {pid for pid in pids if pid not in gone}
    return {pid for pid in left if "resource_tracker" not in " ".join(_command(pid))}


def _command(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return ["resource_tracker"]


class TestExecutorRunner:
    def test_runs_over_a_plain_process_pool(self) -> None:
        """Any executor of the standard library's interface will do; it stays the caller's."""
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            with ExecutorRunner(load(WORK), executor=pool) as runner:
                assert runner.run(5) == upstream(WORK, 5)
            assert pool.submit(abs, -1).result() == 1


class TestDistributedRunner:
    @pytest.mark.parametrize("strategy", list(LoadBalancingStrategy))
    def test_every_strategy_gives_the_same_answer(
        self, workers: list[WorkerConfig], strategy: LoadBalancingStrategy
    ) -> None:
        """How a worker is chosen changes nothing but who does the work."""
        with DistributedRunner(load(WORK), workers=workers, load_balancing=strategy) as runner:
            assert runner.run(12) == upstream(WORK, 12)

    def test_round_robin_uses_every_worker(self, workers: list[WorkerConfig]) -> None:
        """Each in turn."""
        with DistributedRunner(
            load(PLACES), workers=workers, load_balancing=LoadBalancingStrategy.ROUND_ROBIN
        ) as runner:
            results = runner.run(10)
        assert results is not None
        assert {one["a"] for one in results} == {"one", "two"}

    def test_tagged_node_goes_to_a_worker_with_the_tag(
        self, workers: list[WorkerConfig], tmp_path: Path
    ) -> None:
        """The rest goes anywhere."""
        with (
            worker_server(tmp_path, "gpu", tags="gpu") as (config, _),
            DistributedRunner(
                load(PLACES), workers=[*workers, config], affinity={"a": ["gpu"]}
            ) as runner,
        ):
            results = runner.run(6)
        assert results is not None
        assert {one["a"] for one in results} == {"gpu"}

    def test_tagged_node_without_a_worker_says_which_tag_is_missing(
        self, workers: list[WorkerConfig]
    ) -> None:
        """It does not fall through to another worker."""
        runner = DistributedRunner(load(PLACES), workers=workers, affinity={"a": ["gpu"]})
        try:
            with pytest.raises(NoWorkerError, match="gpu"):
                runner.process()
        finally:
            runner.deinit()

    def test_dead_worker_is_left_alone(self, workers: list[WorkerConfig]) -> None:
        """Its calls go to the others, and its breaker opens."""
        dead = WorkerConfig(host="127.0.0.1", port=free_port(), token=TOKEN, worker_id="dead")
        with DistributedRunner(
            load(WORK),
            workers=[dead, *workers],
            load_balancing=LoadBalancingStrategy.ROUND_ROBIN,
            circuit_breaker_threshold=2,
        ) as runner:
            assert runner.run(12) == upstream(WORK, 12)
            assert "open" in str(runner.metrics["workers"]["dead"]).lower()

    def test_worker_killed_in_the_middle_of_a_run(
        self, workers: list[WorkerConfig], tmp_path: Path
    ) -> None:
        """What it had goes to another worker; the answer is whole."""
        spec = chain(
            "advanced-lingering",
            a=node("linger", "value=src.index", params={"seconds": 0.02}),
            s=node("Accumulator", "value=a.value"),
            out=result("s=s.total"),
        )
        results = []
        with worker_server(tmp_path, "mortal") as (config, process):
            runner = DistributedRunner(load(spec), workers=[config, workers[0]])
            for position, value in enumerate(runner.iter(30)):
                results.append(value)
                if position == 5:
                    process.kill()
        assert results == upstream(spec, 30)

    def test_no_workers_is_an_error(self) -> None:
        """A runner without workers says what is missing."""
        with pytest.raises(NoWorkerError):
            DistributedRunner(load(WORK), workers=[])

    def test_nobody_answers(self) -> None:
        """Where no worker can be reached the run ends with an error, soon."""
        nowhere = WorkerConfig(host="127.0.0.1", port=free_port(), token=TOKEN)
        runner = DistributedRunner(load(WORK), workers=[nowhere], circuit_breaker_threshold=1)
        try:
            with pytest.raises(NoWorkerError):
                runner.process()
        finally:
            runner.deinit()


class TestQueuedRunner:
    def test_local_workers_pull_from_the_queue(self, tmp_path: Path) -> None:
        """`workers=2` starts two processes that claim from the file."""
        queue = TaskQueue(persistent=True, db_path=str(tmp_path / "q.db"))
        with QueuedRunner(load(WORK), queue=queue, workers=2) as runner:
            assert runner.run(8) == upstream(WORK, 8)
        assert queue.stats().live == 0
        queue.close()

    def test_worker_servers_do_the_tasks(self, tmp_path: Path, workers: list[WorkerConfig]) -> None:
        """A list of WorkerConfig works the queue too."""
        queue = TaskQueue(persistent=True, db_path=str(tmp_path / "q.db"))
        with QueuedRunner(load(WORK), queue=queue, workers=workers) as runner:
            assert runner.run(8) == upstream(WORK, 8)
        queue.close()

    def test_run_is_resumed_by_replaying(self, tmp_path: Path, workers: list[WorkerConfig]) -> None:
        """Another runner on the same queue gets what is done without doing it again."""
        runs = tmp_path / "runs"
        runs.mkdir()
        spec = chain(
            "advanced-noted",
            a=node("note", "value=src.index", params={"folder": str(runs)}),
            s=node("Accumulator", "value=a.value"),
            out=result("s=s.total", "a=a.value"),
        )
        path = str(tmp_path / "q.db")
        queue = TaskQueue(persistent=True, db_path=path)
        with QueuedRunner(load(spec), queue=queue, workers=workers, run_id="resumed") as runner:
            first = [runner.process() for _ in range(4)]
        queue.close()

        queue = TaskQueue(persistent=True, db_path=path)
        with QueuedRunner(load(spec), queue=queue, workers=workers, run_id="resumed") as runner:
            again = runner.run(8)
        queue.close()

        assert again == [{"a": i * 2, "s": i * (i + 1)} for i in range(8)]
        assert first == again[:4]
        assert {len((runs / str(i)).read_text().splitlines()) for i in range(8)} == {1}


class TestIntegration:
    def test_every_runner_gives_the_same_answer(
        self, tmp_path: Path, workers: list[WorkerConfig]
    ) -> None:
        """One tube, every place."""
        queue = TaskQueue(persistent=True, db_path=str(tmp_path / "q.db"))
        made: list[Any] = [
            SynchronousRunner(load(WORK)),
            MultiProcessRunner(load(WORK), max_workers=2),
            DistributedRunner(load(WORK), workers=workers),
            QueuedRunner(load(WORK), queue=queue, workers=workers),
        ]
        expected = upstream(WORK, 6)
        for runner in made:
            with runner:
                assert runner.run(6) == expected, type(runner).__name__
        queue.close()

    def test_explain_says_where_each_node_runs(self) -> None:
        """Remote or pinned, and why."""
        rows = {row.node: row for row in MultiProcessRunner(load(WORK)).explain()}
        assert rows["a"].where == "remote"
        assert rows["s"].where == "pinned"
        assert all(row.why for row in rows.values())
