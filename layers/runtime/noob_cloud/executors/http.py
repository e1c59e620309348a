"""Push calls to worker servers over HTTP: balance, breakers, retries, affinity, cancellation."""

from __future__ import annotations

from concurrent.futures import Executor, Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from random import Random
from threading import Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import uuid4

from noob_cloud import codec
from noob_cloud.exceptions import NoWorkerError, UnavailableError, WorkerLostError
from noob_cloud.executors.assignment import Assignment, Job
from noob_cloud.executors.attempt import Ending, Verdict, attempt
from noob_cloud.executors.balance import Balancer, LoadBalancingStrategy
from noob_cloud.executors.health import HealthMonitor
from noob_cloud.executors.remote_worker import RemoteWorker
from noob_cloud.task import TaskPriority

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from noob_cloud.executors.worker_config import WorkerConfig
    from noob_cloud.plan import Stage
    from noob_cloud.task import StageCall
    from noob_cloud.tubes import TubeSource

__all__ = ["CallFuture", "HttpExecutor"]

_TICK = 0.1
"""Seconds between two looks at what waits, for what time alone brings."""
_THREADS = 512
_BACKOFF = 0.1
_MOST_BACKOFF = 10.0
_FAREWELL_SECONDS = 1.0
"""How long a worker may take to stop the calls that are cancelled at the end."""


class CallFuture(Future[Any]):
    """The future of one call; it can be cancelled for as long as it has no result."""

    duration: float | None = None
    """Seconds on the worker; None before the end."""
    worker_id: str | None = None
    """Who ran it; None before the end."""
    stop: Callable[[], None] | None = None

    def cancel(self) -> bool:
        """Cancel the call, and the node that runs it; False when it has its result already."""
        if self.done():
            return self.cancelled()
        if not super().cancel():
            return False
        self.set_running_or_notify_cancel()
        if self.stop is not None:
            self.stop()
        return True


class HttpExecutor(Executor):
    """Runs stages on worker servers.

    A call goes to a worker that has its tags, a free place and a closed breaker; which one of
    several, `load_balancing` says. When a worker is lost the call goes to another one. What a
    node raises comes home at once, unless the placement gives the node retries.

    Args:
        workers: the worker servers.
        load_balancing: how to choose among them.
        circuit_breaker_threshold: failures in a row after which a worker is left alone.
        circuit_breaker_recovery: seconds until it is tried again.
        max_retries: further workers that are tried when one is lost.
        timeout: longest run of a call whose stage names none, in seconds; None: the worker's.
        patience: seconds to wait for any worker to be usable before giving up.
        health_interval: seconds between two questions to each worker how it is.
        rng: where chance comes from.
    """

    def __init__(
        self,
        workers: Sequence[WorkerConfig],
        *,
        load_balancing: LoadBalancingStrategy = LoadBalancingStrategy.LEAST_LOADED,
        circuit_breaker_threshold: int = 5,
        circuit_breaker_recovery: float = 10.0,
        max_retries: int = 3,
        timeout: float | None = None,
        patience: float = 10.0,
        health_interval: float = 2.0,
        rng: Random | None = None,
    ) -> None:
        if not workers:
            raise NoWorkerError(
                "workers is empty; give at least one, as workers=[WorkerConfig(host=..., port=...)]"
            )
        self._rng = rng or Random()  # noqa: S311 - spreads load, guards nothing
        self._workers = [
            RemoteWorker(
                index,
                config,
                threshold=circuit_breaker_threshold,
                recovery_seconds=circuit_breaker_recovery,
            )
            for index, config in enumerate(workers)
        ]
        self._balancer = Balancer(load_balancing, rng=self._rng)
        self._waiting = Assignment(self._workers, self._balancer, patience=patience)
        self._monitor = HealthMonitor(self._workers, self._heard, interval=health_interval)
        self._max_retries = max_retries
        self._timeout = timeout
        self._change = Condition()
        self._numbers = count()
        self._running: set[Job] = set()
        self._retried = 0
        self._closed = False
        self._pool: ThreadPoolExecutor | None = None

    # ---- what a caller sees

    retries_errors = True
    """A call whose node raises is tried again here, where its stage says so."""

    @property
    def capacity(self) -> int:
        """Calls at once, over all workers that can be reached."""
        self._start()
        with self._change:
            return max(1, sum(w.places for w in self._workers if w.reachable and w.fault is None))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002
        """Refuse: only stages of a tube travel, never code.

        Raises:
            TypeError: always.
        """
        name = getattr(fn, "__name__", repr(fn))
        raise TypeError(
            f"{name} cannot be sent to a worker server: only stages of a tube travel, code never "
            "does. Make it a node of a tube, or use MultiProcessRunner or ProcessPoolExecutor"
        )

    def submit_call(
        self,
        call: StageCall,
        *,
        tube: TubeSource,
        stage: Stage | None = None,
        priority: int = TaskPriority.NORMAL,
    ) -> CallFuture:
        """Run a call on some worker; the future's result is a list, one tuple an epoch.

        Args:
            call: what to run.
            tube: its tube, sent to workers that do not know it.
            stage: where it may run and for how long; None: anywhere.
            priority: which waiting call goes first.

        Raises:
            NoWorkerError: no worker has the stage's tags; the message names them.
            EncodeError: an input has no place in the wire format.
        """
        self._start()
        future = CallFuture()
        tags = (frozenset[str](), frozenset[str]())
        timeout, retries = self._timeout, 0
        if stage is not None:
            tags = (frozenset(stage.affinity), frozenset(stage.required))
            timeout = stage.timeout if stage.timeout is not None else timeout
            retries = (stage.retries or 0) if len(call.epochs) == 1 else 0
        order = (int(priority), next(self._numbers))
        job = Job(call, tube, codec.dumps(call), tags, order, timeout, retries, future)
        future.stop = lambda: self._stop(job)
        with self._change:
            if self._closed:
                raise RuntimeError("cannot submit a call after shutdown")
            self._waiting.serving(tags)
            self._waiting.add(job)
            self._assign()
        return future

    @property
    def metrics(self) -> dict[str, Any]:
        """Counters of each worker and of all; a new dict each time."""
        now = monotonic()
        with self._change:
            workers = [worker.metrics(now=now) for worker in self._workers]
            return {
                "strategy": self._balancer.strategy.value,
                "waiting": len(self._waiting),
                "running": len(self._running),
                "retried": self._retried,
                "completed": sum(worker["completed"] for worker in workers),
                "failed": sum(worker["failed"] for worker in workers),
                "workers": {worker["worker_id"]: worker for worker in workers},
            }

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the base class's signature
        """Take no more calls; wait for what is in flight, or cancel it with `cancel_futures`."""
        with self._change:
            self._closed = True
            jobs = [*self._waiting.jobs, *self._running]
        if cancel_futures:
            for job in jobs:
                job.future.cancel()
        with self._change:
            if wait:
                patience = _FAREWELL_SECONDS if cancel_futures else None
                self._change.wait_for(self._idle, patience)
            self._change.notify_all()
        if cancel_futures:
            for worker in self._workers:  # a call whose caller hangs up is stopped as well
                worker.client.close()
                worker.client.abort()
        self._monitor.stop()
        if self._pool is not None:
            self._pool.shutdown(wait=wait)
        for worker in self._workers:
            worker.client.close()

    # ---- how calls run

    def _idle(self) -> bool:
        return not (self._running or len(self._waiting))

    def _start(self) -> None:
        with self._change:
            if self._pool is not None:
                return
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="noob-cloud-http")
        self._monitor.start()
        Thread(target=self._tick, name="noob-cloud-assign", daemon=True).start()

    def _assign(self) -> None:
        """Start what can start. The lock is held."""
        assert self._pool is not None  # noqa: S101 - started before anything waits
        for job, worker in self._waiting.take(now=monotonic()):
            job.worker = worker
            job.task_id = uuid4().hex
            self._running.add(job)
            self._pool.submit(self._run, job, worker)

    def _run(self, job: Job, worker: RemoteWorker) -> None:
        start = monotonic()
        ending = attempt(job, worker)
        now = monotonic()
        with self._change:
            self._learn(worker, ending, now - start, now)
            again = not job.future.done() and self._again(job, worker, ending, now)
            job.worker = None
            self._running.discard(job)
            self._retried += again
            self._assign()
            self._change.notify_all()
        if not again:
            job.future.worker_id = worker.name  # type: ignore[attr-defined]
            job.future.duration = ending.duration  # type: ignore[attr-defined]
            _settle(job, ending)

    def _learn(self, worker: RemoteWorker, ending: Ending, seconds: float, now: float) -> None:
        match ending.verdict:
            case Verdict.BUSY:
                worker.counts["busy"] += 1
                worker.turn_away(until=now + ending.retry_after)
            case Verdict.LOST:
                worker.counts["lost"] += 1
                worker.end(seconds, now=now, answered=False)
            case Verdict.REFUSED:
                worker.turn_away(until=now)
                worker.fault = ending.error if isinstance(ending.error, Exception) else None
            case Verdict.DONE:
                worker.counts["completed"] += 1
                worker.end(seconds, now=now, answered=True)
            case _:
                worker.counts["failed"] += 1
                worker.end(seconds, now=now, answered=True)

    def _again(self, job: Job, worker: RemoteWorker, ending: Ending, now: float) -> bool:
        """Let the call wait for another try; False when this was its end."""
        if ending.verdict is Verdict.RAISED and job.failures < job.retries:
            job.failures += 1
            most = min(_MOST_BACKOFF, _BACKOFF * 2**job.failures)
            self._waiting.add_later(job, now + self._rng.uniform(0, most))
            return True
        if ending.verdict in (Verdict.DONE, Verdict.RAISED):
            return False
        if ending.verdict not in (Verdict.BUSY, Verdict.REFUSED):
            serving = {other.index for other in self._waiting.serving(job.tags) if not other.fault}
            job.avoid.add(worker.index)
            job.losses += ending.verdict is not Verdict.ELSEWHERE
            if job.losses > self._max_retries:
                return False
            if job.avoid >= serving:
                if ending.verdict is Verdict.ELSEWHERE:
                    return False
                job.avoid.clear()
        self._waiting.add(job)
        return True

    def _stop(self, job: Job) -> None:
        with self._change:
            self._waiting.remove(job)
            worker = job.worker
            self._change.notify_all()
            if worker is not None and self._pool is not None:
                with suppress(RuntimeError):  # shut down: the connection is aborted then
                    self._pool.submit(_cancel, worker, job.task_id)

    def _heard(self, worker: RemoteWorker, said: dict[str, Any] | None) -> None:
        with self._change:
            worker.hear(said)
            given_up = worker.silent_rounds >= worker.MOST_SILENT_ROUNDS and worker.active > 0
        if given_up:
            worker.client.abort()

    def _tick(self) -> None:
        while True:
            with self._change:
                if self._closed and self._idle():
                    return
                self._change.wait(_TICK)
                self._assign()
                lost = self._waiting.give_up(now=monotonic())
                if lost:
                    self._change.notify_all()
            for job, error in lost:
                with suppress(InvalidStateError):
                    job.future.set_exception(error)


def _settle(job: Job, ending: Ending) -> None:
    with suppress(InvalidStateError):  # cancelled meanwhile
        if ending.verdict is Verdict.DONE:
            job.future.set_result(ending.value)
            return
        error = ending.error
        if ending.verdict is Verdict.LOST:
            error = WorkerLostError(f"{ending.error} (tried {job.losses} workers)")
            error.__cause__ = ending.error
        job.future.set_exception(error)


def _cancel(worker: RemoteWorker, task_id: str) -> None:
    with suppress(UnavailableError):
        worker.client.cancel(task_id)
