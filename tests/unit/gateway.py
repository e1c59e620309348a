"""An API Gateway with IAM at the edge, as far as a client sees it: signatures and size limits."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ACCESS, SECRET, SESSION, REGION = "AKIDTEST", "a-secret", "a-session", "eu-central-1"
MOST = 10_000_000
"""Bytes of a request or an answer."""


class Gateway:
    """Lets signed requests through to `app`, as the gateway would."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.seen: Counter[str] = Counter()
        self.failures: list[int] = []
        """Statuses to answer with before anything is let through."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.seen[scope["path"]] += 1
        status = self._refusal(scope, body)
        if status:
            await _say(send, status)
            return

        told = False

        async def again() -> Any:
            nonlocal told
            if told:
                return await receive()
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        size = 0
        held: list[Any] = []

        async def bounded(message: Any) -> None:
            nonlocal size
            size += len(message.get("body", b""))
            held.append(message)

        await self.app(scope, again, bounded)
        if size > MOST:
            await _say(send, 500)
            return
        for message in held:
            await send(message)

    def _refusal(self, scope: Any, body: bytes) -> int:
        if self.failures:
            return self.failures.pop(0)
        if len(body) > MOST:
            return 413
        return 0 if verified(scope, body) else 403


def verified(scope: Any, body: bytes) -> bool:
    """Whether the request carries the signature that its sender's secret makes."""
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    said = headers.get("authorization", "")
    if not said.startswith("AWS4-HMAC-SHA256 ") or headers.get("x-amz-security-token") != SESSION:
        return False
    parts = dict(part.strip().split("=", 1) for part in said.split(" ", 1)[1].split(","))
    access, date, region, service, _ = parts["Credential"].split("/")
    if (access, region, service) != (ACCESS, REGION, "execute-api"):
        return False
    if not headers["x-amz-date"].startswith(date):
        return False
    path = quote(scope["path"], safe="/~")
    query = scope["query_string"].decode()
    if "+" in query:  # the gateway takes it for a plus, clients for a space: neither may rely on it
        return False
    request = AWSRequest(
        method=scope["method"],
        url=f"http://{headers['host']}{path}" + (f"?{query}" if query else ""),
        data=body,
        headers={name: headers[name] for name in parts["SignedHeaders"].split(";")},
    )
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials(ACCESS, SECRET, SESSION), service, region)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return signer.signature(text, request) == parts["Signature"]


async def _say(send: Any, status: int) -> None:
    body = json.dumps({"message": {403: "Forbidden"}.get(status, "Service Unavailable")}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
