"""No blob goes that a task, a run or a result names, whatever happens while blobs are collected."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from msgspec.msgpack import Ext

from noob_cloud import codec
from noob_cloud.blobs import FolderStore
from noob_cloud.cid import cid
from noob_cloud.coordinator import by_hand, wire
from noob_cloud.coordinator.desk import Desk
from noob_cloud.coordinator.records import Records
from noob_cloud.coordinator.run import driver_of
from noob_cloud.coordinator.runs import Runs
from noob_cloud.identity import Identity
from noob_cloud.queue import Encoded
from noob_cloud.tubes import TubeSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from noob_cloud.blobs import BlobInfo

OLD = 1_000_000.0
DAY = 86_400.0
PAYLOAD = b"p" * 100_000
WORKER = Identity("anna", "worker")


class Store(FolderStore):
    """Lets something happen at a chosen point of a collection."""

    meanwhile: Callable[[], object] | None = None
    point = ""

    def _reach(self, point: str) -> None:
        if self.point == point and self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            happens()

    def list(self) -> Iterator[BlobInfo]:
        self._reach("before the blobs are listed")
        found = list(super().list())
        self._reach("after the blobs are listed")
        yield from found

    def delete(self, name: str, *, stored_before: float | None = None) -> bool:
        self._reach("before it is removed")
        return super().delete(name, stored_before=stored_before)

    def _new(self, prefix: str = "") -> Path:
        made = super()._new(prefix)
        self._reach("while it is removed")
        return made


POINTS = [
    "before the blobs are listed",
    "after the blobs are listed",
    "before it is removed",
    "while it is removed",
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "blobs", durable=False)


@pytest.fixture
def desk(tmp_path: Path, store: Store) -> Iterator[Desk]:
    with Desk(True, str(tmp_path / "queue.db"), blobs=store) as made:
        made.prepare()
        yield made


def age(store: Store) -> None:
    """Make every blob old."""
    for info in FolderStore.list(store):
        os.utime(store._path(info.cid), (OLD, OLD))


@pytest.mark.parametrize("point", POINTS)
def test_task_that_comes_meanwhile(desk: Desk, store: Store, point: str) -> None:
    """Its payload is there, though the same bytes lay there before, old and named by nothing."""
    store.put(codec.dumps(PAYLOAD))
    age(store)
    store.point = point
    store.meanwhile = lambda: desk.submit_task("n", 0, data=PAYLOAD)

    Records(desk, store).collect_blobs(DAY)

    assert store.meanwhile is None
    task = desk.claim_task("w")
    assert task is not None
    assert task.payload == PAYLOAD


@pytest.mark.parametrize("point", POINTS)
def test_result_that_comes_meanwhile(desk: Desk, store: Store, point: str) -> None:
    """The same for what a worker brings, and for what the driver of a run posts."""
    runs = Runs(desk, store, takeovers=0, timeout=60.0)
    run = runs.add(
        driver_of(cid(b"t"), 1, None, run_id="r", placement=None, most=1), "ci", desk.clock_now()
    )
    (lot,) = desk.claim_lots(
        wire.Ask("a", 1, [wire.DRIVE_TAG], accept_untagged=False),
        frozenset({wire.DRIVE_TAG}),
        WORKER.badge,
    )
    task_id = desk.submit_task("n", 0)
    task = desk.claim_task("w")
    store.put(codec.dumps(PAYLOAD))
    age(store)

    def happens() -> None:
        desk.complete_task(task, PAYLOAD)
        packed = wire.pack(Encoded(codec.dumps(PAYLOAD)))
        runs.add_results("r", wire.Posted(run.task_id, lot.token, 0, [packed]), WORKER)

    store.point, store.meanwhile = point, happens
    Records(desk, store).collect_blobs(DAY)

    assert desk.get_task(task_id).result == PAYLOAD
    (result,), _ = runs.results("r", 0, 1)
    assert codec.loads(store.get(result.cid)) == PAYLOAD


@pytest.mark.parametrize("point", POINTS)
def test_run_that_comes_meanwhile(desk: Desk, store: Store, point: str) -> None:
    """Its tube stays, though it was a blob that nothing named."""
    source = TubeSource.of({"noob_id": "testing-blob", "nodes": {"a": {"type": "itertools.count"}}})
    store.put(source.document)
    age(store)
    records = Records(desk, store)
    runs = Runs(desk, store, takeovers=0, timeout=60.0)

    def happens() -> None:
        records.keep_tube(source.cid, 0.0)
        driver = driver_of(source.cid, 1, None, run_id="r", placement=None, most=1)
        runs.add(driver, "ci", desk.clock_now())

    store.point, store.meanwhile = point, happens
    records.collect_blobs(DAY)

    assert records.tube(source.cid) == source.document


def test_what_is_named_stays(desk: Desk, store: Store) -> None:
    """By a task that waits, runs or is dead; by a result, far behind its beginning, or a tube."""
    inner = [store.put(f"inner-{i}".encode()) for i in range(6)]
    padding = ["x" * 60] * 60_000  # several megabytes before the last name
    desk.submit_task("waits", 0, data=[inner[0]])
    desk.submit_task("large", 0, data=[*padding, inner[1]])
    desk.submit_task("dies", 0, data={"cid": inner[2]}, affinity_tags=["d"])
    desk.fail_task(desk.claim_task("w", ["d"], accept_untagged=False), "boom", retryable=False)
    desk.submit_task("done", 0, affinity_tags=["e"])
    desk.complete_task(desk.claim_task("w", ["e"], accept_untagged=False), (inner[3],))
    runs = Runs(desk, store, takeovers=0, timeout=60.0)
    driver = driver_of(cid(b"t"), 1, None, run_id="r", placement=None, most=1)
    run = runs.add(driver, "ci", desk.clock_now())
    (lot,) = desk.claim_lots(
        wire.Ask("a", 1, [wire.DRIVE_TAG], accept_untagged=False),
        frozenset({wire.DRIVE_TAG}),
        WORKER.badge,
    )
    packed = wire.pack(Encoded(codec.dumps([inner[4]])))
    runs.add_results("r", wire.Posted(run.task_id, lot.token, 0, [packed]), WORKER)
    nodes = {"a": {"type": "itertools.count", "params": {"start": inner[5]}}}
    records = Records(desk, store)
    records.put_tube(TubeSource.of({"noob_id": "testing-names", "nodes": nodes}), 0.0)
    lost = store.put(b"nothing names this")
    age(store)

    collected = records.collect_blobs(DAY)

    assert [store.has(name) for name in inner] == [True] * 6
    assert not store.has(lost)
    assert collected.removed == 1


def test_large_value_is_named_and_not_shown(desk: Desk, store: Store) -> None:
    """A person who asks for a task does not make the coordinator decode a gigabyte."""
    records = Records(desk, store)
    small, large = (store.put(codec.dumps(b"x" * size)) for size in (100_000, 2_000_000))

    assert "bytes of JSON" in by_hand.shown(Ext(wire.BLOB, small.encode()), records.blob_to_show)
    shown = by_hand.shown(Ext(wire.BLOB, large.encode()), records.blob_to_show)
    assert f"GET /blobs/{large}" in shown
