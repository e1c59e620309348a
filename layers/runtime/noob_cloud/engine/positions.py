"""Pass arguments by position, which is faster than by name, where a function allows it."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING

from noob.node.base import WrapFuncNode

from noob_cloud.plan.graph import process_function

if TYPE_CHECKING:
    from noob_cloud.plan.graph import Step


def by_position(step: Step, values: dict[int | str, str]) -> list[str] | None:
    """Order arguments by position, as a call by name is slower; None where that cannot be."""
    if not any(isinstance(key, str) for key in values):
        return [values[key] for key in sorted(values, key=int)]
    function = process_function(step.node)
    if type(function) is not FunctionType or hasattr(function, "__wrapped__"):
        return None
    code = function.__code__
    names = list(code.co_varnames[: code.co_argcount])
    if not isinstance(step.node, WrapFuncNode):
        names = names[1:]
    taken = {
        place: values[key]
        for place, key in enumerate(sorted(k for k in values if isinstance(k, int)))
    }
    for key, value in values.items():
        if isinstance(key, str):
            if key not in names or names.index(key) in taken:
                return None
            taken[names.index(key)] = value
    if set(taken) != set(range(len(taken))):
        return None
    return [taken[place] for place in range(len(taken))]
