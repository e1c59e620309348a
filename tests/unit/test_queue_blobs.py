"""A queue removes the blobs that nothing of it names any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from noob_cloud.blobs import FolderStore
from noob_cloud.queue import TaskQueue
from noob_cloud.task import StageCall

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "blobs")


@pytest.fixture
def queue(tmp_path: Path, store: FolderStore) -> TaskQueue:
    return TaskQueue(db_path=tmp_path / "queue.db", blobs=store, blob_threshold=1000)


def _names(store: FolderStore) -> set[str]:
    return {blob.cid for blob in store.list()}


def test_what_a_task_names_stays(queue: TaskQueue, store: FolderStore) -> None:
    """A large payload, the tube that it names, and a large result outlive a collection."""
    tube = store.put(b"the tube's document")
    stray = store.put(b"nothing names this")
    large = StageCall(tube=tube, nodes=("a",), epochs=(0,), inputs=((b"x" * 5000,),))
    queue.submit_task("a", 0, data=large)
    queue.submit_task("b", 0, data=None)
    first, second = queue.claim_many("w", 2)
    queue.complete_task(second, b"y" * 5000)
    assert len(_names(store)) == 4

    collected = queue.collect_blobs(grace_seconds=0.0, now=4e9)

    assert collected.removed == 1
    assert stray not in _names(store)
    assert queue.get_task(first.task_id).payload == large
    assert queue.get_task(second.task_id).result == b"y" * 5000
    assert store.get(tube) == b"the tube's document"


def test_what_was_forgotten_goes(queue: TaskQueue, store: FolderStore) -> None:
    """Once cleaned up, a task's blobs are removed by the next collection."""
    queue.submit_task("a", 0, data=b"x" * 5000)
    queue.submit_task("a", 1)
    task = queue.claim_task("w")
    assert task is not None
    queue.complete_task(task, b"y" * 5000)
    queue.cleanup(0.0, now=4e9)

    queue.collect_blobs(grace_seconds=0.0, now=4e9)

    assert _names(store) == set()


def test_young_blobs_stay(queue: TaskQueue, store: FolderStore) -> None:
    """A blob is put before it is named: within the grace period nothing is removed."""
    stray = store.put(b"nothing names this yet")

    assert queue.collect_blobs(grace_seconds=3600.0).young == 1

    assert _names(store) == {stray}


def test_named_elsewhere_stays(queue: TaskQueue, store: FolderStore) -> None:
    """What the caller names stays."""
    kept = store.put(b"a run's result")

    queue.collect_blobs([kept], grace_seconds=0.0, now=4e9)

    assert _names(store) == {kept}
