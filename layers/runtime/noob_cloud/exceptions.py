"""Every error that noob-cloud raises: a category of ours together with the builtin it is.

A class's docstring is its default message; what a handler needs is in attributes.
"""

from __future__ import annotations

from inspect import getdoc
from typing import Any


class NoobCloudError(Exception):
    """noob-cloud could not do what was asked."""

    def __init__(self, message: str | None = None, /, **data: Any) -> None:
        """Keep `data` as attributes; `message` defaults to the class's docstring."""
        super().__init__(message or getdoc(type(self)) or type(self).__name__)
        self.data = data
        for name, value in data.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive pickling between one's own processes with the attributes."""
        return (_rebuild, (type(self), self.args[0] if self.args else None, self.data))


def _rebuild(
    kind: type[NoobCloudError], message: str | None, data: dict[str, Any]
) -> NoobCloudError:
    return kind(message, **data)


class RemoteTraceback(Exception):  # noqa: N818 - it is a traceback, shown as the cause
    """The traceback of an exception as it was printed where it was raised."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


# ---- categories


class PlanError(NoobCloudError):
    """The tube cannot be compiled into a plan."""


class CodecError(NoobCloudError):
    """The bytes are not a frame of the noob-cloud wire format, or the value has no place in one."""


class BlobError(NoobCloudError):
    """The blob store could not do what was asked."""


class QueueError(NoobCloudError):
    """The task queue could not do what was asked."""


class WorkerError(NoobCloudError):
    """The worker could not do what was asked."""


class CoordinatorError(NoobCloudError):
    """The coordinator could not do what was asked."""


class RunnerError(NoobCloudError):
    """The runner could not do what was asked."""


# ---- plan, tubes, placement


class PlacementError(PlanError, ValueError):
    """The placement names something that the tube does not have, or a value out of range."""


class TubeRefusedError(WorkerError, PermissionError):
    """The tube names a module that this worker may not import."""


class CodeMismatchError(WorkerError, RuntimeError):
    """This worker has other code than the task was made for."""


class TubeNotFoundError(WorkerError, LookupError):
    """No tube with this cid is known here; send its specification first."""


class NodeNotFoundError(WorkerError, LookupError):
    """The tube has no node of this name."""


class WorkerBusyError(WorkerError, RuntimeError):
    """The worker runs as many tasks as it may; try again shortly, or another worker."""


# ---- codec and blobs


class EncodeError(CodecError, TypeError):
    """A value of this type has no place in the wire format."""


class DecodeError(CodecError, ValueError):
    """The bytes are not a well-formed frame of the noob-cloud wire format."""


class LimitError(CodecError, OverflowError):
    """The value or frame is over a limit of the wire format."""


class BlobNotFoundError(BlobError, LookupError):
    """No blob with this cid is in the store."""


class BlobCorruptError(BlobError, ValueError):
    """The blob's bytes do not have the cid they are stored under."""


# ---- queue


class TaskNotFoundError(QueueError, LookupError):
    """No task with this id is in the queue."""


class TaskStateError(QueueError, ValueError):
    """The task is not in a state that allows this."""


class LeaseLostError(QueueError, RuntimeError):
    """Another worker holds the task now, or it has been settled or cancelled."""


class ConflictError(QueueError, ValueError):
    """The name that makes it happen once was given before, to something else."""


class QueueFullError(QueueError, OverflowError):
    """The queue is at its limit."""


class QueueBusyError(QueueError, TimeoutError):
    """Another process has held the queue's file for longer than is waited; it may be free later."""


class DatabaseVersionError(QueueError, RuntimeError):
    """The database was written by a newer noob-cloud; it is left untouched."""


class DatabaseDamagedError(QueueError, RuntimeError):
    """The file is not a sound noob-cloud database; it is left untouched."""


# ---- workers, coordinator, runners


class AuthenticationError(CoordinatorError, PermissionError):
    """The request carries no token, or one that is not known here."""


class RunNotFoundError(CoordinatorError, LookupError):
    """No run with this id is known to the coordinator."""


class RunFailedError(CoordinatorError, RuntimeError):
    """A run without a client ended with an error."""


class ForbiddenError(CoordinatorError, PermissionError):
    """The token's role does not allow this."""


class RoutingError(CoordinatorError, ValueError):
    """No pool may run the task."""


class UnavailableError(CoordinatorError, ConnectionError):
    """The server could not be reached, or answers that it cannot serve now."""


class DeploymentNotFoundError(CoordinatorError, LookupError):
    """Nothing of this name is deployed there."""


class MappingError(CoordinatorError, ValueError):
    """The mapping of events is wrong, or does not fit an event."""


class PackError(CoordinatorError, ValueError):
    """The project cannot be packed as it is."""


class LeaseTakenError(CoordinatorError, RuntimeError):
    """Another coordinator holds the lease of this replica now."""


class ReplicaError(CoordinatorError, RuntimeError):
    """The replica cannot be copied or restored here."""


class NoWorkerError(RunnerError, RuntimeError):
    """No worker that may run this task can be reached."""


class RemoteError(RunnerError, RuntimeError):
    """A node raised in another process, and its exception could not be rebuilt here."""


class TaskFailedError(RunnerError, RuntimeError):
    """A task ended in the dead-letter list."""


class TaskTimeoutError(RunnerError, TimeoutError):
    """A task ran longer than its timeout_seconds."""


class WorkerLostError(RunnerError, RuntimeError):
    """The process that ran the task died."""


class TaskCancelledError(RunnerError, RuntimeError):
    """The task was cancelled."""
