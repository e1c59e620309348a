"""One writer at a time, and one commit for all who wait."""

from __future__ import annotations

import sqlite3

from noob_cloud.queue.commit import GroupCommit, _Waiting


class Handing(GroupCommit):
    """A leader hands on between a thread's two looks at whether it was chosen."""

    def hand_to(self, waiting: _Waiting) -> None:
        """Choose a thread that has not begun to wait."""
        self._lead.acquire()
        self._waiting.append(waiting)
        self._hand_on()


def test_thread_chosen_before_it_waits() -> None:
    """A thread that need not wait for the lead runs its work, and wakes who came after it."""
    commit = Handing(sqlite3.connect(":memory:", isolation_level=None), lambda: None)
    first, second = _Waiting(lambda: 1), _Waiting(lambda: 2)
    commit.hand_to(first)
    commit._waiting.append(second)
    assert first.chosen
    assert not first.wake.locked()

    commit._run_waiting()

    assert (first.result, second.result) == (1, 2)
    assert second.done
    assert not second.wake.locked()
