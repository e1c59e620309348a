"""Function URLs: an HTTP request as a function's event, and its answer as a response.

https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html (payload format 2.0)
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote
from uuid import uuid4

if TYPE_CHECKING:
    from localdev.runtime import Answer

__all__ = ["event_of", "response_of"]

_TEXT: Final = ("text/", "application/json", "application/javascript", "application/xml")


def event_of(
    *, url_id: str, method: str, path: str, query: str, headers: list[tuple[str, str]], body: bytes
) -> dict[str, Any]:
    """Return the event that a request to a function URL is."""
    joined: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in headers:
        if name == "cookie":
            cookies += value.split("; ")
        else:
            joined[name] = f"{joined[name]},{value}" if name in joined else value
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": quote(path),
        "rawQueryString": query,
        "headers": joined,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": url_id,
            "domainName": joined.get("host", "localhost"),
            "domainPrefix": url_id,
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": joined.get("user-agent", ""),
            },
            "requestId": str(uuid4()),
            "routeKey": "$default",
            "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime()),
            "timeEpoch": int(time.time() * 1000),
        },
        "isBase64Encoded": False,
    }
    if cookies:
        event["cookies"] = cookies
    if parameters:
        event["queryStringParameters"] = parameters
    if body:
        kind = joined.get("content-type", "")
        text = kind.startswith(_TEXT) and not joined.get("content-encoding")
        event["isBase64Encoded"] = not text
        event["body"] = body.decode() if text else base64.b64encode(body).decode()
    return event


def response_of(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return the status, headers and body that a function's answer is."""
    if answer.error:
        return 502, [("content-type", "text/plain")], b"Internal Server Error"
    try:
        told = json.loads(answer.payload)
    except ValueError:
        return 502, [("content-type", "text/plain")], b"Internal Server Error"
    if not isinstance(told, dict) or "statusCode" not in told:
        plain = told if isinstance(told, str) else json.dumps(told)
        return 200, [("content-type", "application/json")], plain.encode()
    text = told.get("body") or ""
    body: bytes = base64.b64decode(text) if told.get("isBase64Encoded") else text.encode()
    headers = [
        (str(name).lower(), str(value)) for name, value in (told.get("headers") or {}).items()
    ]
    headers = [pair for pair in headers if pair[0] != "content-length"]
    headers += [("set-cookie", cookie) for cookie in told.get("cookies") or []]
    if not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", "application/json"))
    return int(told["statusCode"]), headers, body
