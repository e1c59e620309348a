"""What an answer, or the end of a worker, means for the calls that were in flight on it."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

from noob_cloud.exceptions import RemoteError, WorkerLostError
from noob_cloud.executors.process_error import rebuild

if TYPE_CHECKING:
    from noob_cloud.executors.process_call import Call
    from noob_cloud.executors.process_link import Link

Settled = tuple["Call", Any, BaseException | None]
"""A call, and what becomes of it: a value or an error."""

__all__ = ["Settled", "give_up_results", "settle_results", "sort_out"]


def settle_results(
    link: Link, results: list[Any], errors: list[tuple[int, bytes]] | None, settled: list[Settled]
) -> list[Call]:
    """Settle calls of the oldest batch; give those to send again, each alone."""
    batch = link.inflight[0]
    calls, done = batch.calls, batch.done
    batch.done = done + len(results)
    if not errors:
        mine = calls if len(results) == len(calls) else calls[done : batch.done]
        settled += zip(mine, results, repeat(None))
        return []
    if errors[0][0] < 0:  # the frame could not be loaded; nothing of it has run
        if len(calls) > 1:
            return calls
        settled.append((calls[0], None, rebuild(errors[0][1])))
        return []
    raised = dict(errors)
    for index, result in enumerate(results, done):
        if index in raised:
            calls[index].partial = result or ()
            settled.append((calls[index], None, rebuild(raised[index])))
        else:
            settled.append((calls[index], result, None))
    return []


def give_up_results(link: Link, error: Exception, *, retry: bool) -> list[Settled]:
    """A result could not be loaded here: kill its worker, and find whose result it was.

    The calls of a batch run again, each alone, unless no call may run twice. What else is in
    flight is sorted out when the worker's end is noticed.
    """
    link.give_up()
    batch = link.inflight[0]
    left = batch.calls[batch.done :]
    if len(left) > 1 and retry:
        for call in left:
            call.alone = True
        return []
    problem = RemoteError(f"the result cannot be loaded here: {error!r}")
    problem.__cause__ = error
    return [(call, None, problem) for call in left]


def sort_out(
    link: Link, code: int, started: int, max_retries: int
) -> tuple[list[Call], list[Settled]]:
    """Decide about the calls of a worker that has ended.

    Args:
        link: the worker; afterwards it has nothing in flight.
        code: its exit code, negative for a signal.
        started: number of the call it had started last.
        max_retries: for calls that do not say.

    Returns:
        The calls to run elsewhere, and those that fail.
    """
    again: list[Call] = []
    failed: list[Settled] = []
    for batch in link.inflight:
        for unit, call in enumerate(batch.calls[batch.done :], batch.first + batch.done):
            if call.done():
                continue
            if unit > started or _retry(call, link, max_retries, ran=unit == started):
                again.append(call)
                continue
            problem = WorkerLostError(
                f"the worker (process {link.process.pid}) that ran the call ended: {how(code)}; "
                f"it was tried {max(call.tries, 1)} time(s)",
                exit_code=code,
                tries=call.tries,
            )
            failed.append((call, None, problem))
    link.inflight.clear()
    return again, failed


def how(code: int) -> str:
    """Say how a process ended."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _retry(call: Call, link: Link, max_retries: int, *, ran: bool) -> bool:
    """Whether a call that had started runs again."""
    limit = max_retries if call.max_retries is None else call.max_retries
    if not ran:  # it had ended, its result is lost
        return limit > 0
    if link.ended_by_us:
        return True
    call.tries += 1
    call.alone = True
    return call.tries <= limit
