"""The Rust core where it is installed, or nothing: every path that uses it has a twin in Python.

`NOOB_CLOUD_NATIVE=0` leaves the core aside, `NOOB_CLOUD_NATIVE=1` makes its absence an error, and
without the variable the core is used where it is found.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["INTERFACE", "PARTS", "core", "reason"]

INTERFACE = 1
"""What this package asks the core for; a core that offers another interface is left aside."""

PARTS = ("values on the wire and in the queue", "content ids", "memory of worker processes")
"""What the core does where it is used. The engine's loop is not among it: a compiled plan decides
nothing at run time that a scheduler could decide faster."""

_VARIABLE = "NOOB_CLOUD_NATIVE"


def _find(setting: str) -> tuple[ModuleType | None, str]:
    """Return the core, or None, and why in a few words."""
    if setting == "0":
        return None, f"left aside: {_VARIABLE}=0"
    try:
        module = import_module("noob_cloud_core")
    except ImportError as error:
        found, why = None, f"not installed ({error})"
    else:
        offered = getattr(module, "INTERFACE", None)
        if offered == INTERFACE:
            found, why = module, f"noob_cloud_core {module.__version__}"
        else:
            found = None
            why = f"left aside: it offers interface {offered}, this package asks for {INTERFACE}"
    if found is None and setting == "1":
        raise ImportError(
            f"{_VARIABLE}=1 asks for the Rust core, which is {why}."
            " Install noob-cloud-core of this version, or unset the variable."
        )
    return found, why


core: Any
"""The module `noob_cloud_core`, or None."""
reason: str
"""Which core is used, or why none is."""
core, reason = _find(os.environ.get(_VARIABLE, ""))
