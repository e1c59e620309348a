"""Write new tasks: what is scheduled alike becomes one chunk."""

from __future__ import annotations

import json
import math
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from noob_cloud.exceptions import QueueError
from noob_cloud.queue import repeats
from noob_cloud.queue.bodies import pack, pack_chunk
from noob_cloud.queue.statements import SQL
from noob_cloud.queue.terms import Terms
from noob_cloud.task import TaskPriority

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from noob_cloud.queue.bodies import Values
    from noob_cloud.queue.ledger import Ledger

CHUNK = 256
"""Most tasks in one chunk: a claim of one task reads the whole chunk."""
CHUNK_BYTES = 1 << 20
"""A chunk whose body is larger is split."""

_OWN = ("node_id", "epoch", "data", "idempotency_key")
"""What each task of a chunk has of its own."""
_MISSING = object()
_NO_TAGS: frozenset[str] = frozenset()
_DEFAULTS: dict[str, Any] = {
    "priority": TaskPriority.NORMAL,
    "affinity_tags": (),
    "required_tags": (),
    "timeout_seconds": 300.0,
    "max_retries": 3,
    "delay": 0.0,
    "key": None,
    "run_id": None,
    "queue_timeout": None,
    "memory": None,
}


class Recipe:
    """How one or many tasks are scheduled; checked when it is made."""

    __slots__ = ("delay", "key", "memory", "run_id", "terms")

    def __init__(
        self,
        priority: int,
        affinity_tags: Iterable[str],
        required_tags: Iterable[str],
        timeout_seconds: float,
        max_retries: int,
        delay: float,
        key: str | None,
        run_id: str | None,
        queue_timeout: float | None,
        memory: int | None = None,
    ) -> None:
        self.terms = terms_of(
            priority, affinity_tags, required_tags, timeout_seconds, max_retries, queue_timeout
        )
        if not 0 <= delay < math.inf:
            raise ValueError(f"delay is a number of seconds from 0 on, not {delay!r}")
        self.delay = delay
        self.key = _name(key, "key")
        self.run_id = _name(run_id, "run_id")
        self.memory = _bytes(memory)
        """Of a worker, in bytes. A coordinator with pools makes a tag of it; nobody else asks."""

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Recipe:
        """The recipe of one entry of `submit_many`."""
        unknown = arguments.keys() - _DEFAULTS.keys()
        if unknown:
            raise TypeError(f"submit_many does not know {', '.join(sorted(map(repr, unknown)))}")
        return cls(**{**_DEFAULTS, **arguments})


def terms_of(
    priority: int,
    affinity_tags: Iterable[str],
    required_tags: Iterable[str],
    timeout_seconds: float,
    max_retries: int,
    queue_timeout: float | None = None,
) -> Terms:
    """Return these terms, each of them checked."""
    return Terms(
        tag_set(affinity_tags, "affinity_tags"),
        tag_set(required_tags, "required_tags"),
        _priority(priority),
        _positive(timeout_seconds, "timeout_seconds"),
        _count(max_retries, "max_retries"),
        math.inf if queue_timeout is None else _positive(queue_timeout, "queue_timeout"),
    )


def tag_set(tags: Iterable[str], name: str = "affinity_tags") -> frozenset[str]:
    """Return the tags as a set; a single string is a mistake."""
    if not tags:
        return _NO_TAGS
    if isinstance(tags, str):
        raise TypeError(f"{name} is a list of tags, not the string {tags!r}")
    found = frozenset(tags)
    for tag in found:
        if not isinstance(tag, str) or not tag:
            raise TypeError(f"{name} holds {tag!r}, and a tag is a string that is not empty")
    return found


def _priority(value: int) -> int:
    try:
        return int(TaskPriority(value))
    except ValueError:
        raise ValueError(
            f"priority is one of CRITICAL 0, HIGH 1, NORMAL 2, LOW 3, not {value!r}"
        ) from None


def _positive(value: float, name: str) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is a number of seconds above 0, not {value!r}")
    return float(value)


def _count(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ValueError(f"{name} is a whole number from 0 on, not {value!r}")
    return value


def _bytes(value: int | None) -> int | None:
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 62
    ):
        raise ValueError(f"memory is a whole number of bytes above 0, not {value!r}")
    return value


def _name(value: str | None, name: str) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        raise TypeError(f"{name} is a string that is not empty, not {value!r}")
    return value


def pack_one(values: Values, node_id: str, epoch: Any, data: Any) -> bytes:
    """Return the body of a single task; outside of the transaction, since it may take long."""
    _node(node_id)
    if type(epoch) is not int:
        epoch = values.pack(epoch)
    return pack((node_id, epoch, values.pack(data)))


def add_one(ledger: Ledger, terms: Terms, run_id: str | None, body: bytes, now: float) -> int:
    """Write one ready task without a key; return its id. Inside a transaction."""
    terms_id, first_key = ledger.words.place_of(terms)
    task_id: int | None = ledger.execute(
        SQL.add_one, (terms_id, now, now, run_id, None, body)
    ).lastrowid
    if task_id is None:
        raise QueueError("the queue's file did not take the task")
    ledger.execute(SQL.add_ready, (first_key | task_id, 1, terms_id, 0, 0))
    return task_id


def _node(node_id: Any) -> None:
    if type(node_id) is not str or not node_id:
        raise TypeError(f"node_id is a string that is not empty, not {node_id!r}")


class Batch:
    """Tasks with one recipe on their way into the file."""

    __slots__ = ("epochs", "nodes", "payloads", "places", "recipe", "uniques")

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.nodes: list[str] = []
        self.epochs: list[Any] = []
        self.payloads: list[Any] = []
        self.places: Any = []
        """Where each stands in the caller's list."""
        self.uniques: list[str | None] | None = None

    def add(self, task: list[Any], place: int) -> None:
        """Add a task's node, epoch, data and idempotency key."""
        node, epoch, data, unique = task
        if unique is not None and self.uniques is None:
            self.uniques = [None] * len(self.nodes)
        if self.uniques is not None:
            self.uniques.append(unique)
        self.nodes.append(node)
        self.epochs.append(epoch)
        self.payloads.append(data)
        self.places.append(place)


def gather(tasks: Iterable[Mapping[str, Any]]) -> tuple[list[Batch], int]:
    """Sort entries of `submit_many` into batches that are scheduled alike; also return how many."""
    entries = tasks if isinstance(tasks, list) else list(tasks)
    alike = _alike(entries) if len(entries) > 1 else None
    if alike is not None:
        return [alike], len(entries)
    batches: dict[Any, Batch] = {}
    batch: Batch | None = None
    last_rest: dict[str, Any] = {}
    for place, entry in enumerate(entries):
        rest = dict(entry)
        task = [rest.pop(name, _MISSING) for name in _OWN]
        if batch is None or rest != last_rest:
            last_rest = rest
            batch = _batch_for(rest, batches)
        _check_own(task, place)
        batch.add(task, place)
    return list(dict.fromkeys(batches.values())), len(entries)


def _batch_for(rest: dict[str, Any], batches: dict[Any, Batch]) -> Batch:
    """The batch of entries with these terms; terms that were seen before are not checked again."""
    as_given = tuple((k, tuple(v) if type(v) is list else v) for k, v in rest.items())
    try:
        known = batches.get(as_given)
    except TypeError:  # a value that cannot be hashed: a set of tags, or a mistake
        known, as_given = None, ()
    if known is not None:
        return known
    recipe = Recipe.of(rest)
    name = (recipe.terms, recipe.delay, recipe.key, recipe.run_id, recipe.memory)
    batch = batches.setdefault(name, Batch(recipe))
    if as_given:
        batches[as_given] = batch
    return batch


def _alike(entries: list[Mapping[str, Any]]) -> Batch | None:
    """The one batch of entries that differ in node, epoch and data at most; None if they don't."""
    first = entries[0]
    names = list(first)
    if len(names) < len(_OWN) - 1 or set(map(len, entries)) != {len(names)}:
        return None
    try:
        columns = dict(zip(names, zip(*map(itemgetter(*names), entries), strict=True), strict=True))
    except KeyError:
        return None
    own = [columns.pop(name, None) for name in _OWN]
    if own[0] is None or own[1] is None or own[3] is not None:
        return None
    if any(column.count(column[0]) < len(entries) for column in columns.values()):
        return None
    if set(map(type, own[0])) != {str} or "" in own[0]:
        return None
    batch = Batch(Recipe.of({name: column[0] for name, column in columns.items()}))
    batch.nodes = list(own[0])
    batch.epochs = list(own[1])
    batch.payloads = [None] * len(entries) if own[2] is None else list(own[2])
    batch.places = range(len(entries))
    return batch


def _check_own(task: list[Any], place: int) -> None:
    node, epoch, data, unique = task
    if node is _MISSING or epoch is _MISSING:
        what = "node_id" if node is _MISSING else "epoch"
        raise TypeError(f"entry {place} of submit_many lacks {what}")
    _node(node)
    task[2] = None if data is _MISSING else data
    task[3] = None if unique is _MISSING else _name(unique, "idempotency_key")


def pack_batch(values: Values, batch: Batch) -> None:
    """Turn values into what the rows hold; outside of the transaction, since it may take long."""
    batch.payloads = values.pack_all(batch.payloads)
    if set(map(type, batch.epochs)) != {int}:
        batch.epochs = [values.pack(epoch) for epoch in batch.epochs]


def add_batches(ledger: Ledger, batches: list[Batch], count: int, now: float) -> list[int]:
    """Write the batches; return the id of each task at its place. Inside a transaction."""
    ids = [0] * count
    if any(batch.recipe.key is not None for batch in batches):
        ledger.refresh()
    row = ledger.execute(SQL.last_task).fetchone()
    last = 0 if row is None else row[0]
    for batch in batches:
        chosen: Sequence[int] = range(len(batch.nodes))
        if batch.uniques is not None:
            chosen, known = _new_ones(ledger, batch)
            for index, task_id in known.items():
                ids[batch.places[index]] = task_id
        start = last + 1
        last = _add_batch(ledger, batch, chosen, last, now)
        if len(chosen) == count and batch.uniques is None:
            return list(range(start, last + 1))
        for task_id, index in enumerate(chosen, start):
            ids[batch.places[index]] = task_id
        if batch.uniques is not None:
            _remember(ledger, batch, chosen, start, ids)
    return ids


def _add_batch(ledger: Ledger, batch: Batch, chosen: Any, last: int, now: float) -> int:
    if not chosen:
        return last
    recipe = batch.recipe
    terms_id = ledger.words.terms_id(recipe.terms)
    first_key = ledger.lane_for(recipe.terms, recipe.key).first_key
    first_key |= recipe.terms.priority << 40
    columns: list[Any] = [batch.nodes, batch.epochs, batch.payloads, batch.uniques]
    if len(chosen) < len(batch.nodes):
        columns = [c if c is None else [c[i] for i in chosen] for c in columns]
    for low in range(0, len(chosen), CHUNK):
        part = [None if c is None else c[low : low + CHUNK] for c in columns]
        for n, body in _bodies(part):
            _add_chunk(ledger, recipe, (last + 1, n, terms_id, first_key), body, now)
            last += n
    return last


def _bodies(part: list[Any]) -> list[tuple[int, bytes]]:
    """Bodies of at most `CHUNK_BYTES`, or of one task."""
    body = pack_chunk(*part)
    n = len(part[0])
    if len(body) <= CHUNK_BYTES or n == 1:
        return [(n, body)]
    half = n // 2
    left = [c if c is None else c[:half] for c in part]
    right = [c if c is None else c[half:] for c in part]
    return _bodies(left) + _bodies(right)


def _add_chunk(
    ledger: Ledger, recipe: Recipe, place: tuple[int, int, int, int], body: bytes, now: float
) -> None:
    first, n, terms_id, first_key = place
    available = now + recipe.delay
    ledger.execute(
        SQL.add_chunk,
        (first + n - 1, n, terms_id, now, available, recipe.run_id, recipe.key, body),
    )
    if recipe.delay:
        ledger.delay((first_key | first, n, terms_id, 0, 0), available)
    else:
        ledger.execute(SQL.add_ready, (first_key | first, n, terms_id, 0, 0))
    if recipe.terms.queue_timeout < math.inf:
        due = available + recipe.terms.queue_timeout
        ledger.execute(SQL.add_queue_deadline, (due, first, n))
        ledger.remind(due)


def _new_ones(ledger: Ledger, batch: Batch) -> tuple[list[int], dict[int, int]]:
    """Which of the batch are new, and the ids of those that are known by their idempotency key."""
    uniques = batch.uniques or []
    asked = json.dumps([key for key in uniques if key is not None])
    known = dict(ledger.execute(SQL.find_unique, (asked,)).fetchall())
    chosen: list[int] = []
    found: dict[int, int] = {}
    seen: dict[str, int] = {}
    own = list(zip(batch.nodes, batch.epochs, batch.payloads, strict=True)) if known else []
    for index, key in enumerate(uniques):
        if key is not None and key in known:
            repeats.check_known(ledger, key, known[key], own[index])
            found[index] = known[key]
        elif key is None or key not in seen:
            chosen.append(index)
            if key is not None:
                seen[key] = index
        else:
            own = own or list(zip(batch.nodes, batch.epochs, batch.payloads, strict=True))
            repeats.check_alike(ledger, key, own[seen[key]], own[index])
    return chosen, found


def _remember(ledger: Ledger, batch: Batch, chosen: Any, start: int, ids: list[int]) -> None:
    uniques = batch.uniques or []
    new = {
        uniques[index]: task_id
        for task_id, index in enumerate(chosen, start)
        if uniques[index] is not None
    }
    ledger.many(SQL.add_unique, new.items())
    for index, key in enumerate(uniques):
        if key in new:
            ids[batch.places[index]] = new[key]
