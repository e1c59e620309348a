"""Between JSON and the columns of the wire: for people with curl, and for browsers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.msgpack import Ext

from noob_cloud.coordinator import wire
from noob_cloud.exceptions import BlobNotFoundError, CodecError
from noob_cloud.task import TaskPriority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from noob_cloud.coordinator import models

    Blob = Callable[[str], bytes]

_LONGEST = 100_000
"""Bytes of one value's JSON; a longer one is shown by its repr's beginning."""


def shown(packed: Any, blob: Blob | None = None) -> Any:
    """Return a packed value as JSON can show it; what cannot be decoded here is named."""
    try:
        if type(packed) is Ext and packed.code == wire.BLOB:
            cid = bytes(packed.data).decode()
            if blob is None:
                return {"cid": cid}
            packed = Ext(wire.PACKED, blob(cid))
        return plain(wire.unpack(packed))
    except (CodecError, BlobNotFoundError) as error:
        return f"<{type(error).__name__}: {error}>"


def plain(value: Any) -> Any:
    """Return a value as JSON can show it, by its repr where JSON has none such."""
    try:
        data = msgspec.json.encode(value, enc_hook=repr)
        if len(data) > _LONGEST:
            return f"{data[:1000].decode('utf-8', 'replace')}... ({len(data)} bytes of JSON)"
        return msgspec.json.decode(data)
    except (TypeError, ValueError, RecursionError, OverflowError):
        return repr(value)[:1000]


def encode(value: Any) -> bytes:
    """Return a value as JSON."""
    return msgspec.json.encode(value, enc_hook=repr)


def submit_of(body: models.NewTasks) -> wire.Submit:
    """Return the columns of tasks written by hand."""
    return wire.Submit([_group(task, place) for place, task in enumerate(body.tasks)], body.once)


def _group(task: models.NewTask, place: int) -> wire.Group:
    options = wire.Options(
        int(TaskPriority[task.priority]),
        tuple(task.affinity_tags),
        tuple(task.required_tags),
        task.timeout_seconds,
        task.max_retries,
        task.delay,
        task.key,
        task.run_id,
        task.queue_timeout,
        task.memory,
    )
    uniques: list[str | None] | None = (
        None if task.idempotency_key is None else [task.idempotency_key]
    )
    payloads = [wire.pack(task.data)]
    return wire.Group(options, task.node_id, [task.epoch], payloads, uniques, [place])


def ask_of(body: models.ClaimBody) -> wire.Ask:
    """Return a claim written by hand."""
    return wire.Ask(
        body.worker_id,
        body.limit,
        body.tags,
        body.accept_untagged,
        body.lease_seconds,
        body.wait,
    )


def outcomes_of(body: models.OutcomesBody) -> wire.Outcomes:
    """Return outcomes written by hand."""
    found = wire.Outcomes(body.worker_id, [], [], [], [])
    for outcome in body.outcomes:
        token = (outcome.token.epoch, outcome.token.attempt)
        ids = [outcome.task_id]
        match outcome.status:
            case "completed":
                found.done.append(wire.Done(token, ids, [wire.pack(outcome.result)]))
            case "failed":
                found.failed.append(
                    wire.Failure(
                        outcome.task_id,
                        token,
                        outcome.error or "failed",
                        outcome.traceback,
                        outcome.retryable,
                    )
                )
            case "released":
                found.released.append(wire.Held(token, ids))
            case "started":
                found.started.append(wire.Held(token, ids))
    if body.claim is not None:
        found.claim = ask_of(body.claim)
    return found


def beat_of(body: models.BeatBody) -> wire.Beat:
    """Return a heartbeat written by hand."""
    held = [wire.Held((x.token.epoch, x.token.attempt), [x.task_id]) for x in body.tasks]
    return wire.Beat(body.worker_id, held, body.lease_seconds, body.tags, body.running)


def task_json(view: wire.View, blob: Blob | None = None) -> dict[str, Any]:
    """Return everything about one task for a person to read."""
    return {
        "task_id": view.task_id,
        "node_id": view.node_id,
        "epoch": shown(view.epoch),
        "data": shown(view.payload, blob),
        "status": view.status,
        **_terms(view.terms),
        "token": _token(view.token),
        "worker_id": view.worker_id,
        "lease_expires_at": view.lease_expires_at,
        "created_at": view.created_at,
        "available_at": view.available_at,
        "started_at": view.started_at,
        "finished_at": view.finished_at,
        "result": shown(view.result, blob),
        "error": view.error,
        "traceback": view.traceback,
        "idempotency_key": view.unique,
    }


def lots_json(
    lots: Iterable[wire.Lot], worker_id: str, blob: Blob | None = None
) -> list[dict[str, Any]]:
    """Return claimed tasks for a person to read."""
    return [
        {
            "task_id": task_id,
            "node_id": lot.nodes if isinstance(lot.nodes, str) else lot.nodes[i],
            "epoch": shown(lot.epochs[i]),
            "data": None if lot.payloads is None else shown(lot.payloads[i], blob),
            "status": "claimed",
            **_terms(lot.terms),
            "token": _token(lot.token),
            "worker_id": worker_id,
            "lease_expires_at": lot.lease_expires_at,
            "created_at": lot.created_at,
            "available_at": lot.available_at,
            "idempotency_key": None if lot.uniques is None else lot.uniques[i],
        }
        for lot in lots
        for i, task_id in enumerate(lot.ids)
    ]


def _terms(terms: wire.Options) -> dict[str, Any]:
    return {
        "priority": TaskPriority(terms.priority).name,
        "affinity_tags": sorted(terms.affinity_tags),
        "required_tags": sorted(terms.required_tags),
        "timeout_seconds": terms.timeout_seconds,
        "max_retries": terms.max_retries,
        "key": terms.key,
        "run_id": terms.run_id,
    }


def _token(token: tuple[int, int] | None) -> dict[str, int] | None:
    return None if token is None else {"epoch": token[0], "attempt": token[1]}
