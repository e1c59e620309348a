"""One node: a request goes there, and a bounded answer comes back, both as JSON."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from noob_cloud.blockchain.errors import RpcError

if TYPE_CHECKING:
    import httpx

__all__ = ["Endpoint", "HttpEndpoint", "shown"]


class Endpoint(Protocol):
    """One node."""

    name: str
    """What it is called in messages: nothing secret."""

    def post(self, body: bytes) -> bytes:
        """Return the node's answer to a request, both as JSON.

        Raises:
            RpcError: it could not be had.
        """


def shown(url: str) -> str:
    """Return an address without what may be a key in it."""
    parts = urlsplit(url)
    host = parts.hostname or "?"
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"


class HttpEndpoint:
    """A node behind HTTP.

    Args:
        url: its address; nothing but scheme, host and port is ever shown of it.
        timeout: seconds that a request may take as a whole.
        max_bytes: the longest answer that is read.
    """

    def __init__(self, url: str, *, timeout: float, max_bytes: int) -> None:
        self._url = url
        self.name = shown(url)
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._http: httpx.Client | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"HttpEndpoint({self.name!r})"

    def _client(self) -> httpx.Client:
        import httpx  # noqa: PLC0415 - costs a tenth of a second

        with self._lock:
            if self._http is None:
                self._http = httpx.Client(
                    timeout=self._timeout,
                    limits=httpx.Limits(max_connections=64, max_keepalive_connections=64),
                    headers={"content-type": "application/json"},
                )
            return self._http

    def post(self, body: bytes) -> bytes:
        """Return the node's answer.

        Raises:
            RpcError: it cannot be reached, is too slow, says too much, or answers an error of HTTP.
        """
        import httpx  # noqa: PLC0415 - see above

        ends = time.monotonic() + self._timeout
        parts: list[bytes] = []
        size = 0
        try:
            with self._client().stream("POST", self._url, content=body) as reply:
                for part in reply.iter_bytes():
                    size += len(part)
                    if size > self._max_bytes:
                        raise RpcError(
                            f"{self.name} answers with more than {self._max_bytes:,} bytes: ask for"
                            " less at once, or raise max_answer_bytes.",
                            endpoint=self.name,
                            too_large=True,
                        )
                    if time.monotonic() > ends:
                        raise self._slow()
                    parts.append(part)
        except httpx.TimeoutException as error:
            raise self._slow() from error
        except httpx.HTTPError as error:
            # the error's own words may hold the address, and so a key
            raise RpcError(
                f"{self.name} cannot be reached: {type(error).__name__}.", endpoint=self.name
            ) from None
        answer = b"".join(parts)
        if reply.status_code >= 400 and not answer.lstrip().startswith((b"{", b"[")):  # noqa: PLR2004 HTTP
            raise RpcError(
                f"{self.name} answers HTTP {reply.status_code}.",
                endpoint=self.name,
                status=reply.status_code,
            )
        return answer

    def _slow(self) -> RpcError:
        return RpcError(
            f"{self.name} has not answered within {self._timeout:g} s (rpc_timeout).",
            endpoint=self.name,
            slow=True,
        )

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            client, self._http = self._http, None
        if client is not None:
            client.close()
