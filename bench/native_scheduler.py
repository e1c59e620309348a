"""The core's scheduler beside the standard library's graphlib: 10,000 nodes, 50,000 edges.

    python bench/native_scheduler.py [--json] [--rounds 15]

Rounds of both alternate; what is printed are medians, and the median of each round's ratio. Both
begin with a graph that is built; building is a row of its own.
"""

from __future__ import annotations

import argparse
import graphlib
import json
import random
import statistics
import sys
from array import array
from time import perf_counter
from typing import Any

from noob_cloud.native import core, reason

NODES, EDGES, BATCH = 10_000, 50_000, 64


def graph() -> tuple[array[int], dict[int, list[int]]]:
    """Make edges that go upwards: as pairs in one array, and as graphlib wants them."""
    rng = random.Random(1)
    flat = array("I")
    before: dict[int, list[int]] = {node: [] for node in range(NODES)}
    while len(flat) < 2 * EDGES:
        low, high = sorted((rng.randrange(NODES), rng.randrange(NODES)))
        if low < high:
            flat.extend((low, high))
            before[high].append(low)
    return flat, before


def timed(work: Any) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def theirs_in_batches(before: dict[int, list[int]]) -> float:
    made = graphlib.TopologicalSorter(before)
    start = perf_counter()
    made.prepare()
    while made.is_active():
        made.done(*made.get_ready())
    return perf_counter() - start


def ours_in_batches(made: Any) -> float:
    start = perf_counter()
    made.add_epoch(0)
    ready = made.get_ready(0, BATCH)
    while ready:
        ready = made.done_and_ready(0, ready, BATCH)
    took = perf_counter() - start
    assert not made.is_active(0)
    made.end_epoch(0)
    return took


def measure(rounds: int) -> dict[str, dict[str, float]]:
    flat, before = graph()
    made = core.FastScheduler(NODES, flat)
    pairs: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for name, ours, theirs in (
            (
                "topological sort",
                timed(made.topological_sort),
                timed(lambda: list(graphlib.TopologicalSorter(before).static_order())),
            ),
            ("all nodes, in batches of 64", ours_in_batches(made), theirs_in_batches(before)),
            (
                "build",
                timed(lambda: core.FastScheduler(NODES, flat)),
                timed(lambda: graphlib.TopologicalSorter(before)),
            ),
        ):
            pairs.setdefault(name, []).append((ours, theirs))
    return {
        name: {
            "ours ns/node": statistics.median(ours for ours, _ in found) / NODES * 1e9,
            "graphlib ns/node": statistics.median(theirs for _, theirs in found) / NODES * 1e9,
            "ratio": statistics.median(theirs / ours for ours, theirs in found),
        }
        for name, found in pairs.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    if core is None:
        print(f"The Rust core is {reason}: there is nothing to measure.", file=sys.stderr)
        return 1
    found = measure(given.rounds)
    if given.json:
        print(json.dumps(found))
        return 0
    print(f"{'work':30} {'ours ns/node':>13} {'graphlib':>10} {'ratio':>8}")
    for name, row in found.items():
        ours, theirs, ratio = row.values()
        print(f"{name:30} {ours:13,.1f} {theirs:10,.1f} {ratio:7,.1f}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
