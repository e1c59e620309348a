"""What keeps a queue in order: limits, reclaiming, cleaning away what is old."""

from __future__ import annotations

from noob_cloud.queue import cleanup, limiting, timers
from noob_cloud.queue.session import Session


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
