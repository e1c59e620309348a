"""Call a plain function: what an executor's `submit` becomes on a worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from inspect import iscoroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any

from noob_cloud.codec import register
from noob_cloud.exceptions import DecodeError
from noob_cloud.task import Outcome
from noob_cloud.worker.execute import check_code, outcome_of_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from noob_cloud.worker.cache import CachedTube, TubeCache

__all__ = ["FunctionCall", "execute_function"]


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """Call the function that is the one node of a tube, with these arguments."""

    tube: str
    """cid of the tube: workers check its module against what they may import, as of any tube."""
    code: str | None = None
    """cid of the module that the function comes from; a worker with another one refuses."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


register(FunctionCall, "noob_cloud:FunctionCall")


def execute_function(call: FunctionCall, *, tubes: TubeCache) -> tuple[Outcome, bool]:
    """Call the function once; return what came of it, and whether that is the function's doing.

    What the function returns or raises settles its task; that it could not be called here does
    not.
    """
    start = perf_counter()
    called = False
    try:
        with tubes.lend(call.tube) as cached:
            function = _function(cached, call)
            called = True
            value = function(*call.args, **call.kwargs)
            if iscoroutine(value):
                value = asyncio.run(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - as in execute: what it raises is an outcome
        return outcome_of_error(error, duration=perf_counter() - start), called
    return Outcome(ok=True, value=value, duration=perf_counter() - start), called


def _function(cached: CachedTube, call: FunctionCall) -> Callable[..., Any]:
    functions = [getattr(node, "fn", None) for node in cached.tube.nodes.values()]
    if len(functions) != 1 or not callable(functions[0]):
        raise DecodeError(f"the tube {call.tube} is not that of one function")
    check_code(cached, call.code, cached.source.types[0])
    found: Callable[..., Any] = functions[0]
    return found
