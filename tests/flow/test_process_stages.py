"""Stages of tubes in worker processes."""

from __future__ import annotations

from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

import noob_cloud_testnodes as nodes
import numpy as np
import pytest
from noob_cloud_testtubes.case import chain, node, result

from noob_cloud.exceptions import CodeMismatchError
from noob_cloud.executors import ProcessExecutor
from noob_cloud.task import StageCall, TaskPriority
from noob_cloud.tubes import TubeSource

if TYPE_CHECKING:
    from collections.abc import Iterator

SPEC = chain(
    "process_stages",
    a=node("double", "value=src.index"),
    b=node("fail_at", "value=a.value", params={"at": 6}),
    out=result("b=b.value"),
)


@pytest.fixture(scope="module")
def executor() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def source() -> TubeSource:
    return TubeSource.of(SPEC)


def call_of(source: TubeSource, *names: str, inputs: list[Any], **more: Any) -> StageCall:
    return StageCall(
        tube=source.cid,
        nodes=names,
        epochs=tuple(range(len(inputs))),
        inputs=tuple((value,) for value in inputs),
        **more,
    )


def test_stage_outputs(executor, source):
    """A future of a stage gives a tuple of outputs for each epoch, and how long it took."""
    future = executor.submit_call(call_of(source, "a", inputs=[1, 2, 5]), tube=source)

    assert future.result(60) == [(2,), (4,), (10,)]
    assert 0 < future.duration < 60


def test_many_stage_calls(executor, source):
    """Many calls travel together; the tube goes to each worker once."""
    futures = [
        executor.submit_call(call_of(source, "a", "b", inputs=[n + 10]), tube=source)
        for n in range(300)
    ]
    wait(futures, timeout=60)

    assert [future.result(60) for future in futures] == [[(2 * n + 20,)] for n in range(300)]
    assert all(len(link._tubes) <= 1 for link in executor._pool._links)


def test_stage_error(executor, source):
    """An error names node and epoch, with the worker's traceback as its cause."""
    future = executor.submit_call(call_of(source, "a", "b", inputs=[1, 3, 5]), tube=source)

    with pytest.raises(nodes.BadTileError, match="no tile 6") as caught:
        future.result(60)

    assert caught.value.node_id == "b"
    assert caught.value.epoch == 1
    assert any("node b" in note for note in caught.value.__notes__)
    assert "fail_at" in str(caught.value.__cause__)


def test_stage_with_other_code(executor, source):
    """A worker refuses calls made for other code."""
    call = call_of(source, "a", inputs=[1], code="bafy-other")

    with pytest.raises(CodeMismatchError, match="bafy-other"):
        executor.submit_call(call, tube=source, priority=TaskPriority.HIGH).result(60)


def test_stage_with_arrays(executor, source):
    """Arrays go there and back through shared memory."""
    array = np.arange(200_000.0)

    ((value,),) = executor.submit_call(call_of(source, "a", inputs=[array]), tube=source).result(60)

    assert (value == 2 * array).all()
