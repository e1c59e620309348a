"""Nonsense in a frame is an answer that says so: it is never a failure of the coordinator."""

from __future__ import annotations

import asyncio
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.msgpack import Ext

sys.path.insert(0, str(Path(__file__).parent))
from coordinator_app import App, running

from noob_cloud.cid import cid
from noob_cloud.coordinator import wire
from noob_cloud.coordinator.answers import body_of, status_of
from noob_cloud.coordinator.metrics import prometheus
from noob_cloud.exceptions import ConflictError, DatabaseDamagedError, QueueBusyError, QueueError
from noob_cloud.queue import QueueStats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

HUGE = (1 << 64) - 1
TOKEN = (0, 1)


def run(work: Callable[[App], Awaitable[None]], folder: Path, **settings: Any) -> None:
    async def main() -> None:
        async with running(folder, **settings) as app:
            await work(app)

    asyncio.run(main())


def tasks(**changes: Any) -> wire.Submit:
    known = {"options": wire.Options(), "nodes": "n", "epochs": [0]}
    return wire.Submit([wire.Group(**known | changes)])


MANY = list(range(1, 10_002))
NONSENSE = {
    "wait-huge-id": ("/settled", wire.Wait([HUGE]), 422),
    "wait-negative-id": ("/settled", wire.Wait([-1]), 422),
    "wait-nan": ("/settled", wire.Wait([1], math.nan), 422),
    "wait-endless": ("/settled", wire.Wait([1], math.inf), 422),
    "wait-many": ("/settled", wire.Wait(MANY), 413),
    "claim-nan": ("/claims", wire.Ask("w", wait=math.nan), 422),
    "claim-lease-nan": ("/claims", wire.Ask("w", lease_seconds=math.nan), 422),
    "claim-long-name": ("/claims", wire.Ask("w" * 3000), 422),
    "claim-no-name": ("/claims", wire.Ask(""), 422),
    "claim-many-tags": ("/claims", wire.Ask("w", tags=["x"] * 101), 422),
    "claim-none": ("/claims", wire.Ask("w", 0), 422),
    "beat-huge-id": ("/heartbeats", wire.Beat("w", [wire.Held(TOKEN, [HUGE])]), 422),
    "beat-huge-token": ("/heartbeats", wire.Beat("w", [wire.Held((HUGE, 1), [1])]), 422),
    "beat-running": ("/heartbeats", wire.Beat("w", running=HUGE), 422),
    "beat-many": ("/heartbeats", wire.Beat("w", [wire.Held(TOKEN, MANY)]), 413),
    "done-huge-id": ("/outcomes", wire.Outcomes("w", [wire.Done(TOKEN, [HUGE])]), 422),
    "done-huge-token": ("/outcomes", wire.Outcomes("w", [wire.Done((0, HUGE), [1])]), 422),
    "done-too-few": ("/outcomes", wire.Outcomes("w", [wire.Done(TOKEN, [1, 2], [1])]), 422),
    "done-no-value": (
        "/outcomes",
        wire.Outcomes("w", [wire.Done(TOKEN, [1], [[Ext(71, b"x")]])]),
        422,
    ),
    "failed-huge-id": ("/outcomes", wire.Outcomes("w", [], [wire.Failure(HUGE, TOKEN, "x")]), 422),
    "failed-many": (
        "/outcomes",
        wire.Outcomes("w", [], [wire.Failure(i, TOKEN, "x") for i in MANY]),
        413,
    ),
    "failed-long": (
        "/outcomes",
        wire.Outcomes("w", [], [wire.Failure(1, TOKEN, "x" * 1_000_001)]),
        422,
    ),
    "released-huge-id": ("/outcomes", wire.Outcomes("w", [], [], [wire.Held(TOKEN, [HUGE])]), 422),
    "released-many": ("/outcomes", wire.Outcomes("w", [], [], [wire.Held(TOKEN, MANY)]), 413),
    "submit-priority": ("/tasks", tasks(options=wire.Options(priority=HUGE)), 422),
    "submit-nan": ("/tasks", tasks(options=wire.Options(timeout_seconds=math.nan)), 422),
    "submit-long-tag": ("/tasks", tasks(options=wire.Options(affinity_tags=("x" * 201,))), 422),
    "submit-long-key": ("/tasks", tasks(options=wire.Options(key="x" * 2001)), 422),
    "submit-long-node": ("/tasks", tasks(nodes="x" * 100_001), 422),
    "submit-places": ("/tasks", tasks(places=[HUGE]), 422),
    "submit-long-once": ("/tasks", wire.Submit([], "x" * 2001), 422),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense(tmp_path: Path, name: str) -> None:
    """It is refused by name and field, and nothing has changed."""
    path, body, status = NONSENSE[name]

    async def work(app: App) -> None:
        answer = await app.frame("owner", path, body)
        assert answer.status_code == status, answer.text
        assert set(answer.json()) >= {"error", "message"}
        assert app.coordinator.desk.stats() == QueueStats()

    run(work, tmp_path)


def test_request_of_the_same_name(tmp_path: Path) -> None:
    """Sent again it adds nothing; with other tasks it is refused; another client's is its own."""

    async def work(app: App) -> None:
        first = wire.Submit([wire.Group(wire.Options(), "n", [0, 1])], "upload-7")
        other = wire.Submit([wire.Group(wire.Options(), "n", [0, 2])], "upload-7")
        ids = (await app.frame("client", "/tasks", first, wire.Submitted)).ids
        assert (await app.frame("client", "/tasks", first, wire.Submitted)).ids == ids
        refused = await app.frame("client", "/tasks", other)
        assert refused.status_code == 409
        assert refused.json()["error"] == ConflictError.__name__
        assert "upload-7" in refused.json()["message"]
        assert refused.json()["ids"] == ids
        assert (await app.frame("owner", "/tasks", other, wire.Submitted)).ids != ids

        by_hand = {"tasks": [{"node_id": "n", "epoch": 0}], "once": "hand"}
        assert (await app.json("client", "POST", "/tasks", by_hand)).status_code == 200
        assert (await app.json("client", "POST", "/tasks", by_hand)).status_code == 200
        by_hand["tasks"][0]["epoch"] = 1
        assert (await app.json("client", "POST", "/tasks", by_hand)).status_code == 409
        assert app.coordinator.desk.stats().ready == 5

    run(work, tmp_path)


@pytest.mark.parametrize("part", ["extends", "nested"])
def test_tube_by_hand_reads_no_file_of_the_coordinator(tmp_path: Path, part: str) -> None:
    """What a specification extends or nests by name is refused before it is looked for."""
    secret = tmp_path / "secret.yaml"
    secret.write_text(
        "noob_id: testing-secret\nnoob_model: noob.tube.TubeSpecification\nnoob_version: 1003.0.2\n"
        "nodes:\n  password-hunter2:\n    type: itertools.count\n"
    )
    spec: dict[str, Any] = {"noob_id": "testing-thief", "nodes": {}}
    if part == "extends":
        spec["extends"] = str(secret)
    else:
        spec["nodes"]["a"] = {"type": "tube", "params": {"tube": str(secret)}}

    async def work(app: App) -> None:
        for path, body in (("/tubes", {"spec": spec}), ("/runs", {"tube": {"spec": spec}, "n": 1})):
            answer = await app.json("client", "POST", path, body)
            assert answer.status_code == 422, answer.text
            assert "hunter2" not in answer.text
        assert (await app.json("client", "GET", "/tubes")).json() == []

    run(work, tmp_path)


def test_errors_tell_what_is_meant_for_others() -> None:
    """A file that is busy is worth another try; what failed inside stays in the log."""
    assert status_of(QueueError("another process has held the queue's file for 30 s")) == 503
    assert status_of(QueueBusyError("another process has held the queue's file for 30 s")) == 503
    assert status_of(DatabaseDamagedError("it is damaged")) == 500
    shown = body_of(ValueError("/secret/path"))
    assert b"ValueError" in shown
    assert b"secret" not in shown


def test_metrics_of_many_tags(tmp_path: Path) -> None:
    """Whoever submits chooses the tags, and not how large the metrics grow."""

    async def work(app: App) -> None:
        stats = QueueStats(ready=600, ready_by_tags={f"tag-{i}": 1 + i % 2 for i in range(400)})
        text = prometheus(app.coordinator, stats).decode()
        lines = [x for x in text.splitlines() if x.startswith("noob_waiting_tasks{")]
        assert len(lines) == 101
        assert sum(float(x.rpartition(" ")[2]) for x in lines) == 600
        assert 'noob_waiting_tasks{tags="(others)"} 400.0' in lines

    run(work, tmp_path)


def test_limit_that_frees_a_place_wakes_who_waits(tmp_path: Path) -> None:
    """The next task of a limited key goes out when the one before ends, not at the next look."""

    async def work(app: App) -> None:
        limit = {"key": "k", "concurrency": 1}
        assert (await app.json("client", "POST", "/limits", limit)).status_code == 204
        await app.frame("client", "/tasks", tasks(options=wire.Options(key="k"), epochs=[0, 1]))
        lot = await app.claim("anna")
        ask = wire.Ask("bert-1", wait=20.0)
        waiting = asyncio.create_task(app.frame("bert", "/claims", ask, wire.Claimed))
        while not len(app.coordinator.claims):  # noqa: ASYNC110 - nothing says so
            await asyncio.sleep(0)
        changes = app.coordinator.claims._changes
        done = wire.Outcomes("anna-1", [wire.Done(lot.token, lot.ids)])
        await app.frame("anna", "/outcomes", done, wire.Settled)
        assert app.coordinator.claims._changes > changes
        (next_lot,) = (await waiting).lots
        assert next_lot.ids != lot.ids

    run(work, tmp_path)


def test_room_for_bodies(tmp_path: Path) -> None:
    """Bodies that are under way take room, and give it back however their requests end."""

    async def work(app: App) -> None:
        door, pieces = app.door, asyncio.Queue[bytes]()

        async def body() -> AsyncIterator[bytes]:
            while piece := await pieces.get():
                yield piece

        headers = {"Authorization": "Bearer client-token-0123456789"}
        url = "/blobs/" + cid(b"x" * 800)
        pieces.put_nowait(b"x" * 400)
        first = asyncio.create_task(app.client.put(url, content=body(), headers=headers))
        while door.room.used < 400:  # noqa: ASYNC110 - nothing says so
            await asyncio.sleep(0)

        async def large() -> AsyncIterator[bytes]:
            for _ in range(2):
                yield b"y" * 400

        second = await app.client.put(url, content=large(), headers=headers)
        assert second.status_code == 503
        assert second.headers["retry-after"] == "1"
        assert door.room.used == 400
        pieces.put_nowait(b"x" * 400)
        pieces.put_nowait(b"")
        assert (await first).status_code == 200
        assert door.room.used == 0

    run(work, tmp_path, max_bodies=1000)


def test_follower_that_comes_back(tmp_path: Path) -> None:
    """It says which event was its last, and is sent what came behind that."""

    async def work(app: App) -> None:
        events = app.coordinator.events
        events.add("one")
        last = events.last
        events.add("two")
        asked: list[int] = []
        wait = events.wait

        async def noted(number: int, *rest: Any) -> list[dict[str, Any]]:
            asked.append(number)
            if len(asked) > 1:  # the first were sent
                app.coordinator.drain()
            return await wait(number, *rest)

        events.wait = noted  # type: ignore[method-assign]
        headers = {
            "Authorization": "Bearer client-token-0123456789",
            "Accept": "text/event-stream",
            "Last-Event-ID": str(last),
        }
        text = (await app.client.get("/events", headers=headers)).text
        assert asked[0] == last
        assert "event: two" in text
        assert "event: one" not in text

    run(work, tmp_path)
