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

__all__ = ["MAX_NAME", "MAX_STATE", "Checkpoint", "Checkpoints", "Move", "find", "move"]

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


@dataclass(frozen=True, slots=True)
class Move:
    """How a checkpoint is moved; see `Checkpoints.move_checkpoint`."""

    expected: int
    state: bytes
    marks: Sequence[int] = ()
    """One for each task that is submitted with it."""
    undo_above: int | None = None
    forget_below: int = 0


class Checkpoints(Refusals):
    """Submit what a source of events brought, and its checkpoint, in one commit."""

    def checkpoint(self, name: str) -> Checkpoint:
        """Return the checkpoint of this name; version 0 if there is none."""
        _check_name(name)

        return self._run(lambda: find(self._ledger, name))

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
        to = Move(expected, state, [mark for mark, _ in tasks], undo_above, forget_below)

        def work() -> list[int]:
            return move(self._ledger, name, to, batches, count, at)[0]

        ids = self._run(work)
        self._tell()
        return ids


def find(ledger: Ledger, name: str) -> Checkpoint:
    """Return a checkpoint; inside a transaction."""
    _make(ledger)
    row = ledger.execute(SQL.checkpoint, (name,)).fetchone()
    return Checkpoint() if row is None else Checkpoint(*row)


def move(
    ledger: Ledger,
    name: str,
    to: Move,
    batches: list[submit.Batch],
    count: int,
    now: float,
    *,
    called: str | None = None,
) -> tuple[list[int], list[int]]:
    """Cancel, submit and move; inside a transaction. Return the new tasks, and the cancelled.

    Args:
        ledger: Of the queue.
        name: The checkpoint's.
        to: How it moves.
        batches: The tasks, packed.
        count: How many they are.
        now: Unix time.
        called: What the checkpoint is called in an error; its name by default.

    Raises:
        ConflictError: Somebody else has moved the checkpoint; nothing was done.
    """
    found = find(ledger, name)
    if found.version != to.expected:
        raise ConflictError(
            f"checkpoint {called or name!r} is at version {found.version}, not {to.expected}:"
            " another listener moved it. Read it again, and go on from there."
        )
    undone = [] if to.undo_above is None else _undo(ledger, name, to.undo_above, now)
    ids = submit.add_batches(ledger, batches, count, now) if count else []
    marks = [(name, mark, task) for mark, task in zip(to.marks, ids, strict=True)]
    ledger.many(SQL.add_checkpoint_task, marks)
    ledger.execute(SQL.forget_checkpoint_tasks, (name, to.forget_below))
    ledger.execute(SQL.set_checkpoint, (name, to.expected + 1, to.state))
    return ids, undone


def _make(ledger: Ledger) -> None:
    ledger.execute(SQL.make_checkpoints)
    ledger.execute(SQL.make_checkpoint_tasks)


def _undo(ledger: Ledger, name: str, above: int, now: float) -> list[int]:
    ledger.refresh()
    undone: list[int] = []
    for (task_id,) in ledger.execute(SQL.checkpoint_tasks, (name, above)).fetchall():
        try:
            if outcomes.cancel(ledger, task_id, now):
                undone.append(task_id)
        except TaskNotFoundError:
            continue  # it has its outcome, and was cleaned away
    ledger.execute(SQL.drop_checkpoint_tasks, (name, above))
    return undone


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise ValueError(f"a checkpoint's name has 1 to {MAX_NAME} characters, not {name!r:.80}")
