"""Calls of functions, from the emulated cloud to the agent that runs them."""

from __future__ import annotations

import base64
import os
from typing import Any, Final

import urllib3
from moto.awslambda.models import EventSourceMapping, LambdaBackend, LambdaFunction
from moto.awslambda.responses import LambdaResponse
from moto.core.exceptions import JsonRESTError

__all__ = ["AGENT_VARIABLE", "forward", "install"]

AGENT_VARIABLE: Final = "LOCALDEV_AGENT_URL"
"""Where the agent listens that runs functions."""
_MAX_CALL: Final = 6 << 20
_MAX_EVENT: Final = 1 << 20
_pool: Final = urllib3.PoolManager(maxsize=64, retries=False)


class _RefusedError(JsonRESTError):
    def __init__(self, code: int, kind: str, message: str) -> None:
        self.code = code
        super().__init__(kind, message)


def install() -> None:
    """Have functions called by the agent, and by nothing else."""
    LambdaBackend.invoke = _invoke  # type: ignore[method-assign]
    LambdaFunction.invoke = _invoke_directly  # type: ignore[method-assign]
    moto_create = LambdaBackend.create_event_source_mapping
    moto_parameter = LambdaResponse._get_param  # noqa: SLF001 - there is no other way in

    def create(self: LambdaBackend, spec: dict[str, Any]) -> EventSourceMapping:
        """Make the mapping; the agent polls the queue, instead of whoever sends to it."""
        from moto.sqs.models import sqs_backends  # noqa: PLC0415 - moto imports itself lazily too

        made = moto_create(self, spec)
        made.target = spec["FunctionName"]  # type: ignore[attr-defined]
        for queue in sqs_backends[self.account_id][self.region_name].queues.values():
            queue.lambda_event_source_mappings.clear()
        return made

    def parameter(self: LambdaResponse, name: str, *rest: Any) -> Any:
        """Find `Qualifier` where moto looks for `qualifier`."""
        found = moto_parameter(self, name, *rest)
        return moto_parameter(self, "Qualifier") if found is None and name == "qualifier" else found

    LambdaBackend.create_event_source_mapping = create  # type: ignore[method-assign]
    LambdaResponse._get_param = parameter  # type: ignore[method-assign, assignment]  # noqa: SLF001


def forward(name: str, payload: bytes, *, kind: str, context: str = "") -> tuple[bytes, bool]:
    """Have a function called: `NAME`, `NAME:VERSION` or `NAME:ALIAS`.

    Args:
        name: of the function.
        payload: what it is called with.
        kind: RequestResponse or Event.
        context: the client's, in base64.

    Returns:
        its answer, and whether that is an error.

    Raises:
        JsonRESTError: it is not called: too many run, or the payload is too large.
    """
    limit = _MAX_EVENT if kind == "Event" else _MAX_CALL
    if len(payload) > limit:
        raise _RefusedError(
            413,
            "RequestTooLargeException",
            f"{len(payload)} byte payload is too large for the {kind} invocation type"
            f" (limit {limit} bytes)",
        )
    answer = _pool.request(
        "POST",
        f"{os.environ[AGENT_VARIABLE]}/invoke",
        fields=None,
        body=payload,
        headers={"Noob-Function": name, "Noob-Kind": kind, "Noob-Context": context},
        timeout=urllib3.Timeout(connect=5, read=1000),
    )
    if answer.status == 429:  # noqa: PLR2004 - HTTP's
        raise _RefusedError(429, "TooManyRequestsException", answer.data.decode())
    if answer.status == 404:  # noqa: PLR2004
        raise _RefusedError(404, "ResourceNotFoundException", answer.data.decode())
    if answer.status >= 500:  # noqa: PLR2004
        raise _RefusedError(500, "ServiceException", answer.data.decode()[:500])
    return answer.data, answer.headers.get("Noob-Error") == "1"


def _invoke(
    self: LambdaBackend,
    function_name: str,
    qualifier: str | None,
    body: Any,
    headers: Any,
    response_headers: Any,
) -> bytes | None:
    function = self.get_function(function_name, qualifier)
    kind = headers.get("X-Amz-Invocation-Type") or "RequestResponse"
    if kind == "DryRun":
        return b""
    asked = function_name.rpartition(":function:")[2]
    if qualifier and ":" not in asked:
        asked = f"{asked}:{qualifier}"
    payload = body.encode() if isinstance(body, str) else body or b"{}"
    context = headers.get("X-Amz-Client-Context") or ""
    answer, failed = forward(asked, payload, kind=kind, context=_plain(context))
    if failed:
        response_headers["x-amz-function-error"] = "Unhandled"
    response_headers["x-amz-executed-version"] = str(function.version)
    response_headers["Content-Length"] = str(len(answer))
    return answer


def _plain(context: str) -> str:
    """Return the client's context as the runtime wants it: JSON, not base64."""
    return base64.b64decode(context).decode() if context else ""


def _invoke_directly(
    self: LambdaFunction, body: str, request_headers: Any, response_headers: Any
) -> bytes:
    """Call a function for another part of the emulated cloud."""
    kind = request_headers.get("x-amz-invocation-type", "RequestResponse")
    answer, failed = forward(self.function_name, body.encode(), kind=kind)
    if failed:
        response_headers["x-amz-function-error"] = "Unhandled"
    return answer
