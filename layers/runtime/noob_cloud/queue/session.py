"""One queue file as one process has it open: its connection, its clock, who waits for news."""

from __future__ import annotations

import os
import threading
from itertools import repeat
from operator import attrgetter
from pathlib import Path
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakSet

from noob_cloud.exceptions import QueueError
from noob_cloud.queue import outcomes, timers
from noob_cloud.queue.bodies import Blobs, Values
from noob_cloud.queue.clock import Clock
from noob_cloud.queue.commit import GroupCommit
from noob_cloud.queue.database import connect
from noob_cloud.queue.ledger import Ledger
from noob_cloud.queue.stored import StoredTask
from noob_cloud.task import Task, Token

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

    from noob_cloud.queue.interface import TaskRef
    from noob_cloud.queue.terms import Terms

T = TypeVar("T")
POLL = 0.05
"""How often, in seconds, a waiting call looks for what another process has done."""
JUMP = 2.0
"""A wall clock that moves this far, in seconds, against the steady one has been set."""


_sessions: WeakSet[Session] = WeakSet()


def _after_fork() -> None:
    """A child opens files anew: SQLite's connections and our locks belong to the parent."""
    for session in list(_sessions):
        session.abandon()


os.register_at_fork(after_in_child=_after_fork)


class Session:
    """What every operation of `TaskQueue` stands on; its arguments are described there."""

    def __init__(
        self,
        persistent: bool = True,  # noqa: FBT001, FBT002 - the user's signature
        db_path: str | os.PathLike[str] = "./queue.db",
        *,
        lease_seconds: float = 30.0,
        synchronous: str = "NORMAL",
        exclusive: bool = False,
        epoch: int = 0,
        blobs: Blobs | None = None,
        blob_threshold: int = 64 * 1024,
        backoff: tuple[float, float] = (1.0, 300.0),
        keep_seconds: float = 24 * 3600.0,
        rng: Random | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.path = Path(db_path) if persistent else None
        self.lease_seconds = lease_seconds
        self.epoch = epoch
        self.keep_seconds = keep_seconds
        self._synchronous = synchronous
        self._exclusive = exclusive
        self._values = Values(blobs, threshold=blob_threshold)
        self._blobs = blobs
        self._backoff = outcomes.Backoff(*backoff, rng or Random())  # noqa: S311 - jitter
        self._clock = clock or Clock()
        self._held: dict[int, Token] = {}
        self._recipes: dict[Any, Terms] = {}
        self._news = threading.Condition()
        self._listeners = 0
        self._opening = threading.Lock()
        self._abandoned: list[sqlite3.Connection] = []
        self._usable = False
        self._open()
        _sessions.add(self)

    def _open(self) -> None:
        self._connection = connect(
            self.path, synchronous=self._synchronous, exclusive=self._exclusive
        )
        self._ledger = Ledger(
            self._connection, self._values, alone=self._exclusive or self.path is None
        )
        self._commits = GroupCommit(self._connection, self._ledger.undo)
        self._usable = True
        self._offset = self._clock.offset()
        self._commits.run(self._set_clock)

    @property
    def blobs(self) -> Blobs:
        """Where the tubes of runs are: the store given, or a folder beside the file."""
        if self._blobs is None:
            from noob_cloud.blobs import FolderStore, MemoryStore  # noqa: PLC0415 - few need one

            here = self.path
            self._blobs = (
                MemoryStore() if here is None else FolderStore(here.with_name(f"{here.name}.blobs"))
            )
        return self._blobs

    def close(self) -> None:
        """Close the file; the next call opens it again. A queue in memory is gone."""
        with self._opening:
            if self._usable:
                self._usable = False
                self._commits.close()

    def abandon(self) -> None:
        """Forget the open file without closing it; the next call opens it again."""
        self._usable = False
        self._abandoned.append(self._connection)  # closing it would drop the parent's locks
        self._opening = threading.Lock()
        self._news = threading.Condition()
        self._listeners = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, work: Callable[[], T]) -> T:
        if not self._usable:
            self._reopen()
        return self._commits.run(work)

    def _look(self, look_at: Callable[[float], T]) -> T:
        now = self._now(None)

        def work() -> T:
            self._ledger.refresh()
            return look_at(now)

        return self._run(work)

    def _reopen(self) -> None:
        with self._opening:
            if self._usable:
                return
            if self.path is None:
                raise QueueError("a queue in memory ends when it is closed, or its process forks")
            self._held.clear()
            self._recipes.clear()
            self._open()

    # ---- time

    def _now(self, now: float | None) -> float:
        if now is not None:
            return now
        wall = self._clock.wall()
        if abs(wall - self._clock.steady() - self._offset) > JUMP:
            self._offset = self._clock.offset()
            self._run(self._set_clock)
        return wall

    def _set_clock(self) -> None:
        timers.set_clock(self._ledger, self._clock.boot(), self._offset, JUMP)

    # ---- news

    def _tell(self) -> None:
        """Wake the threads of this process that wait for a task or an outcome."""
        if self._listeners:
            with self._news:
                self._news.notify_all()

    def _until(self, ask: Callable[[], T | None], seconds: float | None) -> T | None:
        """Ask until there is an answer, at most for so many seconds."""
        found = ask()
        if found is not None or (seconds is not None and seconds <= 0):
            return found
        give_up = None if seconds is None else monotonic() + seconds
        with self._news:
            self._listeners += 1
        try:
            while found is None:
                left = POLL if give_up is None else give_up - monotonic()
                if left <= 0:
                    break
                with self._news:
                    self._news.wait(min(left, POLL))
                found = ask()
        finally:
            with self._news:
                self._listeners -= 1
        return found

    # ---- references

    def _ref(self, task: TaskRef) -> tuple[int, Token | None]:
        if type(task) is StoredTask:
            return task.task_id, task._place.token  # noqa: SLF001 - the rest stays packed
        if isinstance(task, int):
            return task, self._held.get(task)
        if isinstance(task, Task):
            return task.task_id, task.token
        return task

    def _columns(self, tasks: Sequence[TaskRef]) -> tuple[list[int], list[Token | None]]:
        """Ids and tokens."""
        if set(map(type, tasks)) == _STORED:
            return list(map(_ID, tasks)), list(map(_TOKEN, map(_PLACE, tasks)))
        refs = [self._ref(task) for task in tasks]
        return [ref[0] for ref in refs], [ref[1] for ref in refs]

    def _refs(
        self, tasks: TaskRef | Sequence[TaskRef]
    ) -> tuple[tuple[list[int], list[Token | None]], bool]:
        """Ids, going up, and tokens; and whether a single task was given."""
        if isinstance(tasks, (int, Task)) or (
            isinstance(tasks, tuple) and tasks and isinstance(tasks[-1], Token)
        ):
            task_id, token = self._ref(tasks)
            return ([task_id], [token]), True
        ids, tokens = self._columns(tasks)  # type: ignore[arg-type] # tasks, not one
        order = sorted(range(len(ids)), key=ids.__getitem__)
        return ([ids[i] for i in order], [tokens[i] for i in order]), False

    def _hold(self, tasks: list[StoredTask]) -> list[Task]:
        """Remember the tokens of claimed tasks, for callers who name a task by its id alone."""
        if tasks:
            places = map(_PLACE, tasks)
            self._held.update(zip(map(_ID, tasks), map(_TOKEN, places), strict=True))
        return tasks  # type: ignore[return-value] # each of them is a Task

    def _let_go(self, task_ids: Iterable[int]) -> None:
        for _ in map(self._held.pop, task_ids, repeat(None)):
            continue


_ID = attrgetter("task_id")
_PLACE = attrgetter("_place")
_TOKEN = attrgetter("token")
_STORED = {StoredTask}
