"""What a worker is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from noob_cloud.identity import TokenBook
    from noob_cloud.tubes import TubeSource


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker server runs tasks and for whom."""

    tokens: TokenBook
    """Who may ask for what."""
    worker_id: str = "worker"
    tags: frozenset[str] = frozenset()
    """What this machine offers, for people to read; who sends it tasks decides by its own list."""
    tube: TubeSource | None = None
    """A tube loaded before the first request; its modules are allowed."""
    allowed_modules: tuple[str, ...] = ()
    """Prefixes of the modules that tubes sent here may import."""
    max_tasks: int = 4
    """Calls at once; one more is answered 429."""
    max_body: int = 256 * 1024 * 1024
    """Bytes of a request's body; more is answered 413."""
    task_timeout: float | None = 300.0
    """Longest run of a call that names no timeout, in seconds; None: no limit."""
    drain_seconds: float = 30.0
    """How long running calls may take to end when the worker shuts down."""
    isolate: bool = True
    """Run calls in child processes, where they can be killed; False: in threads."""
    coordinator: str | None = None
    """URL of a coordinator to pull tasks from as well, or `s3://bucket/prefix` of its replica."""
    coordinator_token: str | None = field(default=None, repr=False)
    """The token for it; None: the environment's `NOOB_CLOUD_TOKEN`."""
    accept_untagged: bool = True
    """Whether tasks without tags are pulled."""
    modules: tuple[str, ...] = field(default=(), init=False)
    """Every prefix that is allowed: `allowed_modules` and the modules of `tube`."""

    def __post_init__(self) -> None:
        own = () if self.tube is None else tuple(self.tube.modules)
        object.__setattr__(self, "modules", (*self.allowed_modules, *own))
