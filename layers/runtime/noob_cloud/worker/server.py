"""The worker server: POST a call to /execute and get its outcome."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from anyio import CapacityLimiter, create_task_group, to_thread
from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

import noob_cloud
from noob_cloud import codec
from noob_cloud.exceptions import DecodeError
from noob_cloud.identity import Identity
from noob_cloud.worker import replies
from noob_cloud.worker.measures import prometheus, summary
from noob_cloud.worker.replies import FRAME
from noob_cloud.worker.service import WorkerService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from noob_cloud.worker.service import Active
    from noob_cloud.worker.settings import WorkerSettings

_DESCRIPTION = """
Runs stages of noob tubes for whoever holds a token.

Bodies are frames of the noob-cloud wire format (`application/vnd.noob-cloud.frame`); by hand, JSON
does as well. Nothing that arrives is unpickled, and a tube may import only allowed modules.
"""
_BEARER = HTTPBearer(auto_error=False, description="A token of this worker.")

router = APIRouter()


def _service(request: Request) -> WorkerService:
    service: WorkerService = request.app.state.service
    return service


Service = Annotated[WorkerService, Depends(_service)]


def _identity(
    request: Request,
    service: Service,
    _bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
) -> Identity:
    """Whoever may send work: a client, or an admin."""
    caller = service.settings.tokens.authenticate(request.headers.get("authorization"))
    caller.require("client")
    return caller


Caller = Annotated[Identity, Depends(_identity)]
_ID = r"^[A-Za-z0-9._:@+-]{1,200}$"
TaskId = Annotated[str, Path(description="The id that the caller gave the task.", pattern=_ID)]


def create_app(
    settings: WorkerSettings, *, on_shutdown: Callable[[], None] | None = None
) -> FastAPI:
    """Make the worker server's application.

    Args:
        settings: how the worker runs tasks and for whom.
        on_shutdown: called when `POST /shutdown` has drained the worker; ends the server.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = WorkerService(settings)
        # running calls, and a few tubes being loaded
        app.state.threads = CapacityLimiter(settings.max_tasks + 4)
        await to_thread.run_sync(service.start)
        async with create_task_group() as background:
            app.state.background = background
            yield
        await to_thread.run_sync(service.drain)
        service.close()

    app = FastAPI(
        title="noob-cloud worker",
        version=noob_cloud.__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
    )
    app.state.on_shutdown = on_shutdown
    app.include_router(router)
    replies.install(app)
    return app


@router.get("/health", tags=["look"], summary="Health check", response_model=replies.Health)
async def health(service: Service) -> dict[str, Any]:
    """Say whether the worker takes tasks. Needs no token and tells no secrets."""
    return {
        "status": "draining" if service.draining else "ok",
        "worker_id": service.settings.worker_id,
        "tags": sorted(service.settings.tags),
        "max_tasks": service.settings.max_tasks,
        "active": len(service.active),
    }


@router.get(
    "/metrics",
    tags=["look"],
    summary="Worker metrics",
    response_class=PlainTextResponse,
    responses=replies.errors(401, 403) | replies.METRICS,
)
async def metrics(request: Request, service: Service, _caller: Caller) -> Response:
    """Count what the worker did: Prometheus text, or JSON when `Accept` asks for it."""
    if "application/json" in request.headers.get("accept", ""):
        return JSONResponse(summary(service))
    return Response(prometheus(service), media_type="text/plain; version=0.0.4")


@router.get(
    "/tasks",
    tags=["look"],
    summary="List active tasks",
    response_model=list[replies.ActiveTask],
    responses=replies.errors(401, 403),
)
async def tasks(service: Service, _caller: Caller) -> list[dict[str, Any]]:
    """List what runs now, oldest first."""
    return [
        {
            "task_id": entry.task_id,
            "label": entry.label,
            "started_at": entry.started_at,
            "timeout_seconds": entry.timeout,
            "cancelled": entry.stop.reason is not None,
        }
        for entry in service.active
    ] + [
        {
            "task_id": f"queue:{task.task_id}",
            "label": task.node_id,
            "started_at": task.available_at,
            "timeout_seconds": task.timeout_seconds,
            "cancelled": False,
        }
        for task in service.pulled
    ]


@router.post(
    "/execute",
    tags=["work"],
    summary="Execute task",
    responses=replies.EXECUTED | replies.errors(401, 403, 404, 409, 413, 415, 422, 429, 503),
    openapi_extra=replies.EXECUTE_BODY,
)
async def execute(
    request: Request,
    service: Service,
    _caller: Caller,
    task_id: Annotated[
        str | None,
        Query(description="An id to cancel it by.", pattern=_ID),
    ] = None,
    label: Annotated[str, Query(description="Shown in /tasks.", max_length=200)] = "",
    limit: Annotated[
        float | None,
        Query(alias="timeout", description="Longest run, in seconds.", gt=0, le=604_800),
    ] = None,
) -> Response:
    """Run one call, and answer when it has ended; it is stopped if the caller hangs up.

    What a node raises is an outcome too: the answer is 200 with `ok` false.
    """
    by_hand = replies.is_json(request)
    entry = service.admit(task_id, label=label, timeout=limit)
    watch = None
    try:
        body = await replies.body_of(request, service.settings.max_body)
        frame = replies.hand_frame(body, service.settings.tube) if by_hand else body
        watch = asyncio.create_task(_stop_when_gone(request, entry))
        answer = await to_thread.run_sync(
            service.run, entry, frame, limiter=request.app.state.threads
        )
    finally:
        if watch is not None:
            watch.cancel()
        service.leave(entry)
    if by_hand:
        return replies.outcome_json(codec.loads(answer))
    return Response(answer, media_type=FRAME)


async def _stop_when_gone(request: Request, entry: Active) -> None:
    """Free the place of a call whose answer nobody waits for any more."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
    entry.stop("the caller hung up")


@router.post(
    "/load_tube",
    tags=["work"],
    summary="Load tube spec",
    response_model=replies.LoadedTube,
    responses=replies.errors(401, 403, 413, 415, 422, 503),
    openapi_extra=replies.TUBE_BODY,
)
async def load_tube(request: Request, service: Service, _caller: Caller) -> dict[str, Any]:
    """Know a tube from now on, by its cid.

    The tube is loaded at once; one that names a module outside the allow-list is refused
    before anything is imported.
    """
    by_hand = replies.is_json(request)
    body = await replies.body_of(request, service.settings.max_body)
    document = replies.hand_tube(body) if by_hand else body
    try:
        return await to_thread.run_sync(service.load, document, limiter=request.app.state.threads)
    except replies.REPORTED:
        raise
    except Exception as error:
        raise DecodeError(
            f"the tube does not load here: {type(error).__name__}: {error}"
        ) from error


@router.post(
    "/cancel/{task_id}",
    tags=["work"],
    summary="Cancel task",
    response_model=replies.Cancelled,
    responses=replies.errors(401, 403, 404, 422),
)
async def cancel(task_id: TaskId, service: Service, _caller: Caller) -> dict[str, Any]:
    """Stop a running task, even inside a node; whoever waits for it gets the error."""
    service.cancel(task_id)
    return {"task_id": task_id, "cancelled": True}


@router.post(
    "/shutdown",
    tags=["work"],
    status_code=202,
    summary="Graceful shutdown",
    response_model=replies.Health,
    responses=replies.errors(401, 403),
)
async def shutdown(request: Request, service: Service, caller: Caller) -> dict[str, Any]:
    """Take no more tasks, let the running ones end, then end the worker. Needs an admin."""
    caller.require("admin")
    service.draining = True

    async def end() -> None:
        await to_thread.run_sync(service.drain)
        if request.app.state.on_shutdown is not None:
            request.app.state.on_shutdown()

    request.app.state.background.start_soon(end)
    return await health(service)
