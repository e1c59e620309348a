"""The worker server behind a function URL: the same application, without a server."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from anyio import CapacityLimiter
from mangum import Mangum

from noob_cloud.worker.server import create_app
from noob_cloud.worker.service import WorkerService

if TYPE_CHECKING:
    from noob_cloud.serverless.worker import Context
    from noob_cloud.worker.settings import WorkerSettings

__all__ = ["Web"]

_LARGEST: Final = 6 * 1024 * 1024
"""Bytes that a function may answer, https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
_ENVELOPE: Final = 4096


class Web:
    """Answers requests of a function URL (payload 2.0).

    AWS's signature is in `Authorization`, so the worker's token travels in `Noob-Token`.

    Args:
        settings: of the worker.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        app = create_app(settings)
        service = app.state.service = WorkerService(settings)
        service.start()
        app.state.threads = CapacityLimiter(settings.max_tasks + 4)
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._adapt = Mangum(app, lifespan="off")

    def __call__(self, event: dict[str, Any], context: Context) -> dict[str, Any]:
        """Answer one request."""
        if unquote(event["requestContext"]["http"]["path"]).rstrip("/") == "/shutdown":
            return _error(405, "A function cannot be shut down: it ends by itself.")
        headers = {name.lower(): value for name, value in event.get("headers", {}).items()}
        if "noob-token" in headers:
            headers["authorization"] = f"Bearer {headers.pop('noob-token')}"
        asyncio.set_event_loop(self._loop)
        answer: dict[str, Any] = self._adapt({**event, "headers": headers}, context)  # type: ignore[arg-type]
        size = len(answer.get("body") or "") + _ENVELOPE
        if size > _LARGEST:
            return _error(
                413,
                f"The answer has {_bytes(answer)} bytes; a function answers {_LARGEST} at most,"
                " encoded. Submit the task to the coordinator instead: large results go by S3.",
            )
        return answer


def _bytes(answer: dict[str, Any]) -> int:
    body = answer["body"]
    return len(base64.b64decode(body)) if answer.get("isBase64Encoded") else len(body)


def _error(status: int, message: str) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"error": "HTTPError", "message": message}),
        "isBase64Encoded": False,
    }
