"""The queue's tasks as they leave for a client: columns of rows, values as they are stored."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from msgspec.msgpack import Ext

from noob_cloud.coordinator import wire
from noob_cloud.queue import bodies

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from noob_cloud.queue.bodies import Chunk
    from noob_cloud.queue.stored import Place, StoredTask
    from noob_cloud.task import Task

_ENDLESS = float("inf")
_PLAIN_BYTES = 16
"""What a number takes, more or less."""
_place_of = attrgetter("_place")


def lots(tasks: Iterable[StoredTask]) -> list[wire.Lot]:
    """Return claimed tasks as columns, without unpacking a payload."""
    return [_lot(place, [task.task_id for task in run]) for place, run in groupby(tasks, _place_of)]


def _lot(place: Place, ids: list[int]) -> wire.Lot:
    nodes, epochs, payloads = _columns(place.chunk, ids[0], ids[-1])
    token = place.token
    assert token is not None  # noqa: S101 - a claimed task has one
    return wire.Lot(
        ids,
        nodes,
        _outward(epochs),
        None if payloads is None else _outward(payloads),
        (token.epoch, token.attempt),
        terms_of(place),
        place.lease_expires_at,
        place.chunk.created_at,
        place.available_at,
        _uniques(place.chunk, ids),
    )


def _uniques(chunk: Chunk, ids: list[int]) -> list[str | None] | None:
    if len(chunk._content()) == 3:  # noqa: SLF001, PLR2004 - without a column of keys
        return None
    return [chunk.unique(task_id) for task_id in ids]


def _columns(
    chunk: Chunk, low: int, high: int
) -> tuple[list[str] | str, list[Any], list[Any] | None]:
    """Return the nodes, epochs and packed payloads of neighbouring tasks of one chunk."""
    nodes, epochs, payloads = chunk._content()[:3]  # noqa: SLF001 - columns, not one task's fields
    if chunk.first == chunk.last:
        return nodes, [epochs], None if payloads is None else [payloads]
    part = slice(low - chunk.first, high - chunk.first + 1)
    return (
        nodes if type(nodes) is str else nodes[part],
        epochs[part],
        None if payloads is None else payloads[part],
    )


def terms_of(place: Place) -> wire.Options:
    """Return how a task is scheduled."""
    terms, chunk = place.terms, place.chunk
    return wire.Options(
        terms.priority,
        tuple(terms.affinity),
        tuple(terms.required),
        terms.timeout_seconds,
        terms.max_retries,
        0.0,
        chunk.key,
        chunk.run_id,
        None if terms.queue_timeout == _ENDLESS else terms.queue_timeout,
    )


def outward(packed: Any) -> Any:
    """Return a stored value as it travels: a frame stays one, a large one its cid."""
    if type(packed) is not Ext:
        return packed
    return Ext(wire.BLOB if packed.code == bodies.CID else wire.PACKED, packed.data)


def _outward(column: list[Any]) -> list[Any]:
    return [outward(packed) for packed in column] if Ext in set(map(type, column)) else column


def view(task: Task) -> wire.View:
    """Return everything about one task as it travels."""
    place: Place = _place_of(task)
    token = place.token
    node, epoch, payload = place.chunk.fields(task.task_id)
    return wire.View(
        task.task_id,
        node,
        outward(epoch),
        outward(payload),
        terms_of(place),
        place.status.value,
        None if token is None else (token.epoch, token.attempt),
        place.worker_id,
        place.lease_expires_at,
        place.chunk.created_at,
        place.available_at,
        place.started_at,
        place.finished_at,
        outward(place.results),
        place.error,
        place.traceback,
        place.chunk.unique(task.task_id),
    )


def fitting(views: Sequence[wire.View], most_bytes: int) -> int:
    """Return how many of the first tasks have `most_bytes` together; at least one."""
    size = 0
    for index, found in enumerate(views):
        for value in (found.payload, found.result):
            data = value.data if type(value) is Ext else value
            size += len(data) if isinstance(data, (bytes, bytearray, str)) else _PLAIN_BYTES
        size += len(found.node_id) + len(found.error or "") + len(found.traceback or "")
        if size > most_bytes and index:
            return index
    return len(views)


def withhold(found: wire.View) -> None:
    """Take out of a view what only those may read whom the task concerns."""
    found.payload = found.result = found.error = found.traceback = found.unique = None
