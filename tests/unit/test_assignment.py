"""Which call goes to which worker, with the time passed in."""

from __future__ import annotations

from concurrent.futures import Future
from itertools import count
from typing import Any

import pytest

from noob_cloud.exceptions import AuthenticationError, NoWorkerError
from noob_cloud.executors.assignment import Assignment, Job
from noob_cloud.executors.balance import Balancer, LoadBalancingStrategy
from noob_cloud.executors.remote_worker import RemoteWorker
from noob_cloud.executors.worker_config import WorkerConfig
from noob_cloud.task import StageCall

NUMBERS = count()
CALL = StageCall("tube", ("a",), (0,), ((),))
ANYWHERE = (frozenset[str](), frozenset[str]())


def worker(index: int, tags: str = "", places: int = 2) -> RemoteWorker:
    config = WorkerConfig(
        host="h", port=8000 + index, tags=tags, max_tasks=places, worker_id=f"w{index}", token="t"
    )
    return RemoteWorker(index, config, threshold=1, recovery_seconds=10.0)


def job(affinity: str = "", required: str = "", priority: int = 2) -> Job:
    tags = (frozenset(affinity.split()), frozenset(required.split()))
    source: Any = None
    order = (priority, next(NUMBERS))
    return Job(CALL, source, b"", tags, order, None, 0, Future())


def assignment(*workers: RemoteWorker) -> Assignment:
    balancer = Balancer(LoadBalancingStrategy.ROUND_ROBIN)
    return Assignment(workers, balancer, patience=10.0)


def wait(waiting: Assignment, *jobs: Job) -> None:
    for one in jobs:
        waiting.serving(one.tags)
        waiting.add(one)


def test_no_more_than_places() -> None:
    """A worker gets as many calls as it has places; the others wait."""
    waiting = assignment(worker(0, places=2))
    wait(waiting, job(), job(), job())

    assert len(waiting.take(now=0.0)) == 2
    assert len(waiting) == 1
    assert waiting.take(now=0.0) == []


def test_urgent_first_then_oldest() -> None:
    """The most urgent call goes first, then the one that came first."""
    waiting = assignment(worker(0, places=3))
    low, normal, again, urgent = job(priority=3), job(), job(), job(priority=0)
    wait(waiting, low, normal, again, urgent)

    assert [pair[0] for pair in waiting.take(now=0.0)] == [urgent, normal, again]


@pytest.mark.parametrize(
    ("affinity", "required", "chosen"),
    [("gpu", "", {1, 2}), ("gpu tpu", "", {1, 2, 3}), ("", "gpu big", {2}), ("", "", {0, 1, 2, 3})],
)
def test_tags_are_hard(affinity: str, required: str, chosen: set[int]) -> None:
    """Any of the affinity tags, all of the required ones, and never a worker without."""
    workers = [worker(0), worker(1, "gpu"), worker(2, "gpu,big"), worker(3, "tpu")]
    waiting = assignment(*workers)
    wait(waiting, *(job(affinity, required) for _ in range(8)))

    assert {found.index for _, found in waiting.take(now=0.0)} == chosen


def test_missing_tag_is_named() -> None:
    """A call that no worker may run is refused at once, with the tag and what there is."""
    waiting = assignment(worker(0, "cpu"))

    with pytest.raises(NoWorkerError, match=r"tag 'gpu'.*\['cpu'\]"):
        waiting.serving(job("gpu").tags)


def test_busy_tags_do_not_block_others() -> None:
    """Calls that wait for a busy GPU do not keep others from free workers."""
    waiting = assignment(worker(0), worker(1, "gpu", places=1))
    wait(waiting, job("gpu"), job("gpu"), job())

    assert [found.index for _, found in waiting.take(now=0.0)] == [1, 0]


def test_avoided_worker_is_passed_over() -> None:
    """A call goes to no worker that has failed it, and does not block those behind it."""
    full = worker(1, places=1)
    full.begin(now=0.0)
    waiting = assignment(worker(0, places=1), full)
    burnt, fresh = job(), job()
    burnt.avoid.add(0)
    wait(waiting, burnt, fresh)

    assert [pair[0] for pair in waiting.take(now=0.0)] == [fresh]
    assert waiting.jobs == [burnt]


def test_avoided_worker_is_better_than_none() -> None:
    """A call goes back to a worker that has failed it when the others cannot be reached."""
    dead = worker(1)
    dead.hear(None)
    waiting = assignment(worker(0), dead)
    burnt = job()
    burnt.avoid.add(0)
    wait(waiting, burnt)

    assert [found.index for _, found in waiting.take(now=0.0)] == [0]


def test_open_breakers_need_no_patience() -> None:
    """When no breaker will close in time there is nothing to wait for."""
    only = worker(0)
    waiting = Assignment([only], Balancer(LoadBalancingStrategy.ROUND_ROBIN), patience=5.0)
    wait(waiting, job())
    only.begin(now=0.0)
    only.end(1.0, now=0.0, answered=False)

    ((_, error),) = waiting.give_up(now=0.0)
    assert isinstance(error, NoWorkerError)
    assert "w0 is open" in str(error)


def test_later_waits_its_time() -> None:
    """A call that backs off is not looked at before its time."""
    waiting = assignment(worker(0))
    late = job()
    waiting.serving(late.tags)
    waiting.add_later(late, 5.0)

    assert waiting.take(now=4.9) == []
    assert [pair[0] for pair in waiting.take(now=5.0)] == [late]


def test_removed_call_is_gone() -> None:
    """A cancelled call is started no more, wherever it waits."""
    waiting = assignment(worker(0))
    now, late = job(), job()
    wait(waiting, now)
    waiting.add_later(late, 1.0)

    waiting.remove(now)
    waiting.remove(late)

    assert len(waiting) == 0
    assert waiting.take(now=2.0) == []


def test_open_breaker_gets_one_trial() -> None:
    """A worker whose breaker is open gets nothing, then one call, then all."""
    only = worker(0, places=4)
    waiting = assignment(only)
    wait(waiting, *(job() for _ in range(5)))
    only.begin(now=0.0)
    only.end(1.0, now=0.0, answered=False)

    assert waiting.take(now=5.0) == []
    assert len(waiting.take(now=10.0)) == 1
    only.end(1.0, now=11.0, answered=True)
    assert len(waiting.take(now=11.0)) == 4


def test_patience_runs_out() -> None:
    """Calls wait a while for a worker to come back, and then fail with the state of each."""
    only = worker(0)
    only.hear(None)
    waiting = assignment(only)
    wait(waiting, job())

    assert waiting.give_up(now=0.0) == []
    assert waiting.give_up(now=9.0) == []
    ((_, error),) = waiting.give_up(now=10.0)
    assert isinstance(error, NoWorkerError)
    assert "w0 is open (unreachable)" in str(error)


def test_patience_starts_anew() -> None:
    """A worker that comes back in time is used."""
    only = worker(0)
    only.hear(None)
    waiting = assignment(only)
    wait(waiting, job())
    waiting.give_up(now=0.0)
    only.hear({"status": "ok", "max_tasks": 7})

    assert waiting.give_up(now=30.0) == []
    assert len(waiting.take(now=30.0)) == 1


def test_refusal_needs_no_patience() -> None:
    """When every worker refuses our token there is nothing to wait for."""
    only = worker(0)
    only.fault = AuthenticationError("no")
    waiting = assignment(only)
    wait(waiting, job())

    ((_, error),) = waiting.give_up(now=0.0)
    assert error.__cause__ is only.fault


def test_draining_worker_gets_nothing() -> None:
    """A worker that says it shuts down is given nothing more."""
    only = worker(0)
    only.hear({"status": "draining", "max_tasks": 2})
    waiting = assignment(only)
    wait(waiting, job())

    assert waiting.take(now=0.0) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"port": 0}, "port is 0"),
        ({"port": 70000}, "port is 70000"),
        ({"max_tasks": 0}, "max_tasks is 0"),
        ({"scheme": "ftp"}, "scheme is 'ftp'"),
    ],
)
def test_config_is_checked(fields: dict[str, Any], message: str) -> None:
    """A worker's address that cannot be is refused by the field."""
    with pytest.raises(ValueError, match=message):
        WorkerConfig(host="h", **fields)


def test_config_reads_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token comes from the environment and is never shown."""
    monkeypatch.setenv("NOOB_CLOUD_TOKEN", "a-secret-of-the-user")
    config = WorkerConfig(host="h", port=1, tags=["gpu", " cuda "])

    assert config.token == "a-secret-of-the-user"
    assert "secret" not in repr(config)
    assert config.tags == {"gpu", "cuda"}
