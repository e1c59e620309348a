"""A coordinator's blob store, over HTTP; large blobs go to S3 and come from there by its word."""

from __future__ import annotations

from http.client import HTTPException
from time import sleep
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

import msgspec

from noob_cloud.coordinator import wire
from noob_cloud.coordinator.transport import JSON
from noob_cloud.exceptions import (
    BlobError,
    BlobNotFoundError,
    CoordinatorError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from noob_cloud.coordinator.transport import Transport
    from noob_cloud.queue.bodies import Blobs

_OCTETS: Final = {"Content-Type": "application/octet-stream"}
_ELSEWHERE: Final = 307
_NO_SUCH_ROUTE: Final = frozenset((404, 405))
_DENIED: Final = frozenset(("AccessDenied", "403", "Forbidden", "AllAccessDisabled"))
_TIMEOUT: Final = 60.0
_TRIES: Final = 4
_GONE: Final = frozenset((403, 404))


class RemoteBlobs:
    """The coordinator's blob store."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def put(self, data: bytes) -> str:
        """Keep `data` and return its cid."""
        from noob_cloud.cid import cid  # noqa: PLC0415 - loads blake3

        name = cid(data)
        if len(data) <= wire.LARGE or not self._upload(name, data):
            self._transport.send("PUT", f"/blobs/{name}", bytes(data), headers=_OCTETS)
        return name

    def get(self, cid: str) -> bytes:
        """Return the bytes with this cid, verified.

        Raises:
            BlobNotFoundError: there are none.
            BlobCorruptError: what arrived has another cid.
        """
        from noob_cloud.blobs.interface import verify  # noqa: PLC0415 - loads blake3

        return verify(cid, self._get(cid, {}), self._transport.url)

    def get_range(self, cid: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start` on, unverified."""
        if length == 0:
            return b""
        return self._get(cid, {"Range": f"bytes={start}-{start + length - 1}"})

    def has(self, cid: str) -> bool:
        """Whether the coordinator has it."""
        try:
            self.get_range(cid, 0, 1)
        except BlobNotFoundError:
            return False
        return True

    def _get(self, cid: str, headers: Mapping[str, str]) -> bytes:
        path = f"/blobs/{quote(cid, safe='')}"
        for left in (1, 0):
            reply = self._transport.send("GET", path, headers=headers)
            if reply.status != _ELSEWHERE:
                break
            try:
                return _carried(reply.json()["url"], headers=headers)
            except PermissionError as error:  # the URL is too old by now: ask for another
                if not left:
                    raise BlobError(f"S3 does not give {cid}: {error}", cid=cid) from error
        return reply.body

    def _upload(self, name: str, data: bytes) -> bool:
        """Put a large blob where the coordinator says; False: it is to be put there itself."""
        body = msgspec.json.encode({"size": len(data)})
        try:
            reply = self._transport.send("POST", f"/blobs/{name}/upload", body, headers=JSON)
        except CoordinatorError as error:
            if getattr(error, "status", None) in _NO_SUCH_ROUTE:  # an older coordinator
                return False
            raise
        told: dict[str, Any] = reply.json()
        if told["url"] is None:
            return False
        try:
            _carried(told["url"], data, headers=_OCTETS)
        except PermissionError as error:
            raise BlobError(f"S3 does not take {name}: {error}", cid=name) from error
        self._transport.send("PUT", f"/blobs/{name}/upload/{told['upload']}")
        return True


class DirectBlobs:
    """Blobs of a store that is reached itself, and by the coordinator where that is not allowed.

    Args:
        store: where the blobs lie.
        remote: the coordinator's, which signs what the caller may not ask for himself.
    """

    def __init__(self, store: Blobs, remote: RemoteBlobs) -> None:
        self._store = store
        self._remote = remote
        self._denied = False

    def put(self, data: bytes) -> str:
        """Keep `data` and return its cid."""
        return str(self._ask("put", data))

    def get(self, cid: str) -> bytes:
        """Return the bytes with this cid, verified.

        Raises:
            BlobNotFoundError: there are none.
            BlobCorruptError: what arrived has another cid.
        """
        return bytes(self._ask("get", cid))

    def get_range(self, cid: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start` on, unverified."""
        return bytes(self._ask("get_range", cid, start, length))

    def has(self, cid: str) -> bool:
        """Whether it is there."""
        return bool(self._ask("has", cid))

    def _ask(self, what: str, *arguments: Any) -> Any:
        if not self._denied:
            try:
                return getattr(self._store, what)(*arguments)
            except BlobError as error:
                if getattr(error, "code", None) not in _DENIED:
                    raise
        # without the right to list, S3 says of what is missing that it is forbidden
        found = getattr(self._remote, what)(*arguments)
        self._denied = self._denied or what == "put" or bool(found)
        return found


def _carried(url: str, data: bytes | None = None, *, headers: Mapping[str, str]) -> bytes:
    """GET from a signed URL, or PUT to it, again while S3 does not answer.

    Raises:
        PermissionError: the URL is not good, or not any more.
        UnavailableError: S3 does not answer.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise CoordinatorError(f"The coordinator names {url[:100]!r}, which is no URL of S3.")
    for attempt in range(1, _TRIES + 1):
        request = Request(  # noqa: S310 - looked at above
            url, data, dict(headers), method="GET" if data is None else "PUT"
        )
        try:
            with urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310 - as above
                found: bytes = answer.read()
                return found
        except HTTPError as error:
            with error:
                said = f"{error.code} {error.read(300).decode(errors='replace')}"
            if error.code in _GONE:
                raise PermissionError(said) from error
            trouble: str = said
        except (OSError, HTTPException) as error:
            trouble = str(error)
        if attempt < _TRIES:
            sleep(0.1 * 4**attempt)
    raise UnavailableError(f"S3 at {urlsplit(url).netloc} does not answer: {trouble}")
