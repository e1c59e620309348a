"""The tasks that a worker holds: claimed, running, done, until they are settled or lost."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from threading import Condition
from time import monotonic
from typing import TYPE_CHECKING

from noob_cloud.worker.slots import Stop

if TYPE_CHECKING:
    from collections.abc import Iterable

    from noob_cloud.task import Task
    from noob_cloud.worker.child import Reply

_AHEAD_SECONDS = 0.25
"""Work that is claimed ahead of what runs, so that nobody waits for a claim."""
LONGEST_WAIT = 0.5
"""Seconds after which a task that was claimed ahead, and has not begun, is for another worker."""
MOST_AHEAD = 200
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
"""Seconds without claiming after a task whose code is another one: others may have it."""
_SMOOTHING = 0.2


@dataclass(eq=False, slots=True)
class Held:
    """A task that is ours until its lease ends."""

    task: Task
    stop: Stop = field(default_factory=Stop)
    claimed: float = field(default_factory=monotonic)
    """Monotonic time since which it is held."""
    began: float | None = None
    """Monotonic time at which it began to run."""
    told: bool = False
    """Whether the queue knows that it runs."""
    lost: bool = False
    """Not ours any more: whatever comes of it is dropped."""
    trace: tuple[str, float] | None = None
    """`traceparent` of its execution, and the Unix time at which that ended; None: not traced."""


class Holding:
    """What the threads of one claim loop share; `change` is its lock, and is notified.

    Args:
        limit: tasks that run at once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.change = Condition()
        self.counts: Counter[str] = Counter()
        """Tasks by what became of them: completed, failed, lost, released, refused."""
        self.ending = False
        """No more is claimed."""
        self.over = False
        """Every thread may end."""
        self._held: dict[int, Held] = {}
        self._ready: deque[Held] = deque()
        self._done: list[tuple[Held, Reply]] = []
        self._settling = False
        self._reserved = 0
        self._seconds: float | None = None
        self._pause = 0.0
        self._paused_until = 0.0

    @property
    def all(self) -> list[Held]:
        """Every task that is held."""
        with self.change:
            return list(self._held.values())

    @property
    def running(self) -> list[Held]:
        """Those that have begun."""
        return [held for held in self.all if held.began is not None]

    # ---- claimed

    def pause(self) -> float:
        """Claim nothing for a while, longer each time; return for how many seconds."""
        with self.change:
            now = monotonic()
            if now >= self._paused_until:  # those that came together count once
                self._pause = min(_LONGEST_PAUSE, 2 * self._pause or _FIRST_PAUSE)
                self._paused_until = now + self._pause
            return self._pause

    def go_on(self) -> None:
        """A task was run: the next pause begins as short as the first."""
        self._pause = 0.0

    def reserve(self, *, after: int = 0) -> int:
        """Return how many tasks to claim now, and keep their places.

        Args:
            after: tasks that are being settled, by the same call that claims; 0 when nothing is
                settled: then only an idle place is worth a call of its own.
        """
        with self.change:
            if self.ending or monotonic() < self._paused_until:
                return 0
            taken = len(self._held) + self._reserved - after
            if not after and (taken >= self.limit or self._done):
                return 0
            ahead = 0
            if self._seconds is not None:
                ahead = int(self.limit * _AHEAD_SECONDS / max(self._seconds, 1e-4))
            wanted = min(MOST_AHEAD, max(0, self.limit + min(ahead, MOST_AHEAD) - taken))
            self._reserved += wanted
            return wanted

    def take(self, tasks: Iterable[Task], *, reserved: int) -> list[Held]:
        """Hold claimed tasks; return those that came too late, to be handed back."""
        held = [Held(task) for task in tasks]
        with self.change:
            self._reserved -= reserved
            if self.ending:
                return held
            for one in held:
                self._held[one.task.task_id] = one
                self._ready.append(one)
            self.change.notify_all()
            return []

    def withdraw(self, *, longer_than: float | None = None) -> list[Held]:
        """Take back every task that has not begun, or those that wait `longer_than` seconds."""
        with self.change:
            since = None if longer_than is None else monotonic() - longer_than
            waiting = [held for held in self._ready if since is None or held.claimed < since]
            for held in waiting:
                self._ready.remove(held)
            if waiting:
                self._seconds = None  # what was expected of the running ones is wrong
            return waiting

    # ---- run

    def begin(self) -> Held | None:
        """Wait for a task to run; None when there will be none."""
        with self.change:
            self.change.wait_for(lambda: self._ready or self.over)
            if not self._ready:
                return None
            held = self._ready.popleft()
            held.began = monotonic()
            return held

    def end(self, held: Held, reply: Reply) -> None:
        """Say what came of a task."""
        with self.change:
            seconds = monotonic() - (held.began or 0.0)
            before = seconds if self._seconds is None else self._seconds
            self._seconds = before + _SMOOTHING * (seconds - before)
            self._done.append((held, reply))
            self.change.notify_all()

    # ---- settle

    def collect(self) -> list[tuple[Held, Reply]]:
        """Wait for tasks that have ended; an empty list when there will be none."""
        with self.change:
            self._settling = False
            self.change.notify_all()
            self.change.wait_for(lambda: self._done or self.over)
            done, self._done = self._done, []
            self._settling = bool(done)
            return done

    def forget(self, held: Iterable[Held]) -> None:
        """Hold tasks no more."""
        with self.change:
            for one in held:
                if self._held.get(one.task.task_id) is one:
                    del self._held[one.task.task_id]
            self.change.notify_all()

    def lose(self, held: Held, reason: str) -> None:
        """Stop a task that is not ours any more."""
        with self.change:
            held.lost = True
            waiting = held in self._ready
            if waiting:
                self._ready.remove(held)
                self.counts["lost"] += 1
        if waiting:
            self.forget([held])
        held.stop(reason)

    def wait_idle(self, timeout: float) -> bool:
        """Wait until nothing is held or being settled."""
        with self.change:
            return self.change.wait_for(
                lambda: not (self._held or self._done or self._settling), timeout
            )
