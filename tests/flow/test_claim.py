"""Workers that pull, as processes: killed, stopped, hanging, and a coordinator that goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from noob_cloud_testtubes.case import chain, node, result
from tests.conformance.servers import TOKEN, free_port, process, wait_for_health

from noob_cloud.queue import TaskQueue
from noob_cloud.queue.remote import RemoteQueue
from noob_cloud.task import Outcome, StageCall, TaskStatus
from noob_cloud.tubes import TubeSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPEC = chain(
    "flow-claim",
    a=node("double", "value=src.index"),
    some=node("linger", "value=src.index", params={"seconds": 0.3}),
    slow=node("linger", "value=src.index", params={"seconds": 60}),
    bad=node("fail_at", "value=src.index", params={"at": 3}),
    pid=node("process_id", "value=src.index"),
    out=result("a=a.value"),
)
SOURCE = TubeSource.of(SPEC)


def stage(name: str, value: Any) -> StageCall:
    return StageCall(SOURCE.cid, (name,), (0,), ((value,),), SOURCE.code)


def until(condition: Callable[[], Any], patience: float = 40.0) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def submit(queue: Any, name: str, *values: Any, **more: Any) -> list[int]:
    ids: list[int] = queue.submit_many(
        [
            {"node_id": name, "epoch": n, "data": stage(name, v), **more}
            for n, v in enumerate(values)
        ]
    )
    return ids


def running(queue: Any) -> bool:
    return bool(queue.list_tasks(status=TaskStatus.RUNNING))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def queue(path: Path) -> Iterator[TaskQueue]:
    with TaskQueue(persistent=True, db_path=path, backoff=(0.01, 0.01)) as made:
        made.blobs.put(SOURCE.document)
        yield made


def worker(path: Path, name: str, **options: Any) -> Any:
    """A process that pulls from the file."""
    arguments = ["-m", "noob_cloud.cli", "worker", "--queue", str(path), "--worker-id", name]
    arguments += ["--max-tasks", str(options.get("max_tasks", 2))]
    arguments += ["--allow-module", "noob_cloud_testnodes"]
    if "tags" in options:
        arguments += ["--tags", options["tags"]]
    return process(*arguments, log=path.parent / f"{name}.log")


def test_two_workers_share_a_file(queue: TaskQueue, path: Path) -> None:
    """Each task is run by one of them, and each outcome is there once."""
    ids = submit(queue, "pid", *range(30))
    with worker(path, "w1"), worker(path, "w2"):
        tasks = queue.wait_settled(ids, timeout=60)

    assert len(tasks) == 30
    assert all(task.status is TaskStatus.COMPLETED for task in tasks)


def test_killed_worker_loses_nothing(path: Path) -> None:
    """What a worker killed with -9 held is run by another when its lease has run out."""
    with TaskQueue(persistent=True, db_path=path) as queue:
        queue.blobs.put(SOURCE.document)
        ids = submit(queue, "some", *range(6))
        with worker(path, "mortal") as started:
            until(lambda: running(queue))
            started.kill()
            started.wait()
        held = [
            t for t in queue.list_tasks() if t.status in (TaskStatus.CLAIMED, TaskStatus.RUNNING)
        ]
        assert held
        later = time.time() + 60  # the leases' end, without waiting for it
        again = queue.claim_many("w2", 6, now=later)
        assert {task.task_id for task in held} <= {task.task_id for task in again}
        assert all(t.attempt == 2 for t in again if t.task_id in {h.task_id for h in held})
        queue.release(again)
        with worker(path, "heir"):
            tasks = queue.wait_settled(ids, timeout=60)

    assert [task.result for task in tasks] == [[(n,)] for n in range(6)]


def test_sigterm_hands_back(queue: TaskQueue, path: Path) -> None:
    """A worker told to end lets what runs end, hands back the rest, and leaves with status 0."""
    ids = submit(queue, "some", *range(8))
    with worker(path, "leaving", max_tasks=2) as started:
        until(lambda: running(queue))
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 0

    states = {queue.get_task(task_id).status for task_id in ids}
    assert states <= {TaskStatus.COMPLETED, TaskStatus.READY}
    assert TaskStatus.COMPLETED in states


def test_hanging_node_is_killed(queue: TaskQueue, path: Path) -> None:
    """A node that hangs is killed at its timeout; the worker goes on with other tasks."""
    (stuck,) = submit(queue, "slow", 1, timeout_seconds=0.5, max_retries=1)
    with worker(path, "patient", max_tasks=1):
        queue.wait_settled([stuck], timeout=60)
        (fine,) = queue.wait_settled(submit(queue, "a", 4), timeout=60)

    task = queue.get_task(stuck)
    assert task.status is TaskStatus.DEAD
    assert "0.5 seconds" in (task.error or "")
    assert fine.result == [(8,)]


def test_crashing_node_ends_in_dead_letters(queue: TaskQueue, path: Path, tmp_path: Path) -> None:
    """A task that keeps killing its process is given up with the reason, and can be redriven."""
    spec = chain("crash", a=node("os.abort"), out=result("a=a.value"))
    spec["nodes"]["a"] = {"type": "os.abort", "stateful": False}
    crash = TubeSource.of(spec)
    queue.blobs.put(crash.document)
    call = StageCall(crash.cid, ("a",), (0,), ((),))
    task_id = queue.submit_task("a", 0, data=call, max_retries=1)
    arguments = ["-m", "noob_cloud.cli", "worker", "--queue", str(path), "--max-tasks", "1"]
    arguments += ["--allow-module", "os", "--allow-module", "posix"]
    arguments += ["--allow-module", "noob_cloud_testnodes"]
    with process(*arguments, log=tmp_path / "crash.log"):
        queue.wait_settled([task_id], timeout=60)

    task = queue.get_task(task_id)
    assert task.status is TaskStatus.DEAD
    assert "SIGABRT" in (task.error or "")
    assert queue.redrive([task_id]) == [task_id]
    assert queue.get_task(task_id).status is TaskStatus.READY


def test_cancelled_task_stops_its_process(queue: TaskQueue, path: Path) -> None:
    """Cancelling a task ends its node wherever it runs, and soon."""
    (task_id,) = submit(queue, "slow", 1)
    with worker(path, "w1", max_tasks=1):
        until(lambda: running(queue))
        begun = time.monotonic()
        assert queue.cancel_task(task_id)
        (fine,) = queue.wait_settled(submit(queue, "a", 4), timeout=60)

    assert time.monotonic() - begun < 20
    assert fine.result == [(8,)]
    assert queue.get_task(task_id).status is TaskStatus.CANCELLED


def test_raised_error_is_the_result(queue: TaskQueue, path: Path) -> None:
    """What a run's node raises is kept as its outcome, with node, epoch and traceback."""
    with worker(path, "w1"):
        (task,) = queue.wait_settled(submit(queue, "bad", 3), timeout=60)

    assert isinstance(task.result, Outcome)
    assert task.result.error_type == "noob_cloud_testnodes.BadTileError"
    assert task.result.node_id == "bad"


def test_nothing_stays_behind(queue: TaskQueue, path: Path) -> None:
    """A killed worker's child processes end by themselves."""
    submit(queue, "slow", 1)
    with worker(path, "w1", max_tasks=1) as started:
        until(lambda: running(queue))
        left = _children_of(started.pid)
        started.kill()
        started.wait()

    assert left
    until(lambda: not any(_alive(pid) for pid in left))


def _children_of(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(word) for word in listed.stdout.split()]


def _alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# ---- a coordinator in between


def coordinator(path: Path, port: int, log: str) -> Any:
    arguments = ["-m", "noob_cloud.cli", "coordinator", "--port", str(port), "--queue", str(path)]
    return process(*arguments, log=path.parent / log)


def test_coordinator_goes_away_and_comes_back(path: Path) -> None:
    """A coordinator killed with -9 and started again: every task gets its outcome, none twice."""
    port, own = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    pulling = ["-m", "noob_cloud.runner.worker_server", "--coordinator", url, "--port", str(own)]
    pulling += ["--allow-module", "noob_cloud_testnodes", "--max-tasks", "2"]
    with process(*pulling, log=path.parent / "worker.log") as started:
        with coordinator(path, port, "first.log") as first:
            wait_for_health(url, first, path.parent / "first.log")
            queue = RemoteQueue(url, TOKEN)
            queue.blobs.put(SOURCE.document)
            ids = submit(queue, "some", *range(10))
            queue.wait_settled(ids, timeout=60, at_least=2)
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
        assert started.poll() is None
        with coordinator(path, port, "second.log") as second:
            wait_for_health(url, second, path.parent / "second.log")
            tasks = queue.wait_settled(ids, timeout=90)
            assert [task.result for task in tasks] == [[(n,)] for n in range(10)]
            started.send_signal(signal.SIGTERM)
            assert started.wait(40) == 0
