"""Where upstream loses its way in a made-up tube, so that its answer says nothing."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .observe import Oracle, see_process

if TYPE_CHECKING:
    from noob_cloud_testtubes import Case

    from .observe import Seen

_LOST = {"UpstreamHangsError", "AlreadyDoneError", "TypeError"}
_NO_EVENT = ("signal", "NoEvent")

Event = tuple[str, str, str, Any]
"""(node, signal, epoch, value), as `Seen.events` has them."""


def beyond_upstream(one: Case, ran: Seen) -> bool:
    """Whether upstream breaks its own rules on a tube, in one of the ways below.

    Args:
        one: the tube.
        ran: what `see_run` saw of it, which takes two epochs more than the case says.
    """
    expected = see_process(Oracle, replace(one, n=one.n + 2), callbacks=True)
    if any(
        outcome[0] == "raised" and outcome[2] in _LOST
        for outcome in (*expected.outcomes, *ran.outcomes)
    ):
        return True  # it hangs, or calls a node whose event never came
    sources: dict[str, set[tuple[str, str]]] = defaultdict(set)
    optional: set[str] = set()
    nodes = one.spec["nodes"]
    for edge in one.tube().edges:
        if edge.source_node in nodes:
            sources[edge.target_node].add((edge.source_node, edge.source_signal))
        if not edge.required:
            optional.add(edge.target_node)
    strict = {
        name: signals
        for name, signals in sources.items()
        if name not in optional and nodes[name]["type"] != "return"
    }
    return any(
        _calls_too_early(events, sources)
        or _calls_in_spite(events, strict)
        or _ends_twice(events)
        or (outcome[0] != "raised" and _ends_too_early(events, strict, one))
        for events, outcome in zip(expected.events, expected.outcomes, strict=True)
    )


def _calls_too_early(events: list[Event], sources: dict[str, set[tuple[str, str]]]) -> bool:
    """Whether a node with optional slots is called before an event for them, which is lost."""
    called: set[tuple[str, str]] = set()
    for node_id, _, epoch, value in events:
        if value != _NO_EVENT and any(
            when == epoch and any(node_id == source for source, _ in sources[target])
            for target, when in called
        ):
            return True
        called.add((node_id, epoch))
    return False


def _calls_in_spite(events: list[Event], strict: dict[str, set[tuple[str, str]]]) -> bool:
    """Whether a node is called inside of a map though NoEvent came for what it requires.

    A map's new subepochs hold nodes that depend on nothing in it but stand before a node that
    does; the core forgets there that they have expired.
    """
    expired = {
        (node_id, signal, epoch) for node_id, signal, epoch, value in events if value == _NO_EVENT
    }
    return any(
        (source, signal, outer) in expired
        for node_id, _, epoch, _ in events
        for source, signal in strict.get(node_id, ())
        for outer in _lineage(epoch)
    )


def _ends_twice(events: list[Event]) -> bool:
    """Whether the end of the root epoch is told more than once."""
    return sum(node_id == "meta" and "[" not in epoch for node_id, _, epoch, _ in events) > 1


def _ends_too_early(
    events: list[Event], strict: dict[str, set[tuple[str, str]]], one: Case
) -> bool:
    """Whether the epoch ends before a node that has all that it requires, outside of maps."""
    came = {
        (node_id, signal)
        for node_id, signal, epoch, value in events
        if "[" not in epoch and value != _NO_EVENT
    }
    spoke = {node_id for node_id, *_ in events}
    nodes = one.tube().nodes
    return any(
        signals <= came and name not in spoke and bool(nodes[name].signals)
        for name, signals in strict.items()
    )


def _lineage(epoch: str) -> list[str]:
    """An epoch and those that it lies in, as `Seen.events` writes them."""
    parts = epoch.strip("[]").split(", (")
    return [
        parts[0],
        *("[" + ", (".join(parts[: depth + 1]) + "]" for depth in range(1, len(parts))),
    ]
