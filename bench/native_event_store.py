"""A million events into the core's store, beside dicts of lists in Python.

    python bench/native_event_store.py [--json] [--rounds 9]

1,000 epochs of 1,000 events. Two dicts are the peers: one with a list for each (epoch, column),
which holds what the store holds, and one with a list for each epoch, which does not know columns.
Rounds of all alternate; what is printed are medians.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
from collections import defaultdict
from time import perf_counter
from typing import Any

from noob_cloud.native import core, reason

EPOCHS, EACH = 1_000, 1_000
VALUES = list(range(EACH))


def store() -> tuple[Any, int]:
    made = core.FastEventStore()
    return made, made.column("node", "value")


def ours_single() -> float:
    made, column = store()
    add = made.add
    start = perf_counter()
    for epoch in range(EPOCHS):
        for value in VALUES:
            add(epoch, column, value)
    return perf_counter() - start


def ours_batch() -> float:
    made, column = store()
    add_batch = made.add_batch
    start = perf_counter()
    for epoch in range(EPOCHS):
        add_batch(epoch, column, VALUES)
    return perf_counter() - start


def columns_single() -> float:
    made: dict[tuple[int, int], list[int]] = {}
    column = 0
    start = perf_counter()
    for epoch in range(EPOCHS):
        for value in VALUES:
            made.setdefault((epoch, column), []).append(value)
    return perf_counter() - start


def epochs_single() -> float:
    made: dict[int, list[int]] = defaultdict(list)
    start = perf_counter()
    for epoch in range(EPOCHS):
        for value in VALUES:
            made[epoch].append(value)
    return perf_counter() - start


def epochs_batch() -> float:
    made: dict[int, list[int]] = defaultdict(list)
    start = perf_counter()
    for epoch in range(EPOCHS):
        made[epoch].extend(VALUES)
    return perf_counter() - start


ROWS = {
    "single / dict of (epoch, column)": (ours_single, columns_single),
    "single / dict of epochs": (ours_single, epochs_single),
    "batch / dict of (epoch, column), one by one": (ours_batch, columns_single),
    "batch / dict of epochs, extend": (ours_batch, epochs_batch),
}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    pairs: dict[str, list[tuple[float, float]]] = {}
    gc.disable()  # a collection within one of them would count against it alone
    for _ in range(rounds):
        for name, (ours, theirs) in ROWS.items():
            pairs.setdefault(name, []).append((ours(), theirs()))
            gc.collect()
    return {
        name: {
            "ours s": statistics.median(ours for ours, _ in found),
            "dict s": statistics.median(theirs for _, theirs in found),
            "ratio": statistics.median(theirs / ours for ours, theirs in found),
        }
        for name, found in pairs.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    if core is None:
        print(f"The Rust core is {reason}: there is nothing to measure.", file=sys.stderr)
        return 1
    found = measure(given.rounds)
    if given.json:
        print(json.dumps(found))
        return 0
    print(f"{'1,000,000 adds':46} {'ours s':>8} {'dict s':>8} {'ratio':>7}")
    for name, row in found.items():
        ours, theirs, ratio = row.values()
        print(f"{name:46} {ours:8.4f} {theirs:8.4f} {ratio:6.2f}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
