"""The routes of blobs: small ones are carried here, large ones by S3 where they lie there."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse

from noob_cloud.blobs.presigned import SECONDS
from noob_cloud.cid import parse_cid
from noob_cloud.coordinator import by_hand, models_runs, wire
from noob_cloud.coordinator.request import Caller, Service, errors
from noob_cloud.exceptions import LimitError

router = APIRouter()
CidPath = Annotated[str, Path(min_length=1, max_length=100, description="A cid.")]
_BINARY: Final[dict[str, Any]] = {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
}
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})$")
_PARTIAL: Final = 206
_ELSEWHERE: Final = 307
_KEEP: Final = {"Cache-Control": "private, max-age=31536000, immutable"}


@router.get(
    "/blobs/{cid}",
    tags=["blobs"],
    summary="Fetch a blob",
    response_class=Response,
    responses=errors(404, 416)
    | {200: {"content": _BINARY}, 206: {"content": _BINARY}}
    | {307: {"model": models_runs.BlobElsewhere, "description": "It is to be had from S3."}},
)
async def blob(cid: CidPath, request: Request, service: Service, _caller: Caller) -> Response:
    """Return the bytes with this cid, or the one range of them that `Range` names.

    A large one that lies in S3 is answered with a URL that is good for minutes (307): gateways
    carry 10 MB. A range of it is asked for there.
    """
    parse_cid(cid)
    url, data = await service.aside(lambda: service.records.blob_or_url(cid))
    if url is not None:
        told = {"url": url, "cid": cid, "expires_in": SECONDS}
        return JSONResponse(told, _ELSEWHERE, {"Location": url, "Cache-Control": "no-store"})
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{cid}"', **_KEEP}
    kind = "application/octet-stream"
    wanted = _RANGE.match(request.headers.get("range", ""))
    if wanted is None:
        return Response(data, media_type=kind, headers=headers)
    first = int(wanted[1])
    last = min(int(wanted[2]) if wanted[2] else len(data) - 1, len(data) - 1)
    if first > last:
        headers["Content-Range"] = f"bytes */{len(data)}"
        problem = {"error": "RangeError", "message": f"The blob has {len(data)} bytes."}
        return Response(by_hand.encode(problem), 416, media_type=wire.JSON_TYPE, headers=headers)
    headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    return Response(data[first : last + 1], _PARTIAL, media_type=kind, headers=headers)


@router.put(
    "/blobs/{cid}",
    tags=["blobs"],
    summary="Keep a blob",
    responses=errors(403),
    openapi_extra={"requestBody": {"required": True, "content": _BINARY}},
)
async def put_blob(
    cid: CidPath, request: Request, service: Service, caller: Caller
) -> models_runs.CidBody:
    """Keep bytes under their cid; refused if they have another."""
    caller.require("client", "worker")
    data = await request.body()
    kept = await service.aside(lambda: service.records.put_blob(cid, data))
    return models_runs.CidBody(cid=kept)


@router.post(
    "/blobs/{cid}/upload",
    tags=["blobs"],
    summary="Ask where a large blob is to be put",
    responses=errors(403),
)
async def begin_upload(
    cid: CidPath, body: models_runs.NewUpload, service: Service, caller: Caller
) -> models_runs.UploadBody:
    """Return a URL of S3 to PUT so many bytes to; none where they are to be put here.

    The upload is then kept by `PUT /blobs/{cid}/upload/{upload}`, if its bytes have that cid.
    """
    caller.require("client", "worker")
    parse_cid(cid)
    limit = service.settings.max_blob
    if body.size > limit:
        raise LimitError(f"The blob has {body.size} bytes; the limit is {limit}.", limit=limit)
    found = await service.aside(lambda: service.records.upload(body.size))
    if found is None:
        return models_runs.UploadBody(url=None, upload=None, expires_in=0)
    return models_runs.UploadBody(url=found.url, upload=found.upload, expires_in=SECONDS)


@router.put(
    "/blobs/{cid}/upload/{upload}",
    tags=["blobs"],
    summary="Keep what was uploaded to S3",
    responses=errors(403, 404),
)
async def keep_upload(
    cid: CidPath,
    upload: Annotated[str, Path(min_length=1, max_length=64, description="Its name.")],
    service: Service,
    caller: Caller,
) -> models_runs.CidBody:
    """Keep an upload under its cid; refused, and thrown away, if its bytes have another."""
    caller.require("client", "worker")
    parse_cid(cid)
    await service.aside(lambda: service.records.keep_upload(cid, upload))
    return models_runs.CidBody(cid=cid)
