"""Limits that come while tasks of their key wait, run, or are delayed."""

from __future__ import annotations

import random
from typing import Any

import pytest

from noob_cloud.queue import TaskQueue


def entries(count: int, **terms: Any) -> list[dict[str, Any]]:
    return [{"node_id": "n", "epoch": e, **terms} for e in range(count)]


def running(queue: TaskQueue) -> dict[str, int]:
    return dict(queue._connection.execute("SELECT key, running FROM key_limit").fetchall())


def test_leases_from_before_the_limit_count() -> None:
    """Tasks that run when their key is limited hold its slots, whatever lease row they share."""
    with TaskQueue(persistent=False) as queue:
        queue.submit_many(entries(3))
        queue.submit_many(entries(3, key="user"))
        queue.submit_many(entries(3))
        queue.submit_many(entries(2, key="user", affinity_tags=["gpu"]))
        tasks = queue.claim_many("w", 8)
        queue.set_limit("user", concurrency=4)
        assert running(queue) == {"user": 3}
        assert [t.key for t in queue.claim_many("w", 9, ["gpu"])] == [None, "user"]
        assert queue.claim_many("w", 9, ["gpu"]) == []
        assert queue.complete_many([(t, None) for t in tasks]) == []
        assert running(queue) == {"user": 1}
        assert len(queue.claim_many("w", 9, ["gpu"])) == 1


def test_released_and_failed_tasks_come_back_under_the_limit() -> None:
    """A task goes back into its key's lane, however it comes back."""
    with TaskQueue(persistent=False, backoff=(0.0, 0.0)) as queue:
        queue.submit_many(entries(6, key="user"))
        tasks = queue.claim_many("w", 6, now=0.0)
        queue.set_limit("user", concurrency=1, now=0.0)
        queue.release(tasks[:2], now=0.0)
        queue.fail_task(tasks[2], "boom", now=0.0)
        assert running(queue) == {"user": 3}
        assert queue.claim_many("w", 9, now=0.0) == []
        queue.expire(40.0)
        assert running(queue) == {"user": 0}
        assert [t.task_id for t in queue.claim_many("w", 9, now=40.0)] == [tasks[0].task_id]
        assert queue.stats().parked == 5


def test_delayed_tasks_wake_under_the_limit() -> None:
    """A limit that is set while a task is delayed binds it when it wakes, retried or new."""
    with TaskQueue(persistent=False, backoff=(10.0, 10.0), rng=random.Random(1)) as queue:
        queue.submit_many(entries(2, key="user", delay=5.0), now=0.0)
        queue.submit_task("n", 9, key="user", now=0.0)
        task = queue.claim_task("w", now=0.0)
        assert task is not None
        queue.fail_task(task, "boom", now=0.0)
        queue.set_limit("user", concurrency=1, now=0.0)
        assert len(queue.claim_many("w", 9, now=50.0)) == 1
        assert queue.stats().ready + queue.stats().parked == 2


def test_redriven_and_resubmitted_tasks_are_limited() -> None:
    """A dead letter that is brought back waits in its key's lane."""
    with TaskQueue(persistent=False) as queue:
        first, second = queue.submit_many(entries(2, key="user", max_retries=0))
        for task in queue.claim_many("w", 2):
            queue.fail_task(task, "boom")
        queue.set_limit("user", concurrency=1)
        assert queue.redrive() == [first, second]
        assert len(queue.claim_many("w", 9)) == 1


def test_limit_of_nothing_stops_a_key() -> None:
    """A concurrency of zero pauses a key; lifting the limit lets it go on."""
    with TaskQueue(persistent=False) as queue:
        queue.set_limit("user", concurrency=0)
        queue.submit_many(entries(3, key="user"))
        assert queue.claim_task("w") is None
        queue.set_limit("user")
        assert len(queue.claim_many("w", 9)) == 3


def test_priorities_hold_across_lanes_of_keys() -> None:
    """Limited, unlimited and tagged tasks are claimed in one order of priority and age."""
    with TaskQueue(persistent=False) as queue:
        for key in ("a", "b", "c"):
            queue.set_limit(key, concurrency=2)
        ids = [
            queue.submit_task("n", e, e % 4, key=(None, "a", "b", "c")[e // 4 % 4])
            for e in range(16)
        ]
        got = queue.claim_many("w", 99)
        order = [(t.priority, t.task_id) for t in got]
        assert order == sorted(order)
        assert {t.key for t in got} == {None, "a", "b", "c"}
        assert len(got) == 4 + 3 * 2
        assert len(set(ids)) == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", 1), "key"),
        (("user", -1), "concurrency"),
        (("user", None, (0, 1.0)), "rate"),
        (("user", None, (1, 0.0)), "rate"),
    ],
)
def test_bad_limits(arguments: tuple[Any, ...], message: str) -> None:
    """A limit that makes no sense is named, and nothing changes."""
    with TaskQueue(persistent=False) as queue:
        with pytest.raises((TypeError, ValueError), match=message):
            queue.set_limit(*arguments)
        assert running(queue) == {}


def test_clock_that_goes_back_adds_no_tokens() -> None:
    """A rate does not refill while the clock runs backwards."""
    with TaskQueue(persistent=False) as queue:
        queue.set_limit("api", rate=(2, 10.0), now=1000.0)
        queue.submit_many(entries(9, key="api"), now=1000.0)
        assert len(queue.claim_many("w", 9, now=1000.0)) == 2
        assert queue.claim_many("w", 9, now=500.0) == []
        assert queue.claim_many("w", 9, now=504.0) == []
        assert len(queue.claim_many("w", 9, now=505.0)) == 1
