"""Tasks that a run has on the chain, from their purchase to their result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from noob_cloud.blockchain.amounts import to_eth
from noob_cloud.blockchain.views import TaskState

if TYPE_CHECKING:
    from concurrent.futures import Future
    from decimal import Decimal

    from noob_cloud.blockchain.views import ChainTask

__all__ = ["Offer", "Report", "WorkerReport"]


@dataclass(eq=False)
class Offer:
    """One task that was bought."""

    cid: str
    payload: bytes
    """Frame of the call."""
    document: bytes
    """Of its tube."""
    futures: list[tuple[Future[Any], int]] = field(default_factory=list)
    """Who waits for the outputs of which of its epochs."""
    generation: int = 0
    bought_at: float | None = None
    """Monotonic time; None: not yet."""
    task: ChainTask | None = None
    """As it stood when last looked at."""
    result_cid: str | None = None
    value: Any = None
    """What the worker's result holds, or one's own."""
    arrived: bool = False
    """Whether `value` is there."""
    wrong: str | None = None
    """Why the worker's result is not taken; None: it is, or there is none yet."""
    checked: bool = False
    """Whether it was executed again here."""
    challenged: bool = False
    """Whether this run has challenged the result."""
    bond: int = 0
    """What that staked, in wei."""
    touched: dict[str, float] = field(default_factory=dict)
    """Monotonic time at which something was last tried for it."""
    done: bool = False
    """Whether those who wait have their value."""
    closed: bool = False
    """Whether nothing is left to do about it on the chain."""

    @property
    def bought(self) -> bool:
        """Whether it is on the chain."""
        return self.bought_at is not None

    @property
    def state(self) -> TaskState:
        """As it stood when last looked at."""
        return TaskState.NONE if self.task is None else self.task.state

    @property
    def worker(self) -> str | None:
        """Who holds or did it."""
        return None if self.task is None else self.task.worker


@dataclass
class WorkerReport:
    """What one worker did for a run."""

    address: str
    tasks: int = 0
    """Results that were taken."""
    checked: int = 0
    wrong: int = 0
    earned_wei: int = 0
    """Rewards of the tasks whose results stand; paid once the time for challenges is over."""

    @property
    def earned_eth(self) -> Decimal:
        """The same in ether."""
        return to_eth(self.earned_wei)


@dataclass
class Report:
    """What a run did on the chain."""

    tasks: int = 0
    resumed: int = 0
    """Tasks that a run of the same name had bought before."""
    done_here: int = 0
    """Tasks that nobody took, and were executed here."""
    workers: dict[str, WorkerReport] = field(default_factory=dict)
    challenges: list[tuple[str, str, str]] = field(default_factory=list)
    """cid, worker and reason of each result that is not taken."""
    notes: list[str] = field(default_factory=list)
    """What could not be done, and why."""

    def of(self, address: str) -> WorkerReport:
        """Return what is said of one worker."""
        return self.workers.setdefault(address.lower(), WorkerReport(address))
