"""How far a listener has come, moved on in the same commit as the tasks that it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from noob_cloud.exceptions import ConflictError, TaskNotFoundError
from noob_cloud.queue import outcomes, submit
from noob_cloud.queue.refusals import Refusals
from noob_cloud.queue.statements import SQL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from noob_cloud.queue.ledger import Ledger

__all__ = ["MAX_NAME", "MAX_STATE", "Checkpoint", "Checkpoints"]

MAX_NAME: Final = 200
"""Characters of a checkpoint's name."""
MAX_STATE: Final = 1 << 20
"""Bytes of a checkpoint's state."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a listener has come."""

    version: int = 0
    """0: there is none yet; one more with each move."""
    state: bytes = b""
    """What the listener wrote."""


class Checkpoints(Refusals):
    """Submit what a source of events brought, and its checkpoint, in one commit."""

    def checkpoint(self, name: str) -> Checkpoint:
        """Return the checkpoint of this name; version 0 if there is none."""
        _check_name(name)

        def work() -> Checkpoint:
            _make(self._ledger)
            return _find(self._ledger, name)

        return self._run(work)

    def move_checkpoint(
        self,
        name: str,
        expected: int,
        state: bytes,
        tasks: Sequence[tuple[int, Mapping[str, Any]]] = (),
        *,
        undo_above: int | None = None,
        forget_below: int = 0,
        now: float | None = None,
    ) -> list[int]:
        """Cancel, submit and move the checkpoint in one commit; return the new tasks' ids.

        Args:
            name: The checkpoint's.
            expected: The version that it has to have.
            state: What `checkpoint` returns from then on.
            tasks: A mark from 0 on (a block's number), and the arguments of `submit_task`.
            undo_above: Tasks of this checkpoint with a larger mark, and no outcome, are cancelled.
            forget_below: Tasks with a smaller mark can not be undone any more.
            now: Unix time; the queue's clock by default.

        Raises:
            ConflictError: Somebody else has moved the checkpoint; nothing was done.
        """
        _check_name(name)
        if len(state) > MAX_STATE:
            raise ValueError(
                f"a checkpoint's state has at most {MAX_STATE} bytes, not {len(state)}"
            )
        batches, count = submit.gather([task for _, task in tasks])
        for batch in batches:
            submit.pack_batch(self._values, batch)
        at = self._now(now)

        def work() -> list[int]:
            ledger = self._ledger
            _make(ledger)
            found = _find(ledger, name)
            if found.version != expected:
                raise ConflictError(
                    f"checkpoint {name!r} is at version {found.version}, not {expected}: another"
                    " listener moved it. Read it again, and go on from there."
                )
            if undo_above is not None:
                _undo(ledger, name, undo_above, at)
            ids = submit.add_batches(ledger, batches, count, at) if count else []
            marks = [(name, mark, task) for (mark, _), task in zip(tasks, ids, strict=True)]
            ledger.many(SQL.add_checkpoint_task, marks)
            ledger.execute(SQL.forget_checkpoint_tasks, (name, forget_below))
            ledger.execute(SQL.set_checkpoint, (name, expected + 1, state))
            return ids

        ids = self._run(work)
        self._tell()
        return ids


def _make(ledger: Ledger) -> None:
    ledger.execute(SQL.make_checkpoints)
    ledger.execute(SQL.make_checkpoint_tasks)


def _find(ledger: Ledger, name: str) -> Checkpoint:
    row = ledger.execute(SQL.checkpoint, (name,)).fetchone()
    return Checkpoint() if row is None else Checkpoint(*row)


def _undo(ledger: Ledger, name: str, above: int, now: float) -> None:
    ledger.refresh()
    for (task_id,) in ledger.execute(SQL.checkpoint_tasks, (name, above)).fetchall():
        try:
            outcomes.cancel(ledger, task_id, now)
        except TaskNotFoundError:
            continue  # it has its outcome, and was cleaned away
    ledger.execute(SQL.drop_checkpoint_tasks, (name, above))


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise ValueError(f"a checkpoint's name has 1 to {MAX_NAME} characters, not {name!r:.80}")
