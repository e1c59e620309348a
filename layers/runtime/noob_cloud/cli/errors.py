"""What an error becomes on the command line: one sentence, and an exit code.

| code | meaning |
|---|---|
| 0 | it worked |
| 1 | a task or node failed, or was cancelled |
| 2 | the command, the tube, or what it names is wrong |
| 3 | the coordinator, queue or workers cannot be reached, or another coordinator took over |
| 130 | interrupted with Ctrl-C |
"""

from __future__ import annotations

import traceback
from typing import Any

from noob_cloud.blockchain.errors import (
    ConfigError,
    ExtraMissingError,
    NetworkRetiredError,
    ReadOnlyError,
    RpcError,
)
from noob_cloud.exceptions import (
    AuthenticationError,
    DatabaseDamagedError,
    DatabaseVersionError,
    DeploymentNotFoundError,
    ForbiddenError,
    LeaseTakenError,
    NoobCloudError,
    NoWorkerError,
    PlanError,
    ReplicaError,
    RoutingError,
    RunNotFoundError,
    TaskNotFoundError,
    TaskStateError,
    TubeNotFoundError,
    TubeRefusedError,
    UnavailableError,
)

OK, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130

_USAGE = (
    AuthenticationError,
    ConfigError,
    DatabaseDamagedError,
    DatabaseVersionError,
    DeploymentNotFoundError,
    ExtraMissingError,
    ForbiddenError,
    NetworkRetiredError,
    PlanError,
    ReadOnlyError,
    ReplicaError,
    RoutingError,
    RunNotFoundError,
    TaskNotFoundError,
    TaskStateError,
    TubeNotFoundError,
    TubeRefusedError,
)
_UNREACHABLE = (LeaseTakenError, NoWorkerError, RpcError, UnavailableError)


class UsageError(NoobCloudError):
    """The command line asks for something that cannot be."""


def exit_code(error: BaseException) -> int:
    """The exit code that says what kind of error this is."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, (UsageError, *_USAGE)):
        return USAGE
    return UNREACHABLE if isinstance(error, _UNREACHABLE) else FAILED


def reason(error: BaseException) -> str:
    """What an error says, on one line: of Pydantic's, each field with what is wrong in it."""
    listed = getattr(error, "errors", None)
    if callable(listed):
        return "; ".join(_complaint(found) for found in listed())
    message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return " ".join(message.split())


def _complaint(found: dict[str, Any]) -> str:
    where = ".".join(map(str, found.get("loc", ())))
    what = " ".join(str(found.get("msg", "")).split())
    for prefix in ("Value error, ", "Assertion failed, "):
        what = what.removeprefix(prefix)
    what = what.strip(", ") or "is not valid"
    return f"{where}: {what}" if where else what


def sentence(error: BaseException) -> str:
    """The error on one line: for a node's own exception its type, and then where it was raised."""
    message = reason(error)
    if not isinstance(error, NoobCloudError):
        message = f"{type(error).__name__}: {message}" if message else type(error).__name__
    where = [line for note in getattr(error, "__notes__", ()) for line in _places(str(note))]
    return f"{message} ({'; '.join(where)})" if where else message


def as_json(error: BaseException, *, debug: bool = False) -> dict[str, Any]:
    """The error as an object for `--json`: its class, its sentence and its data."""
    body: dict[str, Any] = {"error": type(error).__name__, "message": sentence(error)}
    if isinstance(error, NoobCloudError):
        body.update({key: value for key, value in error.data.items() if key not in body})
    if debug:
        body["traceback"] = "".join(traceback.format_exception(error))
    return body


def _places(note: str) -> list[str]:
    """The lines of a note that say where; a traceback is left to `--debug`."""
    if "Traceback (most recent call last)" in note:
        note = note[: note.index("Traceback (most recent call last)")]
    return [line.strip(" :") for line in note.splitlines() if line.strip(" :")][:2]
