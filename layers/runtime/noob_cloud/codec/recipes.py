"""What the Rust core needs to write and make values of a class without asking Python for each.

Without the core the tables stay empty; `ENCODERS` and `DECODERS` say the same of every class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob_cloud.native import core

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "ITEMS",
    "MAKERS",
    "NAMES",
    "RECIPES",
    "ROWS",
    "VALUE",
    "array",
    "fields",
    "scalar",
    "state",
]

RECIPES: dict[type, Any] = {}
"""How a value of exactly this type is written."""
MAKERS: dict[int, Any] = {}
"""How a value is made of an extension type's payload."""
VALUE, ITEMS, NAMES, ROWS = range(4)
"""An attribute as it is; a tuple, written as a list; a tuple of str; a tuple of tuples."""


def array(
    cls: type, code: int, attributes: dict[str, int], kinds: Sequence[frozenset[Any] | None]
) -> None:
    """Write `cls` as the array of its attributes, each in its mode, and make it of that again.

    Its constructor must do nothing but set them; `kinds` are the types that each may have.
    """
    if core is not None:
        names, modes = [*attributes], [*attributes.values()]
        RECIPES[cls] = core.Recipe.array(code, names, modes)
        if not hasattr(cls, "__post_init__"):
            MAKERS[code] = core.Maker(cls, names, modes, tuple(kinds))


def fields(cls: type, name: str, attributes: Sequence[str]) -> None:
    """Write `cls` as an object of this name with a map of its attributes."""
    if core is not None:
        RECIPES[cls] = core.Recipe.fields(name, list(attributes))


def state(cls: type, name: str, encode: Callable[[Any], Any]) -> None:
    """Write `cls` as an object of this name with the state that `encode` makes."""
    if core is not None:
        RECIPES[cls] = core.Recipe.state(name, encode)


def scalar(cls: type, code: int) -> None:
    """Write `cls`, a scalar of the standard library, as the core does extension values `code`."""
    if core is not None:
        RECIPES[cls] = core.Recipe.scalar(code)
