"""Requests about many tasks at once: cancel them, and outcomes in answers of a bounded size."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance.served import TOKEN, served

sys.path.insert(0, str(Path(__file__).parent))
from coordinator_app import App, running

from noob_cloud.coordinator import wire
from noob_cloud.exceptions import ForbiddenError
from noob_cloud.queue import Encoded, remote
from noob_cloud.queue.remote import RemoteQueue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


def run(work: Callable[[App], Awaitable[None]], folder: Path) -> None:
    async def main() -> None:
        async with running(folder) as app:
            await work(app)

    asyncio.run(main())


@pytest.fixture
def queue() -> Iterator[RemoteQueue]:
    with served() as (url, _), RemoteQueue(url, TOKEN) as found:
        yield found


def test_cancel_many(queue: RemoteQueue) -> None:
    """Those without an outcome are cancelled, in whatever state; the others are left out."""
    ids = queue.submit_many([{"node_id": "n", "epoch": n} for n in range(2500)])
    done, running, waiting = queue.claim_many("w", 3)
    queue.complete_task(done, 1)
    queue.start_task(running)

    cancelled = queue.cancel_many([*ids, 999_999, ids[5]])

    assert cancelled == [i for i in ids if i != done.task_id]
    assert queue.heartbeat([running, waiting]).cancelled == {running.task_id, waiting.task_id}
    assert queue.get_task(done.task_id).result == 1
    assert queue.cancel_many([]) == []


def test_cancel_many_wakes_who_waits(queue: RemoteQueue) -> None:
    """Whoever waits for the outcome of a task learns that it was cancelled."""
    ids = queue.submit_many([{"node_id": "n", "epoch": n} for n in range(3)])
    queue.cancel_many(ids)

    assert [task.status for task in queue.wait_settled(ids, timeout=5)] == ["cancelled"] * 3


def test_only_a_client_cancels_many(tmp_path: Path) -> None:
    """A worker's token is refused, and what is no list of ids is an error."""

    async def work(app: App) -> None:
        await app.submit("client", [0])
        answer = await app.json("anna", "POST", "/cancel", {"task_ids": [1]})
        assert answer.status_code == 403
        assert answer.json()["error"] == ForbiddenError.__name__
        for wrong in ({}, {"task_ids": None}, {"task_ids": ["x"]}, {"task_ids": [0] * 10_001}):
            assert (await app.json("client", "POST", "/cancel", wrong)).status_code == 422
        answer = await app.json("client", "POST", "/cancel", {"task_ids": [1]})
        assert answer.json() == {"cancelled": [1]}

    run(work, tmp_path)


def test_outcomes_in_bounded_answers(queue: RemoteQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outcomes that are too many bytes for one answer come in several, and all of them come."""
    sizes: list[int] = []
    send = queue._transport.send

    def measured(*args: Any, **more: Any) -> Any:
        reply = send(*args, **more)
        sizes.append(len(reply.body))
        return reply

    monkeypatch.setattr(queue._transport, "send", measured)
    ids = queue.submit_many(
        [{"node_id": "n", "epoch": n, "data": b"p" * 30_000} for n in range(300)]
    )
    for _ in range(3):
        queue.complete_many([(task, b"r" * 30_000) for task in queue.claim_many("w", 100)])
    sizes.clear()

    found = queue.wait_settled(ids, timeout=0.0)

    assert [task.task_id for task in found] == ids
    assert found[-1].result == b"r" * 30_000
    assert max(sizes) < 6_200_000
    assert len(sizes) == 4
    assert 1 <= len(queue.wait_settled(ids, at_least=1)) < 300


def test_one_outcome_is_never_too_large(tmp_path: Path) -> None:
    """The first one comes however large it is: who asks again makes progress."""

    async def work(app: App) -> None:
        await app.submit("client", [0, 1])
        lot = await app.claim("anna", 2)
        done = wire.Outcomes("anna-1", [wire.Done(lot.token, lot.ids, ["x" * 5000] * 2)])
        await app.frame("anna", "/outcomes", done, wire.Settled)
        found = await app.frame("client", "/settled", wire.Wait(lot.ids, 0.0, 0, 10), wire.Views)
        assert ([view.task_id for view in found.tasks], found.more) == ([1], True)
        found = await app.frame("client", "/settled", wire.Wait(lot.ids), wire.Views)
        assert (len(found.tasks), found.more) == (2, False)

    run(work, tmp_path)


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([], []),
        ([1], [1]),
        ([9_000_000], [1]),
        ([3_000_000, 2_000_000, 1_000_000, 1_000_000, 5_000_000, 1], [1, 3, 1, 1]),
        ([0] * 12_000, [5000, 5000, 2000]),
    ],
)
def test_requests_that_gateways_take(sizes: list[int], parts: list[int]) -> None:
    """Tasks are submitted in requests of a bounded size, in their order."""
    entries = [{"epoch": n, "data": Encoded(bytes(size))} for n, size in enumerate(sizes)]

    found = list(remote._parts(entries))

    assert [len(part) for part in found] == parts
    assert [entry for part in found for entry in part] == entries
