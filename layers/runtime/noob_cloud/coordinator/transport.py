"""HTTP to a coordinator: kept-alive connections, and patience while it is restarted."""

from __future__ import annotations

import os
import random
import ssl
from collections import deque
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import urlsplit

import msgspec

from noob_cloud import exceptions
from noob_cloud.coordinator import wire
from noob_cloud.exceptions import CoordinatorError, NoobCloudError, UnavailableError
from noob_cloud.identity import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message

_AWAY: Final = frozenset((502, 503, 504))
_OK: Final = 400
_POOL: Final = 64
_LONGEST_PAUSE: Final = 2.0
PATIENCE: Final = 180.0
"""How long, in seconds, a coordinator may be away before its clients give up."""


class Reply:
    """An answer that is no error."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Message, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        """Return the body's JSON."""
        return msgspec.json.decode(self.body) if self.body else None


class Transport:
    """Requests to one coordinator; safe to share between threads, and after a fork.

    Args:
        url: `http://host:port`, or https.
        token: bearer token; by default the environment's `NOOB_CLOUD_TOKEN`.
        patience: how long to ride out refused connections and 503, in seconds.
        timeout: longest wait for an answer beyond what the request itself asks to wait.

    Raises:
        ValueError: the URL is none of a coordinator.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        patience: float = PATIENCE,
        timeout: float = 60.0,
    ) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no coordinator's URL, like http://127.0.0.1:8080")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._patience = patience
        self._timeout = timeout
        self._idle: deque[HTTPConnection] = deque()
        self._pid = os.getpid()
        token = token or os.environ.get(TOKEN_VARIABLE)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def close(self) -> None:
        """Close the connections; the next request opens one again."""
        while self._idle:
            self._idle.popleft().close()

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        wait: float = 0.0,
    ) -> Reply:
        """Send a request and return its answer; send it again while the coordinator is away.

        A request that is sent again says in its header Noob-Again how many seconds ago it was
        first sent.

        Args:
            method: of HTTP.
            path: with its query.
            body: of the request.
            headers: besides the token.
            wait: seconds that the coordinator may take on purpose.

        Raises:
            UnavailableError: the coordinator stayed away for all of our patience.
            NoobCloudError: it answered with an error; the class is the error's own.
        """
        said = {**self._headers, **(headers or {})}
        begun = monotonic()
        give_up = begun + self._patience
        attempt = 0
        while True:
            reply, trouble = self._try(method, path, body, said, wait)
            if reply is not None and reply.status not in _AWAY:
                if reply.status >= _OK:
                    _refuse(reply)
                return reply
            attempt += 1
            pause = min(_LONGEST_PAUSE, 0.05 * 2.0 ** min(attempt, 8))
            pause *= random.uniform(0.5, 1.0)  # noqa: S311 - so that clients do not come at once
            if monotonic() + pause > give_up:
                raise UnavailableError(
                    f"The coordinator at {self.url} cannot be reached: {trouble}. Start one with"
                    " `noob-cloud coordinator`.",
                    url=self.url,
                )
            sleep(pause)
            said["Noob-Again"] = f"{monotonic() - begun:.3f}"

    def _try(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], wait: float
    ) -> tuple[Reply | None, str]:
        begun = monotonic()
        connection, kept = self._connection(self._timeout + wait)
        while True:
            try:
                connection.request(method, self._prefix + path, body, dict(headers))
                answer = connection.getresponse()
                data = answer.read()
            except (OSError, HTTPException) as error:
                connection.close()
                if kept:  # closed while it was idle, most likely; or killed before it answered
                    headers = {"Noob-Again": f"{monotonic() - begun:.3f}", **headers}
                    connection, kept = self._connection(self._timeout + wait, fresh=True)
                    continue
                return None, f"{type(error).__name__}: {error}"
            reply = Reply(answer.status, answer.headers, data)
            if answer.will_close:
                connection.close()
            elif len(self._idle) < _POOL:
                self._idle.append(connection)
            else:
                connection.close()
            return reply, f"it answers {answer.status}"

    def _connection(self, timeout: float, *, fresh: bool = False) -> tuple[HTTPConnection, bool]:
        if self._pid != os.getpid():  # a connection belongs to the process that opened it
            self._idle = deque()
            self._pid = os.getpid()
        try:
            if not fresh:
                kept = self._idle.pop()
                if kept.sock is not None:
                    kept.sock.settimeout(timeout)
                    return kept, True
        except IndexError:
            pass
        if self._tls is not None:
            return (
                HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls),
                False,
            )
        return HTTPConnection(self._host, self._port, timeout=timeout), False


def _refuse(reply: Reply) -> NoReturn:
    """Raise the error that the coordinator answered with."""
    try:
        said = reply.json()
        name, message = said.pop("error"), said.pop("message")
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        text = reply.body[:200].decode("utf-8", "replace")
        raise CoordinatorError(f"The coordinator answers {reply.status}: {text}") from None
    kind = getattr(exceptions, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, NoobCloudError)):
        raise CoordinatorError(f"{name}: {message}", status=reply.status)
    data = {str(key): value for key, value in said.items() if str(key).isidentifier()}
    raise kind(str(message), **data)


FRAMES: Final = {"Content-Type": wire.FRAME_TYPE}
"""Headers of a request whose body is a frame."""
FRAME_PLEASE: Final = {"Accept": wire.FRAME_TYPE}
"""Headers of a request whose answer is to be a frame."""
JSON: Final = {"Content-Type": wire.JSON_TYPE}
"""Headers of a request whose body is JSON."""
