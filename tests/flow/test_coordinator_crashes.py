"""Two coordinators on one file are killed again and again: every task is settled once."""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from coordinator_processes import Coordinator, log, until

from noob_cloud.queue.remote import RemoteQueue

if TYPE_CHECKING:
    from noob_cloud.task import Task

TASKS = 1_500
KILLS = 6
TOKENS = ("worker-token-0123456789", "gpu-token-0123456789")


class Crowd:
    """Workers that settle, forget, hand back and claim, and remember what was accepted."""

    def __init__(self, urls: list[str]) -> None:
        self.accepted: Counter[int] = Counter()
        self.results: dict[int, str] = {}
        self.ended = Event()
        self.trouble: list[BaseException] = []
        self._lock = Lock()
        self._threads = [
            Thread(target=self._try, args=(number, urls[number % len(urls)])) for number in range(4)
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        self.ended.set()
        for thread in self._threads:
            thread.join(60)

    def _try(self, number: int, url: str) -> None:
        try:
            self._work(number, url)
        except BaseException as error:
            self.trouble.append(error)
            raise

    def _work(self, number: int, url: str) -> None:
        rng = random.Random(number)
        queue = RemoteQueue(url, TOKENS[number % 2], patience=60.0)
        held: list[Task] = []
        while not self.ended.is_set():
            mine = [(task, f"{number}/{task.task_id}") for task in held]
            refused, held = queue.complete_and_claim(mine, f"w{number}", rng.randint(1, 20))
            with self._lock:
                for task, result in mine:
                    if task.task_id not in refused:
                        self.accepted[task.task_id] += 1
                        self.results[task.task_id] = result
            if rng.random() < 0.05:
                queue.release(held)
                held = []
            elif rng.random() < 0.05:
                held = []  # as if it had died with them
            if not held:
                held = queue.claim_many(f"w{number}", 5, wait=0.5)


@pytest.mark.parametrize("count", [1, 2])
def test_killed_at_any_moment(tmp_path: Path, count: int) -> None:
    """What was acknowledged is there, and each task's result is the one that was accepted."""
    rng = random.Random(count)
    made = [
        Coordinator(tmp_path, lease_seconds=2.0, blob_dir=tmp_path / "blobs") for _ in range(count)
    ]
    for each in made:
        each.start()
    crowd = Crowd([each.url for each in made])
    try:
        ids: list[int] = []

        def submit() -> None:
            with made[0].client("client-token-0123456789", patience=60.0) as client:
                for first in range(0, TASKS, 10):
                    ids.extend(
                        client.queue.submit_many(
                            {"node_id": "n", "epoch": epoch, "max_retries": 1_000}
                            for epoch in range(first, first + 10)
                        )
                    )

        submitter = Thread(target=submit)
        submitter.start()
        for _ in range(KILLS):
            Event().wait(rng.uniform(0.05, 0.4))
            victim = rng.choice(made)
            victim.kill()
            victim.start()
        submitter.join(60)
        with made[0].client() as client:
            until(lambda: client.queue.stats().live == 0, 60)
            crowd.join()
            tasks = client.queue.list_tasks(limit=2 * TASKS)
        assert crowd.trouble == [], log(made[0], "coordinator")
        assert sorted(ids) == [task.task_id for task in tasks]
        assert len(set(ids)) == TASKS
        assert set(crowd.accepted.values()) == {1}
        assert crowd.results == {task.task_id: task.result for task in tasks}
    finally:
        crowd.join()
        for each in made:
            each.stop()
