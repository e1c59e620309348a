"""A `concurrent.futures.Executor` over worker processes of one's own, made for small calls."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from concurrent.futures import Executor
from concurrent.futures import TimeoutError as FutureTimeoutError
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from noob_cloud.executors import process_boot
from noob_cloud.executors.process_call import CHUNK, KWARGS, STAGE, STARRED_CHUNK, Call
from noob_cloud.executors.process_pool import Pool, WorkerStartError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from types import TracebackType

    from noob_cloud.plan import Stage
    from noob_cloud.task import StageCall, TaskPriority
    from noob_cloud.tubes import TubeSource

__all__ = ["ProcessExecutor", "WorkerStartError"]

_T = TypeVar("_T")
_CHUNKS_PER_WORKER = 8
_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


class ProcessExecutor(Executor):
    """Run calls in worker processes on this machine.

    Takes the place of `concurrent.futures.ProcessPoolExecutor`. Workers are started when they are
    first needed, each a fresh interpreter. Short calls travel in batches sized by what they were
    measured to cost, long ones alone; what waits behind a call that turns out long goes to another
    worker. Large arrays and bytes travel through shared memory. When a worker dies, the call it
    ran is tried again `max_retries` times; calls that had not started run elsewhere.

    An array that a call gets lies in shared memory and is the call's own: it may be changed, and
    kept.

    Args:
        max_workers: processes; by default one for each core this process may use.
        initializer: called with `initargs` in each worker first.
        initargs: its arguments.
        max_retries: further attempts of a call whose worker died; 0: never run a call twice.
        max_pending: `submit` waits while this many calls wait or run; None: no limit.
        cancel_running: `cancel` also reaches a call that runs: its worker is ended, unless the
            call is over in a moment.
        arena_bytes: shared memory for each worker and direction, in bytes; only what is used
            costs memory. Arguments of one call must fit.
        batch_seconds: how long a batch of short calls should take.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_retries: int = 1,
        max_pending: int | None = None,
        cancel_running: bool = False,
        arena_bytes: int = 1 << 30,
        batch_seconds: float = 0.002,
    ) -> None:
        workers = len(os.sched_getaffinity(0)) if max_workers is None else max_workers
        if workers < 1:
            raise ValueError(f"max_workers must be greater than 0, not {workers}")
        if max_pending is not None and max_pending < 1:
            raise ValueError(f"max_pending must be greater than 0, not {max_pending}")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._max_workers = workers
        self._pool = Pool(
            max_workers=workers,
            setup=lambda: process_boot.setup(initializer, initargs),
            max_retries=max_retries,
            max_pending=max_pending,
            cancel_running=cancel_running,
            arena_bytes=(arena_bytes + 4095) & -4096,
            batch_seconds=batch_seconds,
        )
        _pools.add(self._pool)
        weakref.finalize(self, self._pool.close, cancel=False, kill=False).atexit = False

    @property
    def capacity(self) -> int:
        """How many calls run at once."""
        return self._max_workers

    # ---- submitting

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Run `fn(*args, **kwargs)` in a worker; what it needs must pickle.

        Raises:
            RuntimeError: the executor is shut down.
            WorkerStartError: its workers cannot be started.
        """
        call = Call(self._pool, fn, args)
        if kwargs:
            call.kwargs = kwargs
            call.mode = KWARGS
        self._submit([call])
        return call

    def submit_many(
        self, fn: Callable[..., _T], arguments: Iterable[tuple[Any, ...]]
    ) -> list[Future[_T]]:
        """Run `fn(*args)` for each `args`; one future for each."""
        pool = self._pool
        calls = [Call(pool, fn, args) for args in arguments]
        if calls:
            self._submit(calls)
        return calls  # type: ignore[return-value]

    def submit_call(
        self,
        call: StageCall,
        *,
        tube: TubeSource,
        stage: Stage | None = None,
        priority: TaskPriority | None = None,
    ) -> Future[list[tuple[Any, ...]]]:
        """Run one stage of a tube; the tube goes to each worker once.

        Args:
            call: what to run.
            tube: the tube it belongs to.
            stage: gives the timeout of one attempt, and the retries.
            priority: waiting calls of a higher one go first.
        """
        work = Call(
            self._pool, _stage, (call.tube, call.nodes, call.epochs, call.inputs, call.code)
        )
        work.mode = STAGE
        work.document = tube.document
        if stage is not None:
            work.timeout = stage.timeout
            work.max_retries = stage.retries
        if priority is not None:
            work.priority = priority
        self._submit([work])
        return work

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
    ) -> Iterator[_T]:
        """Yield `fn(*args)` for each `args` of `zip(*iterables)`, in order.

        Args:
            fn: what to run.
            iterables: its arguments; read at once.
            timeout: seconds from now until the last result.
            chunksize: items that travel together; by default by what they are measured to cost.

        Raises:
            TimeoutError: from the iterator, when time is up.
            ValueError: `chunksize` is below 1.
        """
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        end = None if timeout is None else monotonic() + timeout
        single = len(iterables) == 1
        items = list(iterables[0]) if single else list(zip(*iterables, strict=False))
        if chunksize is None:
            share = len(items) // (self._max_workers * _CHUNKS_PER_WORKER)
            chunksize = max(1, min(share, 64))
        mode = CHUNK if single else STARRED_CHUNK
        calls = []
        for start in range(0, len(items), chunksize):
            call = Call(self._pool, fn, items[start : start + chunksize])
            call.mode = mode
            calls.append(call)
        if calls:
            self._submit(calls)
        return _results(calls, end)

    def _submit(self, calls: list[Call]) -> None:
        if process_boot.is_preparing():
            raise RuntimeError(
                "this worker is running its parent's script to find a function in it, and the "
                "script submits calls as it runs; put what starts the work under "
                "`if __name__ == '__main__':`"
            )
        self._pool.submit(calls)

    # ---- waiting and ending

    def pump(self, until: Callable[[], bool], timeout: float | None = None) -> None:
        """Receive answers in this thread until `until()`: faster than waiting to be woken.

        Returns at once if another thread receives already; callbacks run in this thread.
        """
        self._pool.pump(until, timeout)

    def kill(self, future: Future[Any]) -> bool:
        """Cancel a call even if it runs, by ending its worker; false if it is done.

        The worker leaves the call through its `finally` clauses, and is killed a second later.
        Other calls that were with it run elsewhere.
        """
        if not isinstance(future, Call) or future.home is not self._pool:
            raise ValueError("the future is not of this executor")
        return self._pool.withdraw(future, running=True)

    def worker_pids(self) -> list[int]:
        """The process ids of the workers that are ready."""
        return self._pool.pids()

    def shutdown(
        self,
        wait: bool = True,  # noqa: FBT001, FBT002 - the standard library's signature
        *,
        cancel_futures: bool = False,
        kill: bool = False,
    ) -> None:
        """Take no more calls and end the workers when they are done.

        Args:
            wait: return when they have ended.
            cancel_futures: cancel the calls that have not been sent.
            kill: cancel also those that run, and kill the workers.
        """
        self._pool.close(cancel=cancel_futures, kill=kill)
        if wait:
            self._pool.join()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        """Finish the work; after an interrupt, kill it."""
        kill = exc_type is not None and not issubclass(exc_type, Exception)
        self.shutdown(wait=True, cancel_futures=kill, kill=kill)
        return None


def _stage() -> None:
    """Stand for the stage of a tube; the worker knows what to run."""


def _results(calls: list[Call], end: float | None) -> Iterator[Any]:
    calls.reverse()
    try:
        while calls:
            call = calls.pop()
            try:
                result = call.result(None if end is None else end - monotonic())
            except FutureTimeoutError:
                raise
            except BaseException:
                yield from call.partial
                raise
            del call
            yield from result
    finally:
        for call in calls:
            call.cancel()


def _at_exit() -> None:
    """Finish what has been submitted, like the standard library; after Ctrl-C, kill it."""
    last = getattr(sys, "last_type", None)
    kill = last is not None and not issubclass(last, Exception)
    for pool in list(_pools):
        pool.close(cancel=kill, kill=kill)
    for pool in list(_pools):
        pool.join()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_pools.clear)  # they are the parent's to end
