"""What the worker server's requests and answers look like, in bytes and in OpenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from noob_cloud import codec
from noob_cloud.exceptions import (
    AuthenticationError,
    CodecError,
    DecodeError,
    ForbiddenError,
    LimitError,
    NodeNotFoundError,
    NoobCloudError,
    TaskNotFoundError,
    TaskStateError,
    TubeNotFoundError,
    TubeRefusedError,
    UnavailableError,
    WorkerBusyError,
    WorkerError,
)

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

    from noob_cloud.task import Outcome
    from noob_cloud.tubes import TubeSource

_M = TypeVar("_M", bound=BaseModel)

FRAME: Final = "application/vnd.noob-cloud.frame"
"""Media type of the wire format."""


class MediaTypeError(WorkerError, TypeError):
    """The body's media type is not one that is understood here."""


_STATUS: dict[type[NoobCloudError], int] = {
    AuthenticationError: 401,
    ForbiddenError: 403,
    TubeRefusedError: 403,
    TubeNotFoundError: 404,
    NodeNotFoundError: 404,
    TaskNotFoundError: 404,
    TaskStateError: 409,
    LimitError: 413,
    MediaTypeError: 415,
    CodecError: 422,
    WorkerBusyError: 429,
    UnavailableError: 503,
}
REPORTED = tuple(_STATUS)
"""The errors that have an answer of their own."""

_MEANING = {
    401: "No token, or one that is not known here.",
    403: "The token is not good for this, or the tube imports what is not allowed.",
    404: "Nothing of this name is here.",
    409: "A task with this id runs already.",
    413: "The body, or a value in it, is over a limit.",
    415: "The body is neither a frame nor JSON.",
    422: "The request is not well formed; the message says where.",
    429: "The worker runs as many tasks as it may; Retry-After says when to try again.",
    503: "The worker is shutting down.",
}


# ---- bodies


class ErrorBody(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "error": "TubeNotFoundError",
                "message": "no tube bafk... is known here; POST its document to /load_tube first",
            }
        },
    )
    error: str = Field(description="Name of the error's class in noob_cloud.exceptions.")
    message: str = Field(description="A sentence with the value in it, and what helps.")


class Health(BaseModel):
    """Whether the worker takes tasks."""

    status: str = Field(description="ok, or draining", examples=["ok"])
    worker_id: str = Field(examples=["gpu-worker-1"])
    tags: list[str] = Field(examples=[["cuda", "gpu"]])
    max_tasks: int = Field(examples=[20])
    active: int = Field(examples=[3])


class ActiveTask(BaseModel):
    """A task that runs now."""

    task_id: str = Field(examples=["run-7:12"])
    label: str = Field(examples=["denoise"])
    started_at: float = Field(description="Unix time, in seconds.", examples=[1795411200.5])
    timeout_seconds: float | None = Field(examples=[300.0])
    cancelled: bool = Field(description="It has been told to stop.", examples=[False])


class LoadedTube(BaseModel):
    """A tube that is known here."""

    cid: str = Field(examples=["bafkr4ih..."])
    nodes: list[str] = Field(examples=[["denoise", "measure", "segment"]])


class Cancelled(BaseModel):
    """A task that was told to stop."""

    task_id: str = Field(examples=["run-7:12"])
    cancelled: bool = Field(examples=[True])


class HandExecution(BaseModel):
    """One node for one epoch, by hand."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "example": {"node_id": "multiply", "epoch": 0, "inputs": {"left": 6, "right": 7}}
        },
    )
    node_id: str = Field(min_length=1, max_length=200, description="The node to call.")
    epoch: int = Field(default=0, ge=0, le=2**53, description="The epoch it is called in.")
    inputs: dict[str, Any] | list[Any] | None = Field(
        default=None, description="Slots by name, or in order."
    )
    tube: str | None = Field(
        default=None, max_length=200, description="cid of a loaded tube; default: --tube."
    )


class HandTube(BaseModel):
    """A tube's specification as JSON."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "spec": {
                    "noob_id": "by-hand",
                    "noob_model": "noob.tube.TubeSpecification",
                    "noob_version": "1003.0.2",
                    "nodes": {"count": {"type": "itertools.count"}},
                }
            }
        },
    )
    spec: dict[str, Any] = Field(description="The specification, as its YAML file has it.")
    input: dict[str, Any] = Field(default_factory=dict, description="Tube-scoped inputs.")


class OutcomeBody(BaseModel):
    """What became of a task."""

    ok: bool = Field(examples=[True])
    value: Any = Field(default=None, examples=[42])
    error_type: str | None = Field(default=None, examples=["builtins.ValueError"])
    message: str | None = None
    traceback: str | None = None
    node_id: str | None = Field(default=None, examples=["multiply"])
    epoch: Any = Field(default=None, examples=[0])
    duration: float = Field(default=0.0, description="Seconds on the worker.", examples=[0.002])


# ---- OpenAPI


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document the errors that a route may answer with."""
    return {status: {"model": ErrorBody, "description": _MEANING[status]} for status in statuses}


def _content(frame: str, model: type[BaseModel]) -> dict[str, Any]:
    return {
        FRAME: {"schema": {"type": "string", "format": "binary", "description": frame}},
        "application/json": {"schema": model.model_json_schema()},
    }


EXECUTE_BODY = {
    "requestBody": {"required": True, "content": _content("A StageCall.", HandExecution)}
}
TUBE_BODY = {"requestBody": {"required": True, "content": _content("A document.", HandTube)}}
EXECUTED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The outcome: a frame for a frame, JSON for JSON.",
        "content": _content("An Outcome.", OutcomeBody),
    }
}
METRICS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The counters.",
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}


# ---- reading


def is_json(request: Request) -> bool:
    """Whether the body is JSON; a frame otherwise.

    Raises:
        MediaTypeError: it says that it is something else.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return True
    if kind in (FRAME, "application/octet-stream"):
        return False
    raise MediaTypeError(
        f"the body is {kind or 'of no media type'}; send {FRAME}, or application/json by hand"
    )


async def body_of(request: Request, limit: int) -> bytes:
    """Read the whole body.

    Raises:
        LimitError: it has more than `limit` bytes.
    """
    said = request.headers.get("content-length", "0")
    if said.isdecimal() and int(said) > limit:
        raise LimitError(f"the body has {said} bytes; the limit is {limit}", limit=limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise LimitError(f"the body has more than {limit} bytes, the limit", limit=limit)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def hand_frame(body: bytes, tube: TubeSource | None) -> bytes:
    """Make the frame of a call written by hand."""
    call = _parse(HandExecution, body)
    cid = call.tube or (tube.cid if tube is not None else None)
    if cid is None:
        raise TubeNotFoundError(
            "this worker was started without --tube; name a loaded one by its cid in 'tube'"
        )
    return codec.dumps(
        {"tube": cid, "node_id": call.node_id, "epoch": call.epoch, "inputs": call.inputs}
    )


def hand_tube(body: bytes) -> bytes:
    """Make the document of a tube written by hand."""
    from noob_cloud.tubes import TubeSource  # noqa: PLC0415 - noob is slow to import

    given = _parse(HandTube, body)
    return TubeSource.sent(given.spec, given.input).document


def outcome_json(outcome: Outcome) -> JSONResponse:
    """Show an outcome to a person; values that JSON lacks are shown by their repr."""
    if not outcome.ok and outcome.error_type is not None:
        name = outcome.error_type.rpartition(".")[2]
        if name == NodeNotFoundError.__name__:
            raise NodeNotFoundError(outcome.message)
    shown = {name: getattr(outcome, name) for name in OutcomeBody.model_fields}
    return JSONResponse(msgspec.json.decode(msgspec.json.encode(shown, enc_hook=repr)))


def _parse(model: type[_M], body: bytes) -> _M:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise DecodeError(_first(error.errors()), details=_details(error.errors())) from None


# ---- answering


def install(app: FastAPI) -> None:
    """Give every error the same shape."""
    app.add_exception_handler(NoobCloudError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _ours(_request: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}
    headers[503] = {"Retry-After": "5"}
    data = getattr(error, "data", {})
    return JSONResponse(
        {**jsonable_encoder(data), "error": type(error).__name__, "message": str(error)},
        status_code=status,
        headers=headers.get(status),
    )


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    return JSONResponse(
        {"error": "DecodeError", "message": _first(found), "details": _details(found)},
        status_code=422,
    )


async def _http(_request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else "the server failed"
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse(
        {"error": "HTTPError", "message": f"{status}: {detail}"},
        status_code=status,
        headers=headers,
    )


def _first(found: Any) -> str:
    if not found:
        return "the request is not well formed"
    where = ".".join(str(part) for part in found[0]["loc"]) or "body"
    return f"{where}: {found[0]['msg']}"


def _details(found: Any) -> list[dict[str, Any]]:
    return [{"field": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in found]
