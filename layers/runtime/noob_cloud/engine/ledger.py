"""Run an epoch in the order that upstream's scheduler core gives, where no fixed order will do.

That is where sources end one after the other, where a node makes events of its own, and where
maps and optional arguments meet in ways that depend on what is emitted.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from noob.event import is_event
from noob_core import Epoch
from noob_core.exceptions import EpochCompletedError, EpochExistsError

from noob_cloud.engine.calls import EXHAUSTED, NO_EVENT
from noob_cloud.engine.frame import Returned
from noob_cloud.plan.graph import Kind
from noob_cloud.plan.nouns import Call, Turn
from noob_cloud.task import MISSING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from noob_cloud.engine.calls import OddValueError
    from noob_cloud.engine.engine import Engine
    from noob_cloud.engine.frame import Emitted, Frame
    from noob_cloud.plan.graph import Step


class Ledger:
    """One epoch of a tube, ordered by the scheduler core."""

    def __init__(
        self,
        engine: Engine,
        number: int,
        inputs: dict[int, Any],
        frame: Frame | None = None,
        odd: OddValueError | None = None,
    ) -> None:
        self.engine = engine
        self.root = Epoch(number)
        self.number = number
        self.inputs = inputs
        self.values: dict[tuple[str, str], dict[Epoch, tuple[Any, Emitted]]] = {}
        self.calls: list[list[Emitted]] = []
        self.ends: list[Epoch] = []
        self.returned = Returned()
        self.value: Any = None
        self.known: dict[tuple[Epoch, str], list[Emitted]] = {}
        """What was called before the ledger took over."""
        self.said: set[tuple[Epoch, str]] = set()
        """Those of them that callbacks and assets have seen."""
        if frame is not None:
            for (step, row, _), events in zip(frame.log, frame.emitted(), strict=True):
                if step.kind is not Kind.RETURN:
                    self.known[(frame.epoch(step.scope, row), step.id)] = events
            self.said = set(self.known)
            if odd is not None and odd.raw is not MISSING:
                epoch = frame.epoch(odd.step.scope, odd.row)
                if (epoch, odd.step.id) not in self.known:
                    self.known[(epoch, odd.step.id)] = self._events(odd.step, epoch, odd.raw)

    def emitted(self) -> Iterator[list[Emitted]]:
        """Yield the events of each call, in the order of the calls."""
        yield from self.calls

    def ended(self) -> list[Epoch]:
        """Return the epochs in the order of their end."""
        return self.ends

    def align(self) -> None:
        """Bring the core to this epoch: it was not told of those that ran without it."""
        core = self.engine.core
        while (first := core.first_active_epoch()) is not None and first.root < self.number:
            core.end_epoch(first)
        if self.number > 0:
            before = Epoch(self.number - 1)
            if not core.epoch_completed(before):
                core.end_epoch(before)
        with contextlib.suppress(EpochExistsError):
            core.add_epoch_at(self.root)

    def drive(
        self, *, remote: bool, began: Any
    ) -> Generator[Turn | list[Call], Sequence[tuple[Any, ...]] | None, Any]:
        """Run the epoch; see `Engine.drive`. It waits until every earlier epoch has ended."""
        yield Turn(self.engine.plan.last_level)
        core = self.engine.core
        try:
            self.align()
        except EpochCompletedError:
            return None
        began()
        steps = self.engine.steps
        try:
            while core.is_active_at(self.root):
                ready = core.get_ready_at(self.root)
                if not ready:
                    break  # something waits for a signal that its node left out
                outcomes = yield from self._send(ready, remote=remote)
                for epoch, node in ready:
                    step = steps.get(node)
                    if step is None:
                        core.done(epoch, node)
                        continue
                    events = outcomes.get((epoch, node))
                    if events is None:
                        events = self._run(step, epoch)
                    self._record(step, events, said=(epoch, node) in self.said)
        finally:
            if not core.epoch_completed(self.root):
                core.end_epoch(self.root)
            with contextlib.suppress(ValueError):
                self.ends.remove(self.root)
            self.ends.append(self.root)
        return self.returned.value(self.engine.graph.returns)

    def _send(
        self, ready: list[tuple[Epoch, str]], *, remote: bool
    ) -> Generator[
        list[Call], Sequence[tuple[Any, ...]] | None, dict[tuple[Epoch, str], list[Emitted]]
    ]:
        outcomes: dict[tuple[Epoch, str], list[Emitted]] = {}
        calls: list[tuple[Step, Epoch, Call]] = []
        for epoch, node in ready:
            if (epoch, node) in self.known:
                outcomes[(epoch, node)] = self.known[(epoch, node)]
                continue
            step = self.engine.steps.get(node)
            if not remote or step is None:
                continue
            stage = self.engine.plan.solo(node)
            if stage.remote:
                values = tuple(self._find(slot, epoch, MISSING) for slot in stage.inputs)
                calls.append((step, epoch, Call(stage, epoch, values)))
        if calls:
            results = yield [call for _, _, call in calls]
            for (step, epoch, _), values in zip(calls, results or (), strict=True):
                raw = values[0] if len(values) == 1 else values
                outcomes[(epoch, step.id)] = (
                    [] if raw is MISSING else self._events(step, epoch, raw)
                )
        return outcomes

    def _find(self, slot: int, epoch: Epoch, default: Any) -> Any:
        key = self.engine.graph.names[slot]
        if key[0] == "input":
            return self.inputs.get(slot, default)
        found = self._event(key, epoch)
        return default if found is None or found[0] is NO_EVENT else found[0]

    def _event(self, key: tuple[str, str], epoch: Epoch) -> tuple[Any, Emitted] | None:
        theirs = self.values.get(key)
        if theirs is None:
            return None
        found = theirs.get(epoch)
        if found is None and not epoch.is_root:
            for parent in epoch.parents:
                if parent in theirs:
                    return theirs[parent]
        return found

    def _run(self, step: Step, epoch: Epoch) -> list[Emitted]:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        with self.engine.node_assets(step):
            assets = self.engine.asset_values(step)
            for arg in step.args:
                value = (
                    assets.get(arg.asset, MISSING)
                    if arg.asset is not None
                    else self._find(arg.slot, epoch, MISSING)
                )
                if value is MISSING:
                    continue
                if isinstance(arg.key, str):
                    kwargs[arg.key] = value
                else:
                    args.append(value)
            if step.kind is Kind.RETURN and step.exact:
                self.returned.add(args, self._placed(step, epoch, kwargs))
                return [(epoch, step.id, step.signals[0], NO_EVENT)]
            if "epoch" in step.injections:
                kwargs[step.injections["epoch"]] = epoch
            if "events" in step.injections:
                kwargs[step.injections["events"]] = self._map(step, epoch)
            raw = self.engine.call(step, args, kwargs)
        if step.kind is Kind.RETURN:
            self.returned.add(*self.engine.take_returned(step))
        return self._events(step, epoch, raw)

    def _placed(
        self, step: Step, epoch: Epoch, kwargs: dict[str, Any]
    ) -> dict[str, tuple[Any, Any]]:
        placed = {}
        for arg in step.args:
            if isinstance(arg.key, str) and arg.key in kwargs:
                where: Any = epoch
                if arg.slot >= 0 and arg.input is None:
                    found = self._event(self.engine.graph.names[arg.slot], epoch)
                    where = found[1][0] if found is not None else epoch
                placed[arg.key] = (where, kwargs[arg.key])
        return placed

    def _map(self, step: Step, epoch: Epoch) -> dict[Any, Any]:
        events = {}
        for arg in step.args:
            if arg.slot >= 0 and arg.input is None:
                found = self._event(self.engine.graph.names[arg.slot], epoch)
                if found is not None and found[0] is not NO_EVENT:
                    events[arg.key] = self.engine.event(found[1])
        return events

    def _events(self, step: Step, epoch: Epoch, raw: Any) -> list[Emitted]:
        """Spread a return value over the signals; take events that a node made as they are."""
        if raw is NO_EVENT or raw is EXHAUSTED:
            return [(epoch, step.id, signal, raw) for signal in step.signals]
        values = [raw] if len(step.signals) == 1 else raw
        events: list[Emitted] = []
        for signal, value in zip(step.signals, values, strict=False):
            if value is MISSING:
                continue
            made = [value] if is_event(value) else value
            if isinstance(made, list | tuple) and len(made) > 0 and is_event(made[0]):
                events.extend((e["epoch"], e["node_id"], e["signal"], e["value"]) for e in made)
            else:
                events.append((epoch, step.id, signal, value))
        return events

    def _record(self, step: Step, events: list[Emitted], *, said: bool) -> None:
        for event in events:
            epoch, node, signal, value = event
            self.values.setdefault((node, signal), {})[epoch] = (value, event)
        if not said:
            self.engine.update_assets(step, events)
        self.calls.append(events)
        ended = (
            self.engine.core.update(
                [
                    (epoch, node, signal, value is NO_EVENT, value is EXHAUSTED)
                    for epoch, node, signal, value in events
                ]
            )
            if events
            else []
        )
        self.ends.extend(ended)
        self.engine.announce([] if said else events, ended)
