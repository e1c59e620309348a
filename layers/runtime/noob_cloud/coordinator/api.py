"""The routes of tasks, workers and events; `hot.py` serves frames to the hot ones."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any
from zlib import crc32

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

import noob_cloud
from noob_cloud.coordinator import (
    api_blobs,
    api_capacity,
    api_checkpoints,
    api_runs,
    api_work,
    by_hand,
    models,
    models_runs,
    wire,
)
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
    app.include_router(api_work.router)
    app.include_router(api_runs.router)
    app.include_router(api_blobs.router)
    app.include_router(api_capacity.router)
    app.include_router(api_checkpoints.router)
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
    responses=errors(403)
    | {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(
    request: Request,
    service: Service,
    caller: Caller,
    after: Annotated[
        int | None, Query(ge=-1, lt=1 << 62, description="Number of the last event seen.")
    ] = None,
    wait: Annotated[float, Query(ge=0, le=25, description="Longest wait, in seconds.")] = 0.0,
) -> Any:
    """List events behind `after` (by default: those to come), waiting for one if need be.

    With `Accept: text/event-stream` they are sent as they happen; who comes back says by
    `Last-Event-ID` where it was.
    """
    caller.require("client")
    last = service.events.last if after is None else after
    if "text/event-stream" in request.headers.get("accept", ""):
        said = request.headers.get("last-event-id", "")
        if re.fullmatch(r"\d{1,18}", said, re.ASCII):
            last = int(said)
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
    given = by_hand.submit_of(body)
    mark = crc32(wire.to_frame(given))
    answer = await service.submit(caller, given, now, mark=mark)
    return models.Ids(ids=answer.ids)


@router.get(
    "/tasks",
    tags=["tasks"],
    summary="List tasks",
    response_model=models.TaskList,
    responses=errors(403) | _FRAME_TOO,
)
async def tasks(
    request: Request,
    service: Service,
    caller: Caller,
    status: Annotated[TaskStatus | None, Query(description="Only these.")] = None,
    run_id: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
    after: Annotated[int, Query(ge=0, lt=1 << 40, description="Behind this id.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Any:
    """List tasks in the order of their ids."""
    caller.require("client")

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
async def task(task_id: TaskPath, request: Request, service: Service, caller: Caller) -> Any:
    """Show everything about one task: payload, result, the latest failure.

    To a worker that has nothing to do with it: where it stands, alone.
    """
    found = await service.do(lambda: view(service.desk.get_task(task_id, decode=False)))
    (found,) = await service.readable(caller, [found])
    if wants_frame(request):
        return framed(wire.Views([found]))
    return await service.aside(lambda: by_hand.task_json(found, service.records.blob_to_show))


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

    def work() -> bool:
        if not caller.may("client"):
            run_id = service.desk.get_task(task_id, decode=False).run_id
            service.runs.check_drives(run_id, caller)
        return service.desk.cancel_task(task_id, now=now)

    done = await service.do(work)
    await service.cancelled([task_id])
    return models.CancelledBody(cancelled=done)


@router.post(
    "/cancel",
    tags=["tasks"],
    summary="Cancel tasks",
    responses=errors(403),
)
async def cancel_many(
    body: models.CancelBody, service: Service, caller: Caller, now: Now
) -> models.CancelledTasksBody:
    """Cancel tasks, running or not; their workers learn by their next heartbeats."""
    caller.require("client")
    done = await service.do(lambda: service.desk.cancel_many(body.task_ids, now=now))
    await service.cancelled(done)
    return models.CancelledTasksBody(cancelled=done)


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

    at = service.desk.clock_now() if now is None else now
    found = await service.do(lambda: service.runs.redrive(body.task_ids, at))
    service.open_runs = await service.do(service.runs.open)
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
async def settled(body: models.WaitBody, service: Service, caller: Caller) -> Any:
    """Return those of the tasks that have an outcome, as soon as all (or `at_least`) have one."""
    found = await service.wait_settled(caller, wire.Wait(body.ids, body.timeout, body.at_least))
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
