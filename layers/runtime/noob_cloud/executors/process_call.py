"""The future of one call in a worker process: cheap to make, and a waiter helps to receive.

`concurrent.futures.Future` makes a condition with each future, and whoever waits is woken by
another thread. Here the condition is made when something first needs it, and a thread that waits
for a result reads the workers' answers itself.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from noob_cloud.task import TaskPriority

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Call", "settle_many"]

ARGS, KWARGS, CHUNK, STARRED_CHUNK, STAGE = range(5)
"""How a call's arguments lie in its frame: a tuple, (tuple, dict), a list of single arguments, a
list of tuples, a stage call."""

_MAKING = threading.Lock()
"""Held while a future's condition is made, and while futures without one are settled."""


class _Home(Protocol):
    """What a call asks of the pool it was submitted to."""

    def pump(self, until: Callable[[], bool], timeout: float | None) -> None:
        """Receive answers in this thread, if no other does, until `until()`."""

    def withdraw(self, call: Call) -> bool:
        """Cancel the call if that is still possible."""


class Call(Future[Any]):
    """One call: what to run, what became of it."""

    # Defaults on the class: an instance costs three assignments.
    _state: str = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _made: threading.Condition | None = None
    _waiting: list[Any] | None = None
    _callbacks: list[Callable[[Future[Any]], object]] | None = None

    mode: int = ARGS
    kwargs: dict[str, Any] | None = None
    priority: int = TaskPriority.NORMAL
    timeout: float | None = None
    """Seconds that one attempt may run."""
    max_retries: int | None = None
    """Further attempts after the first when a worker dies; None: the executor's."""
    tries: int = 0
    """Workers that died while they ran this call."""
    alone: bool = False
    """Travels in a frame of its own."""
    document: bytes | None = None
    """The tube of a stage call."""
    partial: Sequence[Any] = ()
    """Of a chunk that raised: the results before."""
    duration: float | None = None
    """Seconds on the worker; the mean of its batch."""

    def __init__(self, home: _Home, fn: Callable[..., Any], args: Any) -> None:
        self.home = home
        self.fn = fn
        self.args = args

    # What the base class sets up eagerly.

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        with _MAKING:
            if self._made is None:
                self._made = threading.Condition()
            return self._made

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        if self._waiting is None:
            self._waiting = []
        return self._waiting

    @property
    def _done_callbacks(self) -> list[Callable[[Future[Any]], object]]:
        if self._callbacks is None:
            self._callbacks = []
        return self._callbacks

    def done(self) -> bool:
        """Whether the call was cancelled or has finished."""
        return self._state not in (PENDING, RUNNING)

    def running(self) -> bool:
        """Whether the call has been sent to a worker and has not come back."""
        return self._state == RUNNING

    def cancel(self) -> bool:
        """Cancel the call unless it has been sent; with `cancel_running`, also then."""
        return self.home.withdraw(self) or self.cancelled()

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result and give it, or raise what the call raised."""
        if self._state != FINISHED:
            timeout = self._await(timeout)
        if self._state == FINISHED:
            if self._exception is None:
                return self._result
            try:
                raise self._exception
            finally:
                self = None  # type: ignore[assignment]  # noqa: PLW0642 - no cycle with the traceback
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the call to end and give what it raised, or None."""
        if self._state != FINISHED:
            timeout = self._await(timeout)
        return super().exception(timeout)

    def _await(self, timeout: float | None) -> float | None:
        """Receive until done or out of time; give what is left of `timeout`."""
        if timeout is None:
            self.home.pump(self.done, None)
            return None
        deadline = monotonic() + timeout
        self.home.pump(self.done, timeout)
        return max(0.0, deadline - monotonic())

    # What the pool calls; it calls each once, with its lock held for the first two.

    def start(self) -> bool:
        """Mark as running; False if it was cancelled."""
        if self._state == PENDING:
            self._state = RUNNING
            return True
        return self._state == RUNNING

    def rest(self) -> None:
        """Mark as waiting again: its worker is gone, or has not started it."""
        if self._state == RUNNING:
            self._state = PENDING

    def mark_cancelled(self) -> bool:
        """Mark as cancelled if it has not finished; `announce` must follow, without the lock."""
        with _MAKING:
            if self._made is None:
                if self.done():
                    return False
                self._state = CANCELLED_AND_NOTIFIED
                return True
        with self._made:
            if self.done():
                return False
            self._state = CANCELLED_AND_NOTIFIED
            self._notify()
        return True

    def announce(self) -> None:
        """Call the callbacks; without any lock, since they may do anything."""
        if self._callbacks:
            self._invoke_callbacks()  # type: ignore[attr-defined]

    def _notify(self) -> None:
        for waiter in self._waiting or ():
            if self._state in (CANCELLED, CANCELLED_AND_NOTIFIED):
                waiter.add_cancelled(self)
            elif self._exception is not None:
                waiter.add_exception(self)
            else:
                waiter.add_result(self)
        self._condition.notify_all()

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Finish with a value or an error; nothing happens if it is done already."""
        settle_many([(self, value, error)])


def settle_many(outcomes: Sequence[tuple[Call, Any, BaseException | None]]) -> None:
    """Finish many calls under one lock; then wake those who wait for them.

    A call whose condition exists is settled under it, so that a waiter that is being installed
    sees the call either before or after, never both.
    """
    watched = []
    with _MAKING:
        for outcome in outcomes:
            call, value, error = outcome
            if call._made is not None:  # noqa: SLF001 - friend of the class
                watched.append(outcome)
            elif call._state == RUNNING or call._state == PENDING:  # noqa: PLR1714, SLF001 - hot
                call._result = value  # noqa: SLF001
                call._exception = error  # noqa: SLF001
                call._state = FINISHED  # noqa: SLF001
    for call, value, error in watched:
        with call._condition:  # noqa: SLF001
            if call.done():
                continue
            call._result = value  # noqa: SLF001
            call._exception = error  # noqa: SLF001
            call._state = FINISHED  # noqa: SLF001
            call._notify()  # noqa: SLF001
        call.announce()
