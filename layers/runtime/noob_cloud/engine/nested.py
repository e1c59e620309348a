"""Nested tubes: the inner tube runs compiled as well."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from noob.event import MetaSignal
from noob.exceptions import ExtraInputWarning

from noob_cloud.plan.load import load_tube

if TYPE_CHECKING:
    from noob.node.tube import TubeNode

    from noob_cloud.plan.graph import Step


def start_nested(node: TubeNode, context: Any) -> None:
    """Initialise a nested tube as upstream's node does, with a runner of ours inside."""
    from noob_cloud.runner.synchronous import SynchronousRunner  # noqa: PLC0415 - it needs us

    collection = context["input_collection"]
    given = node.spec.params or {}
    params = collection.get_node_params({k: v for k, v in given.items() if k != "tube"})
    extra = {k: v for k, v in (node.__pydantic_extra__ or {}).items() if k not in params}
    with warnings.catch_warnings(action="ignore", category=ExtraInputWarning):
        node._tube = load_tube(  # noqa: SLF001 - as its own init does
            node.tube, input={**collection.chain, **params, **extra}
        )
    node._runner = SynchronousRunner(tube=node._tube)  # noqa: SLF001 - as its own init does
    node._runner.init()  # noqa: SLF001 - as its own init does


def call_nested(step: Step, epoch: Any = None, **kwargs: Any) -> Any:
    """Run one epoch of the inner tube; return its value spread over the node's signals."""
    del epoch  # upstream's node stamps its events with it; ours are stamped by the engine
    node: Any = step.node
    value = node._runner.process(**kwargs)  # noqa: SLF001 - as its own process does
    if value is None:
        exhausted = node._tube.scheduler.exhausted  # noqa: SLF001 - as its own process does
        return MetaSignal.Exhausted if exhausted else MetaSignal.NoEvent
    if isinstance(value, dict):
        values = tuple([value.get(signal, MetaSignal.NoEvent) for signal in step.signals])
        return values[0] if len(values) == 1 else values
    return value
