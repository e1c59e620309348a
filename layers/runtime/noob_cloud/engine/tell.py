"""Tell callbacks what the compiled code emits, as it emits it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from noob_cloud.engine.calls import NO_EVENT
from noob_cloud.plan.graph import Kind
from noob_cloud.task import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable

    from noob_core import Epoch

    from noob_cloud.engine.engine import Engine
    from noob_cloud.plan.graph import Step


def teller(engine: Engine, step: Step) -> Callable[..., None]:
    """Return what the compiled code calls with each value of a step."""
    if step.kind is Kind.MAP:
        return _of_map(engine, step)
    if len(step.outputs) == 1:
        return _of_one(engine, step)
    return _of_many(engine, step)


def _silent(engine: Engine, step: Step, slot: int, row: int) -> bool:
    """Say whether a step was called but kept its value to itself."""
    return step.kind in (Kind.RETURN, Kind.GATHER) or (slot, row) in engine.noev


def _of_one(engine: Engine, step: Step) -> Callable[..., None]:
    maker = engine.store.event_maker
    callbacks: list[Callable[[Any], None]] = engine.callbacks
    sequence, shifted = maker._sequence, maker._shifted  # noqa: SLF001 - as new_event does
    id_, now, signal, slot = step.id, datetime.now, step.signals[0], step.outputs[0]

    def tell(epoch: Epoch, row: int, value: Any) -> None:
        if value is MISSING:
            if not _silent(engine, step, slot, row):
                return
            value = NO_EVENT
        event = {
            "id": shifted ^ next(sequence),
            "timestamp": now(UTC),
            "node_id": id_,
            "signal": signal,
            "epoch": epoch,
            "value": value,
        }
        for callback in callbacks:
            callback(event)

    return tell


def _of_many(engine: Engine, step: Step) -> Callable[..., None]:
    maker = engine.store.event_maker
    pairs = list(zip(step.signals, step.outputs, strict=True))

    def tell(epoch: Epoch, row: int, *values: Any) -> None:
        now = datetime.now(UTC)
        for (signal, slot), value in zip(pairs, values, strict=True):
            if value is not MISSING or _silent(engine, step, slot, row):
                said = NO_EVENT if value is MISSING else value
                event = maker.new_event(said, epoch, step.id, signal, now)
                for callback in engine.callbacks:
                    callback(event)

    return tell


def _of_map(engine: Engine, step: Step) -> Callable[..., None]:
    maker = engine.store.event_maker
    values_signal, total_signal = step.signals

    def tell(epoch: Epoch, inner: Any, values: Any, total: Any) -> None:
        now = datetime.now(UTC)
        if total is MISSING:
            events = [maker.new_event(NO_EVENT, epoch, step.id, s, now) for s in step.signals]
        else:
            events = [
                maker.new_event(value, sub, step.id, values_signal, now)
                for sub, value in zip(inner, values, strict=True)
            ]
            events.append(maker.new_event(total, epoch, step.id, total_signal, now))
        for event in events:
            for callback in engine.callbacks:
                callback(event)

    return tell
