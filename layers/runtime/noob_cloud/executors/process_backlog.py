"""The calls that wait for a worker: by priority, then first in first out."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from noob_cloud.executors.process_call import STAGE, Call
from noob_cloud.task import TaskPriority

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Backlog"]


class Backlog:
    """Waiting calls; whoever uses it holds the pool's lock."""

    def __init__(self) -> None:
        self._queues: tuple[deque[Call], ...] = tuple(deque() for _ in TaskPriority)
        self.size = 0
        """How many wait, with those that were cancelled and have not been dropped yet."""

    def add(self, calls: Sequence[Call]) -> None:
        """Queue calls of one priority."""
        self._queues[calls[0].priority].extend(calls)
        self.size += len(calls)

    def head(self) -> Call | None:
        """The call that goes next."""
        for queue in self._queues:
            while queue:
                if not queue[0].done():
                    return queue[0]
                queue.popleft()
                self.size -= 1
        return None

    def take(self, size: int) -> list[Call]:
        """Take the head and at most `size - 1` that can share its frame; they are running now."""
        queue = next(queue for queue in self._queues if queue)
        head = queue.popleft()
        head.start()
        self.size -= 1
        calls = [head]
        while len(calls) < size and queue and _alike(head, queue[0]):
            call = queue.popleft()
            self.size -= 1
            if call.start():
                calls.append(call)
        return calls

    def put_back(self, calls: Sequence[Call], *, alone: bool = False) -> None:
        """Queue calls again, before those that wait, in their order."""
        for call in reversed(calls):
            if not call.done():
                call.rest()
                call.alone = call.alone or alone
                self._queues[call.priority].appendleft(call)
                self.size += 1

    def clear(self) -> list[Call]:
        """Drop everything; give what had not been cancelled."""
        calls = [call for queue in self._queues for call in queue if not call.done()]
        for queue in self._queues:
            queue.clear()
        self.size = 0
        return calls


def _alike(head: Call, call: Call) -> bool:
    if call.fn is not head.fn or call.mode != head.mode or call.alone:
        return False
    if head.mode == STAGE and call.args[:2] != head.args[:2]:
        return False
    return (call.timeout is None) == (head.timeout is None)
