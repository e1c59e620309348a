"""The routes of a worker, in JSON: claim, keep, settle; `hot.py` serves the same as frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from noob_cloud.coordinator import by_hand, models, wire
from noob_cloud.coordinator.request import (
    FRAME_CONTENT,
    Caller,
    Now,
    Service,
    WhenGone,
    errors,
)

if TYPE_CHECKING:
    from noob_cloud.coordinator.service import Coordinator

router = APIRouter()
_OR_FRAME: dict[str, Any] = {"requestBody": {"content": FRAME_CONTENT}}


@router.post(
    "/claims",
    tags=["work"],
    summary="Claim tasks",
    response_model=models.TaskList,
    responses=errors(403),
    openapi_extra=_OR_FRAME,
)
async def claim(
    body: models.ClaimBody, service: Service, caller: Caller, now: Now, gone: WhenGone
) -> Any:
    """Lease tasks, as soon as there are any within `wait` seconds.

    What a worker may claim is decided by the tags of its token; `tags` can only narrow it.
    """
    watch = gone() if body.wait > 0 else None
    found = await service.claim(caller, by_hand.ask_of(body), now, watch)
    return await service.aside(lambda: _tasks(found.lots, body.worker_id, service))


@router.post(
    "/heartbeats",
    tags=["work"],
    summary="Keep leases",
    responses=errors(403),
    openapi_extra=_OR_FRAME,
)
async def beat(
    body: models.BeatBody, service: Service, caller: Caller, now: Now
) -> models.BeatenBody:
    """Extend leases, never past a task's `timeout_seconds`; say which are lost or cancelled."""
    found = await service.beat(caller, by_hand.beat_of(body), now)
    return models.BeatenBody(lost=found.lost, cancelled=found.cancelled)


@router.post(
    "/outcomes",
    tags=["work"],
    summary="Settle tasks",
    response_model=models.SettledBody,
    responses=errors(403),
    openapi_extra=_OR_FRAME,
)
async def settle(body: models.OutcomesBody, service: Service, caller: Caller, now: Now) -> Any:
    """Take outcomes, and claim more tasks in the same commit.

    An outcome whose token is not the live lease's is refused: the task is another worker's now,
    or was settled or cancelled.
    """
    found = await service.settle(caller, by_hand.outcomes_of(body), now)
    worker_id = body.claim.worker_id if body.claim else body.worker_id
    shown = await service.aside(lambda: _tasks(found.lots, worker_id, service))
    return {"refused": found.refused, "statuses": found.statuses, **shown}


def _tasks(lots: list[wire.Lot], worker_id: str, service: Coordinator) -> dict[str, Any]:
    return {"tasks": by_hand.lots_json(lots, worker_id, service.records.blob_to_show)}
