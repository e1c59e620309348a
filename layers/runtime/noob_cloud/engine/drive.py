"""Run one epoch level by level, and hand out what may run elsewhere."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from noob.asset import AssetScope

from noob_cloud.engine.calls import EXHAUSTED, NO_EVENT, OddValueError, settle
from noob_cloud.engine.frame import Frame
from noob_cloud.plan.graph import Kind
from noob_cloud.plan.nouns import Call, Turn
from noob_cloud.task import MISSING

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from noob_cloud.engine.engine import Engine
    from noob_cloud.plan.graph import Step
    from noob_cloud.plan.nouns import Stage


class Drive:
    """One epoch on its way through the levels of the plan."""

    def __init__(self, engine: Engine, number: int, inputs: dict[int, Any]) -> None:
        self.engine = engine
        self.frame = Frame(engine.graph, number)
        for slot, value in inputs.items():
            self.frame.put(slot, 0, value)
        self._turn = -1
        self._leaving = ExitStack()
        self.hold = self._leaving.enter_context(engine.epoch_assets())
        """Enter the assets of the epoch's scope; a no-op if they are held."""

    def run(
        self, *, remote: bool
    ) -> Generator[Turn | list[Call], Sequence[tuple[Any, ...]] | None, Any]:
        """Run every level; return the tube's value.

        Raises:
            OddValueError: the rest of the epoch must be ordered by the scheduler core.
        """
        if not remote:
            yield from self._everything()
        else:
            if self.engine.tube.state.scope_to_assets.get(AssetScope.process):
                yield Turn(self.engine.plan.last_level)
                self.hold()
            for level in self.engine.plan.levels:
                yield from self._local(level)
                yield from self._remote([stage for stage in level if stage.remote])
        return self.frame.returned.value(self.engine.graph.returns)

    def let_go(self) -> None:
        """Exit the assets of the epoch's scope, each whatever the others raise."""
        self._leaving.close()

    def _everything(self) -> Generator[Turn, None, None]:
        """Run every step here, in upstream's order."""
        yield Turn(self.engine.plan.last_level)
        self.engine.still_running(self.frame.number)
        self.hold()
        for step in self.engine.graph.steps:
            self._step(step)

    def _step(self, step: Step) -> None:
        shadowed = step.id in self.engine.shadowed
        if shadowed and step.optional:
            self._look_ahead(step)
        for row in range(self.frame.count(step.scope)):
            if self.frame.runs(step, row, shadowed=shadowed):
                self._call(step, row)
            elif step.id in self.engine.risky:
                raise OddValueError(step, row, MISSING, f"nothing reaches the map {step.id}")

    def _look_ahead(self, step: Step) -> None:
        """Leave the epoch to the scheduler core before the first row if a later one must go first.

        A row that lacks an optional argument may run before one that waits for its own.
        """
        for row in range(self.frame.count(step.scope)):
            self.frame.runs(step, row, shadowed=True)

    def _local(self, level: tuple[Stage, ...]) -> Generator[Turn, None, None]:
        engine = self.engine
        for stage in level:
            if stage.remote:
                continue
            turn = engine.plan.turn_of(stage)
            if turn is not None and turn > self._turn:
                yield Turn(turn)
                self._turn = turn
                engine.still_running(self.frame.number)
            self._step(engine.steps[stage.nodes[0]])

    def _remote(
        self, stages: list[Stage]
    ) -> Generator[list[Call], Sequence[tuple[Any, ...]] | None, None]:
        frame = self.frame
        calls: list[Call] = []
        rows: list[tuple[Stage, int]] = []
        for stage in stages:
            step = self.engine.steps[stage.nodes[0]]
            for row in range(frame.count(step.scope)):
                if frame.runs(step, row, shadowed=step.id in self.engine.shadowed):
                    values = tuple([frame.get(slot, step.scope, row) for slot in stage.inputs])
                    calls.append(Call(stage, frame.epoch(step.scope, row), values))
                    rows.append((stage, row))
        if not calls:
            return
        results = yield calls
        for (stage, row), values in zip(rows, results or (), strict=True):
            self._take(stage, row, values)

    def _take(self, stage: Stage, row: int, values: tuple[Any, ...]) -> None:
        """Record what a remote stage gave back."""
        engine = self.engine
        given = dict(zip(stage.outputs, values, strict=True))
        for node in stage.nodes:
            step = engine.steps[node]
            mine = tuple([given.get(slot, MISSING) for slot in step.outputs])
            if any(slot in given for slot in step.outputs):
                raw = mine[0] if len(mine) == 1 else mine
                self._record(step, row, mine if raw is MISSING else self._settle(step, row, raw))
            for slot in step.outputs:
                if given.get(slot, NO_EVENT) is MISSING:
                    self.frame.expired.add((slot, row))

    def _settle(self, step: Step, row: int, raw: Any) -> tuple[Any, ...]:
        return settle(step, raw, lambda: self.frame.epoch(step.scope, row), row)

    def _call(self, step: Step, row: int) -> None:
        frame, engine = self.frame, self.engine
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        with engine.node_assets(step):
            assets = engine.asset_values(step)
            for arg in step.args:
                value = (
                    assets.get(arg.asset, MISSING)
                    if arg.asset is not None
                    else frame.get(arg.slot, step.scope, row)
                )
                if value is MISSING:
                    continue
                if isinstance(arg.key, str):
                    kwargs[arg.key] = value
                else:
                    args.append(value)
            if step.kind is Kind.RETURN:
                frame.returned.add(args, self._placed(step, row, kwargs))
                self._record(step, row, (NO_EVENT,))
                return
            if step.kind is Kind.GATHER:
                self._gather(step, row, args, kwargs)
                return
            if step.kind is Kind.MAP:
                self._map(step, row, args, kwargs)
                return
            if "epoch" in step.injections:
                kwargs[step.injections["epoch"]] = frame.epoch(step.scope, row)
            if "events" in step.injections:
                kwargs[step.injections["events"]] = self._events(step, row)
            raw = engine.call(step, args, kwargs)
        self._record(step, row, self._settle(step, row, raw))

    def _record(self, step: Step, row: int, values: tuple[Any, ...]) -> None:
        frame = self.frame
        frame.emit(step, row, values)
        if step.updates:
            epoch = frame.epoch(step.scope, row)
            self.engine.update_assets(
                step,
                [
                    (epoch, step.id, signal, value)
                    for signal, value in zip(step.signals, values, strict=True)
                ],
            )
        self._announce()
        if any(value is EXHAUSTED for value in values):
            raise OddValueError(step, row, EXHAUSTED, f"{step.id} is exhausted")

    def _announce(self) -> None:
        if self.engine.watched:
            _, _, entries = self.frame.log[-1]
            names = self.frame.graph.names
            self.engine.announce(
                [(self.frame.epoch(s, r), *names[slot], value) for slot, s, r, value in entries], []
            )

    def _placed(self, step: Step, row: int, kwargs: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        frame = self.frame
        placed = {}
        for arg in step.args:
            if isinstance(arg.key, str) and arg.key in kwargs:
                scope = frame.graph.slot_scope[arg.slot] if arg.slot >= 0 else ()
                where = frame.row_in(step.scope, row, len(scope))
                placed[arg.key] = (where, kwargs[arg.key])
        return placed

    def _events(self, step: Step, row: int) -> dict[Any, Any]:
        frame = self.frame
        events = {}
        for arg in step.args:
            if arg.slot >= 0 and arg.input is None:
                value = frame.get(arg.slot, step.scope, row)
                if value is not MISSING:
                    scope = frame.graph.slot_scope[arg.slot]
                    epoch = frame.epoch(scope, frame.row_in(step.scope, row, len(scope)))
                    emitted = (epoch, *frame.graph.names[arg.slot], value)
                    events[arg.key] = self.engine.event(emitted)
        return events

    def _map(self, step: Step, row: int, args: list[Any], kwargs: dict[str, Any]) -> None:
        items = kwargs["value"] if "value" in kwargs else args[0]
        if len(items) == 0:
            self._record(step, row, (NO_EVENT, NO_EVENT))
            if step.id in self.engine.risky:
                raise OddValueError(step, row, MISSING, f"the map {step.id} is given nothing")
            return
        frame = self.frame
        scope = (*step.scope, step.id)
        values, total = step.outputs
        entries: list[tuple[int, tuple[str, ...], int, Any]] = []
        rows = frame.open(step, row, items)
        for item, inner in zip(items, rows, strict=False):
            frame.put(values, inner, item)
            entries.append((values, scope, inner, item))
        frame.put(total, row, len(entries))
        entries.append((total, step.scope, row, len(entries)))
        frame.log.append((step, row, entries))
        self._announce()

    def _gather(self, step: Step, row: int, args: list[Any], kwargs: dict[str, Any]) -> None:
        frame = self.frame
        kwargs.setdefault("epoch", frame.epoch(step.scope, row))
        raw = self.engine.call(step, args, kwargs)
        if raw is NO_EVENT:
            self._record(step, row, (NO_EVENT,))
            return
        outer = frame.row_in(step.scope, row, max(len(step.scope) - 1, 0))
        (slot,) = step.outputs
        value = raw["value"]
        frame.put(slot, outer, value)
        frame.log.append((step, row, [(slot, step.scope[:-1], outer, value)]))
        for _, asset in step.updates:
            self.engine.update_asset(asset, value, raw["epoch"])
        self._announce()
