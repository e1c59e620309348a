"""Node and asset types of the test tubes: one of every kind that upstream knows.

Importable by name in worker processes (`PYTHONPATH=tests/tubes`). Upstream reads annotations at run
time, so this module must not import `annotations` from `__future__`.
"""

import asyncio
import os
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import count, cycle
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from noob import Name, process_method
from noob.asset import Asset
from noob.event import MetaSignal
from noob.node import Node
from noob.node.base import deinit_method, init_method
from noob.types import Epoch, EventMap, RunnerContext

LOG: list[tuple[Any, ...]] = []
"""What nodes and assets of this process did, in order: the tests read and clear it."""


class BadTileError(ValueError):
    """An exception of the user's own, as nodes raise them."""


class TwoFieldError(Exception):
    """An exception whose constructor takes more than its message."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"code {self.code}: {self.reason}"


# ---- sources


def counter(start: int = 0, limit: int | None = None) -> Generator[Annotated[int, Name("index")]]:
    for index in count(start):
        if limit is not None and index >= start + limit:
            return
        yield index


def letters() -> Generator[Annotated[str, Name("letter")]]:
    yield from cycle("abcde")


def pairs() -> Generator[tuple[Annotated[int, Name("number")], Annotated[str, Name("word")]]]:
    for index in count():
        yield index, f"w{index}"


def sporadic(every: int = 3) -> Generator[Annotated[int, Name("tick")]]:
    for index in count(1):
        yield index if index % every == 0 else MetaSignal.NoEvent


def nones(every: int = 2) -> Generator[Annotated[int, Name("maybe")]]:
    for index in count():
        yield None if index % every else index


def lists(sizes: tuple[int, ...] = (2, 3, 1)) -> Generator[Annotated[list[int], Name("items")]]:
    for index, size in enumerate(cycle(sizes)):
        yield [index * 10 + offset for offset in range(size)]


def switch() -> Generator[
    tuple[Annotated[int, Name("low")], Annotated[int, Name("high")], Annotated[int, Name("both")]]
]:
    for index in count():
        if index % 2:
            yield MetaSignal.NoEvent, index, index
        else:
            yield index, MetaSignal.NoEvent, index


def constant() -> Annotated[int, Name("seven")]:
    return 7


class CounterClass:
    def __init__(self, start: int = 0) -> None:
        self.numbers = count(start)

    @process_method
    def emit(self) -> Generator[Annotated[int, Name("index")]]:
        yield from self.numbers


class CounterNode(Node):
    start: int = 0
    limit: int = 1000

    def process(self) -> Generator[Annotated[int, Name("index")]]:
        yield from range(self.start, self.start + self.limit)


# ---- functions


def double(value: int) -> int:
    return value * 2


def add(left: float, right: float = 1) -> float:
    return left + right


def increment(value: int, by: int = 1) -> Annotated[int, Name("next")]:
    return value + by


def divide(
    value: int, by: int = 3
) -> tuple[Annotated[int, Name("quotient")], Annotated[int, Name("remainder")]]:
    return divmod(value, by)


def identity(value: Any) -> Any:
    return value


def gather_kwargs(**kwargs: Any) -> dict[str, Any]:
    return dict(sorted(kwargs.items()))


def gather_args(*args: Any) -> list[Any]:
    return list(args)


def mixed(first: Any, *rest: Any, last: Any = "none") -> list[Any]:
    return [first, list(rest), last]


def spread(value: int, most: int = 4) -> list[int]:
    """Between no items and `most - 1`."""
    return [value * 100 + offset for offset in range(value % most)]


def spread_some(value: int, most: int = 3) -> list[int]:
    """Between one item and `most`."""
    return [value * 100 + offset for offset in range(value % most + 1)]


def grid(value: int) -> list[list[int]]:
    """Rows of different lengths, none of them empty."""
    return [[value * 100 + row * 10 + column for column in range(row + 1)] for row in range(2)]


def total(items: list[float]) -> Annotated[float, Name("sum")]:
    return sum(items)


def text(value: Any) -> str:
    return repr(value)


def evens(value: int) -> Annotated[int, Name("even")]:
    return MetaSignal.NoEvent if value % 2 else value


def multiples(value: int, of: int = 2) -> int:
    return MetaSignal.NoEvent if value % of else value


def parity(value: int) -> tuple[Annotated[int, Name("even")], Annotated[int, Name("odd")]]:
    if value % 2:
        return MetaSignal.NoEvent, value
    return value, MetaSignal.NoEvent


def optional(*, this: int | None = None, that: int | None = None) -> list[int | None]:
    return [this, that]


def needs_one(value: int, *, extra: int | None = None) -> list[int | None]:
    return [value, extra]


def blend(*, this: int | None = None, that: int | None = None) -> int:
    return (this or 0) * 3 + (that or 0)


def give_object(value: Any) -> object:
    """Give what has no place in the wire format."""
    return object()


def nothing(value: Any) -> None:
    """None is a value: dependents run with it."""


def returns_text(value: Any) -> str:
    """A string that upstream's network form would take for a pickle."""
    return f"pck__{value}"


def containers(value: int) -> dict[str, Any]:
    """Everything that loses its type in a careless encoding."""
    return {
        "tuple": (value, (value + 1,)),
        "set": {value, value + 1},
        "frozenset": frozenset({value}),
        "bytes": bytes([value % 256]) * 3,
        "none": None,
        "bool": bool(value % 2),
        "float": value / 3,
        "inf": float("inf"),
        "complex": complex(value, 1),
        "big": 2**70 + value,
        "negative": -(2**40),
        value: "a key that is no string",
        (value, "a"): "a key that is a tuple",
        "text": "Größe \N{MICROSCOPE}",
    }


async def async_double(value: int) -> int:
    await asyncio.sleep(0)
    return value * 2


async def async_fail(value: int) -> int:
    await asyncio.sleep(0)
    raise BadTileError(f"async node fails at {value}")


def with_epoch(value: Any, epoch: Epoch) -> list[Any]:
    return [value, epoch.root, len(epoch)]


def with_level(value: int, epoch: Epoch) -> int:
    return value * 10 + len(epoch)


def epoch_only(epoch: Epoch) -> int:
    return epoch.root


def with_events(value: Any, events: EventMap) -> dict[str, Any]:
    event = events["value"]
    return {"value": value, "from": event["node_id"], "signal": event["signal"]}


def fail_at(value: int, at: int = 2) -> int:
    if value == at:
        raise BadTileError(f"no tile {value}")
    return value


def fail_noted(value: int, at: int = 4) -> int:
    LOG.append(("ran", value))
    return fail_at(value, at)


def flaky(value: int, at: int = 2, times: int = 2) -> int:
    """Raises for `at` so many times."""
    LOG.append(("flaky", value))
    if value == at and LOG.count(("flaky", at)) <= times:
        raise BadTileError(f"not yet {value}")
    return value


def fail_builtin(value: int, at: int = 2) -> float:
    return 1 / (value - at)


def fail_two_fields(value: int, at: int = 2) -> int:
    if value == at:
        raise TwoFieldError(value, "does not fit")
    return value


def fail_at_length(value: int) -> int:
    """Raise an error that is larger than what travels in line."""
    raise LookupError(*("x" * 16_000 for _ in range(value)))


def stop(value: int, at: int = 3) -> int:
    """StopIteration ends `run` quietly upstream."""
    if value == at:
        raise StopIteration
    return value


def wrong_arity(value: int) -> tuple[Annotated[int, Name("a")], Annotated[int, Name("b")]]:
    return (value,)


def long_tuple(value: int) -> tuple[Annotated[int, Name("a")], Annotated[int, Name("b")]]:
    return value, value + 1, value + 2


# ---- arrays


def image(value: int, side: int = 8) -> Annotated[np.ndarray, Name("image")]:
    return (np.arange(side * side, dtype=np.uint16).reshape(side, side) + value) % 251


def brighten(image: np.ndarray, by: float = 1.5) -> np.ndarray:
    return image.astype(np.float32) * by


def transpose(image: np.ndarray) -> np.ndarray:
    return image.T


def tiles(image: np.ndarray, side: int = 4) -> list[np.ndarray]:
    rows, columns = image.shape
    return [
        image[row : row + side, column : column + side]
        for row in range(0, rows, side)
        for column in range(0, columns, side)
    ]


def mean(image: np.ndarray) -> Annotated[float, Name("mean")]:
    # In float32 the sum would depend on how the buffer happens to be aligned.
    return float(image.mean(dtype=np.float64))


def numpy_scalars(value: int) -> dict[str, Any]:
    return {"i": np.int32(value), "f": np.float32(value) / 3, "b": np.bool_(value % 2)}


def overwrite(image: np.ndarray) -> int:
    """Write into the input, as image code does: the array must be this node's own to write."""
    image[...] = 0
    return int(image.sum())


# ---- processes


def process_id(value: Any) -> int:
    return os.getpid()


def whereabouts(value: Any) -> str:
    """Which worker runs this: what `PLACE` says there, `home` without one."""
    return os.environ.get("PLACE", "home")


def note(value: int, folder: str) -> int:
    """Leave a file for each run, so that runs can be counted over processes and crashes."""
    with (Path(folder) / str(value)).open("a") as runs:
        runs.write(f"{os.getpid()}\n")
    return value * 2


def kill_once(value: int, marker: str, at: int = 2) -> int:
    """The first process that runs this for `at` dies by SIGKILL; `marker` is the file that says so.

    The home process is spared: `marker` holds its id.
    """
    path = Path(marker)
    if value == at and path.exists():
        home = int(path.read_text())
        try:
            path.unlink()
        except FileNotFoundError:
            return value * 2
        if os.getpid() != home:
            os.kill(os.getpid(), signal.SIGKILL)
    return value * 2


def linger(value: int, seconds: float = 0.2) -> int:
    time.sleep(seconds)
    return value


def dawdle(value: int, seconds: float = 60.0) -> int:
    """Like `linger`, but in steps, between which a thread can be stopped."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    return value


def later_first(value: int, seconds: float = 0.02) -> int:
    """Early values take longest, so that results arrive out of order."""
    time.sleep(seconds * (3 - value % 4))
    return value


# ---- classes


class Accumulator:
    """A plain class with a `process` method: stateful."""

    def __init__(self, start: int = 0) -> None:
        self.total = start

    def process(self, value: int) -> Annotated[int, Name("total")]:
        self.total += value
        return self.total


class Window:
    """Every marker of upstream at once: process, init and deinit methods by decorator."""

    def __init__(self, size: int = 3, name: str = "window") -> None:
        self.size = size
        self.name = name
        self.seen: list[Any] = []

    @init_method
    def begin(self) -> None:
        LOG.append(("init", self.name))
        self.seen = []

    @process_method
    def slide(self, value: Any) -> Annotated[list[Any], Name("window")]:
        self.seen = [*self.seen, value][-self.size :]
        return list(self.seen)

    @deinit_method
    def end(self) -> None:
        LOG.append(("deinit", self.name, len(self.seen)))


class Scale(Node):
    """A `Node` subclass that is stateful by default, and counts its own life."""

    factor: int = 3

    def init(self) -> None:
        LOG.append(("init", self.id))

    def process(self, value: int) -> Annotated[int, Name("scaled")]:
        LOG.append(("process", self.id, value))
        return value * self.factor

    def deinit(self) -> None:
        LOG.append(("deinit", self.id))


class Offset(Node):
    """A `Node` subclass that declares itself stateless."""

    by: int = 5
    stateful: bool = False

    def process(self, value: int) -> int:
        return value + self.by


class Prefix:
    """A plain class that a specification may declare stateless."""

    def __init__(self, prefix: str = ">") -> None:
        self.prefix = prefix

    def process(self, value: Any) -> str:
        return f"{self.prefix}{value}"


class Spare(Node):
    """Emits how often it was begun and ended."""

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        self._begun = 0
        self._ended = 0

    def init(self) -> None:
        self._begun += 1
        LOG.append(("init", self.id))

    def process(self) -> tuple[Annotated[int, Name("begun")], Annotated[int, Name("ended")]]:
        return self._begun, self._ended

    def deinit(self) -> None:
        self._ended += 1
        LOG.append(("deinit", self.id))


class Contextual(Node):
    """Asks for the runner in `init`."""

    def init(self, context: RunnerContext) -> None:  # type: ignore[override]
        self._tube = context["runner"].tube.tube_id

    def process(self, value: Any) -> list[Any]:
        return [self._tube, value]


class FailingInit(Node):
    """Cannot begin."""

    def init(self) -> None:
        raise BadTileError("cannot begin")

    def process(self, value: Any) -> Any:
        return value


class AsyncAverage:
    """An async process method that keeps state."""

    def __init__(self) -> None:
        self.values: list[float] = []

    async def process(self, value: float) -> Annotated[float, Name("average")]:
        await asyncio.sleep(0)
        self.values.append(value)
        return sum(self.values) / len(self.values)


class Ticker:
    """A stateful sink: what it saw, in order, is in LOG."""

    def process(self, value: Any) -> None:
        LOG.append(("sink", value))


class FailOnce:
    """Raises at one value, keeps its state over it."""

    def __init__(self, at: int = 2) -> None:
        self.at = at
        self.seen = 0

    def process(self, value: int) -> list[int]:
        self.seen += 1
        if value == self.at:
            raise BadTileError(f"stateful node fails at {value}")
        return [value, self.seen]


# ---- assets


class Box:
    """An asset of a plain class."""

    def __init__(self, start: int = 0) -> None:
        self.count = start
        LOG.append(("box", start))


class Ledger(Asset):
    """An asset of upstream's class, with a life of its own."""

    obj: Any = None

    def init(self) -> None:
        LOG.append(("asset init", self.id))
        self.obj = []

    def deinit(self) -> None:
        LOG.append(("asset deinit", self.id))
        self.obj = None


@contextmanager
def resource(name: str = "resource") -> Iterator[dict[str, Any]]:
    LOG.append(("enter", name))
    try:
        yield {"name": name, "uses": 0}
    finally:
        LOG.append(("exit", name))


def table(start: int = 1) -> list[int]:
    return [start]


def use_box(box: Box, value: int = 0) -> int:
    box.count += 1
    return box.count * 1000 + value


def use_resource(resource: dict[str, Any], value: int) -> list[Any]:
    resource["uses"] += 1
    return [resource["name"], resource["uses"], value]


def use_resource_fail(resource: dict[str, Any], value: int, at: int = 1) -> list[Any]:
    if value == at:
        raise BadTileError(f"asset user fails at {value}")
    return [resource["name"], value]


def append(ledger: list[Any], value: int) -> list[Any]:
    ledger.append(value)
    return list(ledger)


def grow(
    table: list[int], value: int
) -> tuple[Annotated[list[int], Name("table")], Annotated[int, Name("length")]]:
    grown = [*table, value]
    return grown, len(grown)
