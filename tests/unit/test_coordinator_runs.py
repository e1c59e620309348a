"""A run is there whole or not at all, whoever is killed when, and however many coordinators are."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from coordinator_app import App, running

from noob_cloud.blobs import MemoryStore
from noob_cloud.coordinator import runs as module
from noob_cloud.coordinator import wire
from noob_cloud.coordinator.desk import Desk
from noob_cloud.coordinator.run import driver_of
from noob_cloud.coordinator.runs import Runs
from noob_cloud.coordinator.statements import SQL
from noob_cloud.coordinator.upkeep import keep_on
from noob_cloud.coordinator.waiting import Claims
from noob_cloud.coordinator.writer import Writer
from noob_cloud.exceptions import (
    ConflictError,
    LeaseLostError,
    QueueError,
    RunNotFoundError,
    TaskStateError,
)
from noob_cloud.identity import Identity
from noob_cloud.queue import Clock
from noob_cloud.task import TaskStatus
from noob_cloud.tubes import TubeSource

if TYPE_CHECKING:
    from collections.abc import Iterator

CID = "bafkr4i" + "a" * 52
WORKER = Identity("anna", "worker")


def driver(**changes: Any) -> Any:
    known = {"tube": CID, "n": 3, "inputs": None, "run_id": "r", "placement": None, "most": 10}
    return driver_of(**known | changes)


def desk_at(folder: Path, **settings: Any) -> Desk:
    desk = Desk(True, str(folder / "queue.db"), blobs=MemoryStore(), **settings)
    desk.prepare()
    return desk


def runs_of(desk: Desk) -> Runs:
    return Runs(desk, MemoryStore(), takeovers=0, timeout=60.0)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path) as made:
        yield made


def test_coordinator_that_dies_while_a_run_begins(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no driver's task without its run; the request sent again makes both."""
    runs = runs_of(desk)
    monkeypatch.setattr(module, "SQL", _Broken())
    with pytest.raises(QueueError):
        runs.add(driver(), "ci", 0.0)
    assert desk.stats().live == 0

    monkeypatch.undo()
    assert runs.add(driver(), "ci", 0.0).task_id == runs.add(driver(), "ci", 1.0).task_id
    assert desk.stats().live == 1


class _Broken:
    add_run = "INSERT INTO nothing VALUES (?, ?, ?, ?, ?, ?, ?)"

    def __getattr__(self, name: str) -> str:
        return getattr(SQL, name)


@pytest.mark.parametrize(
    "changes",
    [
        {"tube": "bafkr4i" + "b" * 52},
        {"n": 4},
        {"n": None, "inputs": [{"x": 1}]},
        {"placement": {"nodes": {}}},
    ],
)
def test_run_of_the_same_name(desk: Desk, changes: dict[str, Any]) -> None:
    """Another run under a known name is refused, and both are named."""
    runs = runs_of(desk)
    runs.add(driver(), "ci", 0.0)

    with pytest.raises(ConflictError, match="r is known here already") as caught:
        runs.add(driver(**changes), "ci", 1.0)

    assert caught.value.data["tube"] == CID
    assert desk.stats().live == 1


def test_name_of_a_task_is_no_name_of_a_run(desk: Desk) -> None:
    """A task whose idempotency key looks like a run's is not taken for its driver."""
    task_id = desk.submit_task("n", 0, idempotency_key="run:r")

    assert runs_of(desk).add(driver(), "ci", 0.0).task_id != task_id


def test_cancelled_run_takes_no_more_tasks_at_any_coordinator(tmp_path: Path) -> None:
    """The file says that it was cancelled, so every process on it knows at once."""
    with desk_at(tmp_path) as here, desk_at(tmp_path) as there:
        runs = runs_of(here)
        runs.add(driver(), "ci", 0.0)
        there.submit_many([{"node_id": "n", "epoch": i, "run_id": "r"} for i in range(2500)])
        claimed = there.claim_many("w", 10)
        assert runs.cancel("r", 1.0)[0]
        body = wire.Submit([wire.Group(wire.Options(run_id="r"), "n", [0])])
        other = runs_of(there)
        with pytest.raises(TaskStateError, match="cancelled"):
            there.submit_groups(body, guard=lambda ledger: other.guard(ledger, ["r"], None))

        after: int | None = 0
        ids: list[int] = []
        while after is not None:
            found, after = runs.cancel_tasks("r", after, 1.0)
            ids += found
        assert len(ids) == 2500
        assert there.stats().cancelled == 2501
        assert there.complete_many([(task, 1) for task in claimed]) == [
            task.task_id for task in claimed
        ]
        assert not runs.cancel("r", 2.0)[0]


def test_driver_that_comes_back_too_late(desk: Desk) -> None:
    """Its results are refused in the very transaction that would have written them."""
    runs = runs_of(desk)
    run = runs.add(driver(), "ci", 0.0)
    ask = wire.Ask("anna-1", 1, [wire.DRIVE_TAG], lease_seconds=10.0)
    tags = frozenset({wire.DRIVE_TAG})
    (first,) = desk.claim_lots(ask, tags, WORKER.badge, now=1.0)
    page = wire.Posted(run.task_id, first.token, 0, [1])
    assert runs.add_results("r", page, WORKER) == 1
    assert runs.add_results("r", page, WORKER) == 1
    with pytest.raises(LeaseLostError):
        runs.add_results("r", page, Identity("bert", "worker"))
    desk.cancel_task(run.task_id)
    with pytest.raises(LeaseLostError):
        runs.add_results("r", wire.Posted(run.task_id, first.token, 1, [2]), WORKER)
    assert runs.results("r", 0, 10)[1] == 1


def test_run_whose_driver_is_redriven_is_open_again(desk: Desk) -> None:
    """The dead letter and the run come back in one commit."""
    runs = runs_of(desk)
    run = runs.add(driver(), "ci", 0.0)
    task = desk.claim_task("w", [wire.DRIVE_TAG])
    desk.fail_task(task, "it broke")
    assert runs.get("r").status == "failed"
    assert runs.ended({run.task_id: "r"})[0].error == "it broke"

    assert runs.redrive([run.task_id], 5.0) == [run.task_id]

    assert runs.get("r").status == "waiting"
    assert runs.open() == {run.task_id: "r"}
    assert runs.ended({run.task_id: "r"}) == []


class _Still(Clock):
    def __init__(self) -> None:
        self.time = 1_000_000.0
        super().__init__(lambda: self.time, lambda: self.time)


def test_leases_outlive_an_outage(tmp_path: Path) -> None:
    """Whoever works on gets time to say so; what ran too long meanwhile has still run out."""
    clock = _Still()
    with desk_at(tmp_path, clock=clock, lease_seconds=60.0) as desk:
        desk.submit_task("n", 0, max_retries=0, timeout_seconds=10_000)
        desk.submit_task("n", 1, max_retries=0, timeout_seconds=100)
        lives, late = desk.claim_many("w", 2)
    clock.time += 500
    with desk_at(tmp_path, clock=clock, lease_seconds=60.0) as desk:
        desk.expire()
        assert desk.get_task(lives.task_id).status is TaskStatus.CLAIMED
        assert desk.get_task(late.task_id).status is TaskStatus.DEAD
        assert desk.heartbeat([lives]).lost == frozenset()
        clock.time += 61
        desk.expire()
        assert desk.get_task(lives.task_id).status is TaskStatus.DEAD


def test_background_work_goes_on_after_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy file ends nothing for good."""
    calls: list[int] = []

    async def work() -> None:
        calls.append(len(calls))
        if len(calls) < 3:
            raise QueueError("another process has held the queue's file for 30 s")
        raise asyncio.CancelledError

    monkeypatch.setattr("noob_cloud.coordinator.upkeep._AFTER_TROUBLE", 0.0)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(keep_on("the test", work))
    assert calls == [0, 1, 2]


def test_trouble_with_one_worker_keeps_no_task_from_another(desk: Desk) -> None:
    """What was claimed for the first who waits reaches it, though the second's claim fails."""
    asks = [wire.Ask("first"), wire.Ask("second")]
    claim_lots = desk.claim_lots

    def claim(ask: wire.Ask, *args: Any, **more: Any) -> list[wire.Lot]:
        if ask is asks[1] and desk.stats().claimed:
            raise QueueError("the disk is full")
        return claim_lots(ask, *args, **more)

    async def main() -> list[wire.Lot]:
        writer = Writer()
        writer.start()
        claims = Claims(desk, writer)
        desk.claim_lots = claim  # type: ignore[method-assign]
        waiting = [asyncio.create_task(claims.claim(ask, frozenset(), wait=20.0)) for ask in asks]
        while len(claims) < 2:  # noqa: ASYNC110 - nothing says so
            await asyncio.sleep(0)
        desk.submit_many([{"node_id": "n", "epoch": i} for i in range(2)])
        with pytest.raises(QueueError, match="disk"):
            await claims._round()
        found = await waiting[0]
        waiting[1].cancel()
        await asyncio.to_thread(writer.stop)
        return found

    assert len(asyncio.run(main())) == 1


def test_tube_that_comes_with_its_run(tmp_path: Path) -> None:
    """It is kept before the run is, with several writers too."""
    tube = {"noob_id": "testing-inline", "nodes": {"a": {"type": "itertools.count"}}}

    async def main() -> None:
        async with running(tmp_path, db_path=tmp_path / "q.db", synchronous="FULL") as app:
            for number in range(8):
                body = {"tube": {"spec": tube | {"noob_id": f"testing-{number}"}}, "n": 1}
                made = await app.json("client", "POST", "/runs", body)
                assert made.status_code == 201, made.text
            again = {"tube": made.json()["tube"], "n": 2, "run_id": made.json()["run_id"]}
            refused = await app.json("client", "POST", "/runs", again)
            assert refused.status_code == 409
            assert again["tube"] in refused.json()["message"]

    asyncio.run(main())


def test_tube_of_a_run_is_kept_with_the_run(tmp_path: Path) -> None:
    """One that was a blob so far stays when blobs are collected."""
    source = TubeSource.of({"noob_id": "testing-kept", "nodes": {"a": {"type": "itertools.count"}}})

    async def main() -> None:
        async with running(tmp_path) as app:
            await _post_run(app, source)
            assert app.coordinator.records.tube(source.cid) == source.document
            app.coordinator.blobs.delete(source.cid)
            assert app.coordinator.records.tube(source.cid) == source.document

    asyncio.run(main())


async def _post_run(app: App, source: TubeSource) -> None:
    app.coordinator.blobs.put(source.document)
    made = await app.json("client", "POST", "/runs", {"tube": source.cid, "n": 1})
    assert made.status_code == 201, made.text


def test_claim_whose_answer_was_lost(tmp_path: Path) -> None:
    """Asked again, the worker gets those tasks, and no attempt of them is lost with the answer."""

    async def main() -> None:
        async with running(tmp_path, client_clock=True) as app:
            options = wire.Options(max_retries=0)
            body = wire.Submit([wire.Group(options, "n", list(range(5)))])
            ids = (await app.frame("client", "/tasks", body, wire.Submitted)).ids

            async def claim(who: str, at: str, **more: str) -> list[int]:
                ask = wire.Ask("same-name", 2)
                more["Noob-Now"] = at
                claimed = await app.frame(who, "/claims", ask, wire.Claimed, **more)
                return [task_id for lot in claimed.lots for task_id in lot.ids]

            kept = await claim("anna", "100")
            assert await claim("bert", "108") == ids[2:4]  # another one's, of the same name
            lost = wire.Outcomes("same-name", claim=wire.Ask("same-name", 2))
            at = {"Noob-Now": "109"}
            await app.frame("anna", "/outcomes", lost, wire.Settled, **at)
            again = {"Noob-Now": "112", "Noob-Again": "4.0"}
            settled = await app.frame("anna", "/outcomes", lost, wire.Settled, **again)
            assert [lot.ids for lot in settled.lots] == [[ids[4]]]
            assert await claim("anna", "113", **{"Noob-Again": "2.0"}) == [ids[4]]
            assert await claim("anna", "114", **{"Noob-Again": "nonsense"}) == []
            held = wire.Beat("same-name", [wire.Held((Identity("anna", "worker").badge, 1), kept)])
            assert (await app.frame("anna", "/heartbeats", held, wire.Beaten, **at)).lost == []

    asyncio.run(main())


def test_runs_are_forgotten_when_they_ended_long_ago(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of results at a time, from the end, and no run that is open or ended lately."""
    monkeypatch.setattr(module, "_PAGE", 2)
    runs = runs_of(desk)
    who = Identity("anna", "worker")
    now = desk.clock_now()
    runs.add(driver(run_id="old"), "ci", now)
    (lot,) = desk.claim_lots(
        wire.Ask("a", 1, [wire.DRIVE_TAG], accept_untagged=False),
        frozenset({wire.DRIVE_TAG}),
        who.badge,
    )
    posted = [wire.pack(i) for i in range(3)]
    runs.add_results("old", wire.Posted(runs.get("old").task_id, lot.token, 0, posted), who)
    for name in ("late", "open"):
        runs.add(driver(run_id=name), "ci", now)
    runs.cancel("old", now)
    runs.cancel("late", now + 60.0)

    assert not runs.forget_one(now)
    assert runs.forget_one(now + 1.0)
    results, _ = runs.results("old", 0, 9)
    assert [result.position for result in results] == [0]
    assert runs.forget_one(now + 1.0)
    assert not runs.forget_one(now + 1.0)
    with pytest.raises(RunNotFoundError):
        runs.get("old")
    assert {run.run_id for run in runs.latest(9)} == {"late", "open"}
