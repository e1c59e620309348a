"""One writer at a time and one commit for all who wait: group commit without a thread of its own.

The thread that finds nobody writing leads: it runs its own work and that of every thread that came
meanwhile in one transaction, then wakes them, and hands the lead to one that came too late. A lone
thread never waits for another, and 64 threads share one fsync.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

from noob_cloud.exceptions import DatabaseDamagedError, QueueBusyError, QueueError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class WouldWaitError(Exception):
    """Somebody else is writing: nothing was done."""


class _Waiting:
    """One thread's work, and what became of it."""

    __slots__ = ("chosen", "done", "error", "result", "wake", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.wake = threading.Lock()
        self.wake.acquire()
        self.done = False
        self.chosen = False
        """Whether this thread leads now."""
        self.result: Any = None
        self.error: BaseException | None = None


class GroupCommit:
    """Run work in transactions of one connection.

    Args:
        connection: In autocommit mode, used by nobody else.
        undo: Called after a rollback, to forget what the work remembered.
        busy_timeout: How long, in seconds, another process may hold the file.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        undo: Callable[[], None],
        *,
        busy_timeout: float = 30.0,
    ) -> None:
        self._connection = connection
        self._execute = connection.cursor().execute
        self._undo = undo
        self._busy_timeout = busy_timeout
        self._lead = threading.Lock()
        """Held by the thread that writes."""
        self._waiting: deque[_Waiting] = deque()

    def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, after the commit.

        When `work` raises, nothing of it is written. It may be run twice, when it shares a
        transaction with work that fails.
        """
        if not self._lead.acquire(blocking=False):
            return self._among_others(work)
        try:
            return self._alone(work)
        finally:
            self._hand_on()

    def run_at_once(self, work: Callable[[], T]) -> T:
        """Like `run`, for a thread that must not wait.

        Raises:
            WouldWaitError: another thread or process writes; `work` was not called.
        """
        if not self._lead.acquire(blocking=False):
            raise WouldWaitError
        try:
            return self._alone(work, wait=False)
        finally:
            self._hand_on()

    def _among_others(self, work: Callable[[], T]) -> T:
        mine = _Waiting(work)
        self._waiting.append(mine)
        interrupt: BaseException | None = None
        # the leader may have looked for waiting threads just before, and left
        if self._lead.acquire(blocking=False):
            mine.chosen = True
        else:
            interrupt = _wait_for(mine)
        if mine.chosen:
            try:
                self._run_waiting()
            finally:
                self._hand_on()
        for error in (interrupt, mine.error):
            if error is not None:
                raise error
        result: T = mine.result
        return result

    def close(self) -> None:
        """Close the connection when nobody uses it."""
        with self._lead:
            self._connection.close()

    def _alone(self, work: Callable[[], T], *, wait: bool = True) -> T:
        execute = self._execute
        try:
            execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not wait and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise WouldWaitError from None
            self._begin_when_free(error)
        try:
            result = work()
            execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            if isinstance(error, sqlite3.DatabaseError):
                raise _plain(error) from error
            raise
        return result

    def _run_waiting(self) -> None:
        """Run all that waits in one transaction and wake its threads."""
        batch = []
        while self._waiting:
            batch.append(self._waiting.popleft())
        interrupt: BaseException | None = None
        try:
            self._together(batch)
        except BaseException as error:  # noqa: BLE001 - each piece of work has its own error
            interrupt = None if isinstance(error, Exception) else error
            self._roll_back()
            for item in batch:
                self._by_itself(item)
        for item in batch:
            item.done = True
            if not item.chosen:  # it is this thread's own; its lock may be open already
                item.wake.release()
        if interrupt is not None:
            raise interrupt

    def _by_itself(self, item: _Waiting) -> None:
        try:
            item.error = None
            item.result = self._alone(item.work)
        except BaseException as error:  # noqa: BLE001 - each piece of work has its own error
            item.error = error

    def _together(self, batch: list[_Waiting]) -> None:
        try:
            self._execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            self._begin_when_free(error)
        for item in batch:
            written = self._connection.total_changes
            try:
                item.result = item.work()
            except QueueError as error:
                if self._connection.total_changes != written:
                    raise
                item.error = error
        self._execute("COMMIT")

    def _hand_on(self) -> None:
        """Let a waiting thread lead, or nobody."""
        while True:
            if self._waiting:
                self._waiting[0].chosen = True
                self._waiting[0].wake.release()
                return
            self._lead.release()
            if not self._waiting or not self._lead.acquire(blocking=False):
                return

    def _begin_when_free(self, error: sqlite3.OperationalError) -> None:
        """Ask again in short steps: SQLite's own busy handler sleeps up to 100 ms at a time."""
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise _plain(error) from error
        give_up = monotonic() + self._busy_timeout
        pause = 0.00005
        while monotonic() < give_up:
            sleep(pause)
            pause = min(pause * 1.5, 0.002)
            try:
                self._execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as again:
                if again.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise _plain(again) from again
            else:
                return
        raise QueueBusyError(
            f"another process has held the queue's file for {self._busy_timeout:g} s"
        ) from error

    def _roll_back(self) -> None:
        # after some errors (disk full, I/O) SQLite has already rolled back by itself
        with suppress(sqlite3.OperationalError):
            self._execute("ROLLBACK")
        self._undo()


def _wait_for(mine: _Waiting) -> BaseException | None:
    """Wait until the work is done or this thread is to lead; return what interrupted the wait.

    A thread that was chosen must lead, so an interrupt (Ctrl-C) is raised only after that.
    """
    interrupt: BaseException | None = None
    while not (mine.done or mine.chosen):
        try:
            mine.wake.acquire()
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            interrupt = error
    return interrupt


def _plain(error: sqlite3.Error) -> QueueError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DatabaseDamagedError(f"the queue's file is damaged: {error}")
    return QueueError(f"the queue's file could not be used: {error}")
