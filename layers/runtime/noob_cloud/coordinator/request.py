"""What the FastAPI routes share: who asks, in which form, and how errors are documented."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from noob_cloud.coordinator import wire
from noob_cloud.coordinator.answers import MEANING, MediaTypeError, body_of, headers_of, status_of
from noob_cloud.coordinator.models import Problem
from noob_cloud.coordinator.service import Coordinator
from noob_cloud.exceptions import NoobCloudError
from noob_cloud.identity import Identity

if TYPE_CHECKING:
    import msgspec
    from fastapi import FastAPI

_BEARER = HTTPBearer(auto_error=False, description="A token of this coordinator.")


def _coordinator(request: Request) -> Coordinator:
    found: Coordinator = request.app.state.coordinator
    return found


def _caller(
    request: Request,
    _bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
) -> Identity:
    found: Identity = request.state.identity  # the door let it in
    return found


def _now(request: Request) -> float | None:
    found: float | None = request.state.now
    return found


def _gone(request: Request) -> Gone:
    found: Gone = request.state.caller.gone
    return found


Gone = Callable[[], asyncio.Task[None]]
"""Starts to watch whether the client hangs up."""
WhenGone = Annotated[Gone, Depends(_gone)]
Service = Annotated[Coordinator, Depends(_coordinator)]
Caller = Annotated[Identity, Depends(_caller)]
Now = Annotated[float | None, Depends(_now)]


def media_type(request: Request) -> str:
    """Return the media type of the body: JSON's or the frame's.

    Raises:
        MediaTypeError: it is another one.
    """
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said not in (wire.JSON_TYPE, wire.FRAME_TYPE):
        raise MediaTypeError(
            f"The body is {said or 'of no media type'}; send {wire.JSON_TYPE}, or"
            f" {wire.FRAME_TYPE}."
        )
    return said


def wants_frame(request: Request) -> bool:
    """Whether a program asks: the answer is a frame."""
    return wire.FRAME_TYPE in request.headers.get("accept", "")


def framed(answer: msgspec.Struct) -> Response:
    """Return a struct of the wire as the response."""
    return Response(wire.to_frame(answer), media_type=wire.FRAME_TYPE)


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document the errors of a route; 400, 401, 413, 422 and 503 are every route's."""
    return {
        status: {"model": Problem, "description": MEANING[status]}
        for status in sorted({400, 401, 413, 422, 503, *statuses})
    }


FRAME_CONTENT: dict[str, Any] = {
    wire.FRAME_TYPE: {"schema": {"type": "string", "format": "binary"}}
}
"""In OpenAPI: a frame."""


def install_errors(app: FastAPI) -> None:
    """Give every error the same shape."""
    app.add_exception_handler(NoobCloudError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _ours)


async def _ours(_request: Request, error: Exception) -> Response:
    status = status_of(error)
    headers = {name.decode(): value.decode() for name, value in headers_of(status)}
    return Response(body_of(error), status_code=status, headers=headers)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    details = [{"field": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in found]
    first = details[0] if details else {"field": "body", "message": "is not well formed"}
    return JSONResponse(
        {
            "error": "DecodeError",
            "message": f"{first['field']}: {first['message']}",
            "details": details[:20],
        },
        status_code=422,
    )


async def _http(_request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else "the coordinator failed"
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse(
        {"error": "HTTPError", "message": f"{status}: {detail}"},
        status_code=status,
        headers=headers,
    )
