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
        queue = self._queues[calls[0].priority]
        if len(calls) == 1:
            queue.append(calls[0])
            self.size += 1
        else:
            queue.extend(calls)
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
        if size == 1:
            return calls
        function, mode, untimed = head.fn, head.mode, head.timeout is None
        stage = head.args[:2] if mode == STAGE else None
        while len(calls) < size and queue:
            call = queue[0]
            if call.fn is not function or call.mode != mode or call.alone:
                break
            if (call.timeout is None) != untimed or (stage and call.args[:2] != stage):
                break
            queue.popleft()
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
