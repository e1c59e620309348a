"""Events and workers: what a coordinator has seen."""

from __future__ import annotations

import asyncio

import pytest

from noob_cloud.coordinator.events import Events
from noob_cloud.coordinator.workers import Workers
from noob_cloud.coordinator.writer import Writer
from noob_cloud.exceptions import UnavailableError
from noob_cloud.identity import Identity


def test_events_after() -> None:
    """A follower gets what came after what it saw, in order, as many as it asks for."""
    events = Events(kept=3, first=10)
    for number in range(4):
        events.add("x", number=number)

    assert [e["number"] for e in events.after(0)] == [1, 2, 3]
    assert [e["id"] for e in events.after(13)] == [14]
    assert [e["id"] for e in events.after(0, limit=2)] == [12, 13]
    assert events.after(events.last) == []


def test_events_go_on_after_a_restart() -> None:
    """Numbers of a later start are larger: nobody sees an event twice, or misses one."""
    assert Events().last < Events().last


def test_wait_for_an_event() -> None:
    """Who waits gets the event when it happens."""

    async def story() -> None:
        events = Events()
        waiting = asyncio.create_task(events.wait(events.last, 10.0))
        await asyncio.sleep(0)
        events.add("x")
        assert [e["kind"] for e in await waiting] == ["x"]
        assert await events.wait(events.last, 0.0) == []
        assert await events.wait(events.last, 0.001) == []

    asyncio.run(story())


def test_silent_worker_is_lost_once() -> None:
    """A worker that is silent for too long is lost, and back with its next request."""
    workers, who = Workers(timeout=10.0), Identity("box", "worker")
    assert workers.seen("w", who, frozenset({"gpu"}), 0.0)[1]
    assert not workers.seen("w", who, None, 5.0)[1]
    assert workers.sweep(15.0) == []

    assert [row.worker_id for row in workers.sweep(15.1)] == ["w"]
    assert workers.sweep(99.0) == []
    row, back = workers.seen("w", who, None, 100.0)
    assert back
    assert row.tags == {"gpu"}


def test_a_worker_is_not_listed_again_as_a_driver() -> None:
    """It holds runs under a name of its own, and is one worker; who only drives is listed."""
    workers, who = Workers(timeout=10.0), Identity("box", "worker")
    for name in ("w", "w/driver", "other/driver"):
        workers.seen(name, who, None, 0.0)

    assert [row.worker_id for row in workers.rows()] == ["other/driver", "w"]
    assert len(workers.alive(0.0)) == 3


def test_writer_runs_in_order_and_raises() -> None:
    """Jobs run one after the other in another thread; what one raises is its own."""

    async def story() -> None:
        writer = Writer()
        with pytest.raises(UnavailableError):
            writer.do(list)
        writer.start()
        done: list[int] = []
        jobs = [writer.do(lambda i=i: done.append(i)) for i in range(100)]
        failing = writer.do(lambda: 1 / 0)
        await asyncio.gather(*jobs)
        assert done == list(range(100))
        with pytest.raises(ZeroDivisionError):
            await failing
        await asyncio.to_thread(writer.stop)

    asyncio.run(story())
