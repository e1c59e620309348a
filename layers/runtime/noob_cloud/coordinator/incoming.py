"""What comes from a client as the queue takes it: columns checked and joined into spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.msgpack import Ext

from noob_cloud.coordinator import wire
from noob_cloud.exceptions import ConflictError, DecodeError
from noob_cloud.queue import submit
from noob_cloud.task import Token

if TYPE_CHECKING:
    from collections.abc import Iterable


def answered(answer: bytes, mark: int, once: str | None) -> list[int]:
    """Return the ids that were answered to a request, if this is the same one."""
    first, ids = msgspec.msgpack.decode(answer)
    if first != mark:
        shown = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")  # noqa: PLR2004
        raise ConflictError(
            f"The request {once!r:.100} was sent before with other tasks: it made {len(ids)}"
            f" ({shown}). Give another request another name.",
            once=once,
            ids=ids[:100],
        )
    found: list[int] = ids
    return found


def batch_of(group: wire.Group, start: int) -> submit.Batch:
    """Return a group as a batch whose first task is the `start`-th of its request.

    Raises:
        DecodeError: an argument is out of range, or a column too short.
    """
    options = group.options
    try:
        recipe = submit.Recipe(
            options.priority,
            options.affinity_tags,
            options.required_tags,
            options.timeout_seconds,
            options.max_retries,
            options.delay,
            options.key,
            options.run_id,
            options.queue_timeout,
            options.memory,
        )
    except (TypeError, ValueError) as error:
        raise DecodeError(str(error)) from error
    batch = submit.Batch(recipe)
    count = len(group.epochs)
    nodes = group.nodes
    batch.nodes = [nodes] * count if isinstance(nodes, str) else nodes
    batch.epochs = column(group.epochs)
    batch.payloads = [None] * count if group.payloads is None else column(group.payloads)
    batch.uniques = group.uniques
    batch.places = list(range(start, start + count)) if group.places is None else group.places
    for name in ("nodes", "payloads", "uniques", "places"):
        given = getattr(batch, name)
        if given is not None and len(given) != count:
            raise DecodeError(f"There are {len(given)} {name} for {count} tasks.")
    if "" in batch.nodes or (batch.uniques and "" in batch.uniques):
        raise DecodeError("A node_id or an idempotency key is empty.")
    return batch


def column(values: list[Any]) -> list[Any]:
    """Return values that came over the network as the queue takes them."""
    return [wire.admit(x) for x in values] if Ext in set(map(type, values)) else values


def check_places(batches: list[submit.Batch], count: int) -> None:
    """Return if the tasks of a request have its places, once each.

    Raises:
        DecodeError: they have not.
    """
    if sorted(place for batch in batches for place in batch.places) != list(range(count)):
        raise DecodeError("The places of the tasks are not 0, 1, 2 ... once each.")


def spans(held: Iterable[wire.Held]) -> list[tuple[int, int, Token | None]]:
    """Return neighbouring tasks [low, high] under one token."""
    spans: list[tuple[int, int, Token | None]] = []
    for group in held:
        token = Token(*group.token)
        low = high = 0
        for task_id in sorted(set(group.ids)):
            if task_id == high + 1 and low:
                high = task_id
                continue
            if low:
                spans.append((low, high, token))
            low = high = task_id
        if low:
            spans.append((low, high, token))
    return spans
