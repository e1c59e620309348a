"""Call one node by hand: a task that someone submitted by name, outside any run."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from noob_core import Epoch

from noob_cloud.task import Outcome
from noob_cloud.worker.execute import outcome_of_error

if TYPE_CHECKING:
    from noob_cloud.worker.cache import CachedTube, TubeCache


@dataclass(frozen=True, slots=True)
class HandCall:
    """One node, one epoch, and what its slots get."""

    tube: str
    """The cid of a tube that the worker holds."""
    node_id: str
    epoch: int = 0
    inputs: Any = None
    """A dict is taken as slots by name, a list or tuple as slots in order, None as nothing; any
    other value goes to the first slot."""


def execute_by_hand(call: HandCall, *, tubes: TubeCache) -> Outcome:
    """Run the node once; its value as the node returned it, or the error; never raises."""
    start = perf_counter()
    try:
        with tubes.lend(call.tube) as cached:
            value = _call(cached, call)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - as in execute: what a node raises is an outcome
        return outcome_of_error(error, node_id=call.node_id, epoch=call.epoch)
    return Outcome(
        ok=True,
        value=value,
        node_id=call.node_id,
        epoch=call.epoch,
        duration=perf_counter() - start,
    )


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if inputs is None:
        return (), {}
    if isinstance(inputs, dict) and all(isinstance(name, str) for name in inputs):
        return (), dict(inputs)
    if isinstance(inputs, (list, tuple)):
        return tuple(inputs), {}
    return (inputs,), {}


def _call(cached: CachedTube, call: HandCall) -> Any:
    node = cached.node(call.node_id)
    args, kwargs = _arguments(call.inputs)
    if "epoch" in node.injections:
        kwargs.setdefault(node.injections["epoch"], Epoch(call.epoch))
    if node.is_coroutine:
        from noob.runner.base import call_async_from_sync  # noqa: PLC0415 - only async nodes

        process: Any = node.process
        return call_async_from_sync(process, None, *args, **kwargs)
    return node.process(*args, **kwargs)
