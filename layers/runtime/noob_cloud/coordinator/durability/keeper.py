"""A coordinator's life with a replica: take the lease, restore, copy, hand over."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from itertools import pairwise
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Final, Self

from noob_cloud.blobs.s3 import S3Store
from noob_cloud.coordinator.durability import litestream
from noob_cloud.coordinator.durability.barrier import Barrier
from noob_cloud.coordinator.durability.lease import Lease, Terms
from noob_cloud.coordinator.durability.litestream import Litestream
from noob_cloud.exceptions import LeaseTakenError, ReplicaError, UnavailableError
from noob_cloud.queue.database import connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from noob_cloud.coordinator.durability.place import Place

_log = logging.getLogger(__name__)
_LOOK_SECONDS: Final = 0.25
"""How often a coordinator that waits for the lease looks at it."""
_FIRST_COPY_SECONDS: Final = 300.0
_COPY_SECONDS: Final = 10.0
_FORGET_SECONDS: Final = 3600.0
_LONGEST_OUTAGE: Final = 24 * 3600.0
_OUTLAST: Final = """
UPDATE lease SET expires_at = expires_at + :outage, deadline = deadline + :outage
WHERE expires_at > :since
"""


class Durability:
    """Holds the lease of a replica, and keeps the replica up to date, from enter to exit.

    Args:
        place: the replica.
        folder: on this machine, for the database; what is left there of earlier epochs is deleted,
            for only what is in the replica counts.
        seconds: how long a renewal of the lease is trusted.
        url: where the coordinator will listen.
        kept_hours: how far back a point in time can be restored.
        on_lost: called, in a thread, when another coordinator has taken the lease.
        patience: how long to wait for the lease, in seconds; None: for ever.
    """

    def __init__(
        self,
        place: Place,
        folder: Path,
        *,
        seconds: float = 10.0,
        url: str = "",
        kept_hours: float = 24.0,
        on_lost: Callable[[], None] = lambda: None,
        patience: float | None = None,
    ) -> None:
        self.place = place
        self.lease = Lease(place, seconds=seconds, url=url)
        self.on_lost = on_lost
        self.superseded = False
        """Whether another coordinator has taken the lease."""
        self._folder = folder
        self._kept_hours = kept_hours
        self._patience = patience
        self._stopping = Event()
        self._keeper = Thread(target=self._keep, name="noob-lease", daemon=True)
        self._watch: sqlite3.Connection | None = None
        self._litestream: Litestream | None = None
        self._starting = Lock()
        """Held while Litestream is started or taken out of service."""

    @property
    def epoch(self) -> int:
        """The number of this holding, for fencing tokens."""
        return self.lease.epoch

    @property
    def path(self) -> Path:
        """The database to serve."""
        return self._folder / f"epoch-{self.epoch}" / "queue.db"

    def __enter__(self) -> Self:
        """Take the lease, restore the newest epoch, and copy it whole into one of our own.

        Raises:
            LeaseTakenError: another coordinator held the lease for longer than `patience`.
            ReplicaError: the newest epoch cannot be restored, or Litestream does not run.
            UnavailableError: S3 does not answer.
        """
        before = self._take()
        self._keeper.start()
        try:
            self._prepare(before)
        except BaseException:
            self._end(give_away=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Copy the last commits and give the lease away; without the lease, only stop."""
        self._end(give_away=not self.lease.lost)

    def barrier(self) -> Barrier:
        """Return what every answer has to cross; for one event loop."""
        assert self._litestream is not None  # noqa: S101 - entered
        copying = self._litestream
        watch = self._watch = sqlite3.connect(self.path, check_same_thread=False)

        def version() -> int:
            found: int = watch.execute("PRAGMA data_version").fetchone()[0]
            return found

        async def sync() -> None:
            await copying.sync(timeout=self.lease.seconds)  # later it could not be told anyway

        return Barrier(version, sync, self.lease.valid)

    def blobs(self) -> S3Store:
        """Return the store of large values, beside the replica."""
        place = self.place
        return S3Store(place.bucket, prefix=place.key("blobs"), endpoint_url=place.endpoint_url)

    # ---- beginning

    def _take(self) -> Terms | None:
        """Wait for the lease; return the terms of who had it before."""
        give_up = None if self._patience is None else time.monotonic() + self._patience
        said = False
        while True:
            taken = self.lease.try_take()
            if taken is not None:
                _log.info("lease of %s taken: epoch %d", self.place, taken.epoch)
                return taken.before
            if give_up is not None and time.monotonic() > give_up:
                raise LeaseTakenError(
                    f"Another coordinator holds the lease of {self.place} and keeps renewing it;"
                    f" waited {self._patience:g} s. Stop it, or name another replica."
                )
            if not said:
                _log.warning("another coordinator holds the lease of %s; waiting", self.place)
                said = True
            time.sleep(_LOOK_SECONDS)

    def _prepare(self, before: Terms | None) -> None:
        for old in self._folder.glob("epoch-*"):
            shutil.rmtree(old)
        self.path.parent.mkdir(parents=True, mode=0o700)
        earlier = [number for number in self.place.marked() if number < self.epoch]
        if earlier:
            _log.info("restoring epoch %d of %s", earlier[-1], self.place)
            litestream.restore(self.place, earlier[-1], self.path)
            self._outlast(before)
        else:
            _log.info("nothing is in %s yet: beginning with an empty queue", self.place)
        connect(self.path).close()  # a new file gets its tables; a restored one is looked at
        copying = Litestream(self.path, self.place, self.epoch, kept_hours=self._kept_hours)
        copying.start()
        self._litestream = copying
        asyncio.run(copying.sync(timeout=_FIRST_COPY_SECONDS))
        if not self.lease.valid():
            raise UnavailableError(
                f"The lease of {self.place} ran out while epoch {self.epoch} was copied; S3 is"
                " slow or away."
            )
        self.place.mark(self.epoch)
        _log.info("epoch %d is copied whole and begins", self.epoch)

    def _outlast(self, before: Terms | None) -> None:
        """Give every lease that was alive when the last coordinator was the outage on top."""
        if before is None:
            return
        outage = min(max(0.0, time.time() - before.at), _LONGEST_OUTAGE)
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute(_OUTLAST, {"outage": outage, "since": before.at})

    # ---- meanwhile

    def _keep(self) -> None:
        pause = self.lease.seconds / 4
        forget_at = time.monotonic() + pause
        while not self._stopping.wait(pause):
            try:
                self.lease.renew()
                self._revive()
                if time.monotonic() >= forget_at:
                    forget_at = time.monotonic() + _FORGET_SECONDS
                    self._forget()
            except LeaseTakenError as error:
                _log.error("%s", error)
                self.superseded = True
                self.on_lost()
                return
            except (UnavailableError, ReplicaError) as error:
                _log.warning("%s", error)

    def _revive(self) -> None:
        """Start Litestream again if it ended."""
        with self._starting:
            if self._litestream is not None and not self._litestream.running:
                _log.error("Litestream ended; it is started again")
                self._litestream.start()

    def _forget(self) -> None:
        """Delete epochs that no point in time within the kept hours needs."""
        marked = list(self.place.marked().items())
        long_ago = time.time() - self._kept_hours * 3600
        # an epoch ends when the next one is whole; the newest two stay whatever their age
        for (number, _), (_, ended_at) in pairwise(marked[:-1]):
            if ended_at < long_ago:
                self.place.forget(number)

    # ---- end

    def _end(self, *, give_away: bool) -> None:
        if self._watch is not None:
            self._watch.close()
        with self._starting:
            copying, self._litestream = self._litestream, None
        if copying is not None:
            if give_away:
                with suppress(UnavailableError):
                    asyncio.run(copying.sync(timeout=_COPY_SECONDS))
            copying.stop()
        self._stopping.set()
        if self._keeper.is_alive():
            self._keeper.join()
        if give_away and not self.lease.lost:
            try:
                self.lease.release()
            except UnavailableError as error:
                _log.warning("the lease is not given away, it has to run out: %s", error)
