"""The routes of a follower of events: what came, and how far it has come, in one commit."""

from __future__ import annotations

from typing import Annotated, Any
from zlib import crc32

from fastapi import APIRouter, Path, Request
from pydantic import Base64Bytes, BaseModel, Field

from noob_cloud.codec import Limits
from noob_cloud.coordinator import models, wire
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

router = APIRouter()
NamePath = Annotated[
    str, Path(min_length=1, max_length=200, description="A checkpoint's name, the caller's own.")
]
_FRAME_TOO: dict[int | str, dict[str, Any]] = {200: {"content": FRAME_CONTENT}}


class CheckpointBody(BaseModel):
    """How far a follower has come."""

    version: int = Field(examples=[17], description="0: there is none yet; one more with each move")
    state: Base64Bytes = Field(examples=["W1s5LCIweDEyIl1d"], description="What it wrote, base64")


@router.get(
    "/checkpoints/{name:path}",
    tags=["tasks"],
    summary="Look at a checkpoint",
    response_model=CheckpointBody,
    responses=errors(403, 404) | _FRAME_TOO,
)
async def checkpoint(name: NamePath, request: Request, service: Service, caller: Caller) -> Any:
    """Show how far the caller's follower of this name has come."""
    caller.require("client")
    found = await service.do(lambda: service.desk.checkpoint_of(caller.name, name))
    if wants_frame(request):
        return framed(wire.Checkpoint(found.version, found.state))
    return CheckpointBody.model_construct(version=found.version, state=found.state)


@router.post(
    "/checkpoints/{name:path}",
    tags=["tasks"],
    summary="Submit what a source of events brought, and move the checkpoint",
    response_model=models.Ids,
    responses=errors(403, 404, 409, 415) | _FRAME_TOO,
    openapi_extra={"requestBody": {"required": True, "content": FRAME_CONTENT}},
)
async def move(name: NamePath, request: Request, service: Service, caller: Caller, now: Now) -> Any:
    """Submit, cancel and move in one commit, if the checkpoint has the expected version.

    A frame alone. 409: another follower has moved it, and nothing was done.
    """
    caller.require("client")
    media_type(request)
    data = await request.body()
    body = wire.from_frame(wire.Move, data, Limits(total=service.settings.max_body))
    answer = await service.move(caller, name, body, now, mark=crc32(data))
    return framed(answer) if wants_frame(request) else models.Ids(ids=answer.ids)
