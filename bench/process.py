"""ProcessExecutor against concurrent.futures.ProcessPoolExecutor, interleaved, on two workers.

python bench/process.py [--json] [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from concurrent.futures import Executor, ProcessPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from noob_cloud.executors import ProcessExecutor

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS = 2
ARRAY = np.random.default_rng(0).random(131_072)
"""1 MB."""


def noop(value: object = None) -> object:
    return value


def first(array: np.ndarray) -> float:
    return float(array[0])


def make(size: int) -> np.ndarray:
    return np.ones(size)


def round_trips(executor: Executor, count: int) -> None:
    for _ in range(count):
        executor.submit(noop).result()


def singles(executor: Executor, count: int) -> None:
    for future in [executor.submit(noop, number) for number in range(count)]:
        future.result()


def chunks(executor: Executor, count: int) -> None:
    assert sum(1 for _ in executor.map(noop, range(count), chunksize=100)) == count


def hundreds(executor: Executor, count: int) -> None:
    """100 calls there and back, one batch at a time."""
    for _ in range(count // 100):
        list(executor.map(noop, range(100), chunksize=100))


def many(executor: Executor, count: int) -> None:
    """Ours: a future for each call; the pool has nothing like it and maps in chunks."""
    if not isinstance(executor, ProcessExecutor):
        chunks(executor, count)
        return
    batches = [
        executor.submit_many(noop, [(number,) for number in range(start, start + 100)])
        for start in range(0, count, 100)
    ]
    for batch in batches:
        for future in batch:
            future.result()


def arrays_in(executor: Executor, count: int) -> None:
    for _ in range(count):
        executor.submit(first, ARRAY).result()


def arrays_out(executor: Executor, count: int) -> None:
    for _ in range(count):
        executor.submit(make, ARRAY.size).result()


def arrays_both(executor: Executor, count: int) -> None:
    for _ in range(count):
        executor.submit(noop, ARRAY).result()


WORK: dict[str, tuple[Callable[[Executor, int], None], int, int]] = {
    # what: (work, items for the pool, items for ours)
    "no-op, one round trip": (round_trips, 400, 1200),
    "no-op, batch 1, pipelined": (singles, 2_000, 20_000),
    "no-op, batch 100, one at a time": (hundreds, 20_000, 60_000),
    "no-op, map(chunksize=100)": (chunks, 60_000, 300_000),
    "no-op, submit_many of 100 / pool's map": (many, 60_000, 60_000),
    "1 MB array in, a scalar back": (arrays_in, 60, 200),
    "a scalar in, 1 MB array back": (arrays_out, 60, 200),
    "1 MB array in, 1 MB back": (arrays_both, 60, 200),
}


def seconds_each(work: Callable[[Executor, int], None], executor: Executor, count: int) -> float:
    start = perf_counter()
    work(executor, count)
    return (perf_counter() - start) / count


def measure(rounds: int) -> list[dict[str, object]]:
    rows = []
    with ProcessPoolExecutor(WORKERS) as pool, ProcessExecutor(WORKERS) as ours:
        for executor in (pool, ours):
            for _ in range(3):
                list(executor.map(noop, range(1000), chunksize=100))
                singles(executor, 200)
                arrays_both(executor, 4)
        for name, (work, theirs_count, ours_count) in WORK.items():
            theirs, mine, ratios = [], [], []
            for _ in range(rounds):
                theirs.append(seconds_each(work, pool, theirs_count))
                mine.append(seconds_each(work, ours, ours_count))
                ratios.append(theirs[-1] / mine[-1])
            rows.append(
                {
                    "work": name,
                    "peer_us": statistics.median(theirs) * 1e6,
                    "ours_us": statistics.median(mine) * 1e6,
                    "ratio": statistics.median(ratios),
                    "ratio_low": min(ratios),
                    "ratio_high": max(ratios),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--rounds", type=int, default=7, help="interleaved rounds; the median counts"
    )
    options = parser.parse_args()
    rows = measure(options.rounds)
    if options.json:
        json.dump(
            {"bench": "process", "peer": "ProcessPoolExecutor", "workers": WORKERS, "rows": rows},
            sys.stdout,
            indent=2,
        )
        print()
        return
    print(f"{'work':42} {'pool us':>10} {'ours us':>10} {'ratio':>7}   low-high")
    for row in rows:
        print(
            f"{row['work']:42} {row['peer_us']:10.2f} {row['ours_us']:10.2f} "
            f"{row['ratio']:6.1f}x   {row['ratio_low']:.1f}-{row['ratio_high']:.1f}"
        )


if __name__ == "__main__":
    main()
