"""Run one call and catch everything: the one place where a node's exception becomes an outcome."""

from __future__ import annotations

import builtins
import re
import sys
import traceback
from ast import literal_eval
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from noob_core import Epoch

from noob_cloud.exceptions import (
    CodeMismatchError,
    DecodeError,
    EncodeError,
    RemoteError,
    RemoteTraceback,
    TaskCancelledError,
    TubeRefusedError,
)
from noob_cloud.serverless.code import deployed_code
from noob_cloud.task import Outcome, StageCall
from noob_cloud.worker.cache import TubeCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from noob_cloud.worker.cache import CachedTube

__all__ = [
    "FINISHED",
    "TubeCache",
    "check_code",
    "exception_of",
    "execute",
    "failure_of",
    "outcome_of_error",
    "outcome_of_failure",
    "raise_outcome",
    "run_stage",
]

FINISHED = "_noob_cloud_finished"
"""The attribute of an exception that keeps the outputs of the epochs before the one that raised."""

_E = TypeVar("_E", bound=BaseException)
_PLAIN = (str, int, float, bool, bytes, type(None))
_TRACEBACK_LIMIT = 32_768
"""Characters of a traceback that travel; its end says what happened, so the start is cut."""
_NOTE = re.compile(r"raised by node (\w+)")
_FAILURE = re.compile(
    r"(?P<type>\w+(?:\.\w+)+): (?P<message>.*?)"
    r"(?: \[(?:node (?P<node>\w+))?(?:, )?(?:epoch (?P<epoch>[^]]+))?\])?",
    re.DOTALL,
)
_TEXT_LIMIT = 16_384
"""Characters of a message, or of one argument, that travel."""
_FOR_GOOD = (EncodeError, TubeRefusedError, TaskCancelledError)
"""Trying again elsewhere gives the same, or was not wanted."""


# ---- where the work is


def execute(
    call: StageCall, *, tubes: TubeCache, cancelled: Callable[[], bool] | None = None
) -> Outcome:
    """Run a stage once for each epoch of `call`; never raise, whatever the nodes do.

    Args:
        call: what to run; its tube must be in `tubes`.
        tubes: the tubes known here.
        cancelled: asked before each epoch; once true the rest is not run.

    Returns:
        An outcome whose value is a list with, for each epoch, the tuple of the stage's outputs;
        or the error of the first epoch that raised, with its node, epoch and traceback, and the
        outputs of the epochs before it as its value.
    """
    start = perf_counter()
    try:
        value = _run(call, tubes, cancelled)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the one place that catches everything
        return outcome_of_error(error, node_id=_only(call.nodes), duration=perf_counter() - start)
    return Outcome(ok=True, value=value, duration=perf_counter() - start)


def outcome_of_error(
    error: BaseException, *, node_id: str | None = None, epoch: Any = None, duration: float = 0.0
) -> Outcome:
    """Describe an exception so that it can be raised again somewhere else.

    Args:
        error: what was raised; its own `.node_id` and `.epoch`, if it has them, are believed.
        node_id: the node, where the caller knows it.
        epoch: the epoch in upstream's wire form, where the caller knows it.
        duration: seconds that the attempt took.
    """
    kind = type(error)
    named = _named(error)
    text = "".join(traceback.format_exception(error))
    if len(text) > _TRACEBACK_LIMIT:
        text = "...\n" + text[-_TRACEBACK_LIMIT:]
    args = error.args if all(_plain(arg) for arg in error.args) else ()
    return Outcome(
        ok=False,
        value=getattr(error, FINISHED, None),
        error_type=f"{kind.__module__}.{kind.__qualname__}",
        message=_message(error),
        args=args,
        traceback=text,
        node_id=named or node_id,
        epoch=getattr(error, "epoch", epoch),
        retryable=not isinstance(error, _FOR_GOOD),
        duration=duration,
    )


def run_stage(document: bytes | None, call: StageCall) -> list[tuple[Any, ...]]:
    """Run a call in a process that shares nothing but this package: a pool's, or Dask's.

    Args:
        document: the tube (`TubeSource.document`); loaded once a process. None: it has been here.
        call: what to run.

    Raises:
        Exception: what the node raised, with its node and epoch as notes; a `RemoteError` with
            the same text where the exception would not survive the way home.
        TubeNotFoundError: `document` is None and the tube has not been here.
    """
    if document is not None and call.tube not in _HERE:
        _HERE.add(document)
    try:
        return _run(call, _HERE, None)
    except Exception as error:  # noqa: BLE001 - raised again, in a form that survives the way home
        outcome = outcome_of_error(error, node_id=_only(call.nodes))
        if _travels(error):
            raise _annotate(error, outcome)  # noqa: B904 - the same exception, with notes
        raise _remote_error(outcome) from None


def _run(
    call: StageCall, tubes: TubeCache, cancelled: Callable[[], bool] | None
) -> list[tuple[Any, ...]]:
    with tubes.lend(call.tube) as tube:
        check_code(tube, call.code, f"nodes {', '.join(call.nodes)}")
        if len(call.inputs) != len(call.epochs):
            raise DecodeError(
                f"the call has {len(call.epochs)} epochs and inputs for {len(call.inputs)}"
            )
        program = tube.program(call.nodes)
        results = []
        for wire, values in zip(call.epochs, call.inputs, strict=True):
            if cancelled is not None and cancelled():
                raise TaskCancelledError
            try:
                results.append(program(_epoch(wire), values))
            except Exception as error:
                _set(error, "epoch", wire)
                if results and not isinstance(error, TaskCancelledError):
                    _set(error, FINISHED, results)
                raise
        return results


def check_code(tube: CachedTube, wanted: str | None, what: str) -> None:
    """Return if this worker has the code that a call was made for.

    That is named by the tube's own modules, or, by who was deployed with a packed project, by that
    project and everything that it needs.

    Raises:
        CodeMismatchError: it has another one.
    """
    if wanted is None or wanted == tube.code:
        return
    deployed = deployed_code()
    if wanted != deployed:
        found = deployed or tube.code
        raise CodeMismatchError(
            f"{what} wants code {wanted}, but this worker has {found}; install the same "
            f"version of {', '.join(tube.modules)}, and restart it",
            wanted=wanted,
            found=found,
        )


def _only(nodes: tuple[str, ...]) -> str | None:
    return nodes[0] if len(nodes) == 1 else None


def _named(error: BaseException) -> str | None:
    """Return the node that the engine names in its note."""
    for note in getattr(error, "__notes__", ()):
        found = _NOTE.match(note)
        if found is not None:
            return found[1]
    named = getattr(error, "node_id", None)
    return named if isinstance(named, str) else None


def _epoch(wire: Any) -> Epoch:
    try:
        if isinstance(wire, (list, tuple)):
            wire = [part if isinstance(part, int) else tuple(part) for part in wire]
        return Epoch.from_wire(wire)
    except (TypeError, ValueError, OverflowError) as error:
        raise DecodeError(f"{wire!r:.80} is no epoch in upstream's wire form") from error


def _plain(value: Any) -> bool:
    if isinstance(value, (str, bytes)) and len(value) > _TEXT_LIMIT:
        return False
    return type(value) in _PLAIN


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_TEXT_LIMIT]
    except Exception:  # noqa: BLE001 - a user's __str__ may itself be broken
        return f"{type(error).__name__} (its message could not be made)"


def _travels(error: Exception) -> bool:
    import pickle  # noqa: PLC0415 - one's own child processes only

    try:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - bytes we have just made
    except Exception:  # noqa: BLE001 - anything a user's __reduce__ raises means no
        return False
    return type(again) is type(error)


# ---- where the user is


def raise_outcome(outcome: Outcome) -> NoReturn:
    """Raise the exception that `outcome` describes.

    Raises:
        Exception: see `exception_of`.
    """
    raise exception_of(outcome)


def failure_of(outcome: Outcome) -> tuple[str, str | None]:
    """Return an error outcome as the two texts that a queue keeps: error and traceback."""
    where = [f"node {outcome.node_id}"] if outcome.node_id is not None else []
    if outcome.epoch is not None:
        where.append(f"epoch {_epoch(outcome.epoch)}")
    tail = f" [{', '.join(where)}]" if where else ""
    return f"{outcome.error_type}: {outcome.message}{tail}", outcome.traceback


def outcome_of_failure(error: str, traceback_text: str | None = None) -> Outcome:
    """Read what `failure_of` wrote; of the arguments only the message is left."""
    found = _FAILURE.fullmatch(error)
    if found is None:
        return Outcome(ok=False, message=error, traceback=traceback_text)
    message: str = found["message"]
    args: tuple[Any, ...] = (message,)
    if found["type"] == "builtins.KeyError":  # its message is the repr of its argument
        with suppress(ValueError, SyntaxError):
            args = (literal_eval(message),)
    epoch = found["epoch"]
    return Outcome(
        ok=False,
        error_type=found["type"],
        message=message,
        args=args if message else (),
        traceback=traceback_text,
        node_id=found["node"],
        epoch=None if epoch is None else _wire(epoch),
    )


def _wire(text: str) -> Any:
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def exception_of(outcome: Outcome) -> BaseException:
    """Rebuild a remote exception, or make a `RemoteError` of it.

    The class is looked up among builtins and modules that are imported here already, and only
    an `Exception` is made: bytes from elsewhere never cause an import. The remote traceback is
    the cause; node and epoch are in its notes and in `.node_id` and `.epoch`.
    """
    kind = _known_class(outcome.error_type or "")
    error: BaseException | None = None
    if kind is not None:
        args = outcome.args or ((outcome.message,) if outcome.message else ())
        try:
            error = kind(*args)
        except Exception:  # noqa: BLE001 - a constructor with other arguments
            error = None
    return _annotate(error, outcome) if error is not None else _remote_error(outcome)


def _known_class(name: str) -> type[Exception] | None:
    module, _, qualname = name.rpartition(".")
    while module:
        found: Any = builtins if module == "builtins" else sys.modules.get(module)
        if found is not None:
            for part in qualname.split("."):
                found = getattr(found, part, None)
            if isinstance(found, type) and issubclass(found, Exception):
                return found
            return None
        module, _, last = module.rpartition(".")
        qualname = f"{last}.{qualname}"
    return None


def _remote_error(outcome: Outcome) -> BaseException:
    return _annotate(
        RemoteError(f"{outcome.error_type}: {outcome.message}", error_type=outcome.error_type),
        outcome,
    )


def _annotate(error: _E, outcome: Outcome) -> _E:
    """Say where the exception comes from."""
    if outcome.node_id is not None:
        _set(error, "node_id", outcome.node_id)
        note = f"raised by node {outcome.node_id}"
        if outcome.epoch is not None:
            note += f" in epoch {_epoch(outcome.epoch)}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    if outcome.epoch is not None:
        _set(error, "epoch", outcome.epoch)
    if isinstance(outcome.value, list):
        _set(error, FINISHED, outcome.value)
    if outcome.traceback and error.__traceback__ is None:
        error.__cause__ = RemoteTraceback(outcome.traceback)
    return error


def _set(error: BaseException, name: str, value: Any) -> None:
    try:
        if getattr(error, name, None) is None:
            setattr(error, name, value)
    except Exception:  # noqa: BLE001 - slots, or a property of the user's
        return


_HERE = TubeCache()
"""The tubes of `run_stage` in this process, which trusts whoever started it."""
