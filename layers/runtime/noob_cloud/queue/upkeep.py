"""What keeps a queue in order: limits, reclaiming, cleaning away what is old."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from noob_cloud.cid import cids_in
from noob_cloud.queue import cleanup, limiting, timers
from noob_cloud.queue.session import Session
from noob_cloud.queue.statements import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from noob_cloud.blobs import BlobStore, Collected

_PAGE = 1 << 20
"""Bytes of a blob that are read at once."""
_OVERLAP = 128
"""Bytes that are read twice, since a name may lie across two pages."""


class Upkeep(Session):
    """The operations on a queue that no single task asks for."""

    def set_limit(
        self,
        key: str,
        concurrency: int | None = None,
        rate: tuple[int, float] | None = None,
        *,
        now: float | None = None,
    ) -> None:
        """At most `concurrency` tasks of this key at once, at most `rate[0]` in `rate[1]` s.

        With neither, the key is unlimited again. Tasks that wait already are bound by it too.
        """
        at = self._now(now)
        self._run(lambda: limiting.set_limit(self._ledger, key, concurrency, rate, at))
        self._tell()

    def expire(self, now: float | None = None) -> int:
        """Do all that is due: reclaim run-out leases, wake delayed tasks; return how many moved.

        Every claim does so too; this is for those who wait without claiming.
        """
        at = self._now(now)

        def work() -> int:
            self._ledger.refresh()
            return timers.turn(self._ledger, at)

        moved = self._run(work)
        if moved:
            self._tell()
        return moved

    def cleanup(self, keep_seconds: float | None = None, *, now: float | None = None) -> int:
        """Forget tasks that were completed or cancelled `keep_seconds` ago; return how many.

        Dead letters stay. Runs in small transactions, so that others get their turn in between.
        """
        keep = self.keep_seconds if keep_seconds is None else keep_seconds
        before = self._now(now) - keep
        count, at = 0, 0
        while True:
            forgotten, next_id = self._run(
                lambda at=at: cleanup.forget(self._ledger, before, at)  # type: ignore[misc]
            )
            count += forgotten
            if next_id is None:
                return count
            at = next_id

    def delete_run(self, run_id: str, *, now: float | None = None) -> int:
        """Cancel what is left of a run and forget all its tasks, dead letters too."""
        at = self._now(now)
        count = 0
        while True:
            forgotten = self._run(lambda: cleanup.delete_run(self._ledger, run_id, at))
            if not forgotten:
                return count
            count += forgotten

    def collect_blobs(
        self,
        also: Iterable[str] = (),
        *,
        grace_seconds: float = 3600.0,
        now: float | None = None,
    ) -> Collected:
        """Remove blobs that no task of the queue names, its payload and result included.

        A blob that is named by one that stays, stays too: a large payload names its tube.

        Args:
            also: cids that stay for other reasons.
            grace_seconds: age up to which a blob stays although nothing names it yet.
            now: Unix time, in seconds.
        """
        from noob_cloud.blobs import collect  # noqa: PLC0415 - seldom needed

        store = cast("BlobStore", self.blobs)
        live = set(also)
        for query in (SQL.task_bodies, SQL.settled_bodies):
            at: int | None = 0
            while at is not None:
                found, at = self._run(
                    lambda query=query, at=at: cleanup.named(  # type: ignore[misc]
                        self._ledger, query, at
                    )
                )
                live |= found
        unread = list(live)
        while unread:
            name = unread.pop()
            if store.has(name):
                more = _named_in(store, name) - live
                live |= more
                unread += more
        return collect(store, live, grace_seconds=grace_seconds, now=self._now(now))


def _named_in(store: BlobStore, name: str) -> set[str]:
    """Return the cids that a blob names: in a frame's body, which its arrays come behind."""
    from noob_cloud.codec.frame import body_end  # noqa: PLC0415 - seldom needed

    page = store.get_range(name, 0, _PAGE)
    end = body_end(page)
    found = cids_in(page)
    at = _PAGE
    while at < end:
        found |= cids_in(store.get_range(name, at - _OVERLAP, _PAGE + _OVERLAP))
        at += _PAGE
    return found
