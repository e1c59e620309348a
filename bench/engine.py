"""Node calls and loading, against upstream's SynchronousRunner in one interleaved run.

    python bench/engine.py [--rounds 5] [--only NAME ...] [--json]

Each round times upstream and then ours on the same tube; the table shows the medians, and the
median of the rounds' ratios. `first` rows are a tube loaded from its specification up to the
first result.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Annotated, Any

from noob import Name, Tube
from noob import SynchronousRunner as Upstream
from noob.node import Node

from noob_cloud.plan import load_tube
from noob_cloud.runner.synchronous import SynchronousRunner

MODULE = "engine_bench_nodes"


def source() -> Generator[Annotated[int, Name("index")]]:
    index = 0
    while True:
        yield index
        index += 1


def inc(value: int) -> int:
    return value + 1


def add(left: int, right: int) -> int:
    return left + right


def items(value: int, n: int = 100) -> list[int]:
    return [value] * n


def use(value: int, thing: dict[str, int]) -> int:
    thing["calls"] = value
    return value + 1


@contextmanager
def resource() -> Generator[dict[str, int]]:
    yield {"calls": 0}


class Plain:
    """A class node."""

    def __init__(self) -> None:
        self.calls = 0

    def process(self, value: int) -> int:
        self.calls += 1
        return value + 1


class Modelled(Node):
    """A class node that upstream's model knows."""

    by: int = 1

    def process(self, value: int) -> int:
        return value + self.by


sys.modules[MODULE] = sys.modules[__name__]


def node(kind: str, *depends: str | dict[str, str], **more: Any) -> dict[str, Any]:
    made = {"type": f"{MODULE}.{kind}" if kind not in ("map", "gather", "return") else kind, **more}
    return {**made, "depends": list(depends)} if depends else made


def result(signal: str) -> dict[str, Any]:
    return {"type": "return", "depends": signal}


def diamond() -> dict[str, Any]:
    return {
        "s": node("source"),
        "a": node("inc", {"value": "s.index"}),
        "b": node("inc", {"value": "s.index"}),
        "c": node("add", {"left": "a.value"}, {"right": "b.value"}),
        "out": result("c.value"),
    }


def chain(count: int, kind: str = "inc", *more: dict[str, str]) -> dict[str, Any]:
    nodes = {"s": node("source")}
    before = "s.index"
    for index in range(count):
        nodes[f"n{index}"] = node(kind, {"value": before}, *more)
        before = f"n{index}.value"
    return {**nodes, "out": result(before)}


def layered(width: int, depth: int) -> dict[str, Any]:
    nodes = {"s": node("source")}
    for index in range(width):
        nodes[f"n0_{index}"] = node("inc", {"value": "s.index"})
    for layer in range(1, depth):
        for index in range(width):
            left, right = (
                f"n{layer - 1}_{index}.value",
                f"n{layer - 1}_{(index + 37) % width}.value",
            )
            nodes[f"n{layer}_{index}"] = node("add", {"left": left}, {"right": right})
    return {**nodes, "out": result(f"n{depth - 1}_0.value")}


def mapped() -> dict[str, Any]:
    return {
        "s": node("source"),
        "l": node("items", {"value": "s.index"}),
        "m": node("map", {"value": "l.value"}),
        "w": node("inc", {"value": "m.value"}),
        "g": node("gather", {"value": "w.value"}, {"n": "m.n"}),
        "out": result("g.value"),
    }


def generators(count: int) -> dict[str, Any]:
    nodes = {f"s{index}": node("source") for index in range(count)}
    return {**nodes, "out": result(f"s{count - 1}.index")}


ASSET = {"thing": {"type": f"{MODULE}.resource", "scope": "runner"}}
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any], bool, int, int, float]] = {
    # nodes, assets, callbacks?, epochs a round of upstream's and of ours, target
    "diamond of 5": (diamond(), {}, False, 300, 20_000, 50),
    "chain of 50": (chain(50), {}, False, 40, 5_000, 120),
    "layered 1,000": (layered(100, 10), {}, False, 2, 200, 500),
    "map/gather of 100": (mapped(), {}, False, 4, 300, 20),
    "20 generators": (generators(20), {}, False, 80, 8_000, 20),
    "20 class nodes": (chain(20, "Plain"), {}, False, 80, 8_000, 20),
    "20 Node classes": (chain(20, "Modelled"), {}, False, 80, 8_000, 20),
    "20 nodes with an asset": (
        chain(20, "use", {"thing": "assets.thing"}), ASSET, False, 80, 8_000, 20,
    ),
    "20 nodes, callbacks and an asset": (
        chain(20, "use", {"thing": "assets.thing"}), ASSET, True, 80, 4_000, 20,
    ),
}  # fmt: skip
LOADS = {"load layered 1,000": layered(100, 10), "load chain of 1,000": chain(1_000)}


def specification(nodes: dict[str, Any], assets: dict[str, Any]) -> dict[str, Any]:
    copies = {name: {**one} for name, one in nodes.items()}
    return {"noob_id": "bench", "nodes": copies, "assets": {k: {**v} for k, v in assets.items()}}


def per_epoch(runner: Any, epochs: int) -> float:
    start = time.perf_counter()
    for _ in range(epochs):
        runner.process()
    return (time.perf_counter() - start) / epochs


def called(name: str, rounds: int) -> dict[str, Any]:
    nodes, assets, callbacks, theirs, ours, target = ROWS[name]
    runners = [
        kind(Tube.from_specification(specification(nodes, assets)))
        for kind in (Upstream, SynchronousRunner)
    ]
    for runner in runners:
        if callbacks:
            runner.add_callback(lambda _: None)
        runner.process()
    assert runners[0].process() == runners[1].process()
    per_epoch(runners[1], 20)
    pairs = [(per_epoch(runners[0], theirs), per_epoch(runners[1], ours)) for _ in range(rounds)]
    for runner in runners:
        runner.deinit()
    return row(name, len(nodes), pairs, target)


def loaded(name: str, rounds: int) -> list[dict[str, Any]]:
    nodes = LOADS[name]
    ready: list[tuple[float, float]] = []
    first: list[tuple[float, float]] = []
    for _ in range(rounds):
        theirs, _ = load(nodes, Tube.from_specification, Upstream)
        ours, until_ready = load(nodes, load_tube, SynchronousRunner)
        ready.append((theirs, until_ready))
        first.append((theirs, ours))
    return [
        row(name + ", ready plan", len(nodes), ready, 10),
        row(name + ", first result", len(nodes), first, 0),
    ]


def load(
    nodes: dict[str, Any], loader: Callable[[Any], Tube], kind: Callable[[Tube], Any]
) -> tuple[float, float]:
    given = specification(nodes, {})
    start = time.perf_counter()
    runner = kind(loader(given))
    ready = time.perf_counter() - start
    runner.process()
    whole = time.perf_counter() - start
    runner.deinit()
    return whole, ready


def row(name: str, nodes: int, pairs: list[tuple[float, float]], target: float) -> dict[str, Any]:
    theirs = statistics.median(pair[0] for pair in pairs)
    ours = statistics.median(pair[1] for pair in pairs)
    return {
        "work": name,
        "nodes": nodes,
        "upstream_us": theirs * 1e6,
        "ours_us": ours * 1e6,
        "ours_us_per_node": ours * 1e6 / nodes,
        "ratio": statistics.median(pair[0] / pair[1] for pair in pairs),
        "target": target,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of rows")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    def wanted(name: str) -> bool:
        return not options.only or any(part in name for part in options.only)

    rows = [called(name, options.rounds) for name in ROWS if wanted(name)]
    for name in LOADS:
        if wanted(name):
            rows.extend(loaded(name, max(2, options.rounds // 2)))
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(
        f"{'work':36} {'upstream us':>12} {'ours us':>10} {'us/node':>8} {'ratio':>7} {'target':>7}"
    )
    for one in rows:
        print(
            f"{one['work']:36} {one['upstream_us']:12,.1f} {one['ours_us']:10,.2f}"
            f" {one['ours_us_per_node']:8.3f} {one['ratio']:6.0f}x {one['target']:6.0f}x"
        )


if __name__ == "__main__":
    main()
