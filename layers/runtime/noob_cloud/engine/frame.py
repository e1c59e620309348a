"""The values of one epoch: a slot for each signal, a row for each subepoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob_core import Epoch

from noob_cloud.engine.calls import NO_EVENT, OddValueError
from noob_cloud.plan.graph import Kind
from noob_cloud.task import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from noob_cloud.plan.graph import Graph, Step

Scope = tuple[str, ...]
Emitted = tuple[Epoch, str, str, Any]
"""(epoch, node id, signal, value): what an event says."""


class Rows:
    """The subepochs of one scope, in order."""

    __slots__ = ("epochs", "parents")

    def __init__(self) -> None:
        self.parents: list[int] = []
        """Row to its row in the enclosing scope."""
        self.epochs: list[Epoch] = []


class Frame:
    """One epoch: what was emitted so far, and in which order."""

    __slots__ = (
        "columns",
        "expired",
        "graph",
        "log",
        "number",
        "returned",
        "root",
        "rows",
        "value",
    )

    def __init__(self, graph: Graph, number: int) -> None:
        self.graph = graph
        self.number = number
        self.root = Epoch(number)
        self.columns: list[list[Any]] = [[] if scope else [MISSING] for scope in graph.slot_scope]
        """Slot to its value in each row of its scope."""
        self.rows: dict[Scope, Rows] = {}
        self.expired: set[tuple[int, int]] = set()
        """(slot, row) that was told not to come."""
        self.log: list[tuple[Step, int, list[tuple[int, Scope, int, Any]]]] = []
        """In order: step, row, and (slot, scope, row, value) of each event."""
        self.returned = Returned()
        self.value: Any = None
        """What the tube returned."""

    def count(self, scope: Scope) -> int:
        """Return how many rows a scope has so far."""
        if not scope:
            return 1
        rows = self.rows.get(scope)
        return 0 if rows is None else len(rows.epochs)

    def epoch(self, scope: Scope, row: int) -> Epoch:
        """Return the epoch of a row."""
        return self.rows[scope].epochs[row] if scope else self.root

    def row_in(self, scope: Scope, row: int, outer: int) -> int:
        """Return the row, in the enclosing scope of length `outer`, that a row belongs to."""
        while len(scope) > outer:
            row = self.rows[scope].parents[row]
            scope = scope[:-1]
        return row

    def get(self, slot: int, scope: Scope, row: int) -> Any:
        """Return a slot's value as seen from a row; MISSING where there is none."""
        column = self.columns[slot]
        row = self.row_in(scope, row, len(self.graph.slot_scope[slot]))
        return column[row] if row < len(column) else MISSING

    def put(self, slot: int, row: int, value: Any) -> None:
        """Set a slot's value in a row of its scope."""
        column = self.columns[slot]
        while len(column) <= row:
            column.append(MISSING)
        column[row] = value

    def open(self, step: Step, row: int, items: Any) -> range:
        """Make the subepochs of a map for one of its rows; return their rows."""
        scope = (*step.scope, step.id)
        rows = self.rows.setdefault(scope, Rows())
        start = len(rows.epochs)
        rows.epochs.extend(self.epoch(step.scope, row).make_subepochs(step.id, len(items)))
        rows.parents.extend([row] * len(items))
        return range(start, start + len(items))

    def emit(self, step: Step, row: int, values: tuple[Any, ...]) -> None:
        """Record what a step emitted in a row."""
        entries = []
        for slot, value in zip(step.outputs, values, strict=True):
            if value is MISSING:
                continue
            entries.append((slot, step.scope, row, value))
            if value is NO_EVENT:
                self.expired.add((slot, row))
            else:
                self.put(slot, row, value)
        self.log.append((step, row, entries))

    def runs(self, step: Step, row: int, *, shadowed: bool) -> bool:
        """Say whether a step has what it needs in a row.

        Raises:
            OddValueError: an optional argument is not there, inside or behind a map; what follows
                from that only the scheduler core knows.
        """
        scope = step.scope
        for slot in step.needs:
            if self.get(slot, scope, row) is MISSING:
                return False
        if not step.optional:
            return True
        absent = [
            arg
            for arg in step.args
            if not arg.required and self.get(arg.slot, scope, row) is MISSING
        ]
        if not absent:
            return True
        if shadowed:
            if step.kind is Kind.RETURN and len(absent) == len(step.args):
                return False  # nothing came: whether it is called makes no difference
            raise OddValueError(
                step, row, MISSING, f"{step.id} lacks an optional argument behind a map"
            )
        return all(any((slot, 0) in self.expired for slot in arg.sources) for arg in absent)

    def emitted(self) -> Iterator[list[Emitted]]:
        """Yield the events of each call, in the order of the calls."""
        names = self.graph.names
        for _, _, entries in self.log:
            yield [
                (self.epoch(scope, row), *names[slot], value) for slot, scope, row, value in entries
            ]

    def ended(self) -> list[Epoch]:
        """Return the epochs in the order of their end: the innermost first, the root last."""
        scopes = sorted(self.rows, key=len, reverse=True)
        return [*(epoch for scope in scopes for epoch in self.rows[scope].epochs), self.root]


class Returned:
    """What the return node collects in one epoch, as upstream's node does over its calls."""

    __slots__ = ("args", "kwargs", "seen")

    def __init__(self) -> None:
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, list[tuple[Any, Any]]] = {}
        self.seen: set[tuple[Any, str]] = set()

    def add(self, args: list[Any], kwargs: dict[str, tuple[Any, Any]]) -> None:
        """Take one call; each keyword comes with what orders and identifies its event."""
        self.args += tuple(args)
        for name, (where, value) in kwargs.items():
            if (where, name) not in self.seen:
                self.seen.add((where, name))
                self.kwargs.setdefault(name, []).append((where, value))

    def value(self, step: Step | None) -> Any:
        """Return the tube's value: scalar, tuple, dict, or None where nothing came."""
        if step is None:
            return None
        kwargs = {
            name: found[0][1]
            if len(found) == 1
            else [value for _, value in sorted(found, key=lambda item: item[0])]
            for name, found in self.kwargs.items()
        }
        spec = step.node.spec
        if self.args and spec is not None and isinstance(spec.depends, str):
            return self.args[0]
        if self.args and kwargs:
            return self.args, kwargs
        return self.args or kwargs or None
