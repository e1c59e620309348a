"""The routes of tubes, runs without a client, and blobs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import ValidationError

from noob_cloud.codec import Limits
from noob_cloud.coordinator import by_hand, models, models_runs, traces, wire
from noob_cloud.coordinator.request import (
    FRAME_CONTENT,
    Caller,
    Now,
    Service,
    errors,
    framed,
    media_type,
    wants_frame,
)
from noob_cloud.coordinator.run import RunState, driver_of
from noob_cloud.exceptions import DecodeError, NoobCloudError
from noob_cloud.task import TaskPriority
from noob_cloud.tubes import TubeSource

if TYPE_CHECKING:
    from noob_cloud.coordinator.service import Coordinator
    from noob_cloud.identity import Identity

router = APIRouter()
RunPath = Annotated[str, Path(min_length=1, max_length=200, description="Id of a run.")]
CidPath = Annotated[str, Path(min_length=1, max_length=100, description="A cid.")]


def _json_or_frame(model: Any) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    content = {wire.JSON_TYPE: {"schema": schema}, **FRAME_CONTENT}
    return {"requestBody": {"required": True, "content": content}}


async def _parse(model: Any, request: Request) -> Any:
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise DecodeError(f"{where}: {first['msg']}") from None


# ---- tubes


@router.post(
    "/tubes",
    tags=["runs"],
    summary="Send a tube",
    responses=errors(403, 415),
    openapi_extra=_json_or_frame(models_runs.NewTube),
)
async def send_tube(request: Request, service: Service, caller: Caller) -> models_runs.CidBody:
    """Keep a tube's document under its cid. Nothing of it is imported here."""
    caller.require("client", "worker")
    if media_type(request) == wire.JSON_TYPE:
        given = await _parse(models_runs.NewTube, request)
        source = await service.aside(lambda: TubeSource.sent(given.spec, given.input))
    else:
        body = await request.body()
        source = await service.aside(lambda: TubeSource.from_document(body))
    cid = await service.do(lambda: service.records.put_tube(source, _time(service)))
    return models_runs.CidBody(cid=cid)


@router.get("/tubes", tags=["runs"], summary="List tubes", responses=errors())
async def tubes(
    service: Service, _caller: Caller, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[models_runs.TubeBody]:
    """List the tubes known here, the latest first."""
    rows = await service.do(lambda: service.records.tubes(limit))
    return [models_runs.TubeBody(cid=a, name=b, bytes=c, created_at=d) for a, b, c, d in rows]


@router.get(
    "/tubes/{cid}",
    tags=["runs"],
    summary="Fetch a tube",
    response_class=Response,
    responses=errors(404) | {200: {"content": FRAME_CONTENT}},
)
async def tube(cid: CidPath, service: Service, _caller: Caller) -> Response:
    """Return a tube's document, a frame."""
    document = await service.aside(lambda: service.records.tube(cid))
    return Response(document, media_type=wire.FRAME_TYPE)


# ---- runs


@router.post(
    "/runs",
    tags=["runs"],
    summary="Run a tube without a client",
    responses=errors(403, 404, 409, 415),
    openapi_extra=_json_or_frame(models_runs.NewRunBody),
    status_code=201,
)
async def new_run(
    request: Request, service: Service, caller: Caller, now: Now
) -> models_runs.RunBody:
    """Submit a run; a worker drives it, another takes over when that one dies."""
    caller.require("client")
    if media_type(request) == wire.JSON_TYPE:
        body = await _of_json(await _parse(models_runs.NewRunBody, request), service)
    else:
        limits = Limits(total=service.settings.max_body)
        body = wire.from_frame(wire.NewRun, await request.body(), limits)
    trace = traces.sampled(request.headers.get("traceparent", "").encode("latin-1"))
    return _run_body(await _add_run(service, caller, body, now, trace))


async def _of_json(given: models_runs.NewRunBody, service: Coordinator) -> wire.NewRun:
    tube = given.tube
    if isinstance(tube, models_runs.NewTube):
        source = await service.aside(partial(TubeSource.sent, tube.spec, tube.input))
        tube = await service.do(lambda: service.records.put_tube(source, _time(service)))
    return wire.NewRun(
        tube,
        given.n,
        wire.pack(given.inputs),
        given.run_id,
        wire.pack(given.placement),
        int(TaskPriority[given.priority]),
        tuple(given.affinity_tags),
    )


async def _add_run(
    service: Coordinator,
    caller: Identity,
    body: wire.NewRun,
    now: float | None,
    trace: str | None,
) -> RunState:
    inputs = wire.unpack(body.inputs)
    if inputs is not None and not (
        isinstance(inputs, list) and all(isinstance(x, dict) for x in inputs)
    ):
        raise DecodeError("inputs is a list of mappings, one for each epoch.")
    driver = driver_of(
        body.tube,
        body.n,
        inputs,
        run_id=body.run_id,
        placement=wire.unpack(body.placement),
        most=100_000,
    )
    at = _time(service) if now is None else now
    if service.placing is not None:
        service.placing.check_run(driver.placement, body.affinity_tags)

    try:
        await service.aside(lambda: service.records.keep_tube(driver.tube, at))
        run = await service.do(
            lambda: service.runs.add(
                driver,
                caller.name,
                at,
                priority=body.priority,
                tags=body.affinity_tags,
                trace=trace,
            )
        )
    except (TypeError, ValueError) as error:
        if isinstance(error, NoobCloudError):
            raise
        raise DecodeError(str(error)) from error
    if not run.ended:
        service.open_runs[run.task_id] = run.run_id
    service.events.add("run.submitted", run_id=run.run_id, tube=run.tube, total=run.total)
    service.news()
    return run


@router.get("/runs", tags=["runs"], summary="List runs", responses=errors(403))
async def runs(
    service: Service, caller: Caller, limit: Annotated[int, Query(ge=1, le=1000)] = 50
) -> models_runs.RunList:
    """List runs, the latest first."""
    caller.require("client")
    rows = await service.do(lambda: service.runs.latest(limit))
    return models_runs.RunList(runs=[_run_body(row) for row in rows])


@router.get("/runs/{run_id}", tags=["runs"], summary="Look at a run", responses=errors(403, 404))
async def run(run_id: RunPath, service: Service, caller: Caller) -> models_runs.RunBody:
    """Show how a run stands."""
    caller.require("client")
    return _run_body(await service.do(lambda: service.runs.get(run_id)))


@router.post(
    "/runs/{run_id}/cancel", tags=["runs"], summary="Cancel a run", responses=errors(403, 404)
)
async def cancel_run(
    run_id: RunPath, service: Service, caller: Caller, now: Now
) -> models.CancelledBody:
    """Cancel a run and its tasks; false if it had ended. Its results so far stay."""
    caller.require("client")
    at = _time(service) if now is None else now
    done, driver = await service.do(lambda: service.runs.cancel(run_id, at))
    service.settlements.tell((driver,))
    after: int | None = 0 if done else None
    while after is not None:  # in pages, so that others get their turn
        page = service.do(lambda after=after: service.runs.cancel_tasks(run_id, after, at))  # type: ignore[misc]
        ids, after = await page
        service.settlements.tell(ids)
    service.claims.wake()
    await service.look_at_runs((driver,))
    return models.CancelledBody(cancelled=done)


@router.get(
    "/runs/{run_id}/results",
    tags=["runs"],
    summary="Fetch results",
    response_model=models_runs.ResultPage,
    responses=errors(403, 404) | {200: {"content": FRAME_CONTENT}},
)
async def results(
    run_id: RunPath,
    request: Request,
    service: Service,
    caller: Caller,
    page: Annotated[int, Query(ge=0, le=1 << 40)] = 0,
    size: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Any:
    """Fetch a page of the run's results, in the order of the epochs, while it runs or after."""
    if not caller.may("client"):
        await service.do(lambda: service.runs.check_drives(run_id, caller))
    found, total = await service.do(lambda: service.runs.results(run_id, page * size, size))
    if wants_frame(request):
        return framed(wire.Results(found, total))

    def shown() -> dict[str, Any]:
        blob = service.records.blob_to_show
        values = [
            {"position": x.position, "cid": x.cid, "value": by_hand.shown(x.packed, blob)}
            for x in found
        ]
        return {"results": values, "page": page, "total": total}

    return await service.aside(shown)


@router.post(
    "/runs/{run_id}/results",
    tags=["work"],
    summary="Post results of a run that one drives",
    responses=errors(403, 404, 409, 415),
    openapi_extra={"requestBody": {"required": True, "content": FRAME_CONTENT}},
)
async def post_results(
    run_id: RunPath, request: Request, service: Service, caller: Caller
) -> dict[str, int]:
    """Keep results that the run's driver has, while its lease is live. A frame alone."""
    caller.require("worker")
    media_type(request)
    limits = Limits(total=service.settings.max_body)
    posted = wire.from_frame(wire.Posted, await request.body(), limits)
    done = await service.do(lambda: service.runs.add_results(run_id, posted, caller))
    service.events.add("run.progress", run_id=run_id, done=done)
    return {"done": done}


def _run_body(row: RunState) -> models_runs.RunBody:
    return models_runs.RunBody(
        **{name: getattr(row, name) for name in models_runs.RunBody.model_fields}
    )


def _time(service: Coordinator) -> float:
    return service.desk.clock_now()
