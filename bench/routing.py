"""Routing: where a task may run, and what asking costs a submit.

    python bench/routing.py [--json] [--rounds 5]

The peer is the coordinator itself without pools: the same submits, in the same run, interleaved.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from noob_cloud.coordinator import CoordinatorSettings, create_app, wire
from noob_cloud.coordinator.routing import Pool, Router
from noob_cloud.identity import Identity

TARGET = 100_000
POOLS = [
    {"name": "lambda", "kind": "lambda", "sizes": {str(x): "f" for x in (1024, 2048, 4096, 8192)}},
    {
        "name": "fargate",
        "kind": "fargate",
        "cluster": "c",
        "service": "s",
        "vcpu": 4,
        "memory": 16384,
    },
    {
        "name": "gpu",
        "kind": "ec2",
        "cluster": "c",
        "service": "g",
        "instance": "g5.xlarge",
        "tags": ["gpu"],
        "accept_untagged": False,
    },
]
CLIENT = Identity("bench", "admin")
BATCH = 100


def router() -> Router:
    sizes = [Pool(f"lambda-{x}", max_seconds=900, max_memory=x) for x in (1024, 2048, 4096, 8192)]
    gpu = Pool("gpu", frozenset({"gpu"}), accepts_untagged=False)
    return Router((*sizes, Pool("fargate", max_memory=16384), gpu))


def terms(distinct: int) -> list[tuple]:
    none, gpu = frozenset(), frozenset({"gpu"})
    return [
        (gpu if i % 5 == 0 else none, none, float(1 + i % 1200), float((i * 37) % 9000))
        for i in range(distinct)
    ]


def tasks_a_second(asked: list[tuple], count: int) -> float:
    route = router().route
    start = perf_counter()
    for i in range(count):
        route(*asked[i % len(asked)])
    return count / (perf_counter() - start)


def new_terms_a_second(count: int) -> float:
    routes, asked = router(), terms(count)
    start = perf_counter()
    for each in asked:
        Router.route(routes, *each)
    return count / (perf_counter() - start)


async def submits(folder: str, pools: object, rounds: int, batches: int) -> list[float]:
    """Return tasks a second of submits in batches, in the process: no network, no client."""
    settings = CoordinatorSettings(db_path=Path(folder) / "q.db", pools=pools, scale_pools=False)
    coordinator = create_app(settings).coordinator
    await coordinator.start()
    found = []
    try:
        for _ in range(rounds):
            bodies = [
                wire.Submit([wire.Group(wire.Options(memory=1 << 30), "n", list(range(BATCH)))])
                for _ in range(batches)
            ]
            start = perf_counter()
            for body in bodies:
                await coordinator.submit(CLIENT, body, small=True)
            found.append(batches * BATCH / (perf_counter() - start))
    finally:
        await coordinator.stop()
    return found


def measure_submits(rounds: int) -> tuple[float, float]:
    without, with_pools = [], []
    for _ in range(rounds):
        for pools, rates in ((None, without), (POOLS, with_pools)):
            with tempfile.TemporaryDirectory() as folder:
                rates.extend(asyncio.run(submits(folder, pools, 1, 300)))
    return statistics.median(without), statistics.median(with_pools)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    known = statistics.median(tasks_a_second(terms(100), 200_000) for _ in range(options.rounds))
    new = statistics.median(new_terms_a_second(4000) for _ in range(options.rounds))
    without, with_pools = measure_submits(options.rounds)
    if options.json:
        print(
            json.dumps(
                {"known": known, "new": new, "submit": without, "submit_with_pools": with_pools}
            )
        )
    else:
        print(f"routed, 100 distinct terms      {known:12,.0f} tasks/s   target {TARGET:,}")
        print(f"routed, every task's terms new  {new:12,.0f} tasks/s   target {TARGET:,}")
        print(
            f"submit in batches of {BATCH}: without pools {without:,.0f} tasks/s, with"
            f" {len(POOLS)} pools {with_pools:,.0f} tasks/s: {with_pools / without:.2f}x"
        )
    return 0 if min(known, with_pools) >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
