"""A client's arguments as the columns of the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noob_cloud.coordinator import wire
from noob_cloud.queue import submit
from noob_cloud.task import Task, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from noob_cloud.queue.interface import TaskRef


def group(batch: submit.Batch, put: Callable[[bytes], str]) -> wire.Group:
    """Return tasks that are scheduled alike as columns; large payloads go where `put` puts them."""
    recipe = batch.recipe
    terms = recipe.terms
    nodes: list[str] | str = batch.nodes
    if nodes.count(nodes[0]) == len(nodes):
        nodes = nodes[0]
    payloads = None
    if any(payload is not None for payload in batch.payloads):
        payloads = wire.by_cid([wire.pack(payload) for payload in batch.payloads], put)
    epochs = batch.epochs
    if set(map(type, epochs)) != {int}:
        epochs = [wire.pack(epoch) for epoch in epochs]
    places = list(batch.places)
    options = wire.Options(
        terms.priority,
        tuple(terms.affinity),
        tuple(terms.required),
        terms.timeout_seconds,
        terms.max_retries,
        recipe.delay,
        recipe.key,
        recipe.run_id,
        None if terms.queue_timeout == float("inf") else terms.queue_timeout,
        recipe.memory,
    )
    in_order = places == list(range(len(places)))
    return wire.Group(options, nodes, epochs, payloads, batch.uniques, None if in_order else places)


def ask(
    worker_id: str,
    limit: int,
    tags: Iterable[str],
    accept_untagged: bool,  # noqa: FBT001 - two places call it
    lease_seconds: float | None,
) -> wire.Ask:
    """Return a claim as it travels."""
    if not isinstance(worker_id, str) or not worker_id:
        raise TypeError(f"worker_id is a string that is not empty, not {worker_id!r}")
    asked = sorted(submit.tag_set(tags)) or None
    return wire.Ask(worker_id, limit, asked, accept_untagged, lease_seconds)


def listed(tasks: TaskRef | Sequence[TaskRef]) -> tuple[list[TaskRef], bool]:
    """Return the references, and whether it was a single one."""
    if isinstance(tasks, (int, Task)) or (
        isinstance(tasks, tuple) and tasks and isinstance(tasks[-1], Token)
    ):
        return [tasks], True
    return list(tasks), False  # type: ignore[arg-type] # several


def id_of(task: TaskRef) -> int:
    """Return the id of a task."""
    if isinstance(task, Task):
        return task.task_id
    return task if isinstance(task, int) else task[0]


def pair(token: Token | None) -> tuple[int, int]:
    """Return a token as it travels; no lease has the token (0, 0)."""
    return (0, 0) if token is None else (token.epoch, token.attempt)
