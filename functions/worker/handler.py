"""Lambda's way into the worker."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from noob_cloud.serverless.bytecode import keep_bytecode

keep_bytecode()  # before anything large is imported

from noob_cloud.serverless.worker import WorkerFunction  # noqa: E402 - see above

if TYPE_CHECKING:
    from noob_cloud.serverless.worker import Context

_worker = WorkerFunction()
if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    _worker.prepare()


def handler(event: Any, context: Context) -> dict[str, Any]:
    """Answer a wake-up, messages of a queue, or a request."""
    return _worker.handle(event, context)
