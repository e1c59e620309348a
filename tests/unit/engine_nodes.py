"""Nodes and assets that the engine's tests watch from outside."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from noob import Name
from noob.event import MetaSignal
from noob.node import Node
from noob_core import Epoch

SEEN: list[str] = []
"""What has happened, in order; each test empties it."""


@contextmanager
def resource(name: str = "resource") -> Iterator[str]:
    SEEN.append(f"enter {name}")
    try:
        yield name
    finally:
        SEEN.append(f"exit {name}")


@contextmanager
def sticky(name: str) -> Iterator[str]:
    """A resource that cannot be left in peace."""
    SEEN.append(f"enter {name}")
    yield name
    SEEN.append(f"exit {name}")
    raise RuntimeError(f"{name} sticks")


def fails_once(value: int, thing: Any = None) -> int:
    if value == 1:
        raise ValueError(f"no {value}")
    return value


def silent(value: int) -> tuple[Annotated[int, Name("a")], Annotated[int, Name("b")]]:
    return MetaSignal.NoEvent  # type: ignore[return-value]


class Watched(Node):
    """A node that says when it begins and ends."""

    fail: str = ""

    def init(self) -> None:
        SEEN.append(f"init {self.id}")
        if self.fail == "init":
            raise RuntimeError(f"{self.id} cannot begin")

    def process(self) -> int:
        return 1

    def deinit(self) -> None:
        SEEN.append(f"deinit {self.id}")
        if self.fail == "deinit":
            raise RuntimeError(f"{self.id} cannot end")


class Halves(Node):
    """A map of one's own: it makes its events itself."""

    def process(self, value: int, epoch: Epoch) -> Any:
        return [
            self._event_maker.new_event(value=value / 2, epoch=sub, signal="value")
            for sub in epoch.make_subepochs(self.id, 2)
        ]
