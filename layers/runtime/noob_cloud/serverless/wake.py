"""A wake-up: pull tasks until the invocation's time is over, or there are none."""

from __future__ import annotations

from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from noob_cloud.worker.claim import ClaimLoop

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from noob_cloud.queue.remote import RemoteQueue
    from noob_cloud.worker.slots import Slots

__all__ = ["IDLE_SECONDS", "LEASE_SECONDS", "POLL_SECONDS", "pull_for"]

IDLE_SECONDS: Final = 3.0
"""How long nothing is found before the invocation ends: an idle one is paid for."""
LEASE_SECONDS: Final = 10.0
"""Without a heartbeat: a function is killed more often than a container."""
POLL_SECONDS: Final = 1.0
"""How long one claim waits: what is claimed by one that is frozen waits for its lease to end."""
_MARGIN: Final = 4.0
"""Seconds before the end in which what still runs is stopped and handed back."""
_MARGIN_SHARE: Final = 0.2
"""Of the time, where that is less."""
_DRAIN_SHARE: Final = 0.2
"""The last part of the time, in which no more is claimed: what runs may end."""
_LONGEST_DRAIN: Final = 60.0
_LOOK: Final = 0.05


class _Drivers(Protocol):
    @property
    def active(self) -> Sequence[object]: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...


def pull_for(
    seconds: float,
    queue: RemoteQueue,
    slots: Slots,
    *,
    worker_id: str,
    tags: Iterable[str] = (),
    drivers: _Drivers | None = None,
    idle_seconds: float = IDLE_SECONDS,
    lease_seconds: float = LEASE_SECONDS,
) -> dict[str, int]:
    """Pull tasks; return how many were completed, failed, released and lost.

    No task is claimed in the last fifth of the time (a minute at most). What has not ended a few
    seconds before the end is stopped and handed back: no attempt is counted, and the coordinator
    gives it to a place with more time.

    Args:
        seconds: until this invocation is cut off.
        queue: the coordinator's.
        slots: where tasks run.
        worker_id: the worker's name.
        tags: what it may claim.
        drivers: what drives runs meanwhile, if anything.
        idle_seconds: ends when there was nothing to do for as long.
        lease_seconds: after which another worker may have the tasks of one that was killed.

    Raises:
        AuthenticationError: the coordinator does not know the token.
        ForbiddenError: the token is not a worker's.
    """
    margin = min(_MARGIN, seconds * _MARGIN_SHARE)
    drain = min(_LONGEST_DRAIN, seconds * _DRAIN_SHARE)
    loop = ClaimLoop(
        queue,
        slots,
        worker_id=worker_id,
        tags=tags,
        poll_seconds=min(POLL_SECONDS, idle_seconds),
        lease_seconds=lease_seconds,
        drain_seconds=drain,
        documents=queue.blobs.get,
    )
    ended = Event()
    watch = Thread(
        target=_watch,
        args=(loop, drivers, monotonic() + seconds - margin - drain, idle_seconds, ended),
        name="noob-cloud-deadline",
        daemon=True,
    )
    watch.start()
    if drivers is not None:
        drivers.start()
    try:
        counts = loop.run()
    finally:
        ended.set()
        if drivers is not None:
            drivers.stop()
            drivers.join(margin / 2)
        watch.join()
    return {name: counts[name] for name in ("completed", "failed", "released", "lost")}


def _watch(
    loop: ClaimLoop, drivers: _Drivers | None, until: float, idle_seconds: float, ended: Event
) -> None:
    """Stop the loop when its time is over, or when it has had nothing to do for a while."""
    settled, since = 0, monotonic()
    while not ended.wait(_LOOK):
        now = monotonic()
        if (
            loop.active
            or (drivers is not None and drivers.active)
            or (loop.counts.total() != settled)
        ):
            settled, since = loop.counts.total(), now
        if now >= until or now - since >= idle_seconds:
            loop.stop()
            if drivers is not None:
                drivers.stop()
            return
