"""What calls cost, as measured, and how many of them make a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob_cloud.executors.process_call import CHUNK, STAGE, STARRED_CHUNK, Call

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Cost", "Costs", "weight"]

_UNKNOWN = float("inf")

_RISE, _FALL = 0.3, 0.7
"""Smoothing: a first call that imports or compiles is forgotten soon."""
_LARGEST = 1024
"""Calls in a batch."""
_BATCH_BYTES = 8 << 20
"""Bytes of shared memory that a batch of several calls may take."""
_KEPT = 4096
"""Functions whose cost is remembered."""


class Cost:
    """What one function costs an item; infinite until measured."""

    __slots__ = ("bytes", "seconds")

    def __init__(self) -> None:
        self.seconds = float("inf")
        self.bytes = 0.0

    def note(self, calls: Sequence[Call], count: int, seconds: float) -> None:
        """Take in that the first `count` of the calls took `seconds` together."""
        head = calls[0]
        if head.mode == STAGE:
            for call in calls:
                call.duration = seconds / count
        each = seconds / (count * weight(head))
        if self.seconds == _UNKNOWN:
            self.seconds = each
        else:
            self.seconds += (_FALL if each < self.seconds else _RISE) * (each - self.seconds)

    def too_large(self, count: int) -> None:
        """Take in that `count` calls did not fit the arena."""
        self.bytes = max(self.bytes * 2, 2 * _BATCH_BYTES / count)


class Costs:
    """What calls cost, by function.

    Args:
        batch_seconds: how long a batch of short calls should take.
    """

    def __init__(self, batch_seconds: float) -> None:
        self._batch_seconds = batch_seconds
        self._costs: dict[Any, Cost] = {}

    def of(self, call: Call) -> Cost:
        """What is known of calls like this one."""
        key = _key(call)
        cost = self._costs.get(key)
        if cost is None:
            if len(self._costs) >= _KEPT:
                self._costs.clear()
            cost = self._costs[key] = Cost()
        return cost

    def batch(self, cost: Cost, head: Call, fair: int) -> int:
        """How many calls like `head` to send at once.

        Args:
            cost: what they cost.
            head: the first of them.
            fair: this worker's share of what waits.
        """
        if fair <= 1 or head.alone or cost.seconds == _UNKNOWN:
            return 1
        each = cost.seconds * weight(head)
        size = min(_LARGEST, fair, int(self._batch_seconds / (each or 1e-8)))
        if cost.bytes:
            size = min(size, int(_BATCH_BYTES / cost.bytes))
        return max(size, 1)


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
