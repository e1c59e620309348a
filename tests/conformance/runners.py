"""The runners that the suite runs on: how each is started once, and made for a tube."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .observe import Factory


@dataclass(frozen=True)
class Kind:
    """One way to run a tube."""

    name: str
    start: Callable[[ExitStack], Factory]
    """Start what is needed, once for the session; give the maker of runners."""
    remote: bool = True
    """Whether stateless nodes run in other processes."""
    examples: int = 10
    """How many generated tubes it is worth."""

    @contextmanager
    def started(self) -> Iterator[Factory]:
        """The maker of runners; all that was started ends afterwards."""
        with ExitStack() as stack:
            yield self.start(stack)


def needs(*modules: str) -> None:
    """Skip, with the reason, while a part does not exist yet."""
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            pytest.skip(f"{module} cannot be imported: {error}")


def _sync(stack: ExitStack) -> Factory:
    needs("noob_cloud.runner.synchronous")
    from noob_cloud.runner import SynchronousRunner  # noqa: PLC0415 -- may not exist yet

    return SynchronousRunner


KINDS: tuple[Kind, ...] = (Kind("sync", _sync, remote=False, examples=300),)
"""Every runner of the suite."""
