"""A coordinator that moves: its lease in S3 says where it listens now."""

from __future__ import annotations

import logging
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec

from noob_cloud.coordinator.transport import Reply, Transport
from noob_cloud.exceptions import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FollowingTransport", "leased_url"]

_log = logging.getLogger(__name__)
_AWAY: Final = 500
_PAUSE: Final = 0.5
"""Seconds between two looks at the lease."""


def leased_url(replica: str) -> str:
    """Return where the coordinator of a replica listens.

    Args:
        replica: `s3://bucket/prefix`, perhaps with `?endpoint_url=http://...`.

    Raises:
        UnavailableError: none has begun, the last one has handed over, or S3 does not answer.
        ValueError: it is no such place.
    """
    from noob_cloud.coordinator.durability import Place  # noqa: PLC0415 - needs boto3

    place = Place.parse(replica)
    held = place.read("lease.json")
    told = {} if held is None else msgspec.json.decode(held[0])
    if not told.get("url") or told.get("released"):
        why = "none has begun" if held is None else "the last one has handed over"
        raise UnavailableError(
            f"No coordinator serves {place}: {why}. Wait until its service has started."
        )
    return str(told["url"])


class FollowingTransport(Transport):
    """A transport that looks for the coordinator again when it does not answer.

    Args:
        find: returns its URL; an `UnavailableError` says that there is none now.
        url: where it was lately; by default what `find` returns.
        options: further arguments of `Transport`.
    """

    def __init__(self, find: Callable[[], str], *, url: str | None = None, **options: Any) -> None:
        super().__init__(url or find(), **options)
        self._find = find
        self._looked = monotonic() - _PAUSE
        self._looking = Lock()

    def _try(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], wait: float
    ) -> tuple[Reply | None, str]:
        reply, trouble = super()._try(method, path, body, headers, wait)
        if reply is None or reply.status >= _AWAY:
            self._look_again()
        return reply, trouble

    def _look_again(self) -> None:
        with self._looking:
            if monotonic() - self._looked < _PAUSE:
                return
            self._looked = monotonic()
            try:
                url = self._find()
            except UnavailableError as error:
                _log.debug("no coordinator is found: %s", error)
                return
            if url.rstrip("/") == self.url:
                return
            _log.info("the coordinator has moved from %s to %s", self.url, url)
            there = Transport(url)
            for name in ("url", "_host", "_port", "_prefix", "_tls"):
                setattr(self, name, getattr(there, name))
            self.close()
