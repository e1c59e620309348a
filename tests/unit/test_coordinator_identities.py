"""What one identity claimed is no other one's to read, to keep or to settle."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from coordinator_app import App, running

from noob_cloud.codec.limits import DEFAULT
from noob_cloud.coordinator import wire
from noob_cloud.identity import Identity
from noob_cloud.tubes import TubeSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def run(work: Callable[[App], Awaitable[None]], folder: Path, **settings: Any) -> None:
    async def main() -> None:
        async with running(folder, **settings) as app:
            await work(app)

    asyncio.run(main())


TUBE = TubeSource.of({"noob_id": "testing-identities", "nodes": {"a": {"type": "itertools.count"}}})


def test_badges() -> None:
    """A badge is made of the name alone, fits its bits, and an admin's is 0."""
    anna, bert = Identity("anna", "worker"), Identity("bert", "worker")

    assert anna.badge == Identity("anna", "worker", frozenset({"gpu"})).badge
    assert 0 < anna.badge < 1 << 32
    assert anna.badge != bert.badge
    assert Identity("anna", "admin").badge == 0
    assert anna.holds(7 << 32 | anna.badge)
    assert not anna.holds(7 << 32 | bert.badge)
    assert not anna.holds(0)
    assert Identity("root", "admin").holds(anna.badge)


@pytest.mark.parametrize("what", ["done", "failed", "released", "started"])
def test_outcome_of_what_another_identity_claimed(tmp_path: Path, what: str) -> None:
    """It is refused although the token is right, and the worker that claimed it goes on."""

    async def work(app: App) -> None:
        await app.submit("client", [0, 1])
        lot = await app.claim("anna", 2)
        body = wire.Outcomes("bert-1", [], [], [], [])
        if what == "failed":
            body.failed = [wire.Failure(i, lot.token, "stolen") for i in lot.ids]
        else:
            group = wire.Done if what == "done" else wire.Held
            setattr(body, what, [group(lot.token, lot.ids)])
        stolen = await app.frame("bert", "/outcomes", body, wire.Settled)
        again = await app.frame("bert", "/outcomes", body, wire.Settled, **{"Noob-Again": "1"})
        mine = wire.Outcomes("anna-1", [wire.Done(lot.token, lot.ids, [7, 8])])
        settled = await app.frame("anna", "/outcomes", mine, wire.Settled)

        assert stolen.refused == again.refused == lot.ids
        assert stolen.statuses == {}
        assert settled.refused == []

    run(work, tmp_path)


def test_outcome_by_hand_of_what_another_identity_claimed(tmp_path: Path) -> None:
    """The JSON route is fenced as the frames are."""

    async def work(app: App) -> None:
        await app.submit("client", [0])
        claimed = await app.json("anna", "POST", "/claims", {"worker_id": "a"})
        (task,) = claimed.json()["tasks"]
        outcome = {"task_id": task["task_id"], "token": task["token"], "status": "completed"}
        body = {"worker_id": "b", "outcomes": [outcome]}
        for who, refused in (("bert", [task["task_id"]]), ("anna", [])):
            answer = await app.json(who, "POST", "/outcomes", body)
            assert answer.json()["refused"] == refused

    run(work, tmp_path)


def test_heartbeat_of_what_another_identity_claimed(tmp_path: Path) -> None:
    """It keeps nothing: to whoever sends it, the task is lost."""

    async def work(app: App) -> None:
        await app.submit("client", [0])
        lot = await app.claim("anna")
        beat = wire.Beat("w", [wire.Held(lot.token, lot.ids)])
        assert (await app.frame("bert", "/heartbeats", beat, wire.Beaten)).lost == lot.ids
        assert (await app.frame("anna", "/heartbeats", beat, wire.Beaten)).lost == []

    run(work, tmp_path)


def test_admin_settles_anything(tmp_path: Path) -> None:
    """An admin may do everything, and nobody else settles what an admin claimed."""

    async def work(app: App) -> None:
        await app.submit("client", [0, 1])
        first, second = await app.claim("anna"), await app.claim("owner")
        theirs = wire.Outcomes("w", [wire.Done(second.token, second.ids)])
        assert (await app.frame("anna", "/outcomes", theirs, wire.Settled)).refused == second.ids
        both = [wire.Done(x.token, x.ids) for x in (first, second)]
        settled = await app.frame("owner", "/outcomes", wire.Outcomes("w", both), wire.Settled)
        assert settled.refused == []

    run(work, tmp_path)


def test_worker_reads_its_own_tasks_alone(tmp_path: Path) -> None:
    """Of others it learns where they stand, and nothing of what is in them."""

    async def work(app: App) -> None:
        await app.submit("client", [0])
        lot = await app.claim("anna")
        path = f"/tasks/{lot.ids[0]}"
        done = wire.Outcomes("w", [wire.Done(lot.token, lot.ids, ["answer"])])
        await app.frame("anna", "/outcomes", done, wire.Settled)

        seen = {who: await app.json(who, "GET", path) for who in ("anna", "bert", "client")}
        for who in ("anna", "client"):
            assert (seen[who].json()["data"], seen[who].json()["result"]) == ("secret-0", "answer")
        assert seen["bert"].json()["status"] == "completed"
        assert seen["bert"].json()["data"] is None
        assert "answer" not in seen["bert"].text
        waited = await app.frame("bert", "/settled", wire.Wait(lot.ids), wire.Views)
        assert [x.result for x in waited.tasks] == [None]
        by_hand = await app.json("bert", "POST", "/settled", {"ids": lot.ids})
        assert "answer" not in by_hand.text
        for forbidden in ("/tasks", "/runs", "/events"):
            assert (await app.json("bert", "GET", forbidden)).status_code == 403

    run(work, tmp_path)


def test_worker_submits_only_for_a_run_that_it_drives(tmp_path: Path) -> None:
    """The driver of a run submits, reads and cancels its tasks; no other worker does."""

    async def work(app: App) -> None:
        tube = await app.client.post(
            "/tubes",
            content=TUBE.document,
            headers={
                "Authorization": "Bearer client-token-0123456789",
                "Content-Type": wire.FRAME_TYPE,
            },
        )
        body = {"tube": tube.json()["cid"], "n": 2, "run_id": "mine"}
        assert (await app.json("client", "POST", "/runs", body)).status_code == 201
        for run_id in (None, "mine", "unknown"):
            assert (await app.submit("anna", [0], run_id)).status_code == 403

        driver = await app.claim("anna", tags=[wire.DRIVE_TAG])
        answer = await app.submit("anna", [0], "mine")
        assert answer.status_code == 200, answer.text
        (task_id,) = wire.from_frame(wire.Submitted, answer.content, DEFAULT).ids
        assert (await app.submit("bert", [1], "mine")).status_code == 403
        assert (await app.json("anna", "GET", f"/tasks/{task_id}")).json()["data"] == "secret-0"
        assert (await app.json("bert", "GET", f"/tasks/{task_id}")).json()["data"] is None
        for who, status in (("bert", 403), ("anna", 200)):
            got = await app.json(who, "GET", "/runs/mine/results")
            assert got.status_code == status
            stopped = await app.json(who, "POST", f"/tasks/{task_id}/cancel")
            assert stopped.status_code == status
        posted = wire.Posted(driver.ids[0], driver.token, 0, [1])
        for who, status in (("bert", 409), ("anna", 200)):
            got = await app.frame(who, "/runs/mine/results", posted)
            assert got.status_code == status, got.text

    run(work, tmp_path)
