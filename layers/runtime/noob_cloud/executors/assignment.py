"""Which waiting call goes to which worker, and which call has nowhere to go."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from noob_cloud.exceptions import NoWorkerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from noob_cloud.executors.balance import Balancer
    from noob_cloud.executors.remote_worker import RemoteWorker
    from noob_cloud.task import StageCall
    from noob_cloud.tubes import TubeSource

Tags = tuple[frozenset[str], frozenset[str]]
"""Any-of and all-of."""
_LOOK_AHEAD = 16
"""Calls of one tag set that are looked at when the first may not go where there is room."""


@dataclass(eq=False, slots=True)
class Job:
    """One call on its way to a result."""

    call: StageCall
    tube: TubeSource
    frame: bytes
    tags: Tags
    order: tuple[int, int]
    """Priority, then the order of submission."""
    timeout: float | None
    retries: int
    """How often it is tried again when its node raises."""
    future: Future[Any]
    task_id: str = field(default_factory=lambda: uuid4().hex)
    """A new one for each attempt: what the worker is asked to cancel."""
    worker: RemoteWorker | None = None
    failures: int = 0
    """Times its node raised."""
    losses: int = 0
    """Times its worker was lost."""
    avoid: set[int] = field(default_factory=set)
    """Workers that have failed it, while there are others."""

    def __lt__(self, other: Job) -> bool:
        return self.order < other.order


class Assignment:
    """Calls that wait, by their tags. Not thread-safe: its owner's lock guards it.

    Args:
        workers: all workers.
        balancer: chooses among several.
        patience: seconds without any usable worker after which a call is given up; at once when
            it is known that there will be none by then.
    """

    def __init__(
        self, workers: Sequence[RemoteWorker], balancer: Balancer, *, patience: float
    ) -> None:
        self._workers = workers
        self._balancer = balancer
        self._patience = patience
        self._waiting: dict[Tags, list[Job]] = {}
        self._later: list[tuple[float, Job]] = []
        self._serving: dict[Tags, list[RemoteWorker]] = {}
        self._stuck_since: dict[Tags, float] = {}

    def __len__(self) -> int:
        return len(self._later) + sum(len(jobs) for jobs in self._waiting.values())

    @property
    def jobs(self) -> list[Job]:
        """Every call that waits."""
        return [job for jobs in self._waiting.values() for job in jobs] + [
            j for _, j in self._later
        ]

    def serving(self, tags: Tags) -> list[RemoteWorker]:
        """Return the workers that have the tags.

        Raises:
            NoWorkerError: there is none; the message names what is missing.
        """
        if tags not in self._serving:
            workers = [worker for worker in self._workers if worker.serves(*tags)]
            if not workers:
                raise NoWorkerError(
                    f"no worker has {_named(tags)}; the {len(self._workers)} known workers have "
                    f"{_offered(self._workers)}. Say what a worker may be given with "
                    "WorkerConfig(tags=[...])",
                    affinity_tags=sorted(tags[0]),
                    required_tags=sorted(tags[1]),
                )
            self._serving[tags] = workers
        return self._serving[tags]

    def add(self, job: Job) -> None:
        """Let a call wait for a worker."""
        heappush(self._waiting.setdefault(job.tags, []), job)

    def add_later(self, job: Job, when: float) -> None:
        """Let a call wait until `when`, and then for a worker."""
        heappush(self._later, (when, job))

    def remove(self, job: Job) -> None:
        """Forget a call that waits."""
        jobs = self._waiting.get(job.tags, [])
        if job in jobs:
            jobs.remove(job)
            heapify(jobs)
        self._later = [entry for entry in self._later if entry[1] is not job]
        heapify(self._later)

    def take(self, *, now: float) -> list[tuple[Job, RemoteWorker]]:
        """Give waiting calls to free workers, the most urgent first; the pairs have begun."""
        while self._later and self._later[0][0] <= now:
            self.add(heappop(self._later)[1])
        pairs = []
        for tags, jobs in self._waiting.items():
            aside: list[Job] = []
            while jobs and len(aside) < _LOOK_AHEAD:
                free = [worker for worker in self._serving[tags] if worker.free(now=now)]
                if not free:
                    break
                job = heappop(jobs)
                fit = [worker for worker in free if worker.index not in job.avoid]
                if not fit:
                    others = [w for w in self._serving[tags] if w.index not in job.avoid]
                    if any(_usable(worker, now) for worker in others):
                        aside.append(job)
                        continue
                    fit = free  # whoever has failed it is better than nobody
                worker = self._balancer.choose(fit)
                worker.begin(now=now)
                pairs.append((job, worker))
            for job in aside:
                heappush(jobs, job)
        return pairs

    def give_up(self, *, now: float) -> list[tuple[Job, Exception]]:
        """Take out the calls that no worker will run, each with the reason."""
        lost: list[tuple[Job, Exception]] = []
        for tags, jobs in self._waiting.items():
            serving = self._serving[tags]
            if not jobs or any(_usable(worker, now) for worker in serving):
                self._stuck_since.pop(tags, None)
                continue
            faults = [worker.fault for worker in serving if worker.fault is not None]
            end = self._stuck_since.setdefault(tags, now) + self._patience
            if now < end and any(worker.usable_from(now=now) < end for worker in serving):
                continue
            states = "; ".join(f"{worker.name} is {worker.state(now=now)}" for worker in serving)
            for job in jobs:
                error = NoWorkerError(f"no worker with {_named(tags)} can be used: {states}")
                error.__cause__ = faults[0] if faults else None
                lost.append((job, error))
            jobs.clear()
        return lost


def _usable(worker: RemoteWorker, now: float) -> bool:
    if worker.fault is not None or not worker.reachable:
        return False
    return worker.active > 0 or worker.breaker.allows(now=now)


def _named(tags: Tags) -> str:
    affinity, required = tags
    parts = []
    if affinity:
        words = sorted(affinity)
        parts.append(f"tag {words[0]!r}" if len(words) == 1 else f"any of the tags {words}")
    if required:
        parts.append(f"all of the tags {sorted(required)}")
    return " and ".join(parts) or "no tags"


def _offered(workers: Sequence[RemoteWorker]) -> str:
    return str(sorted({tag for worker in workers for tag in worker.config.tags}) or "no tags")
