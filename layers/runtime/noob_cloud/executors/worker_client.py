"""Talk to one worker server: plain HTTP/1.1 over kept connections, from any thread."""

from __future__ import annotations

import json
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from socket import SHUT_RDWR
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from noob_cloud.exceptions import UnavailableError

if TYPE_CHECKING:
    from noob_cloud.executors.worker_config import WorkerConfig

FRAME = "application/vnd.noob-cloud.frame"
_MOST_IDLE = 64


class Answer:
    """A response, read to its end."""

    __slots__ = ("body", "retry_after", "status")

    def __init__(self, status: int, body: bytes, retry_after: str | None) -> None:
        self.status = status
        self.body = body
        self.retry_after = retry_after

    @property
    def error(self) -> str:
        """Name of the error in a JSON body; empty when there is none."""
        return str(self.json().get("error", ""))

    @property
    def message(self) -> str:
        """The message of the error in a JSON body, or the start of the body."""
        return str(self.json().get("message") or self.body[:200].decode(errors="replace"))

    def json(self) -> dict[str, Any]:
        """Return the body as JSON, or an empty dict when it is not a JSON object."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


class WorkerClient:
    """A worker server's routes as methods; each blocks until the answer is there.

    Args:
        config: where the worker is, and the token for it.
        connect_timeout: seconds that a new connection may take.
    """

    def __init__(self, config: WorkerConfig, *, connect_timeout: float = 3.0) -> None:
        self.config = config
        self._connect_timeout = connect_timeout
        self._headers = {"Content-Type": FRAME, "Accept": f"{FRAME}, application/json"}
        if config.token is not None:
            self._headers["Authorization"] = f"Bearer {config.token}"
        self._idle: list[HTTPConnection] = []
        self._busy: set[HTTPConnection] = set()
        self._lock = Lock()
        self._closed = False
        self._aborts = 0

    def execute(
        self, frame: bytes, *, task_id: str, label: str, timeout: float | None, wait: float | None
    ) -> Answer:
        """POST a call. `timeout` is the worker's to keep; `wait` is how long we listen.

        Raises:
            UnavailableError: no whole answer came.
        """
        query = {"task_id": task_id, "label": label[:200]}
        if timeout is not None:
            query["timeout"] = f"{timeout:g}"
        return self.request("POST", f"/execute?{urlencode(query)}", frame, wait=wait)

    def load_tube(self, document: bytes, *, wait: float = 60.0) -> Answer:
        """POST a tube's document."""
        return self.request("POST", "/load_tube", document, wait=wait)

    def cancel(self, task_id: str, *, wait: float = 5.0) -> Answer:
        """Ask to stop a running call."""
        return self.request("POST", f"/cancel/{quote(task_id, safe='')}", wait=wait)

    def health(self, *, wait: float = 2.0) -> dict[str, Any]:
        """Return what the worker says of itself.

        Raises:
            UnavailableError: it says nothing, or that it is not well.
        """
        answer = self.request("GET", "/health", wait=wait)
        if answer.status != 200:  # noqa: PLR2004 - OK
            raise UnavailableError(f"{self.config.worker_id} answers /health with {answer.status}")
        said = answer.json()
        if said.get("status") not in ("ok", "draining"):
            raise UnavailableError(f"what answers /health at {self.config.url} is no worker server")
        return said

    def request(
        self, method: str, path: str, body: bytes = b"", *, wait: float | None = None
    ) -> Answer:
        """Make one request; one that meets a connection closed meanwhile is made again.

        Raises:
            UnavailableError: no whole answer came within `wait` seconds.
        """
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
                aborts = self._aborts
            kept = connection is not None
            try:
                if connection is None:
                    connection = self._connect()
                self._use(connection)
                if connection.sock is not None:
                    connection.sock.settimeout(wait)
                connection.request(method, path, body, self._headers)
                response = connection.getresponse()
                answer = Answer(response.status, response.read(), response.headers["Retry-After"])
            except TimeoutError as error:
                self._drop(connection)
                raise UnavailableError(
                    f"no answer from {self.config.worker_id} in {wait} s", timed_out=True
                ) from error
            except UnavailableError:
                self._drop(connection)
                raise
            except (OSError, HTTPException) as error:
                self._drop(connection)
                if (
                    kept and aborts == self._aborts
                ):  # the worker closed it while it was idle: ask again on a new one
                    continue
                raise UnavailableError(
                    f"no answer from {self.config.worker_id} at {self.config.url}: "
                    f"{type(error).__name__}: {error}",
                    timed_out=False,
                ) from error
            self._keep(connection, response.will_close)
            return answer

    def abort(self) -> None:
        """End the requests that wait for an answer; each raises an `UnavailableError`."""
        with self._lock:
            self._aborts += 1
            sockets = [connection.sock for connection in self._busy]
        for sock in sockets:
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(SHUT_RDWR)

    def close(self) -> None:
        """Close the connections that are idle, and others when their call ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            _close(connection)

    def _connect(self) -> HTTPConnection:
        config = self.config
        kind = HTTPSConnection if config.scheme == "https" else HTTPConnection
        connection = kind(config.host, config.port, timeout=self._connect_timeout)
        connection.connect()
        return connection

    def _use(self, connection: HTTPConnection) -> None:
        with self._lock:
            if self._closed:
                raise UnavailableError(f"the client of {self.config.worker_id} is closed")
            self._busy.add(connection)

    def _keep(self, connection: HTTPConnection, closing: bool) -> None:  # noqa: FBT001 - private
        with self._lock:
            self._busy.discard(connection)
            if not (closing or self._closed) and len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
                return
        _close(connection)

    def _drop(self, connection: HTTPConnection | None) -> None:
        if connection is not None:
            with self._lock:
                self._busy.discard(connection)
            _close(connection)


def _close(connection: HTTPConnection) -> None:
    with suppress(OSError):
        connection.close()
