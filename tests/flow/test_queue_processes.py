"""Real processes on one queue file, killed at random points: nothing lost, nothing done twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from noob_cloud.exceptions import LeaseLostError
from noob_cloud.queue import TaskQueue
from noob_cloud.task import TaskStatus

if TYPE_CHECKING:
    from pathlib import Path

LEASE = 0.4
WORKER = r"""
import json, os, random, sys, time
from noob_cloud.exceptions import LeaseLostError
from noob_cloud.queue import TaskQueue

path, log_path, name, seed = sys.argv[1:]
rng = random.Random(int(seed))
log = os.open(log_path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
queue = TaskQueue(db_path=path, lease_seconds=0.4, backoff=(0.01, 0.05))

def note(*what):
    os.write(log, (json.dumps([time.time(), name, *what]) + "\n").encode())

while True:
    tasks = queue.claim_many(name, rng.randint(1, 12), wait=0.05)
    for task in tasks:
        note("claim", task.task_id, task.attempt, task.lease_expires_at)
    done = []
    for task in tasks:
        try:
            move = rng.random()
            if move < 0.3:
                queue.start_task(task)
            if move < 0.1:
                queue.fail_task(task, "by chance")
                note("fail", task.task_id, task.attempt)
            elif move < 0.15:
                queue.release(task)
                note("release", task.task_id, task.attempt)
            elif move < 0.5:
                queue.complete_task(task, [name, task.attempt])
                note("complete", task.task_id, task.attempt)
            else:
                done.append(task)
        except LeaseLostError:
            note("lost", task.task_id, task.attempt)
    refused = queue.complete_many([(task, [name, task.attempt]) for task in done])
    for task in done:
        word = "lost" if task.task_id in refused else "complete"
        note(word, task.task_id, task.attempt)
"""


def start_worker(folder: Path, name: str, seed: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, folder / "queue.db", folder / f"{name}.log", name, str(seed)]
    )


def read_logs(folder: Path) -> list[list[object]]:
    lines = [x for log in folder.glob("*.log") for x in log.read_text().splitlines()]
    return sorted(json.loads(line) for line in lines)


def test_workers_killed_at_random_points(tmp_path: Path) -> None:
    """No double live lease, no lost task, no settlement by a late worker."""
    rng = random.Random(20)
    queue = TaskQueue(db_path=tmp_path / "queue.db", lease_seconds=LEASE)
    ids: list[int] = []

    def submit(count: int) -> None:
        entries = [
            {"node_id": "n", "epoch": e, "max_retries": 1000, "priority": e % 4}
            for e in range(count)
        ]
        ids.extend(queue.submit_many(entries))

    submit(100)
    workers = [start_worker(tmp_path, f"w{i}", i) for i in range(2)]
    give_up = time.monotonic() + 60
    try:
        for kill in range(8):
            before = queue.stats().completed
            while queue.stats().completed == before and time.monotonic() < give_up:
                submit(30)
                time.sleep(rng.uniform(0.0, 0.05))
            victim = rng.randrange(len(workers))
            workers[victim].send_signal(signal.SIGKILL)
            workers[victim].wait()
            workers[victim] = start_worker(tmp_path, f"w{kill + 2}", kill + 2)
        while queue.stats().live and time.monotonic() < give_up:
            time.sleep(0.02)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()

    settled = queue.list_tasks(limit=len(ids) + 1)
    assert [t.task_id for t in settled] == sorted(ids)
    assert {t.status for t in settled} == {TaskStatus.COMPLETED}

    # every settlement was by the attempt that the row names, and by no other
    by_task = {t.task_id: t for t in settled}
    completions: Counter[int] = Counter()
    claims: Counter[tuple[int, int]] = Counter()
    for _, name, word, task_id, attempt, *_ in read_logs(tmp_path):
        if word == "complete":
            completions[task_id] += 1
            assert by_task[task_id].result == [name, attempt]
            assert by_task[task_id].attempt == attempt
        if word == "claim":
            claims[task_id, attempt] += 1
    assert max(completions.values()) == 1, "a task was settled twice"
    assert max(claims.values()) == 1, "one attempt was handed out twice"
    queue.close()


def _claim_all(path: str, name: str, barrier: object, found: object) -> None:
    queue = TaskQueue(db_path=path)
    barrier.wait()
    got: list[int] = []
    while True:
        tasks = queue.claim_many(name, 3)
        if not tasks:
            break
        got += [t.task_id for t in tasks]
    found.put(got)


def test_two_processes_never_claim_one_task(tmp_path: Path) -> None:
    """Two processes that claim at the same moment share the tasks, each once."""
    path = str(tmp_path / "queue.db")
    with TaskQueue(db_path=path) as queue:
        ids = queue.submit_many([{"node_id": "n", "epoch": e} for e in range(400)])
    context = multiprocessing.get_context("spawn")
    barrier, found = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_claim_all, args=(path, f"w{i}", barrier, found)) for i in range(2)
    ]
    for process in processes:
        process.start()
    got = [found.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(10)
    assert sorted(got[0] + got[1]) == sorted(ids)


def test_late_worker_in_another_process(tmp_path: Path) -> None:
    """A worker that slept through its lease is refused by whichever queue object it asks."""
    path = tmp_path / "queue.db"
    with TaskQueue(db_path=path) as one, TaskQueue(db_path=path) as two:
        one.submit_task("n", 0, now=0.0)
        late = one.claim_task("w1", now=0.0)
        assert late is not None
        # `two` has never seen that lease, and no claim of its own tells it the time
        current = two.claim_task("w2", now=31.0)
        assert current is not None
        assert current.attempt == 2
        with pytest.raises(LeaseLostError):
            one.complete_task(late.task_id, "late", now=31.0)
        with pytest.raises(LeaseLostError):
            two.complete_task(late, "late", now=31.0)
        two.complete_task(current, "right", now=32.0)
        assert one.get_task(late.task_id).result == "right"


def test_acknowledged_submits_survive_a_kill(tmp_path: Path) -> None:
    """Every id that was acknowledged before a kill -9 is in the file after it."""
    script = (
        "import sys; from noob_cloud.queue import TaskQueue; q = TaskQueue(db_path=sys.argv[1])\n"
        "while True: print(q.submit_task('n', 0, data=b'x' * 50), flush=True)"
    )
    path = tmp_path / "queue.db"
    process = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.3)
    process.kill()
    acknowledged = [int(x) for x in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    with TaskQueue(db_path=path) as queue:
        assert acknowledged
        assert queue.stats().ready >= len(acknowledged) + 1
        assert queue.get_task(acknowledged[-1]).payload == b"x" * 50


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_opens_the_file_anew(tmp_path: Path) -> None:
    """A child after fork() does not share its parent's connection."""
    with TaskQueue(db_path=tmp_path / "queue.db") as queue:
        queue.submit_task("n", 0)
        child = os.fork()
        if child == 0:
            try:
                task = queue.claim_task("child")
                queue.complete_task(task.task_id, "from the child")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        queue.submit_task("n", 1)
        assert [t.result for t in queue.list_tasks("completed")] == ["from the child"]
        assert sqlite3.connect(queue.path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
