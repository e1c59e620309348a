"""Run a plan's epochs in this process: the code that `Source` writes, bound to the tube's nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob.asset import AssetScope
from noob_core import Epoch

from noob_cloud.engine.calls import EXHAUSTED, NO_EVENT, ODD, OddValueError, plain, settle
from noob_cloud.engine.frame import Frame, Returned
from noob_cloud.engine.record import UNSET, write
from noob_cloud.engine.source import Source
from noob_cloud.engine.tell import teller
from noob_cloud.plan.graph import Kind
from noob_cloud.plan.nouns import Turn
from noob_cloud.task import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from noob_cloud.engine.engine import Engine
    from noob_cloud.plan.graph import Step


class Compiled:
    """One plan as a Python function, bound to nodes that are initialised."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.watched = engine.watched
        engine.noev = []
        source = Source(engine.graph, watched=self.watched, risky=engine.risky)
        text = engine.plan.texts.get(self.watched)
        if text is None:
            text = engine.plan.texts[self.watched] = compile(
                source.text(), "<noob-cloud plan>", "exec"
            )
        names = self._names()
        exec(text, names)  # noqa: S102 - our own template, filled with integers
        self.run: Callable[[Engine, int, Mapping[int, Any]], Any] = names["run"]
        self.scoped = bool(engine.tube.state.scope_to_assets.get(AssetScope.process))
        self.simple = not self.scoped and not engine._inputs  # noqa: SLF001 - one machine

    def process(self, given: Mapping[str, Any]) -> Any:
        """Run one epoch."""
        engine = self.engine
        inputs = engine.inputs(given) if engine._inputs else {}  # noqa: SLF001 - one machine
        number = engine.begin()
        if not self.scoped:
            engine.run = self.run
            engine.ready = self.simple
            value = self.run(engine, number, inputs)
        else:
            with engine.epoch_assets() as enter:
                enter()
                value = self.run(engine, number, inputs)
        return value

    # ---- leaving the compiled code

    def odd(
        self,
        odd: OddValueError,
        number: int,
        inputs: dict[int, Any],
        noev: list[tuple[int, int]],
        env: dict[str, Any],
    ) -> Any:
        """Leave the rest of an epoch to the scheduler core."""
        self.engine.noev = []
        gathers = {
            step.index: env.get(f"g{step.index}", [])
            for step in self.engine.graph.steps
            if step.kind is Kind.GATHER
        }
        frame = write(
            self.engine.graph,
            number,
            noev,
            lambda slot: env.get(f"v{slot}", UNSET),
            gathers,
            odd,
        )
        ledger = self.engine.take_over(odd, frame, inputs)
        drive = ledger.drive(remote=False, began=lambda: None)
        try:
            while isinstance(next(drive), Turn):
                continue
        except StopIteration as stop:
            ledger.value = stop.value
            self.engine.last = ledger
            return stop.value

    def abort(self, number: int, noev: list[tuple[int, int]], env: dict[str, Any]) -> None:
        """Keep what an epoch emitted before a node raised."""
        self.engine.noev = []
        gathers = {
            step.index: env.get(f"g{step.index}", [])
            for step in self.engine.graph.steps
            if step.kind is Kind.GATHER
        }
        self.engine.last = write(
            self.engine.graph, number, noev, lambda slot: env.get(f"v{slot}", UNSET), gathers
        )

    def record(self, last: Any) -> Frame:
        """Return the record of an epoch from what the compiled code left."""
        number, noev, _, slots, gathers, _ = last
        order = iter(gathers)
        emitted = {
            step.index: next(order)
            for step in self.engine.graph.steps
            if step.kind is Kind.GATHER and step.scope
        }
        return write(self.engine.graph, number, noev, slots.__getitem__, emitted)

    # ---- names of the compiled code

    def _names(self) -> dict[str, Any]:
        engine = self.engine
        names: dict[str, Any] = {
            "M": MISSING,
            "N": NO_EVENT,
            "ODD": ODD,
            "Odd": OddValueError,
            "Epoch": Epoch,
            "C": self,
            "odd_": self.odd,
            "abort": self.abort,
            "end": engine.announce_end,
        }
        state = engine.tube.state
        for index, (name, asset) in enumerate(state.assets.items()):
            names[f"a{index}"] = asset
            names[f"u{index}"] = _updater(engine, name)
        for step in engine.graph.steps:
            index = step.index
            names[f"f{index}"] = engine._calls[step.id]  # noqa: SLF001 - one machine
            names[f"q{index}"] = self._look(step)
            names[f"s{index}"] = self._spread(step)
            names[f"o{index}"] = self._open(step)
            names[f"m{index}"] = step.id
            names[f"i{index}"] = _stopper(step)
            names[f"j{index}"] = _lacking(step)
            names[f"z{index}"] = step
            names[f"b{index}"] = Returned
            for place, arg in enumerate(step.args):
                names[f"k{index}_{place}"] = arg.key
            names[f"k{index}_e"] = step.injections.get("epoch")
            if step.kind is Kind.RETURN:
                names[f"h{index}"] = self._row_return(step) if step.scope else self._return(step)
            else:
                names[f"h{index}"] = self._help(step)
            if self.watched:
                names[f"y{index}"] = teller(engine, step)
        return names

    def _look(self, step: Step) -> Callable[[Any, int], Any]:
        """Return how to look at an unusual value of a step with one signal."""
        slot = step.outputs[0] if step.outputs else -1

        def look(value: Any, row: int) -> Any:
            if value is NO_EVENT:
                self.engine.noev.append((slot, row))
                return MISSING
            if value is EXHAUSTED:
                raise OddValueError(step, row, value, f"{step.id} is exhausted")
            return plain(step, value, self._root(step, row, value), row, value)

        return look

    def _root(self, step: Step, row: int, raw: Any) -> Callable[[], Any]:
        def epoch() -> Epoch:
            if step.scope:
                raise OddValueError(step, row, raw, f"{step.id} emits events of its own making")
            return Epoch(self.engine.number - 1)

        return epoch

    def _spread(self, step: Step) -> Callable[[Any, int], tuple[Any, ...]]:
        """Return how to spread the return value of a step over its signals."""

        def spread(raw: Any, row: int) -> tuple[Any, ...]:
            values = settle(step, raw, self._root(step, row, raw), row)
            if any(value is EXHAUSTED for value in values):
                raise OddValueError(step, row, raw, f"{step.id} is exhausted")
            for slot, value in zip(step.outputs, values, strict=True):
                if value is NO_EVENT:
                    self.engine.noev.append((slot, row))
            return tuple([MISSING if value is NO_EVENT else value for value in values])

        return spread

    def _open(self, step: Step) -> Callable[[Any, int], Any]:
        """Return how to take the value out of what a gather outside of maps returns."""
        slot = step.outputs[0] if step.outputs else -1

        def open_(raw: Any, row: int) -> Any:
            if raw is NO_EVENT:
                self.engine.noev.append((slot, row))
                return MISSING
            return raw["value"]

        return open_

    def _help(self, step: Step) -> Callable[[int, Any, tuple[Any, ...]], Any]:
        """Return how to call a step with special arguments; it returns MISSING if it must wait."""
        engine = self.engine
        shadowed = step.id in engine.shadowed

        def help_(row: int, epoch: Any, values: tuple[Any, ...]) -> Any:
            args: list[Any] = []
            kwargs: dict[str, Any] = {}
            given = iter(values)
            with engine.node_assets(step):
                assets = engine.asset_values(step)
                for arg in step.args:
                    value = next(given) if arg.asset is None else assets.get(arg.asset, MISSING)
                    if value is MISSING:
                        if arg.asset is None and not self._unlocked(step, arg, row, shadowed):
                            return MISSING
                    elif isinstance(arg.key, str):
                        kwargs[arg.key] = value
                    else:
                        args.append(value)
                if "epoch" in step.injections:
                    kwargs[step.injections["epoch"]] = epoch
                if "events" in step.injections:
                    kwargs[step.injections["events"]] = self._events(step, values, epoch)
                return engine.call(step, args, kwargs)

        return help_

    def _unlocked(self, step: Step, arg: Any, row: int, shadowed: bool) -> bool:  # noqa: FBT001
        if arg.required:
            return False
        if shadowed:
            raise OddValueError(
                step, row, MISSING, f"{step.id} lacks an optional argument behind a map"
            )
        return any((slot, 0) in self.engine.noev for slot in arg.sources)

    def _events(self, step: Step, values: tuple[Any, ...], epoch: Epoch) -> dict[Any, Any]:
        graph = self.engine.graph
        events = {}
        slots = [arg for arg in step.args if arg.asset is None]
        for arg, value in zip(slots, values, strict=True):
            if value is not MISSING and arg.input is None:
                theirs = epoch
                while len(theirs) - 1 > len(graph.slot_scope[arg.slot]):
                    theirs = theirs.parent  # type: ignore[assignment]
                emitted = (theirs, *graph.names[arg.slot], value)
                events[arg.key] = self.engine.event(emitted)
        return events

    def _return(self, step: Step) -> Callable[[int, Any, tuple[Any, ...]], Any]:
        """Return how to make the tube's value where not all of it has come."""
        shadowed = step.id in self.engine.shadowed

        tell = teller(self.engine, step) if self.watched else None

        def give(row: int, epoch: Any, values: tuple[Any, ...]) -> Any:
            returned = Returned()
            if self._collect(step, returned, row, values, (0,) * len(values), shadowed):
                if tell is not None:
                    tell(epoch, row, MISSING)
                return returned.value(step)
            return None

        return give

    def _row_return(self, step: Step) -> Callable[..., Any]:
        shadowed = True

        def give(
            row: int, returned: Returned, values: tuple[Any, ...], wheres: tuple[int, ...]
        ) -> None:
            self._collect(step, returned, row, values, wheres, shadowed)

        return give

    def _collect(
        self,
        step: Step,
        returned: Returned,
        row: int,
        values: tuple[Any, ...],
        wheres: tuple[int, ...],
        shadowed: bool,  # noqa: FBT001 - an inner step
    ) -> bool:
        if shadowed and all(value is MISSING for value in values):
            return False
        args: list[Any] = []
        kwargs: dict[str, tuple[Any, Any]] = {}
        given = iter(zip(values, wheres, strict=True))
        assets = self.engine.asset_values(step)
        for arg in step.args:
            value, where = next(given) if arg.asset is None else (assets.get(arg.asset, MISSING), 0)
            if value is MISSING:
                if arg.asset is None and not self._unlocked(step, arg, row, shadowed):
                    return False
            elif isinstance(arg.key, str):
                kwargs[arg.key] = (where, value)
            else:
                args.append(value)
        returned.add(args, kwargs)
        return True


def _stopper(step: Step) -> Callable[[int, Any], None]:
    def stop(row: int, raw: Any) -> None:
        raise OddValueError(step, row, raw, f"the map {step.id} emits nothing")

    return stop


def _lacking(step: Step) -> Callable[[int], None]:
    def stop(row: int) -> None:
        raise OddValueError(
            step, row, MISSING, f"{step.id} lacks an optional argument behind a map"
        )

    return stop


def _updater(engine: Engine, asset: str) -> Callable[[Any, Epoch], None]:
    def update(value: Any, epoch: Epoch) -> None:
        engine.update_asset(asset, value, epoch)

    return update
