"""Drive a runner and write down what can be seen of it, in a form that compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from noob import SynchronousRunner as UpstreamRunner
from noob.event import MetaSignal
from noob.types import Epoch
from noob_cloud_testnodes import LOG

if TYPE_CHECKING:
    from noob import Tube
    from noob.event import MetaEvent
    from noob.runner.base import TubeRunner
    from noob_cloud_testtubes import Case

Factory = Callable[["Tube"], "TubeRunner"]
"""Make the runner that is looked at, for a fresh tube."""

_PATIENCE = 200


class UpstreamHangsError(RuntimeError):
    """Upstream would wait for ever: its scheduler has nothing ready and does not end the epoch."""


class Oracle(UpstreamRunner):
    """Upstream's runner, which says so where upstream would spin without end."""

    def _get_ready(self, epoch: Epoch | None = None) -> Iterator[list[MetaEvent]]:
        idle = 0
        for ready in super()._get_ready(epoch):
            idle = 0 if ready else idle + 1
            if idle > _PATIENCE:
                raise UpstreamHangsError(self.tube.tube_id)
            yield ready


@dataclass
class Seen:
    """What was seen of one runner."""

    outcomes: list[Any] = field(default_factory=list)
    """For each call its value or its exception, frozen."""
    events: list[list[Any]] = field(default_factory=list)
    """For each call the events that callbacks got: (node, signal, epoch, value)."""
    stores: list[Any] = field(default_factory=list)
    """For each call the content of `store.events`: epoch -> node -> signal -> values."""
    log: list[Any] = field(default_factory=list)
    """What stateful nodes and assets did."""
    running: list[bool] = field(default_factory=list)
    """`running` after each step."""


def freeze(value: Any) -> Any:  # noqa: PLR0911 -- one line for each type
    """A value that compares by type and content, all the way down."""
    if isinstance(value, Epoch):
        return ("epoch", str(value.to_wire()))
    if isinstance(value, np.ndarray):
        return ("array", str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, MetaSignal):
        return ("signal", value.name)
    if isinstance(value, BaseException):
        return ("raised", type(value).__module__, type(value).__qualname__, str(value))
    if isinstance(value, Mapping):
        pairs = [(freeze(key), freeze(item)) for key, item in value.items()]
        return (type(value).__name__, sorted(pairs, key=repr))
    if isinstance(value, list | tuple):
        return (type(value).__name__, [freeze(item) for item in value])
    if isinstance(value, set | frozenset):
        return (type(value).__name__, sorted((freeze(item) for item in value), key=repr))
    return (type(value).__name__, repr(value))


def attempt(call: Callable[[], Any]) -> Any:
    """What a call returns, or the exception that it raises."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 -- an outcome like any other
        return error


def frozen_store(runner: TubeRunner) -> dict[str, Any]:
    """What the runner's store holds, without the empty places that looking makes."""
    return {
        str(epoch.to_wire()): content
        for epoch, nodes in runner.store.events.items()
        if (
            content := {
                node: kept
                for node, signals in nodes.items()
                if (
                    kept := {
                        signal: [freeze(event["value"]) for event in events]
                        for signal, events in signals.items()
                        if events
                    }
                )
            }
        )
    }


def see_process(make: Factory, case: Case, *, callbacks: bool = False, store: bool = False) -> Seen:
    """Call `process` for each feed of the case, then end the runner."""
    seen = Seen()
    LOG.clear()
    runner = make(case.tube())
    events: list[Any] = []
    if callbacks:
        runner.add_callback(events.append)
    values = []
    try:
        for feed in case.feeds if case.feeds is not None else ({},) * case.n:
            values.append(attempt(lambda feed=feed: runner.process(**feed)))
            seen.running.append(runner.running)
            if callbacks:
                seen.events.append([_frozen_event(event) for event in events])
                events.clear()
            if store:
                seen.stores.append(frozen_store(runner))
    finally:
        runner.deinit()
    seen.running.append(runner.running)
    # Not before the end: a value must outlive the buffers it came in.
    seen.outcomes = [freeze(value) for value in values]
    seen.log = list(LOG)
    return seen


def see_run(make: Factory, case: Case) -> Seen:
    """`run(n)`, then two epochs more, then the end."""
    seen = Seen()
    LOG.clear()
    runner = make(case.tube())
    values = []
    try:
        for count in (case.n, 2, 0):
            values.append(attempt(lambda count=count: runner.run(count)))
            seen.running.append(runner.running)
    finally:
        runner.deinit()
    seen.running.append(runner.running)
    seen.outcomes = [freeze(value) for value in values]
    seen.log = list(LOG)
    return seen


def see_iter(make: Factory, case: Case, *, loops: int = 7) -> Seen:
    """`iter(n)` to its end, and once more."""
    seen = Seen()
    LOG.clear()
    runner = make(case.tube())
    runner.max_iter_loops = loops
    values: list[Any] = []
    for count in (case.n // 2, 1):
        error = attempt(lambda count=count: values.extend(_yielded(runner.iter(count), values)))
        values.append(error)
        seen.running.append(runner.running)
    seen.outcomes = [freeze(value) for value in values]
    seen.log = list(LOG)
    return seen


def _yielded(source: Iterator[Any], values: list[Any]) -> list[Any]:
    """Collect as it comes, so that what was yielded before an error is kept."""
    for value in source:
        values.append(value)  # noqa: PERF402 -- a comprehension loses what came before an error
    return []


def _frozen_event(event: Any) -> tuple[str, str, str, Any]:
    return (
        event["node_id"],
        str(event["signal"]),
        str(event["epoch"].to_wire()),
        freeze(event["value"]),
    )
