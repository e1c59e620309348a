"""A plain function as a tube of one node: code travels as its name and its hash, never itself."""

from __future__ import annotations

import sys
from functools import partial
from inspect import isclass, ismethod
from typing import TYPE_CHECKING, Any

from noob_cloud.tubes import SAFE_BUILTINS, TubeSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["name_of", "tube_of", "unwrapped"]

_SCRIPTS = frozenset(("__main__", "__mp_main__"))
_WAY_OUT = (
    "a worker calls a function by its name, from the code that is deployed: define it with `def`"
    " at the top level of a module of your project, import it from there, and deploy the project"
    " (`noob-cloud deploy --project DIR`)"
)


def unwrapped(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Return what a `functools.partial` calls, and all its arguments; others as they are."""
    while isinstance(function, partial):
        args = (*function.args, *args)
        kwargs = {**function.keywords, **kwargs}
        function = function.func
    return function, args, dict(kwargs)


def name_of(function: Callable[..., Any]) -> str:
    """Return the import path under which workers find a function.

    Raises:
        TypeError: they cannot find it; the message says why, and what to do.
    """
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if not callable(function):
        raise TypeError(f"{function!r:.200} cannot be called, so it cannot be submitted")
    if isclass(function):
        raise TypeError(
            f"{name} is a class; submit a function that makes one of it and gives back a plain"
            " value"
        )
    if ismethod(function):
        raise TypeError(
            f"{name} is a method of an object that lives here; submit a function that takes what"
            " it needs as arguments"
        )
    if not isinstance(module, str) or not isinstance(name, str):
        raise TypeError(f"{function!r:.200} has no module and name; {_WAY_OUT}")
    if name.endswith("<lambda>"):
        raise TypeError(f"a lambda (in {module}) has no name; {_WAY_OUT}")
    if module in _SCRIPTS:
        raise TypeError(
            f"{name} is defined in {module}, the script that runs here and that no worker has;"
            f" {_WAY_OUT}"
        )
    if "." in name:
        raise TypeError(f"{module}.{name} is defined inside something else; {_WAY_OUT}")
    if getattr(sys.modules.get(module), name, None) is not function:
        raise TypeError(
            f"{module}.{name} is not this function but another one, so a worker would call that;"
            " submit it under the name that a decorator, or an assignment, has left it"
        )
    return name if module == "builtins" and name in SAFE_BUILTINS else f"{module}.{name}"


def tube_of(function: Callable[..., Any]) -> TubeSource:
    """Return the tube whose one node is this function.

    Raises:
        TypeError: workers could not find it; see `name_of`.
    """
    path = name_of(function)
    node = path.rpartition(".")[2].strip("_") or "function"
    return TubeSource.of({"noob_id": f"function-{node}", "nodes": {node: {"type": path}}})
