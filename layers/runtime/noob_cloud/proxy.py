"""A way for a browser to a deployed coordinator: it cannot sign requests, so this does it for it.

It listens on this machine alone and wants a key, made for the day, of every request for data: pages
of other sites, and other users of the machine, have neither the key nor the right `Host`.
"""

from __future__ import annotations

import hmac
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from noob_cloud.coordinator.answers import body_of, status_of
from noob_cloud.exceptions import AuthenticationError, ForbiddenError, LimitError, NoobCloudError

if TYPE_CHECKING:
    from noob_cloud.coordinator.transport import Reply, Transport

__all__ = ["Proxy"]

OPEN: Final = frozenset(("/", "/dashboard", "/favicon.ico", "/health"))
"""Paths that hold no data and want no key."""
_TOWARDS: Final = ("content-type",)
_BACK: Final = (
    "content-type",
    "content-security-policy",
    "x-content-type-options",
    "referrer-policy",
    "cache-control",
)
_MOST_BYTES: Final = 1_000_000
"""Of a request: the page sends but ids."""
_SLOWEST: Final = 30.0
"""Seconds that a browser may take to send a request."""


class Proxy(ThreadingHTTPServer):
    """Serves the coordinator that `transport` reaches to a browser on this machine.

    Args:
        transport: signs, and has the kit's token.
        port: to listen on; 0: any free one.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, transport: Transport, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.transport = transport
        self.key = secrets.token_urlsafe(24)
        """What the page has to send."""
        names = ("127.0.0.1", "localhost")
        self.hosts = frozenset(f"{name}:{self.server_port}" for name in names)

    @property
    def url(self) -> str:
        """The page, with the key where a browser keeps it from the network."""
        return f"http://127.0.0.1:{self.server_port}/dashboard#{self.key}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that hung up."""

    def answer(self, method: str, path: str, body: bytes | None, said: Any) -> Reply:
        """Pass a request on.

        Raises:
            NoobCloudError: it is refused, here or there.
        """
        self._check(path, said)
        headers = {name: said[name] for name in _TOWARDS if name in said}
        return self.transport.send(method, path, body, headers=headers, wait=30.0)

    def _check(self, path: str, said: Any) -> None:
        """Refuse what another site's page, or another user's program, would send."""
        if said.get("host") not in self.hosts:
            raise ForbiddenError(
                f"This is {min(self.hosts)}; {said.get('host')!r} is another host."
            )
        origin = said.get("origin")
        if origin is not None and urlsplit(origin).netloc not in self.hosts:
            raise ForbiddenError(f"A page of {origin} may not ask here.")
        if said.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise ForbiddenError("A page of another site may not ask here.")
        if urlsplit(path).path in OPEN:
            return
        key = (said.get("authorization") or "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(key.encode(), self.key.encode()):
            raise AuthenticationError(
                "The key is not this proxy's: open the address that `noob-cloud dashboard` printed."
            )


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"
    timeout = _SLOWEST

    def do_GET(self) -> None:
        """Pass it on."""
        self._pass_on(None)

    def do_POST(self) -> None:
        """Pass it on with its body."""
        size = self.headers.get("content-length", "0")
        if not size.isdecimal() or int(size) > _MOST_BYTES or "transfer-encoding" in self.headers:
            self.close_connection = True
            self._refuse(LimitError(f"A request may have {_MOST_BYTES} bytes, and says how many."))
            return
        self._pass_on(self.rfile.read(int(size)))

    def _pass_on(self, body: bytes | None) -> None:
        try:
            if not self.path.startswith("/"):
                raise ForbiddenError("The path begins with a slash.")
            reply = self.server.answer(self.command, self.path, body, self.headers)
        except NoobCloudError as error:
            self._refuse(error)
            return
        headers = {name: reply.headers[name] for name in _BACK if name in reply.headers}
        self._send(reply.status, headers, reply.body)

    def _refuse(self, error: NoobCloudError) -> None:
        self._send(status_of(error), {"content-type": "application/json"}, body_of(error))

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing: a request line may have what is nobody's business."""
