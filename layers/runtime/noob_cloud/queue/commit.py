"""One writer at a time and one commit for all who wait: group commit without a thread of its own.

The thread that finds nobody writing leads: it runs its own work and that of every thread that came
meanwhile in one transaction, then wakes them, and hands the lead to one that came too late. A lone
thread never waits for another, and 64 threads share one fsync.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

from noob_cloud.exceptions import DatabaseDamagedError, QueueError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class _Waiting:
    """One thread's work, and what became of it."""

    __slots__ = ("done", "error", "result", "wake", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.wake = threading.Lock()
        self.wake.acquire()
        self.done = False
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
        self._execute = connection.cursor().execute
        self._undo = undo
        self._busy_timeout = busy_timeout
        self._guard = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._busy = False

    def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, after the commit.

        `work` raises a `QueueError` only before its first write; anything else it raises rolls the
        transaction back, and the others' work is run again.
        """
        with self._guard:
            leads = not self._busy
            if leads:
                self._busy = True
            else:
                mine = _Waiting(work)
                self._waiting.append(mine)
        if leads:
            try:
                return self._alone(work)
            finally:
                self._hand_on()
        mine.wake.acquire()
        if not mine.done:
            try:
                self._lead()
            finally:
                self._hand_on()
        if mine.error is not None:
            raise mine.error
        result: T = mine.result
        return result

    def close(self, connection: sqlite3.Connection) -> None:
        """Close the connection when nobody uses it."""
        with self._guard:
            free = not self._busy
        if free:
            connection.close()
        else:
            self.run(lambda: None)
            connection.close()

    def _alone(self, work: Callable[[], T]) -> T:
        execute = self._execute
        self._begin()
        try:
            result = work()
            execute("COMMIT")
        except QueueError:
            execute("ROLLBACK")
            self._undo()
            raise
        except BaseException as error:
            self._roll_back()
            if isinstance(error, sqlite3.DatabaseError):
                raise _plain(error) from error
            raise
        return result

    def _lead(self) -> None:
        """Run all that waits in one transaction and wake its threads."""
        with self._guard:
            batch = list(self._waiting)
            self._waiting.clear()
        try:
            self._together(batch)
        except BaseException:  # noqa: BLE001 - one piece of work failed: let each succeed or fail by itself
            self._roll_back()
            for item in batch:
                item.error = None
                try:
                    item.result = self._alone(item.work)
                except BaseException as error:  # noqa: BLE001 - raised by its own thread
                    item.error = error
        for item in batch:
            item.done = True
            item.wake.release()

    def _together(self, batch: list[_Waiting]) -> None:
        self._begin()
        for item in batch:
            try:
                item.result = item.work()
            except QueueError as error:
                item.error = error
        self._execute("COMMIT")

    def _hand_on(self) -> None:
        with self._guard:
            if self._waiting:
                self._waiting[0].wake.release()
            else:
                self._busy = False

    def _begin(self) -> None:
        try:
            self._execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise _plain(error) from error
            self._begin_when_free(error)

    def _begin_when_free(self, error: sqlite3.OperationalError) -> None:
        """Ask again in short steps: SQLite's own busy handler sleeps up to 100 ms at a time."""
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
        raise QueueError(
            f"another process has held the queue's file for {self._busy_timeout:g} s"
        ) from error

    def _roll_back(self) -> None:
        try:
            self._execute("ROLLBACK")
        except sqlite3.OperationalError:
            # SQLite has already rolled back by itself (disk full, I/O error)
            self._undo()
        else:
            self._undo()


def _plain(error: sqlite3.Error) -> QueueError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DatabaseDamagedError(f"the queue's file is damaged: {error}")
    return QueueError(f"the queue's file could not be used: {error}")
