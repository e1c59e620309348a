"""A task as the queue hands it out: its fields are read from the row when they are asked for."""

from __future__ import annotations

from collections import deque
from dataclasses import fields
from itertools import repeat
from typing import TYPE_CHECKING, Any

from noob_cloud.task import Task, TaskPriority, TaskStatus, Token

if TYPE_CHECKING:
    from noob_cloud.queue.bodies import Chunk, Values
    from noob_cloud.queue.terms import Terms

_NAMES = tuple(field.name for field in fields(Task))
_set = object.__setattr__
_new = object.__new__


class Place:
    """Where tasks of one chunk stand together: what a claim or a look found."""

    token: Token | None = None
    worker_id: str | None = None
    lease_expires_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    results: Any = None
    """Packed result, for a place of one task."""
    error: str | None = None
    traceback: str | None = None
    trace: str | None = None
    """`traceparent` that came with the lease, where the tasks are traced."""

    def __init__(
        self, chunk: Chunk, terms: Terms, values: Values, status: TaskStatus, *, decode: bool
    ) -> None:
        self.chunk = chunk
        self.terms = terms
        self.values = values
        self.status = status
        self.decode = decode
        self.available_at: float = chunk.available_at


class StoredTask(Task):
    """A `Task` that unpacks its fields on first use, so that claiming a thousand is cheap."""

    __slots__ = ("_place",)
    _place: Place

    @staticmethod
    def at(task_id: int, place: Place) -> StoredTask:
        """Return the task with this id at this place."""
        task: StoredTask = _new(StoredTask)
        _set_id(task, task_id)
        _set_place(task, place)
        return task

    @staticmethod
    def row(low: int, n: int, place: Place) -> list[StoredTask]:
        """Return the tasks [low, low + n) at this place; payloads that stand plain are set."""
        tasks: list[StoredTask] = list(map(_new, repeat(StoredTask, n)))
        _all(map(_set_id, tasks, range(low, low + n)))
        _all(map(_set_place, tasks, repeat(place)))
        payloads = place.chunk.plain_payloads(low, n) if place.decode else None
        if payloads is not None:
            _all(map(_set_payload, tasks, payloads))
        return tasks

    def __getattr__(self, name: str) -> Any:
        if name == "payload":
            place = self._place
            value = place.chunk.payload(self.task_id)
            if type(value) is not bytes or not place.decode:
                value = place.values.unpack(value, decode=place.decode)
        elif name == "result":
            place = self._place
            value = (
                None
                if place.status is not TaskStatus.COMPLETED
                else place.values.unpack(place.results, decode=place.decode)
            )
        elif name in _NAMES:
            self._fill()
            return object.__getattribute__(self, name)
        else:
            raise AttributeError(name)
        _set(self, name, value)
        return value

    def _fill(self) -> None:
        place = self._place
        chunk, terms = place.chunk, place.terms
        node_id, epoch, _ = chunk.fields(self.task_id)
        for name, value in (
            ("node_id", node_id),
            ("epoch", epoch if type(epoch) is int else place.values.unpack(epoch)),
            ("priority", TaskPriority(terms.priority)),
            ("affinity_tags", terms.affinity),
            ("required_tags", terms.required),
            ("timeout_seconds", terms.timeout_seconds),
            ("max_retries", terms.max_retries),
            ("status", place.status),
            ("token", place.token),
            ("worker_id", place.worker_id),
            ("lease_expires_at", place.lease_expires_at),
            ("created_at", chunk.created_at),
            ("available_at", place.available_at),
            ("started_at", place.started_at),
            ("finished_at", place.finished_at),
            ("error", place.error),
            ("traceback", place.traceback),
            ("key", chunk.key),
            ("idempotency_key", chunk.unique(self.task_id)),
            ("run_id", chunk.run_id),
        ):
            _set(self, name, value)

    def plain(self) -> Task:
        """The same task without its tie to the row."""
        return Task(*(getattr(self, name) for name in _NAMES))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Task, tuple(getattr(self, name) for name in _NAMES))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Task):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _NAMES)

    def __hash__(self) -> int:
        return hash(self.task_id)

    def __repr__(self) -> str:
        return repr(self.plain())


# the slots themselves: three times as fast as setattr, and they take part in map()
_set_id = vars(Task)["task_id"].__set__
_set_payload = vars(Task)["payload"].__set__
_set_place = vars(StoredTask)["_place"].__set__
_all = deque[object](maxlen=0).extend
