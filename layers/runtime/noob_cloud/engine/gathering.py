"""Collect a gather's items: upstream's `Gather.process`, without pydantic at each item."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from noob.event import MetaSignal

if TYPE_CHECKING:
    from collections.abc import Callable

    from noob.node import Gather
    from noob_core import Epoch

_FIRST = itemgetter(0)


def collector(node: Gather[Any]) -> Callable[..., Any]:
    """Return what to call for each item; the items stay where upstream's node keeps them.

    It returns NoEvent, or the event of the gathered list in the enclosing epoch.
    """
    private: dict[str, Any] = node.__pydantic_private__ or {}
    maker = private["_event_maker"]
    limit = node.n
    no_event = MetaSignal.NoEvent

    def collect(value: Any, epoch: Epoch, trigger: Any = None, n: int | None = None) -> Any:
        nonlocal limit
        if n is not None and n != limit:
            limit = node.n = n
        items = private["_items"]
        if trigger is not None:
            if limit is not None:
                raise ValueError("Cannot use trigger mode while `n` is set")
            items.append((epoch, value))
        else:
            items.append((epoch, value))
            if limit is None or len(items) < limit:
                return no_event
        values: list[Any] = [item for _, item in sorted(items, key=_FIRST)]
        if node.flatten:
            values = node._do_flatten(values)  # noqa: SLF001 - upstream's own
        private["_items"] = []
        parent = epoch.parent
        return maker.new_event(epoch=epoch if parent is None else parent, value=values)

    return collect
