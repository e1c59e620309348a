"""The future of a task elsewhere: its value stays there until it is wanted here."""

from __future__ import annotations

from concurrent.futures import Future
from threading import RLock
from typing import TYPE_CHECKING, Any

from msgspec.msgpack import Ext

from noob_cloud.blobs.by_cid import ByCid
from noob_cloud.coordinator import wire
from noob_cloud.executors.queue import value_of
from noob_cloud.queue import bodies

if TYPE_CHECKING:
    from collections.abc import Callable

    from noob_cloud.task import Task

__all__ = ["TaskFuture"]

_NAMES_BLOB = frozenset((wire.BLOB, bodies.CID))


class TaskFuture(Future[Any]):
    """A future whose result is fetched and decoded when it is first asked for.

    `cancel` succeeds while there is no outcome: a task that runs is stopped.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        """Of the function that is called."""
        self.task_id: int | None = None
        """Of the task, once it has been submitted."""
        self.cid: str | None = None
        """Of the result's frame, where it is so large that it stays in the blob store."""
        self._read: Callable[[], tuple[Any, BaseException | None]] | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        self._reading = RLock()
        self._noted = False

    # ---- for whoever waits

    def result(self, timeout: float | None = None) -> Any:
        """Return the value, or raise what the function raised, with the remote traceback.

        Raises:
            TimeoutError: there is no outcome within `timeout` seconds.
            CancelledError: it was cancelled.
            UnavailableError: the value could not be fetched; asking again may help.
        """
        error = self.exception(timeout)
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error  # its traceback holds this frame

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the function raised, None if it did not; see `result` for the errors."""
        error = super().exception(timeout)
        if error is not None:
            return error
        with self._reading:
            if self._read is not None:
                self._value, self._error = self._read()
                self._read = None
        return self._error

    def cancel(self) -> bool:
        """Cancel the task, running or not; False if it has its outcome."""
        if not super().cancel():
            return False
        self.set_running_or_notify_cancel()
        return True

    def as_input(self) -> Any:
        """Return what stands for the result in another task: its cid, or the value if it is small.

        Raises:
            Exception: what the function raised.
        """
        return self.result() if self.cid is None else ByCid(self.cid)

    # ---- for the executor

    def set_running_or_notify_cancel(self) -> bool:
        """Say whether it may be resolved; who waits for a cancelled one learns of it once."""
        with self._reading:
            if self._noted:
                return False
            going_on = super().set_running_or_notify_cancel()
            self._noted = not going_on
            return going_on

    def settle(self, task: Task) -> None:
        """Take the task's outcome, still packed."""
        packed = getattr(getattr(task, "_place", None), "results", None)
        if type(packed) is Ext and packed.code in _NAMES_BLOB:
            self.cid = bytes(packed.data).decode()
        self._read = lambda: _read(task, self.name)
        self.set_result(None)


def _read(task: Task, name: str) -> tuple[Any, BaseException | None]:
    _ = task.result  # fetched and decoded here: what this raises is not the function's doing
    try:
        return value_of(task), None
    except Exception as error:  # noqa: BLE001 - raised wherever the result is asked for
        where = f" on worker {task.worker_id}" if task.worker_id else ""
        error.add_note(f"raised by {name}, task {task.task_id}{where}")
        return None, error
