"""Run what touches the database off the event loop, one after the other."""

from __future__ import annotations

import asyncio
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from noob_cloud.exceptions import UnavailableError
from noob_cloud.queue.commit import WouldWaitError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_Job = tuple["Callable[[], Any]", "asyncio.Future[Any]"]

_TOGETHER = 16
"""Most jobs whose results go back to the loop in one wake-up."""


class Writer:
    """A few threads that run jobs for an event loop.

    Args:
        threads: one, where a commit is cheap; several, where commits wait for the disk and the
            queue joins them (group commit).
    """

    def __init__(self, threads: int = 1) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [
            Thread(target=self._serve, name=f"noob-writer-{i}", daemon=True) for i in range(threads)
        ]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cheap = threads == 1
        self._open = 0
        """Jobs whose results the loop does not have yet."""

    @property
    def waiting(self) -> int:
        """Jobs that no thread has taken yet."""
        return self._jobs.qsize()

    def start(self) -> None:
        """Start the threads; call it in the event loop."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads after the jobs that wait; blocks."""
        self._loop = None
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def do(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run `work` in a writer's thread; the future gives what it returns or raises.

        The work is done even if nobody waits for the future any more.
        """
        loop = self._loop
        if loop is None:
            raise UnavailableError("The coordinator is shutting down.")
        future: asyncio.Future[T] = loop.create_future()
        self._open += 1
        self._jobs.put((work, future))
        return future

    async def do_brief(self, work: Callable[[bool], T]) -> T:
        """Run a little work right here if nothing is in its way, else like `do`.

        Two threads that hand a short job to and fro spend more on waking each other, and on the
        interpreter's lock, than on the job.

        Args:
            work: called with whether it may not wait; it raises `WouldWaitError` if it had to.
        """
        if self._cheap and not self._open and self._loop is not None:
            try:
                return work(True)
            except WouldWaitError:
                pass
        return await self.do(lambda: work(False))

    def _serve(self) -> None:
        while True:
            job = self._jobs.get()
            done: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
            last = job is None
            while job is not None:
                work, future = job
                try:
                    done.append((future, work(), None))
                except BaseException as error:  # noqa: BLE001 - raised where the future is awaited
                    done.append((future, None, error))
                if len(done) >= _TOGETHER:
                    break
                try:
                    job = self._jobs.get_nowait()
                except Empty:
                    break
                last = job is None
            if done:
                done[0][0].get_loop().call_soon_threadsafe(self._deliver, done)
            if last:
                return

    def _deliver(self, done: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
        self._open -= len(done)
        for future, result, error in done:
            if future.done():  # its request was cut off
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
