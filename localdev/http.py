"""The agent's door: calls of functions, function URLs, what a task asks of ECS, orders of tests."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from localdev.functions import ThrottledError
from localdev.urls import event_of, response_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from localdev.agent import Agent

__all__ = ["Door", "Response"]

_JSON: Final = [("content-type", "application/json")]
Response = tuple[int, list[tuple[str, str]], bytes]


class Door:
    """An ASGI application."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer a request."""
        body = b""
        more = True
        while more:
            part = await receive()
            body += part.get("body", b"")
            more = part.get("more_body", False)
        status, headers, answer = await self.answer(scope, body)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (name.encode("latin-1"), value.encode("latin-1"))
                    for name, value in [*headers, ("content-length", str(len(answer)))]
                ],
            }
        )
        await send({"type": "http.response.body", "body": answer})

    async def answer(  # noqa: PLR0911 - one for each thing that is asked
        self, scope: dict[str, Any], body: bytes
    ) -> Response:
        """Return what a request is answered."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
        match scope["method"], scope["path"].strip("/").split("/"):
            case "POST", ["invoke"]:
                return await self._invoke(headers, body)
            case _, ["function-url", url_id, *_]:
                return await self._url(url_id, scope, body)
            case method, ["ecs", task_id, *rest]:
                return self._ecs(method, task_id, "/".join(rest), body)
            case "GET", ["status"]:
                return 200, _JSON, json.dumps(self._agent.status()).encode()
            case "POST", ["services", name, "kill"]:
                return _counted(await self._agent.services.kill(name))
            case "POST", ["services", name, "reclaim"]:
                return _counted(self._agent.services.reclaim(name))
            case "POST", ["services", name, "signal"]:
                number = signal.Signals[query.get("name", "SIGTERM")]
                return _counted(self._agent.services.send(name, number))
            case _:
                return 404, [], b"nothing is here"

    async def _invoke(self, headers: dict[str, str], body: bytes) -> Response:
        calls, named = self._agent.calls, headers["noob-function"]
        context = headers.get("noob-context", "")
        try:
            if headers.get("noob-kind") == "Event":
                await calls.call_later(named, body, context=context)
                return 202, [], b""
            answer = await calls.call(named, body, context=context, fresh=True)
        except ThrottledError as error:
            return 429, [], str(error).encode()
        except LookupError as error:
            return 404, [], str(error.args[0]).encode()
        return 200, [("noob-error", "1")] if answer.error else [], answer.payload

    async def _url(self, url_id: str, scope: dict[str, Any], body: bytes) -> Response:
        calls = self._agent.calls
        named = calls.at_url(url_id)
        if named is None:
            return 404, _JSON, b'{"Message":"There is no such function URL"}'
        event = event_of(
            url_id=url_id,
            method=scope["method"],
            path="/" + scope["path"].removeprefix(f"/function-url/{url_id}").lstrip("/"),
            query=scope["query_string"].decode("latin-1"),
            headers=[(n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"]],
            body=body,
        )
        try:
            return response_of(await calls.call(named, json.dumps(event).encode()))
        except ThrottledError:
            return 429, _JSON, b'{"Reason":"ConcurrentInvocationLimitExceeded"}'
        except LookupError as error:
            return 404, _JSON, json.dumps({"Message": str(error)}).encode()

    def _ecs(self, method: str, task_id: str, rest: str, body: bytes) -> Response:
        """Answer what a task asks of ECS: its metadata, and its protection from scale-in.

        https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
        """
        task = self._agent.services.find(task_id)
        if task is None:
            return 404, [], b"no such task"
        if rest == "task":
            told: dict[str, Any] = {
                "Cluster": task.service["cluster"],
                "TaskARN": task.arn,
                "Family": task.service["definition"].split("/")[-1].split(":")[0],
                "Revision": task.service["definition"].split(":")[-1],
                "KnownStatus": "RUNNING",
                "LaunchType": "FARGATE",
                "Containers": [task.metadata()],
            }
            return 200, _JSON, json.dumps(told).encode()
        if rest == "task-protection/v1/state":
            if method == "PUT":
                given = json.loads(body)
                minutes = float(given.get("ExpiresInMinutes", 120))
                protect = bool(given["ProtectionEnabled"])
                task.protected_until = time.monotonic() + 60 * minutes if protect else 0.0
            told = {"protection": {"ProtectionEnabled": task.protected, "TaskArn": task.arn}}
            return 200, _JSON, json.dumps(told).encode()
        return (200, _JSON, json.dumps(task.metadata()).encode()) if not rest else (404, [], b"")


def _counted(count: int) -> Response:
    return (200 if count else 404), _JSON, json.dumps({"tasks": count}).encode()
