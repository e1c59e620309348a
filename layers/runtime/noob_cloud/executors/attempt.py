"""One try of one call on one worker, and what it says about the call and about the worker."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from noob_cloud import codec
from noob_cloud.exceptions import (
    AuthenticationError,
    CodecError,
    CodeMismatchError,
    DecodeError,
    ForbiddenError,
    LimitError,
    TaskCancelledError,
    TubeRefusedError,
    UnavailableError,
    WorkerError,
    WorkerLostError,
)
from noob_cloud.task import Outcome
from noob_cloud.worker.execute import exception_of

if TYPE_CHECKING:
    from noob_cloud.executors.assignment import Job
    from noob_cloud.executors.remote_worker import RemoteWorker
    from noob_cloud.executors.worker_client import Answer

_GRACE = 5.0
"""Seconds beyond a call's timeout that the worker has to say so itself."""
_RETRY_AFTER = 0.05
_MOST_RETRY_AFTER = 30.0


class Verdict(Enum):
    """What came of it."""

    DONE = auto()
    RAISED = auto()
    """The node raised, or the call itself is at fault: no other worker helps."""
    ELSEWHERE = auto()
    """This worker will not run it; another may."""
    CRASHED = auto()
    """The worker answers, but the process that ran the call died or was stopped."""
    LOST = auto()
    """The worker gave no answer, or none that makes sense."""
    BUSY = auto()
    """The worker has no place now."""
    REFUSED = auto()
    """The worker refuses us altogether."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one try."""

    verdict: Verdict
    value: Any = None
    error: BaseException | None = None
    duration: float | None = None
    retry_after: float = _RETRY_AFTER


def attempt(job: Job, worker: RemoteWorker) -> Ending:
    """Run the call on the worker; send its tube first if it has not been there. Never raises."""
    try:
        if job.call.tube not in worker.tubes:
            refused = _send_tube(job, worker)
            if refused is not None:
                return refused
        answer = _execute(job, worker)
        if answer.status == 404 and answer.error == "TubeNotFoundError":  # noqa: PLR2004
            worker.tubes.discard(job.call.tube)
            return _send_tube(job, worker) or _read(_execute(job, worker), job, worker)
        return _read(answer, job, worker)
    except UnavailableError as error:
        return Ending(Verdict.LOST, error=error)
    except Exception as error:  # noqa: BLE001 - an answer that breaks what reads it is the worker's
        damage = DecodeError(f"the answer of {worker.name} cannot be read: {error!r}")
        damage.__cause__ = error
        return Ending(Verdict.LOST, error=damage)


def _execute(job: Job, worker: RemoteWorker) -> Answer:
    return worker.client.execute(
        job.frame,
        task_id=job.task_id,
        label=",".join(job.call.nodes),
        timeout=job.timeout,
        wait=None if job.timeout is None else job.timeout + _GRACE,
    )


def _send_tube(job: Job, worker: RemoteWorker) -> Ending | None:
    """Send the tube; None when the worker has it now."""
    answer = worker.client.load_tube(job.tube.document)
    if answer.status == 200:  # noqa: PLR2004 - OK
        worker.tubes.add(job.call.tube)
        return None
    where = f"{worker.name}: {answer.message}"
    if answer.error == "TubeRefusedError":
        return Ending(Verdict.ELSEWHERE, error=TubeRefusedError(where))
    if answer.status in (413, 422):
        return Ending(Verdict.ELSEWHERE, error=DecodeError(where))
    return _read(answer, job, worker)


_MEANING: dict[int, tuple[Verdict, type[Exception]]] = {
    401: (Verdict.REFUSED, AuthenticationError),
    403: (Verdict.REFUSED, ForbiddenError),
    404: (Verdict.RAISED, WorkerError),
    409: (Verdict.BUSY, WorkerError),
    413: (Verdict.RAISED, LimitError),
    415: (Verdict.RAISED, WorkerError),
    422: (Verdict.RAISED, WorkerError),
    429: (Verdict.BUSY, WorkerError),
    503: (Verdict.BUSY, UnavailableError),
}


def _read(answer: Answer, job: Job, worker: RemoteWorker) -> Ending:
    if answer.status == 200:  # noqa: PLR2004 - OK
        return _outcome(answer.body, job, worker)
    verdict, kind = _MEANING.get(answer.status, (Verdict.LOST, UnavailableError))
    if verdict is Verdict.RAISED and not answer.error:  # another server than ours says so
        verdict, kind = Verdict.LOST, UnavailableError
    error = kind(f"{worker.name}: {answer.message} (HTTP {answer.status})")
    return Ending(verdict, error=error, retry_after=_seconds(answer.retry_after))


def _outcome(body: bytes, job: Job, worker: RemoteWorker) -> Ending:
    try:
        outcome = codec.loads(body)
    except CodecError as damage:
        error = DecodeError(f"the answer of {worker.name} cannot be read: {damage}")
        return Ending(Verdict.LOST, error=error)
    if not isinstance(outcome, Outcome):
        return Ending(Verdict.LOST, error=DecodeError(f"{worker.name} sent no outcome"))
    if outcome.ok:
        if not _fits(outcome.value, job):
            error = DecodeError(f"{worker.name} sent no tuple of outputs for each epoch")
            return Ending(Verdict.LOST, error=error)
        return Ending(Verdict.DONE, value=outcome.value, duration=outcome.duration)
    raised = exception_of(outcome)
    verdict = Verdict.RAISED
    if isinstance(raised, CodeMismatchError | TubeRefusedError):
        verdict = Verdict.ELSEWHERE
    elif isinstance(raised, WorkerLostError | TaskCancelledError):
        verdict = Verdict.CRASHED
    return Ending(verdict, error=raised, duration=outcome.duration)


def _fits(value: Any, job: Job) -> bool:
    rows = value if isinstance(value, list) else []
    return len(rows) == len(job.call.epochs) and all(isinstance(row, tuple) for row in rows)


def _seconds(retry_after: str | None) -> float:
    try:
        seconds = float(retry_after or _RETRY_AFTER)
    except ValueError:
        return _RETRY_AFTER
    return min(max(_RETRY_AFTER, seconds), _MOST_RETRY_AFTER)  # in this order: "nan" is a float
