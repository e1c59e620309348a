"""Slots on a worker server: what a claim loop pulls here is pushed there."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from noob_cloud.exceptions import CodecError
from noob_cloud.executors.http import HttpExecutor
from noob_cloud.task import Outcome, StageCall
from noob_cloud.tubes import TubeSource
from noob_cloud.worker import child
from noob_cloud.worker.execute import outcome_of_error

if TYPE_CHECKING:
    from concurrent.futures import Future

    from noob_cloud.executors.worker_config import WorkerConfig
    from noob_cloud.worker.child import Reply
    from noob_cloud.worker.slots import Stop


class HttpSlots:
    """Run calls on one worker server, `limit` at once.

    Args:
        worker: the server.
        limit: calls at once; by default what the configuration says, else 4.
    """

    def __init__(self, worker: WorkerConfig, *, limit: int | None = None) -> None:
        self.limit = limit or worker.max_tasks or 4
        self._executor = HttpExecutor(workers=[worker])
        self._tubes: dict[str, TubeSource] = {}

    def warm(self) -> None:
        """Do nothing: the server is running, or its breaker will tell."""

    def load(self, document: bytes) -> Reply:
        """Know a tube from now on; the server gets it with its first call."""
        try:
            source = TubeSource.from_document(document)
        except CodecError as error:
            return child.MALFORMED, str(error).encode()
        self._tubes[source.cid] = source
        return child.packed(Outcome(ok=True, value={"cid": source.cid}))

    def run(
        self, frame: bytes, *, timeout: float | None, stop: Stop, kind: bytes = child.CALL
    ) -> Reply:
        """Run one call of a run on the server and wait for its answer."""
        try:
            call = child.call_of(kind, frame)
        except child.UNREADABLE as error:
            return child.unreadable(error)
        if not isinstance(call, StageCall):
            return child.MALFORMED, (
                b"a task that was submitted by hand names a node of the worker's own --tube; "
                b"let a worker that was started with it pull from the queue"
            )
        tube = self._tubes.get(call.tube)
        if tube is None:
            return child.UNKNOWN, call.tube.encode()
        future = self._executor.submit_call(call, tube=tube)
        if not stop.enter(_Sent(future)):
            future.cancel()
        try:
            value = future.result(timeout)
        except (Exception, CancelledError) as error:  # noqa: BLE001 - it becomes the task's outcome
            future.cancel()
            outcome = outcome_of_error(error)
            reply = child.packed(outcome)
            if outcome.epoch is not None and not call.retry_errors:
                return child.RAISED, reply[1]
            return reply
        finally:
            stop.leave()
        return child.packed(Outcome(ok=True, value=value), alone=kind == child.TASK)

    def close(self) -> None:
        """Stop what runs."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class _Sent:
    """A call on its way, which can be taken back."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def interrupt(self) -> None:
        self._future.cancel()
