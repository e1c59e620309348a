"""Run a task again here, and say whether somebody else's result is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob_cloud import codec
from noob_cloud.codec import canonical
from noob_cloud.exceptions import RunnerError
from noob_cloud.task import Outcome
from noob_cloud.worker import child
from noob_cloud.worker.cache import TubeCache
from noob_cloud.worker.execute import exception_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Checker", "same_value"]


def same_value(mine: Any, theirs: Any) -> bool:
    """Whether two results of a stage are equal, byte by byte; of errors, what was raised where."""
    if isinstance(mine, Outcome) or isinstance(theirs, Outcome):
        return (
            isinstance(mine, Outcome)
            and isinstance(theirs, Outcome)
            and _raised(mine) == _raised(theirs)
        )
    return canonical(mine) == canonical(theirs)


class Checker:
    """Executes calls as a worker does, in this process: the tubes are one's own.

    Args:
        same: whether one's own result and another's are equal; by default byte by byte. Give one
            where results differ from machine to machine, such as sums of floats on a GPU.
    """

    def __init__(self, same: Callable[[Any, Any], bool] | None = None) -> None:
        self._same = same or same_value
        self._tubes = TubeCache()

    def run(self, payload: bytes, document: bytes) -> Any:
        """Return one's own result: outputs for each epoch, or the `Outcome` of what was raised.

        Args:
            payload: frame of a call.
            document: of its tube.

        Raises:
            RunnerError: it could not be executed here.
        """
        body = child.task_body(tube=None, node_id="", epoch=0, payload=payload)
        kind, answer = child.answer(child.TASK, body, self._tubes)
        if kind == child.UNKNOWN:
            self._tubes.add(document)
            kind, answer = child.answer(child.TASK, body, self._tubes)
        if kind in (child.OUTCOME, child.RAISED):
            return codec.loads(answer)
        if kind == child.ERROR:
            error = exception_of(codec.loads(answer))
            raise RunnerError(f"a task could not be executed here: {error}") from error
        raise RunnerError(f"a task cannot be read here: {answer.decode(errors='replace')}")

    def agrees(self, mine: Any, theirs: Any) -> bool:
        """Whether two results are the same; what cannot be compared is not."""
        try:
            return bool(self._same(mine, theirs))
        except Exception:  # noqa: BLE001 - a wrong result may be of any shape
            return False


def _raised(outcome: Outcome) -> tuple[Any, ...]:
    return outcome.error_type, outcome.message, outcome.node_id, outcome.epoch
