"""Look after a busy worker: calls out of time, results and calls stuck with a long call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noob_cloud.executors.process_link import LEAVE_SECONDS

if TYPE_CHECKING:
    from noob_cloud.executors.process_call import Call
    from noob_cloud.executors.process_link import Link

__all__ = ["leave", "look", "overdue"]

_STUCK = 0.005
"""Seconds after which a call counts as long, and what waits behind it is looked after."""
_REVOKE = 0.001
"""Seconds after which a worker has surely seen that calls were revoked; memory takes far less."""
_TAKEN = float("inf")
"""In place of the time of revoking: what was revoked has been taken back."""


def leave(link: Link, now: float) -> float | None:
    """Find whether the worker must end for a call that was cancelled: then 0.

    Else, when to look again, in seconds; None when nothing it has was cancelled.
    """
    if link.leave_at is None or now < link.leave_at:
        return None if link.leave_at is None else link.leave_at - now
    call, _ = link.current()
    if call is not None and call.cancelled():
        return 0.0
    cancelled = any(c.cancelled() for batch in link.inflight for c in batch.calls[batch.done :])
    link.leave_at = now + LEAVE_SECONDS if cancelled else None
    return LEAVE_SECONDS if cancelled else None


def overdue(link: Link, now: float) -> tuple[Call | None, float | None]:
    """Find whether the call that runs is out of time; else when to look again, in seconds."""
    call, began = link.current()
    if call is None:
        first = link.inflight[0].calls
        timed = bool(first) and first[0].timeout is not None
        return None, _STUCK if timed else None  # sent, not started
    if call.timeout is None:
        return None, None
    left = began + call.timeout - now
    if left <= 0 and not call.done():
        return call, None
    return None, max(left, _REVOKE)


def look(link: Link, now: float, *, spare: bool) -> tuple[list[Call], float | None]:
    """Have a worker that is stuck in a long call give up the results before it, and what follows.

    The worker keeps the number of the call it has started in shared memory, and before each call
    looks there whether it may start it. What was revoked is taken back only when the worker is
    still in the same call a good while later: then it will see it, and no call runs twice.

    Args:
        link: a worker with calls in flight.
        now: monotonic time, in seconds.
        spare: another worker could run what follows.

    Returns:
        The calls taken back, and when to look again, in seconds.
    """
    batch = link.inflight[0]
    alone = len(batch.calls) - batch.done <= 1 and len(link.inflight) == 1
    if alone or link.revoking_since == _TAKEN:
        return [], None
    started = link.started()
    if link.seen != started:
        link.seen, link.seen_at = started, now
        return [], _STUCK
    if now - link.seen_at < _STUCK:
        return [], _STUCK
    if started > batch.first + batch.done:
        link.flush(started)
    if link.revoking_since is None and spare:
        link.revoke(started, now)
    if link.revoking_since is None or now - link.revoking_since < _REVOKE:
        return [], _REVOKE if link.revoking_since else _STUCK
    link.revoking_since = _TAKEN
    again: list[Call] = []
    for later in link.inflight:
        keep = max(started + 1 - later.first, 0)
        again += later.calls[keep:]
        del later.calls[keep:]
    return again, None
