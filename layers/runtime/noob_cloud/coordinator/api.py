"""The routes of tasks, workers and events, in JSON; `hot.py` serves frames to the hot ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

import noob_cloud
from noob_cloud.coordinator import api_runs, by_hand, models, models_runs, wire
from noob_cloud.coordinator.metrics import prometheus
from noob_cloud.coordinator.outgoing import view
from noob_cloud.coordinator.request import (
    FRAME_CONTENT,
    Caller,
    Now,
    Service,
    errors,
    framed,
    install_errors,
    wants_frame,
)
from noob_cloud.task import TaskStatus  # noqa: TC001 - FastAPI reads the annotation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from noob_cloud.coordinator.service import Coordinator

router = APIRouter()
TaskPath = Annotated[int, Path(ge=1, lt=1 << 40, description="Id of a task.")]
_OR_FRAME: dict[str, Any] = {"requestBody": {"content": FRAME_CONTENT}}
_FRAME_TOO: dict[int | str, dict[str, Any]] = {200: {"content": FRAME_CONTENT}}


def install(app: FastAPI) -> None:
    """Put every route and the errors' shape into the application."""
    app.include_router(router)
    app.include_router(api_runs.router)
    install_errors(app)


# ---- looking


@router.get("/health", tags=["look"], summary="Health check")
async def health(service: Service) -> models.Health:
    """Say whether the coordinator serves. Needs no token."""
    return models.Health(
        status="draining" if service.draining else "ok", version=noob_cloud.__version__
    )


@router.get(
    "/metrics",
    tags=["look"],
    summary="Prometheus metrics",
    response_class=PlainTextResponse,
    responses=errors(),
)
async def metrics(service: Service, _caller: Caller) -> Response:
    """Count what waits, runs and was done, as Prometheus text."""
    stats = await service.do(service.desk.stats)
    return Response(prometheus(service, stats), media_type="text/plain; version=0.0.4")


@router.get("/stats", tags=["look"], summary="State of the queue", responses=errors())
async def stats(
    service: Service,
    _caller: Caller,
    seconds: Annotated[int, Query(ge=0, le=300, description="Length of the history.")] = 60,
) -> models.StatsBody:
    """Count tasks by where they stand, and what happened in each of the latest seconds."""
    found = await service.do(service.desk.stats)
    names = models.QueueCounts.model_fields
    return models.StatsBody(
        queue=models.QueueCounts(**{name: getattr(found, name) for name in names}),
        totals={
            name: getattr(service.counts, name)
            for name in ("submitted", "claimed", "completed", "failed", "refused")
        },
        history=list(service.history)[-seconds:] if seconds else [],
        waiting_claims=len(service.claims),
        started_at=service.started_at,
    )


@router.get("/workers", tags=["look"], summary="List workers", responses=errors())
async def workers(service: Service, _caller: Caller) -> models_runs.WorkerList:
    """List the workers heard of since the start: those alive first."""
    rows = [
        models_runs.WorkerBody(
            worker_id=row.worker_id,
            identity=row.identity,
            tags=sorted(row.tags),
            first_seen=row.first_seen,
            last_seen=row.last_seen,
            running=row.running,
            claimed=row.claimed,
            completed=row.completed,
            failed=row.failed,
            lost=row.lost,
        )
        for row in service.workers.rows()
    ]
    return models_runs.WorkerList(workers=rows)


@router.get(
    "/events",
    tags=["look"],
    summary="Follow what happens",
    response_model=models_runs.EventList,
    responses=errors() | {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(
    request: Request,
    service: Service,
    _caller: Caller,
    after: Annotated[
        int | None, Query(ge=-1, lt=1 << 62, description="Number of the last event seen.")
    ] = None,
    wait: Annotated[float, Query(ge=0, le=25, description="Longest wait, in seconds.")] = 0.0,
) -> Any:
    """List events behind `after` (by default: those to come), waiting for one if need be.

    With `Accept: text/event-stream` they are sent as they happen.
    """
    last = service.events.last if after is None else after
    if "text/event-stream" in request.headers.get("accept", ""):
        return StreamingResponse(_stream(service, last), media_type="text/event-stream")
    found = await service.events.wait(last, min(wait, service.settings.max_wait))
    return models_runs.EventList(events=found, last=found[-1]["id"] if found else last)


async def _stream(service: Coordinator, last: int) -> AsyncIterator[str]:
    while not service.draining:
        found = await service.events.wait(last, 15.0)
        if not found:
            yield ": nothing new\n\n"
        for event in found:
            last = event["id"]
            yield f"id: {last}\nevent: {event['kind']}\ndata: {json.dumps(event)}\n\n"


# ---- tasks


@router.post(
    "/tasks",
    tags=["tasks"],
    summary="Submit tasks",
    responses=errors(403, 409),
    openapi_extra=_OR_FRAME,
)
async def submit(body: models.NewTasks, service: Service, caller: Caller, now: Now) -> models.Ids:
    """Submit tasks in one commit; all are in the queue when this answers, or none."""
    answer = await service.submit(caller, by_hand.submit_of(body), now)
    return models.Ids(ids=answer.ids)


@router.get(
    "/tasks",
    tags=["tasks"],
    summary="List tasks",
    response_model=models.TaskList,
    responses=errors() | _FRAME_TOO,
)
async def tasks(
    request: Request,
    service: Service,
    _caller: Caller,
    status: Annotated[TaskStatus | None, Query(description="Only these.")] = None,
    run_id: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
    after: Annotated[int, Query(ge=0, lt=1 << 40, description="Behind this id.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Any:
    """List tasks in the order of their ids."""

    def work() -> list[wire.View]:
        found = service.desk.list_tasks(status, run_id, limit=limit, after=after, decode=False)
        return [view(task) for task in found]

    views = await service.do(work)
    if wants_frame(request):
        return framed(wire.Views(views))
    return {"tasks": [by_hand.task_json(x) for x in views]}


@router.get(
    "/tasks/{task_id}",
    tags=["tasks"],
    summary="Look at a task",
    response_model=models.TaskBody,
    responses=errors(404) | _FRAME_TOO,
)
async def task(task_id: TaskPath, request: Request, service: Service, _caller: Caller) -> Any:
    """Show everything about one task: payload, result, the latest failure."""
    found = await service.do(lambda: view(service.desk.get_task(task_id, decode=False)))
    if wants_frame(request):
        return framed(wire.Views([found]))
    return by_hand.task_json(found, service.records.blob)


@router.post(
    "/tasks/{task_id}/cancel",
    tags=["tasks"],
    summary="Cancel a task",
    responses=errors(403, 404),
)
async def cancel(
    task_id: TaskPath, service: Service, caller: Caller, now: Now
) -> models.CancelledBody:
    """Cancel a task, running or not; its worker learns by its next heartbeat."""
    caller.require("client", "worker")
    done = await service.do(lambda: service.desk.cancel_task(task_id, now=now))
    service.settlements.tell((task_id,))
    await service.look_at_runs((task_id,))
    return models.CancelledBody(cancelled=done)


@router.post(
    "/tasks/{task_id}/redrive",
    tags=["tasks"],
    summary="Bring back a dead letter",
    responses=errors(403, 404, 409),
)
async def redrive_one(
    task_id: TaskPath, service: Service, caller: Caller, now: Now
) -> models.RedrivenBody:
    """Bring a task back from the dead-letter list with a full set of attempts."""
    return await redrive(models.RedriveBody(task_ids=[task_id]), service, caller, now)


@router.post(
    "/redrive",
    tags=["tasks"],
    summary="Bring back dead letters",
    responses=errors(403, 404, 409),
)
async def redrive(
    body: models.RedriveBody, service: Service, caller: Caller, now: Now
) -> models.RedrivenBody:
    """Bring tasks back from the dead-letter list, or all that are there."""
    caller.require("client")

    def work() -> list[int]:
        found = service.desk.redrive(body.task_ids, now=now)
        service.records.reopen(found)
        return found

    found = await service.do(work)
    service.open_runs = await service.do(service.records.open_runs)
    service.claims.wake()
    return models.RedrivenBody(redriven=found)


@router.post(
    "/settled",
    tags=["tasks"],
    summary="Wait for outcomes",
    response_model=models.TaskList,
    responses=errors(404),
    openapi_extra=_OR_FRAME,
)
async def settled(body: models.WaitBody, service: Service, _caller: Caller) -> Any:
    """Return those of the tasks that have an outcome, as soon as all (or `at_least`) have one."""
    found = await service.wait_settled(wire.Wait(body.ids, body.timeout, body.at_least))
    return {"tasks": [by_hand.task_json(x) for x in found.tasks]}


@router.post(
    "/limits", tags=["tasks"], summary="Limit a key", status_code=204, responses=errors(403)
)
async def limit_key(body: models.LimitBody, service: Service, caller: Caller, now: Now) -> None:
    """Limit how many tasks of a key run at once, and how many begin in a time."""
    caller.require("client")
    rate = None if body.rate is None else (body.rate.tasks, body.rate.seconds)
    await service.do(lambda: service.desk.set_limit(body.key, body.concurrency, rate, now=now))
    service.claims.wake()


# ---- the worker's side


@router.post(
    "/claims",
    tags=["work"],
    summary="Claim tasks",
    response_model=models.TaskList,
    responses=errors(403),
    openapi_extra=_OR_FRAME,
)
async def claim(
    body: models.ClaimBody, service: Service, caller: Caller, now: Now, request: Request
) -> Any:
    """Lease tasks, as soon as there are any within `wait` seconds.

    What a worker may claim is decided by the tags of its token; `tags` can only narrow it.
    """
    del request
    found = await service.claim(caller, by_hand.ask_of(body), now)
    return {"tasks": by_hand.lots_json(found.lots, body.worker_id, service.records.blob)}


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
    return {
        "refused": found.refused,
        "statuses": found.statuses,
        "tasks": by_hand.lots_json(found.lots, worker_id, service.records.blob),
    }
