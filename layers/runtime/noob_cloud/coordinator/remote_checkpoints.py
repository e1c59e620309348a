"""Checkpoints in a coordinator's queue: the same methods as a file's, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from uuid import uuid4

from noob_cloud.codec.limits import DEFAULT
from noob_cloud.coordinator import columns, wire
from noob_cloud.coordinator.remote_view import RemoteView
from noob_cloud.coordinator.transport import FRAME_PLEASE
from noob_cloud.queue import submit
from noob_cloud.queue.checkpoints import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MOST: Final = 10_000
"""Tasks of one commit: what a coordinator takes in a request."""


class RemoteCheckpoints(RemoteView):
    """Submits what a source of events brought, and its checkpoint, in one commit."""

    def checkpoint(self, name: str) -> Checkpoint:
        """Return the checkpoint of this name; version 0 if there is none."""
        reply = self._transport.send("GET", _path(name), headers=FRAME_PLEASE)
        found = wire.from_frame(wire.Checkpoint, reply.body, DEFAULT)
        return Checkpoint(found.version, found.state)

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
        """Cancel, submit and move in one commit; see `TaskQueue.move_checkpoint`.

        Raises:
            ConflictError: Somebody else has moved the checkpoint; nothing was done.
        """
        if len(tasks) > _MOST:
            raise ValueError(
                f"one commit takes {_MOST} tasks at most, not {len(tasks)}: move in several steps"
            )
        batches, _ = submit.gather([task for _, task in tasks])
        groups = [columns.group(batch, self.blobs.put) for batch in batches]
        body = wire.Move(
            expected,
            state,
            wire.Submit(groups, uuid4().hex),
            [mark for mark, _ in tasks],
            undo_above,
            forget_below,
        )
        answer = self._post(_path(name), body, wire.Submitted, now=now, headers=FRAME_PLEASE)
        ids: list[int] = answer.ids
        return ids


def _path(name: str) -> str:
    return f"/checkpoints/{quote(name, safe='')}"
