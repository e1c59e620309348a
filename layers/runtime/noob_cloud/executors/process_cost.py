"""What calls cost, as measured, and how many of them make a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob_cloud.executors.process_call import CHUNK, STAGE, STARRED_CHUNK, Call

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Costs"]

_RISE, _FALL = 0.3, 0.7
"""Smoothing: a first call that imports or compiles is forgotten soon."""
_LARGEST = 1024
"""Calls in a batch."""
_BATCH_BYTES = 8 << 20
"""Bytes of shared memory that a batch of several calls may take."""
_KEPT = 4096
"""Functions whose cost is remembered."""


class _Cost:
    __slots__ = ("bytes", "seconds")

    def __init__(self) -> None:
        self.seconds = float("inf")
        self.bytes = 0.0


class Costs:
    """Seconds and bytes for each item, by function.

    Args:
        batch_seconds: how long a batch of short calls should take.
    """

    def __init__(self, batch_seconds: float) -> None:
        self._batch_seconds = batch_seconds
        self._costs: dict[Any, _Cost] = {}

    def expect(self, call: Call | None) -> float:
        """Seconds that the call should take; infinite when nothing like it has run."""
        if call is None:
            return float("inf")
        cost = self._costs.get(_key(call))
        return float("inf") if cost is None else cost.seconds * weight(call)

    def batch(self, head: Call, fair: int) -> int:
        """How many calls like `head` to send at once.

        Args:
            head: the first of them.
            fair: this worker's share of what waits.
        """
        cost = self._costs.get(_key(head))
        if cost is None:
            return 1
        size = min(
            _LARGEST, fair, int(self._batch_seconds / max(cost.seconds * weight(head), 1e-8))
        )
        if cost.bytes:
            size = min(size, int(_BATCH_BYTES / cost.bytes))
        return max(size, 1)

    def note(self, calls: Sequence[Call], count: int, seconds: float) -> None:
        """Take in that the first `count` of the calls took `seconds` together."""
        head = calls[0]
        if head.mode == STAGE:
            for call in calls:
                call.duration = seconds / count
        cost = self._of(head)
        each = seconds / (count * weight(head))
        if cost.seconds == float("inf"):
            cost.seconds = each
        else:
            cost.seconds += (_FALL if each < cost.seconds else _RISE) * (each - cost.seconds)

    def note_bytes(self, head: Call, region: tuple[int, int] | None, count: int) -> None:
        """Take in what `count` calls took of the arena."""
        if region is not None:
            self._of(head).bytes = region[1] / count

    def too_large(self, head: Call, count: int) -> None:
        """Take in that `count` calls did not fit the arena."""
        cost = self._of(head)
        cost.bytes = max(cost.bytes * 2, 2 * _BATCH_BYTES / count)

    def _of(self, call: Call) -> _Cost:
        key = _key(call)
        cost = self._costs.get(key)
        if cost is None:
            if len(self._costs) >= _KEPT:
                self._costs.clear()
            cost = self._costs[key] = _Cost()
        return cost


def _key(call: Call) -> Any:
    if call.mode == STAGE:
        return call.args[:2]
    function = call.fn
    return getattr(function, "__code__", None) or type(function)


def weight(call: Call) -> int:
    """How many items a call holds."""
    if call.mode == CHUNK or call.mode == STARRED_CHUNK:  # noqa: PLR1714 - hot
        return len(call.args) or 1
    if call.mode == STAGE:
        return len(call.args[2]) or 1
    return 1
