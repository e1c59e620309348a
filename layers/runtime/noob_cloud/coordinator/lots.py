"""Tasks as a client gets them from a coordinator: their values are decoded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.msgpack import Ext

from noob_cloud.coordinator import wire
from noob_cloud.queue.interface import Encoded
from noob_cloud.queue.stored import Place, StoredTask
from noob_cloud.queue.terms import Terms
from noob_cloud.task import TaskStatus, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ENDLESS = float("inf")


class _Values:
    """Decodes what came over the wire."""

    def __init__(self, blob: Callable[[str], bytes]) -> None:
        self._blob = blob

    def unpack(self, packed: Any, *, decode: bool = True) -> Any:
        """Return the value, or with `decode=False` its frame as `Encoded`."""
        if type(packed) is Ext and packed.code == wire.BLOB:
            frame = self._blob(bytes(packed.data).decode())
            return wire.unpack(Ext(wire.PACKED, frame)) if decode else Encoded(frame)
        return wire.unpack(packed, decode=decode)


class _Columns:
    """What tasks that came together have of their own, where the queue has its chunk."""

    def __init__(self, lot: wire.Lot) -> None:
        self.first = lot.ids[0]
        self.created_at = lot.created_at
        self.available_at = lot.available_at
        self.key = lot.terms.key
        self.run_id = lot.terms.run_id
        self._lot = lot

    def fields(self, task_id: int) -> tuple[str, Any, Any]:
        """Node, epoch and packed payload of one task."""
        lot, index = self._lot, task_id - self.first
        node = lot.nodes if isinstance(lot.nodes, str) else lot.nodes[index]
        return node, lot.epochs[index], None if lot.payloads is None else lot.payloads[index]

    def payload(self, task_id: int) -> Any:
        """Packed payload of one task."""
        payloads = self._lot.payloads
        return None if payloads is None else payloads[task_id - self.first]

    def unique(self, task_id: int) -> str | None:
        """Idempotency key of one task."""
        uniques = self._lot.uniques
        return None if uniques is None else uniques[task_id - self.first]


class Decoder:
    """Makes tasks of what a coordinator answers.

    Args:
        blob: returns the bytes of a cid, for values that are too large to travel with their task.
    """

    def __init__(self, blob: Callable[[str], bytes]) -> None:
        self._values: Any = _Values(blob)

    def claimed(
        self, lots: Iterable[wire.Lot], worker_id: str, *, decode: bool
    ) -> list[StoredTask]:
        """Return claimed tasks, in the order in which they were claimed."""
        tasks: list[StoredTask] = []
        for lot in lots:
            place = self._place(lot, TaskStatus.CLAIMED, decode=decode)
            place.worker_id = worker_id
            place.lease_expires_at = lot.lease_expires_at
            if lot.trace is not None:
                place.trace = lot.trace
            tasks += [StoredTask.at(task_id, place) for task_id in lot.ids]
        return tasks

    def looked_at(self, views: Iterable[wire.View], *, decode: bool) -> list[StoredTask]:
        """Return tasks with everything that is known of them."""
        return [self._view(view, decode=decode) for view in views]

    def _view(self, view: wire.View, *, decode: bool) -> StoredTask:
        lot = wire.Lot(
            [view.task_id],
            view.node_id,
            [view.epoch],
            [view.payload],
            view.token or (0, 0),
            view.terms,
            view.lease_expires_at,
            view.created_at,
            view.available_at,
            [view.unique],
        )
        place = self._place(lot, TaskStatus(view.status), decode=decode)
        if view.token is None:
            place.token = None
        place.worker_id = view.worker_id
        place.lease_expires_at = view.lease_expires_at
        place.started_at = view.started_at
        place.finished_at = view.finished_at
        place.results = view.result
        place.error = view.error
        place.traceback = view.traceback
        return StoredTask.at(view.task_id, place)

    def _place(self, lot: wire.Lot, status: TaskStatus, *, decode: bool) -> Place:
        told = lot.terms
        terms = Terms(
            frozenset(told.affinity_tags),
            frozenset(told.required_tags),
            told.priority,
            told.timeout_seconds,
            told.max_retries,
            _ENDLESS if told.queue_timeout is None else told.queue_timeout,
        )
        columns: Any = _Columns(lot)
        place = Place(columns, terms, self._values, status, decode=decode)
        place.token = Token(*lot.token)
        return place
