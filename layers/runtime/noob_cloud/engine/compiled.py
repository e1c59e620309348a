"""Run a plan's epochs in this process: the code that `Source` writes, bound to the tube's nodes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from noob.asset import AssetScope
from noob.types import Epoch

from noob_cloud.engine.calls import EXHAUSTED, NO_EVENT, ODD, OddValueError, plain, settle
from noob_cloud.engine.frame import Frame, Returned
from noob_cloud.engine.source import Source
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
        frame = self.frame(number, noev, lambda slot: env.get(f"v{slot}", _UNSET), gathers)
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
        self.engine.last = self.frame(
            number, noev, lambda slot: env.get(f"v{slot}", _UNSET), gathers
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
        return self.frame(number, noev, slots.__getitem__, emitted)

    def frame(
        self,
        number: int,
        noev: list[tuple[int, int]],
        values: Callable[[int], Any],
        gathers: dict[int, list[tuple[int, Any]]],
    ) -> Frame:
        """Write down an epoch step by step, as far as it went."""
        graph = self.engine.graph
        frame = Frame(graph, number)
        silent = set(noev)
        for (node, _), slot in graph.slots.items():
            if node == "input" and values(slot) is not _UNSET:
                frame.put(slot, 0, values(slot))
        for step in graph.steps:
            if (
                any(values(slot) is _UNSET for slot in step.outputs)
                and step.kind is not Kind.RETURN
            ):
                break
            if step.kind is Kind.MAP:
                self._write_map(frame, step, values, silent)
            elif step.kind is Kind.GATHER and step.scope:
                self._write_gather(frame, step, gathers.get(step.index, []))
            elif step.kind is Kind.RETURN:
                for row in range(frame.count(step.scope)):
                    try:
                        ran = frame.runs(step, row, shadowed=False)
                    except OddValueError:
                        ran = False
                    if ran:
                        frame.emit(step, row, (NO_EVENT,))
            else:
                for row in range(frame.count(step.scope)):
                    emitted = tuple(
                        [
                            _emitted(values(slot), bool(step.scope), slot, row, silent)
                            for slot in step.outputs
                        ]
                    )
                    if any(value is not MISSING for value in emitted):
                        frame.emit(step, row, emitted)
        return frame

    def _write_map(
        self,
        frame: Frame,
        step: Step,
        values: Callable[[int], Any],
        silent: set[tuple[int, int]],
    ) -> None:
        slot, total = step.outputs
        items = list(values(slot))
        for row in range(frame.count(step.scope)):
            counts = values(total)
            count = counts if not step.scope else counts[row] if row < len(counts) else MISSING
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

    def _write_gather(self, frame: Frame, step: Step, emitted: list[tuple[int, Any]]) -> None:
        (slot,) = step.outputs
        found = dict(emitted)
        for row in range(frame.count(step.scope)):
            if row in found:
                outer = frame.row_in(step.scope, row, len(step.scope) - 1)
                frame.put(slot, outer, found[row])
                frame.log.append((step, row, [(slot, step.scope[:-1], outer, found[row])]))
            else:
                try:
                    ran = frame.runs(step, row, shadowed=True)
                except OddValueError:
                    ran = False
                if ran:
                    frame.log.append((step, row, [(slot, step.scope, row, NO_EVENT)]))

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
                names[f"y{index}"] = (
                    self._tell_map(step) if step.kind is Kind.MAP else self._tell(step)
                )
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

        tell = self._tell(step) if self.watched else None

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

    # ---- callbacks

    def _tell(self, step: Step) -> Callable[..., None]:
        engine = self.engine
        maker = engine.store.event_maker
        callbacks = engine.callbacks
        pairs = list(zip(step.signals, step.outputs, strict=True))
        id_ = step.id
        now_ = datetime.now
        sequence, shifted = maker._sequence, maker._shifted  # noqa: SLF001 - as new_event does

        def tell_one(epoch: Epoch, row: int, value: Any) -> None:
            if value is MISSING:
                if not always and (slot_, row) not in engine.noev:
                    return
                value = NO_EVENT
            event = {
                "id": shifted ^ next(sequence),
                "timestamp": now_(UTC),
                "node_id": id_,
                "signal": signal_,
                "epoch": epoch,
                "value": value,
            }
            for callback in callbacks:
                callback(event)  # type: ignore[arg-type] - spelt out, as this is per event

        def tell(epoch: Epoch, row: int, *values: Any) -> None:
            now = datetime.now(UTC)
            for (signal, slot), value in zip(pairs, values, strict=True):
                said = value
                if value is MISSING:
                    if (
                        step.kind not in (Kind.RETURN, Kind.GATHER)
                        and (slot, row) not in self.engine.noev
                    ):
                        continue
                    said = NO_EVENT
                event = maker.new_event(said, epoch, id_, signal, now)
                for callback in callbacks:
                    callback(event)

        if len(pairs) != 1:
            return tell
        ((signal_, slot_),) = pairs
        always = step.kind in (Kind.RETURN, Kind.GATHER)
        return tell_one

    def _tell_map(self, step: Step) -> Callable[..., None]:
        engine = self.engine
        maker = engine.store.event_maker
        callbacks = engine.callbacks

        def tell(epoch: Epoch, inner: Any, values: Any, total: Any) -> None:
            now = datetime.now(UTC)
            if total is MISSING:
                events = [maker.new_event(NO_EVENT, epoch, step.id, s, now) for s in step.signals]
            else:
                events = [
                    maker.new_event(value, sub, step.id, step.signals[0], now)
                    for sub, value in zip(inner, values, strict=True)
                ]
                events.append(maker.new_event(total, epoch, step.id, step.signals[1], now))
            for event in events:
                for callback in callbacks:
                    callback(event)

        return tell


_UNSET = object()


def _emitted(
    column: Any,
    inside: bool,
    slot: int,
    row: int,
    silent: set[tuple[int, int]],  # noqa: FBT001
) -> Any:
    if (slot, row) in silent:
        return NO_EVENT
    if not inside:
        return column
    return column[row] if row < len(column) else MISSING


def _stopper(step: Step) -> Callable[[int, Any], None]:
    def stop(row: int, raw: Any) -> None:
        raise OddValueError(step, row, raw, f"the map {step.id} emits nothing")

    return stop


def _updater(engine: Engine, asset: str) -> Callable[[Any, Epoch], None]:
    def update(value: Any, epoch: Epoch) -> None:
        engine.update_asset(asset, value, epoch)

    return update
