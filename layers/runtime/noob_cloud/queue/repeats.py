"""Whether what comes again under an idempotency key is what came before."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from noob_cloud.exceptions import CodecError, ConflictError
from noob_cloud.task import StageCall

if TYPE_CHECKING:
    from noob_cloud.queue.bodies import Values
    from noob_cloud.queue.ledger import Ledger

Own = tuple[str, Any, Any]
"""Node, packed epoch and packed payload of a task."""


def check_known(ledger: Ledger, key: str, task_id: int, again: Own) -> None:
    """Return if the task that has this key is the one that is submitted again.

    Raises:
        ConflictError: it is another one.
    """
    _check(ledger.values, key, ledger.chunk_of(task_id).fields(task_id), again, f"task {task_id}")


def check_alike(ledger: Ledger, key: str, first: Own, second: Own) -> None:
    """Return if two tasks of one submission that have the same key are the same.

    Raises:
        ConflictError: they are not.
    """
    _check(ledger.values, key, first, second, "another task of this submission")


def _check(values: Values, key: str, known: Own, again: Own, whose: str) -> None:
    if known == again:  # as nearly always; equal bytes are equal values
        return
    try:
        first, second = _name(values, known), _name(values, again)
    except CodecError:  # of types that are not registered here: only the key tells
        return
    if first == second:
        return
    raise ConflictError(
        f"The idempotency key {key!r:.200} is that of {whose}: node {known[0]!r:.100}, epoch"
        f" {values.unpack(known[1])!r:.100}, cid {first}. What comes again has node"
        f" {again[0]!r:.100}, epoch {values.unpack(again[1])!r:.100}, cid {second}. Give another"
        " task another key.",
        key=key,
        cid=first,
        other_cid=second,
    )


def _name(values: Values, own: Own) -> str:
    """Return the cid of what a task computes: the same value may be written in two ways."""
    from noob_cloud.codec import cid_of  # noqa: PLC0415 - loaded where keys clash

    node, epoch, payload = own
    data = values.unpack(payload)
    if isinstance(data, StageCall):  # how often it is tried is not what it computes
        data = replace(data, retry_errors=False)
    return cid_of((node, values.unpack(epoch), data))
