"""Call a node: its function bound once, its return value spread over its signals."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any, cast

from noob.event import MetaSignal, is_event
from noob.types import RunnerContext

from noob_cloud.engine.gathering import collector
from noob_cloud.engine.nested import call_nested
from noob_cloud.plan.graph import Kind
from noob_cloud.task import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable

    from noob.node import Gather

    from noob_cloud.plan.graph import Step

NO_EVENT = MetaSignal.NoEvent
EXHAUSTED = MetaSignal.Exhausted

ODD = frozenset({MetaSignal, dict, list, tuple, deque})
"""Exact types of a return value that may be more than a plain value."""


class OddValueError(Exception):
    """A node emitted something that the compiled order cannot place: the scheduler core can."""

    def __init__(self, step: Step, row: int, raw: Any, why: str) -> None:
        super().__init__(why)
        self.step = step
        self.row = row
        self.raw = raw
        self.why = why


class Loops:
    """Event loops for coroutine nodes: one for this thread, one aside if a loop runs here."""

    def __init__(self) -> None:
        self._here: asyncio.Runner | None = None
        self._aside: ThreadPoolExecutor | None = None
        self._there: asyncio.Runner | None = None

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a coroutine function to its end; the loop lives on, and so does what it holds."""

        async def body() -> Any:
            return await function(*args, **kwargs)

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            if self._here is None:
                self._here = asyncio.Runner()
            return self._here.run(body())
        if self._aside is None:
            self._aside = ThreadPoolExecutor(1, thread_name_prefix="noob-cloud-async")
            self._there = asyncio.Runner()
        runner = self._there
        assert runner is not None  # noqa: S101 - made together with the thread
        return self._aside.submit(lambda: runner.run(body())).result()

    def close(self) -> None:
        """Close the loops."""
        if self._here is not None:
            self._here.close()
            self._here = None
        if self._aside is not None:
            assert self._there is not None  # noqa: S101 - made together with the thread
            self._aside.submit(self._there.close).result()
            self._aside.shutdown()
            self._aside = self._there = None


def bind(step: Step, loops: Loops) -> Callable[..., Any]:
    """Return what to call for a step; `init` must have run, and run again means bind again."""
    node = step.node
    if step.kind is Kind.TUBE and step.exact:
        return partial(call_nested, step)
    if step.kind is Kind.GATHER and step.exact:
        return collector(cast("Gather[Any]", node))
    process: Any = node.process
    if step.kind is Kind.COROUTINE:
        return partial(loops.call, process)
    if step.kind is Kind.GENERATOR and node._gen is not None:  # noqa: SLF001 - its generator
        return partial(next, node._gen, EXHAUSTED)  # noqa: SLF001 - see above
    if type(process) is partial and not process.args and not process.keywords:
        function: Callable[..., Any] = process.func
        return function
    bound: Callable[..., Any] = process
    return bound


def plain(step: Step, value: Any, epoch: Callable[[], Any], row: int, raw: Any) -> Any:
    """Return one signal's value, taken out of the event that a node may have wrapped it in."""
    event = value
    if isinstance(value, dict):
        if not is_event(value):
            return value
    elif isinstance(value, Sequence) and len(value) > 0 and is_event(value[0]):
        if len(value) > 1:
            raise OddValueError(step, row, raw, f"{step.id} emits several events in one signal")
        event = value[0]
    else:
        return value
    if (
        event["epoch"] == epoch()
        and event["node_id"] == step.id
        and step.signals == (event["signal"],)
    ):
        return event["value"]
    raise OddValueError(step, row, raw, f"{step.id} emits events of its own making")


def settle(step: Step, raw: Any, epoch: Callable[[], Any], row: int = 0) -> tuple[Any, ...]:
    """Spread what a node returned over its signals, as upstream's event store does.

    Too few values leave the last signals MISSING. A bare MetaSignal holds for every signal (the
    store upstream would spread its letters).

    Raises:
        OddValueError: the node made events for another epoch, node or signal.
    """
    count = len(step.outputs)
    if type(raw) is MetaSignal:
        return (raw,) * count
    if count == 1:
        return (plain(step, raw, epoch, row, raw),) if type(raw) in ODD else (raw,)
    values = [
        plain(step, value, epoch, row, raw) if type(value) in ODD else value
        for value, _ in zip(raw, step.outputs, strict=False)
    ]
    values.extend([MISSING] * (count - len(values)))
    return tuple(values)


def with_context(method: Callable[..., Any], context: Callable[[], Any]) -> Callable[..., Any]:
    """Give a method the runner's context, if it asks for it."""
    for name, parameter in signature(method).parameters.items():
        if parameter.annotation is RunnerContext:
            return partial(method, **{name: context()})
    return method
