"""A task that its worker has other code for: handed back, or buried when nobody has the right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from noob_cloud.queue.questions import Questions
from noob_cloud.queue.statements import SQL
from noob_cloud.task import TaskStatus

if TYPE_CHECKING:
    from noob_cloud.queue.interface import TaskRef
    from noob_cloud.queue.ledger import Ledger
    from noob_cloud.task import Token

__all__ = ["SHORTEST_PATIENCE", "Refusals", "refuse"]

SHORTEST_PATIENCE: Final = 120.0
"""How long a task is handed from one to the other at least, in seconds; where one attempt may take
longer, as long as that: a worker with the right code may be busy so long."""
_WAITS: Final = "It was handed back for a worker that has that code."


def refuse(
    ledger: Ledger, ref: tuple[int, Token | None], error: str, traceback: str | None, now: float
) -> TaskStatus:
    """Hand a task back that its worker has other code for: ready at once, no attempt counted.

    When nobody but such workers has claimed it for long enough it is dead, and says so.
    """
    piece = ledger.hold(*ref)
    row = piece.row
    ledger.execute(SQL.make_refusals)
    known = ledger.execute(SQL.refusal, (piece.low,)).fetchone()
    # whoever else claimed it meanwhile had the code
    since = known[0] if known is not None and known[1] == row.claims - 1 else now
    patience = max(SHORTEST_PATIENCE, ledger.words.terms(row.terms).timeout_seconds)
    ledger.end(piece)
    if now - since > patience:
        why = (
            f"{error} For {now - since:.0f} s no worker with that code has taken the task: deploy"
            " it, or start a worker that has it, and redrive the task."
        )
        ledger.execute(SQL.add_failure, (piece.low, why, traceback))
        ledger.execute(SQL.drop_refusal, (piece.low,))
        ledger.bury(piece.low, row, now)
        return TaskStatus.DEAD
    ledger.execute(SQL.add_refusal, (piece.low, since, row.claims))
    ledger.execute(SQL.add_failure, (piece.low, f"{error} {_WAITS}", traceback))
    terms, key = ledger.again(piece, error, now)
    ledger.make_ready(key, 1, terms, row.claims, row.tries)
    return TaskStatus.READY


class Refusals(Questions):
    """What a worker says of tasks that it has not the code for."""

    def refuse_task(
        self,
        task: TaskRef,
        error: str,
        traceback: str | None = None,
        *,
        now: float | None = None,
    ) -> TaskStatus:
        """Hand a task back that this worker has other code for: READY, and no attempt is counted.

        DEAD when for two minutes, or for as long as one attempt of it may take, only such workers
        have claimed it.

        Raises:
            LeaseLostError: It is not this worker's any more.
        """
        ref = self._ref(task)
        at = self._now(now)
        status = self._run(lambda: refuse(self._ledger, ref, error, traceback, at))
        self._held.pop(ref[0], None)
        self._tell()
        return status
