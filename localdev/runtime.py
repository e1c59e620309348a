"""The Lambda Runtime API for one execution environment, which asks it for its next invocation.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Answer", "Invocation", "RuntimeApi"]

_VERSION: Final = "/2018-06-01/runtime/"
_MAX_HEAD: Final = 1 << 16
_BAD: Final = 400


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of a function."""

    id: str
    payload: bytes
    arn: str
    """What was called: the function's ARN, with the version or alias that the caller named."""
    deadline: float
    """Unix time at which it is cut off, in seconds."""
    trace: str = ""
    client_context: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an invocation."""

    payload: bytes
    error: bool = False
    """Whether the payload is an error of the function (`errorType`, `errorMessage`)."""

    @classmethod
    def failed(cls, kind: str, message: str) -> Answer:
        """Return the error that the platform answers for a function that cannot."""
        return cls(json.dumps({"errorType": kind, "errorMessage": message}).encode(), error=True)


@dataclass(slots=True)
class _Request:
    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class RuntimeApi:
    """Serves one environment on a port of its own: invocations go out, answers come in.

    Args:
        function: the function's ARN, told while the environment begins.
    """

    def __init__(self, function: str) -> None:
        self.function = function
        self.began = asyncio.Event()
        """Set once the environment asks for its first invocation."""
        self.init_error: Answer | None = None
        """What its initialization failed with."""
        self._next: asyncio.Queue[Invocation] = asyncio.Queue(1)
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen; return the address that the environment is told."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_MAX_HEAD)
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def invoke(self, invocation: Invocation) -> Answer:
        """Hand the environment an invocation; return what it answers."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[invocation.id] = answer
        try:
            await self._next.put(invocation)
            return await answer
        finally:
            del self._waiting[invocation.id]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read(reader)) is not None:
                writer.write(await self._answer(request))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the environment has ended
        except asyncio.CancelledError:
            return  # we end: asyncio's streams would log a cancelled connection as an error
        finally:
            writer.close()

    async def _answer(self, request: _Request) -> bytes:
        path = request.path.removeprefix(_VERSION)
        match request.method, path.split("/"):
            case "GET", ["invocation", "next"]:
                self.began.set()
                return _next(await self._next.get())
            case "GET", ["restore", "next"]:
                return _response(200, b"")  # restored at once: nothing was taken a snapshot of
            case "POST", ["init", "error"] | ["restore", "error"]:
                self.init_error = Answer(request.body, error=True)
                return _response(202, b'{"status":"OK"}')
            case "POST", ["invocation", id_, "response" | "error" as kind]:
                waiting = self._waiting.get(id_)
                if waiting is None or waiting.done():
                    return _response(400, b'{"errorType":"InvalidRequestID"}')
                waiting.set_result(Answer(request.body, error=kind == "error"))
                return _response(202, b'{"status":"OK"}')
            case _:
                return _response(404, b'{"errorType":"NotFound"}')


async def _read(reader: asyncio.StreamReader) -> _Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.split(":", 1) for line in lines)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    request = _Request(method, path, headers)
    if headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            request.body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        request.body = await reader.readexactly(int(headers.get("content-length", 0)))
    return request


def _next(invocation: Invocation) -> bytes:
    told = {
        "Content-Type": "application/json",
        "Lambda-Runtime-Aws-Request-Id": invocation.id,
        "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
        "Lambda-Runtime-Invoked-Function-Arn": invocation.arn,
        "Lambda-Runtime-Trace-Id": invocation.trace,
        "Lambda-Runtime-Client-Context": invocation.client_context,
    }
    return _response(200, invocation.payload, {key: value for key, value in told.items() if value})


def _response(status: int, body: bytes, headers: dict[str, Any] | None = None) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {'OK' if status < _BAD else 'Error'}",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
