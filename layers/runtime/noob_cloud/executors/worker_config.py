"""Where a worker server is, and what it may be given."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PORTS = range(1, 65536)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """One worker server, as its user knows it.

    The tags stand here and not in what the worker says of itself: a worker that claims to have a
    GPU gets no GPU task by that.

    Args:
        host: name or address.
        port: the port it listens on.
        tags: what may be asked of it, `"gpu"` or `"gpu,cuda"` or a list.
        token: its bearer token; None: the environment's `NOOB_CLOUD_TOKEN`.
        scheme: `http`, or `https` behind a TLS proxy.
        max_tasks: calls at once; None: as many as the worker says.
        worker_id: its name in messages and metrics; None: `host:port`.
    """

    host: str
    port: int = 8000
    tags: Iterable[str] | str = ()
    token: str | None = field(default=None, repr=False)
    scheme: str = "http"
    max_tasks: int | None = None
    worker_id: str | None = None

    def __post_init__(self) -> None:
        if self.scheme not in ("http", "https"):
            raise ValueError(f"scheme is {self.scheme!r}; it must be 'http' or 'https'")
        if self.port not in _PORTS:
            raise ValueError(f"port is {self.port}; it must be between 1 and 65535")
        if self.max_tasks is not None and self.max_tasks < 1:
            raise ValueError(f"max_tasks is {self.max_tasks}; it must be at least 1")
        tags = self.tags.split(",") if isinstance(self.tags, str) else self.tags
        object.__setattr__(self, "tags", frozenset(t.strip() for t in tags if t.strip()))
        if self.token is None:
            object.__setattr__(self, "token", os.environ.get("NOOB_CLOUD_TOKEN"))
        if self.worker_id is None:
            object.__setattr__(self, "worker_id", f"{self.host}:{self.port}")

    @property
    def url(self) -> str:
        """The worker's address."""
        return f"{self.scheme}://{self.host}:{self.port}"

    def serves(self, affinity: Iterable[str], required: Iterable[str]) -> bool:
        """Whether a task with these tags may go here: any of `affinity`, all of `required`."""
        own = frozenset(self.tags)
        wanted = frozenset(affinity)
        return (not wanted or bool(wanted & own)) and frozenset(required) <= own
