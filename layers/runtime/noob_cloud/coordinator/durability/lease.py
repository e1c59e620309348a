"""One object in S3 says which coordinator may write; S3's conditional writes let one win.

The holder renews the object; whoever else wants it waits until it has seen the object unchanged for
longer than the holder trusts it. Nobody compares clocks of two machines: the holder counts from
before it asked for the renewal, the others from when they first saw its result, each on a clock
that goes on while its machine is suspended.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import msgspec

from noob_cloud.exceptions import LeaseTakenError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from noob_cloud.coordinator.durability.place import Place

NAME: Final = "lease.json"
MARGIN: Final = 1.25
"""How much longer a successor waits than the holder trusts: clocks may run so much apart."""


def boot_clock() -> float:
    """Return seconds since the machine started, the time it was suspended included."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Terms(msgspec.Struct, frozen=True):
    """What the object says."""

    epoch: int
    holder: str
    url: str = ""
    """Where its holder listens."""
    seconds: float = 10.0
    """How long the holder trusts a renewal."""
    renewal: int = 0
    """Counts renewals, so that each changes the ETag."""
    at: float = 0.0
    """The holder's wall clock, in seconds since 1970: to tell how long an outage was."""
    released: bool = False


@dataclass(frozen=True)
class Taken:
    """A lease that was taken over."""

    epoch: int
    before: Terms | None
    """Of the holder before."""


class Lease:
    """The right to be the one coordinator of a replica.

    Args:
        place: where the object is.
        seconds: how long a renewal is trusted.
        url: where this coordinator listens, for those who look.
        clock: seconds, counting suspension.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        place: Place,
        *,
        seconds: float = 10.0,
        url: str = "",
        clock: Callable[[], float] = boot_clock,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.place = place
        self.seconds = seconds
        self.holder = uuid4().hex
        self.lost = False
        self._clock = clock
        self._wall = wall
        self._terms = Terms(0, self.holder, url, seconds)
        self._tag: str | None = None
        self._valid_until = float("-inf")
        self._watched: tuple[str, float] | None = None

    @property
    def epoch(self) -> int:
        """The number of this holding; 0 before it begins."""
        return self._terms.epoch

    def valid(self) -> bool:
        """Whether nobody else can hold the lease now."""
        return not self.lost and self._clock() < self._valid_until

    def try_take(self) -> Taken | None:
        """Take the lease if it is free, or was abandoned; None says that it is not (yet).

        Raises:
            UnavailableError: S3 did not answer.
        """
        seen = self._read()
        if seen is None:
            return self._take(Terms(0, ""), None, None)
        before, tag = seen
        if before.released or before.holder == self.holder:
            return self._take(before, tag, before)
        if self._watched is None or self._watched[0] != tag:
            self._watched = (tag, self._clock())
            return None
        if self._clock() - self._watched[1] < before.seconds * MARGIN:
            return None
        return self._take(before, tag, before)

    def _take(self, before: Terms, tag: str | None, told: Terms | None) -> Taken | None:
        terms = _changed(self._terms, epoch=before.epoch + 1, renewal=0, at=self._wall())
        began = self._clock()
        new = self._write(terms, tag)
        if new is None:
            return None
        self._terms, self._tag = terms, new
        self._valid_until = began + self.seconds
        return Taken(terms.epoch, told)

    def renew(self) -> None:
        """Trust the lease for another `seconds` from now.

        Raises:
            LeaseTakenError: somebody else has it; this holder must not write any more.
            UnavailableError: S3 did not answer; the lease holds until it runs out.
        """
        if self.lost:
            raise LeaseTakenError
        if self._renewed() or (self._adopt() and self._renewed()):
            return
        raise UnavailableError(f"{self.place}/{NAME} could not be renewed: S3 refused it twice.")

    def _renewed(self) -> bool:
        """Renew the object if it is what was seen of it last; trust it from before the question."""
        terms = _changed(self._terms, renewal=self._terms.renewal + 1, at=self._wall())
        began = self._clock()
        new = self._write(terms, self._tag)
        if new is None:
            return False
        self._terms, self._tag = terms, new
        self._valid_until = max(self._valid_until, began + self.seconds)
        return True

    def _adopt(self) -> bool:
        """Go on from an earlier renewal of ours whose answer was lost.

        It adds no trust: others may have counted since it was written, which is who knows when.
        """
        seen = self._read()
        if seen is None or seen[0].holder != self.holder or seen[0].epoch != self.epoch:
            self.lost = True
            who = "nobody" if seen is None else f"epoch {seen[0].epoch} at {seen[0].url or '?'}"
            raise LeaseTakenError(
                f"The lease {self.place}/{NAME} of epoch {self.epoch} is {who}'s now. This"
                " coordinator must not write any more."
            )
        self._terms, self._tag = seen
        return True

    def release(self) -> None:
        """Give the lease away, so that the next one need not wait.

        Raises:
            UnavailableError: S3 did not answer; it has to run out.
        """
        self._valid_until = float("-inf")
        with suppress(LeaseTakenError):  # whose it is has it already
            if self._released() is None and self._adopt():
                self._released()
        self.lost = True

    def _released(self) -> str | None:
        return self._write(_changed(self._terms, released=True, at=self._wall()), self._tag)

    def _read(self) -> tuple[Terms, str] | None:
        found = self.place.read(NAME)
        if found is None:
            return None
        try:
            return msgspec.json.decode(found[0], type=Terms), found[1]
        except msgspec.DecodeError as error:
            raise UnavailableError(
                f"{self.place}/{NAME} is not what a coordinator wrote: {error}. Look at who else"
                " uses this prefix; delete the object only when no coordinator runs."
            ) from error

    def _write(self, terms: Terms, tag: str | None) -> str | None:
        return self.place.write(NAME, msgspec.json.encode(terms), replacing=tag)


def _changed(terms: Terms, **changes: object) -> Terms:
    return msgspec.structs.replace(terms, **changes)
