"""Write down what an epoch of compiled code emitted, once somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob_cloud.engine.calls import NO_EVENT, OddValueError
from noob_cloud.engine.frame import Frame
from noob_cloud.plan.graph import Kind
from noob_cloud.task import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable

    from noob_cloud.plan.graph import Graph, Step

UNSET = object()
"""The compiled code has not come to this slot."""


def write(
    graph: Graph,
    number: int,
    noev: list[tuple[int, int]],
    values: Callable[[int], Any],
    gathers: dict[int, list[tuple[int, Any]]],
    odd: OddValueError | None = None,
) -> Frame:
    """Write down an epoch step by step, as far as it went."""
    frame = Frame(graph, number)
    silent = set(noev)
    for (node, _), slot in graph.slots.items():
        if node == "input" and values(slot) is not UNSET:
            frame.put(slot, 0, values(slot))
    for step in graph.steps:
        if step.kind is Kind.RETURN:
            _write_return(frame, step)
        elif any(values(slot) is UNSET for slot in step.outputs):
            break
        elif step.kind is Kind.MAP:
            _write_map(frame, step, values, silent)
        elif step.kind is Kind.GATHER and step.scope:
            _write_gather(frame, step, gathers.get(step.index, []), odd)
        else:
            _write_rows(frame, step, values, silent)
        if odd is not None and odd.step is step:
            break
    return frame


def _write_rows(
    frame: Frame,
    step: Step,
    values: Callable[[int], Any],
    silent: set[tuple[int, int]],
) -> None:
    for row in range(frame.count(step.scope)):
        emitted = tuple([_emitted(values(slot), step, slot, row, silent) for slot in step.outputs])
        if any(value is not MISSING for value in emitted):
            frame.emit(step, row, emitted)


def _write_map(
    frame: Frame,
    step: Step,
    values: Callable[[int], Any],
    silent: set[tuple[int, int]],
) -> None:
    slot, total = step.outputs
    items: list[Any] = list(values(slot))
    for row in range(frame.count(step.scope)):
        counts = values(total)
        count: Any = counts if not step.scope else counts[row] if row < len(counts) else MISSING
        if count is MISSING:
            if (slot, row) in silent:
                frame.emit(step, row, (NO_EVENT, NO_EVENT))
            continue
        mine, items = items[:count], items[count:]
        scope = (*step.scope, step.id)
        rows = frame.open(step, row, mine)
        entries = [(slot, scope, inner, item) for inner, item in zip(rows, mine, strict=True)]
        for _, _, inner, item in entries:
            frame.put(slot, inner, item)
        frame.put(total, row, count)
        frame.log.append((step, row, [*entries, (total, step.scope, row, count)]))


def _write_return(frame: Frame, step: Step) -> None:
    for row in range(frame.count(step.scope)):
        if _ran(frame, step, row, shadowed=False):
            frame.emit(step, row, (NO_EVENT,))


def _ran(frame: Frame, step: Step, row: int, *, shadowed: bool) -> bool:
    try:
        return frame.runs(step, row, shadowed=shadowed)
    except OddValueError:
        return False


def _write_gather(
    frame: Frame, step: Step, emitted: list[tuple[int, Any]], odd: OddValueError | None
) -> None:
    (slot,) = step.outputs
    found = dict(emitted)
    stopped = odd.row if odd is not None and odd.step is step else frame.count(step.scope)
    for row in range(stopped):
        if row in found:
            outer = frame.row_in(step.scope, row, len(step.scope) - 1)
            frame.put(slot, outer, found[row])
            frame.log.append((step, row, [(slot, step.scope[:-1], outer, found[row])]))
        elif _ran(frame, step, row, shadowed=True):
            frame.log.append((step, row, [(slot, step.scope, row, NO_EVENT)]))


def _emitted(
    column: Any,
    step: Step,
    slot: int,
    row: int,
    silent: set[tuple[int, int]],
) -> Any:
    if (slot, row) in silent:
        return NO_EVENT
    if not step.scope:
        return column
    return column[row] if row < len(column) else MISSING
