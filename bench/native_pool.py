"""The pool of buffers against what makes a buffer without one, interleaved.

python bench/native_pool.py [--json] [--rounds N] [--runs]

`--runs` measures whole calls through MultiProcessRunner's executor as well, with the pool of the
core and with its twin: how much of a call either costs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from multiprocessing.shared_memory import SharedMemory
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from noob_cloud.buffers import pool as twin
from noob_cloud.buffers.allocator import Allocator
from noob_cloud.executors import ProcessExecutor
from noob_cloud.native import core, reason

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = {"4 KB": 4096, "1 MB": 1 << 20}
CAPACITY = 64 << 20
ARRAYS = 300


def take_give(allocator: Any, size: int, count: int) -> float:
    take, give = allocator.take, allocator.give
    start = perf_counter()
    for _ in range(count):
        give(take(size))
    return (perf_counter() - start) / count


def lend(pool: Any, size: int, count: int) -> float:
    take = pool.take
    start = perf_counter()
    for _ in range(count):
        take(size).release()
    return (perf_counter() - start) / count


def fill(pool: Any, source: bytes, count: int) -> float:
    """Take, write all of it, give back: where touching pages shows."""
    take = pool.take
    size = len(source)
    start = perf_counter()
    for _ in range(count):
        with take(size) as buffer:
            buffer[:] = source
    return (perf_counter() - start) / count


def fresh(make: Callable[[int], Any], size: int, count: int) -> float:
    start = perf_counter()
    for _ in range(count):
        make(size)
    return (perf_counter() - start) / count


def fill_fresh(source: bytes, count: int) -> float:
    start = perf_counter()
    for _ in range(count):
        bytearray(source)
    return (perf_counter() - start) / count


def named(size: int, count: int) -> float:
    start = perf_counter()
    for _ in range(count):
        memory = SharedMemory(create=True, size=size)
        memory.close()
        memory.unlink()
    return (perf_counter() - start) / count


def arrays() -> float:
    """Seconds for one call with 1 MB there and back, on one worker."""
    array = np.ones(131_072)
    with ProcessExecutor(1) as executor:
        for _ in range(20):
            executor.submit(np.negative, array).result()
        start = perf_counter()
        for _ in range(ARRAYS):
            executor.submit(np.negative, array).result()
        return (perf_counter() - start) / ARRAYS


def _arrays_with(setting: str) -> float:
    done = subprocess.run(
        [sys.executable, __file__, "--one-run"],
        env={**os.environ, "NOOB_CLOUD_NATIVE": setting},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def measure(rounds: int) -> list[dict[str, Any]]:
    """One row for each work, peer and size: medians in nanoseconds, and of the ratios."""
    rows: list[dict[str, Any]] = []
    ours, slow = core.BufferPool(CAPACITY), twin.BufferPool(CAPACITY)
    fast, python = core.Allocator(0, CAPACITY), Allocator(0, CAPACITY)
    for name, size in SIZES.items():
        source = bytes(size)
        mine: dict[str, Callable[[], float]] = {
            "region: take + give": lambda size=size: take_give(fast, size, 5000),
            "buffer: take + release": lambda size=size: lend(ours, size, 5000),
            "buffer: take + fill + release": lambda source=source: fill(ours, source, 500),
        }
        peers: dict[tuple[str, str], Callable[[], float]] = {
            ("region: take + give", "our Python"): lambda size=size: take_give(python, size, 5000),
            ("buffer: take + release", "our Python"): lambda size=size: lend(slow, size, 2000),
            ("buffer: take + release", "bytearray(size)"): lambda size=size: fresh(
                bytearray, size, 2000
            ),
            ("buffer: take + release", "SharedMemory"): lambda size=size: named(size, 50),
            ("buffer: take + fill + release", "bytearray(source)"): lambda source=source: (
                fill_fresh(source, 500)
            ),
        }
        for (work, peer), run in peers.items():
            theirs, here, ratios = [], [], []
            for _ in range(rounds):
                theirs.append(run())
                here.append(mine[work]())
                ratios.append(theirs[-1] / here[-1])
            rows.append(_row(f"{work}, {name}", peer, theirs, here, ratios))
    return rows


def measure_runs(rounds: int) -> dict[str, Any]:
    """Whole calls, with the core and without it."""
    theirs, here = [], []
    for _ in range(rounds):
        theirs.append(_arrays_with("0"))
        here.append(_arrays_with("1"))
    ratios = [a / b for a, b in zip(theirs, here, strict=True)]
    return _row("1 MB there and back, one worker", "without the core", theirs, here, ratios)


def _row(
    work: str, peer: str, theirs: list[float], here: list[float], ratios: list[float]
) -> dict[str, Any]:
    return {
        "work": work,
        "peer": peer,
        "peer_ns": statistics.median(theirs) * 1e9,
        "ours_ns": statistics.median(here) * 1e9,
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved; the median counts")
    parser.add_argument("--runs", action="store_true", help="whole calls too")
    parser.add_argument("--one-run", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_run:
        print(arrays())
        return
    if core is None:
        print(f"nothing to measure: the core is {reason}")
        return
    rows = measure(options.rounds)
    if options.runs:
        rows.append(measure_runs(min(options.rounds, 5)))
        share = 2 * rows[0]["ours_ns"] / rows[-1]["ours_ns"]
        print(f"the pool's part of such a call, two regions: {share:.2%}", file=sys.stderr)
    if options.json:
        json.dump({"bench": "native_pool", "core": reason, "rows": rows}, sys.stdout, indent=2)
        print()
        return
    print(f"{'work':42} {'peer':18} {'peer ns':>12} {'ours ns':>12} {'ratio':>8}   low-high")
    for row in rows:
        print(
            f"{row['work']:42} {row['peer']:18} {row['peer_ns']:12.0f} {row['ours_ns']:12.0f} "
            f"{row['ratio']:7.2f}x   {row['ratio_low']:.2f}-{row['ratio_high']:.2f}"
        )


if __name__ == "__main__":
    main()
