"""The capacity loop against AWS's published ramp: how soon 10,000 workers are there, and the cost.

    python bench/capacity.py [--json] [--workers 10000] [--tasks 100000] [--seconds 60]

A simulation: the decisions and the books are the coordinator's own (`capacity.plan`, `Fleet`), each
second as in its loop; Lambda is a model of what AWS publishes: 1,000 environments at once for each
function and 100 a second thereafter, what is over it is throttled, an environment is there after a
second or two, works for 900 s at most, and ends when it finds nothing for 5 s.
https://docs.aws.amazon.com/lambda/latest/dg/scaling-behavior.html

The ideal beside it knows everything: it starts as AWS's ramp lets it, and pays for work alone.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
from collections import deque
from time import perf_counter

from noob_cloud.coordinator.capacity import Demand, Start, plan
from noob_cloud.coordinator.fleet import Fleet, Seen
from noob_cloud.coordinator.pools import PoolsSettings

BURST, REFILL = 1000.0, 100.0
LIFE, IDLE = 900.0, 5.0


class Function:
    """One Lambda function: its environments, and its rate of new ones."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name = name
        self.rng = rng
        self.tokens = BURST
        self.coming: list[tuple[float, str]] = []
        self.busy: list[tuple[float, str]] = []
        self.idle: deque[tuple[float, str]] = deque()
        self.born: dict[str, float] = {}
        self.number = 0
        self.paid = 0.0
        self.throttled = 0

    def invoke(self, count: int, now: float) -> int:
        taken = min(count, int(self.tokens))
        self.tokens -= taken
        self.throttled += count - taken
        for _ in range(taken):
            self.number += 1
            start = self.rng.lognormvariate(0.3, 0.3)  # about 1.4 s: a cold start
            heapq.heappush(self.coming, (now + start, f"{self.name}/{self.number}"))
        return taken

    def step(self, now: float, ready: int, seconds: float) -> tuple[int, int]:
        """A second passes: return tasks that ended, and that were claimed."""
        self.tokens = min(BURST, self.tokens + REFILL)
        while self.coming and self.coming[0][0] <= now:
            at, name = heapq.heappop(self.coming)
            self.born[name] = at
            self.idle.append((at, name))
        done = 0
        while self.busy and self.busy[0][0] <= now:
            at, name = heapq.heappop(self.busy)
            done += 1
            self.idle.append((at, name))
        claimed = 0
        for _ in range(len(self.idle)):
            at, name = self.idle.popleft()
            life = LIFE - (now - self.born[name])
            if ready and life > seconds:
                ready -= 1
                claimed += 1
                heapq.heappush(self.busy, (max(at, now - 1.0) + seconds, name))
            elif now - at >= IDLE or life <= 0:
                self.paid += now - self.born.pop(name)
            else:
                self.idle.append((at, name))
        return done, claimed

    @property
    def alive(self) -> int:
        return len(self.born)


def simulate(workers: int, tasks: int, seconds: float, functions: int, seed: int = 1) -> dict:
    rng = random.Random(seed)
    pools = [
        {
            "name": f"lambda{i}" if functions > 1 else "lambda",
            "kind": "lambda",
            "sizes": {"1769": "f"},
            "max_workers": workers // functions,
        }
        for i in range(functions)
    ]
    settings = PoolsSettings.model_validate(pools)
    places = settings.places()
    now = 1_000_000.0
    began = now
    fleet = Fleet(places, now, target_seconds=60.0)
    cloud = {place.name: Function(place.name, rng) for place in places}
    ready, full_at, thinking, looks, most = tasks, None, 0.0, 0, 0
    held = dict.fromkeys(cloud, 0)
    done = dict.fromkeys(cloud, 0)
    left = tasks
    ended_at = None
    while left or any(f.alive or f.coming for f in cloud.values()):
        start = perf_counter()
        seen = {
            name: Seen(frozenset(f.born), len(f.busy), held[name], done[name])
            for name, f in cloud.items()
        }
        demands = [Demand(tuple(cloud), ready)] if ready else []
        decision = plan(fleet.observe(seen, demands, now))
        fleet.decided(decision, now)
        accepted = [
            (a, cloud[a.place.name].invoke(a.count, now))
            for a in decision.actions
            if isinstance(a, Start)
        ]
        for action, count in accepted:
            fleet.done(action, count, now)
        took = perf_counter() - start
        thinking, looks, most = thinking + took, looks + 1, max(most, took)
        now += 1.0
        for name, function in cloud.items():
            done[name], claimed = function.step(now, ready, seconds)
            ready -= claimed
            left -= done[name]
            held[name] += claimed - done[name]
        if full_at is None and sum(f.alive for f in cloud.values()) >= 0.99 * workers:
            full_at = now - began
        if not left and ended_at is None:
            ended_at = now - began
    price = places[0].price
    paid = sum(f.paid for f in cloud.values()) * price
    ideal_full = max(0.0, workers / functions - BURST) / REFILL
    return {
        "functions": functions,
        "workers": workers,
        "tasks": tasks,
        "seconds": seconds,
        "full_after": full_at,
        "ideal_full_after": ideal_full,
        "done_after": ended_at,
        "ideal_done_after": ideal_end(workers, tasks, seconds, functions),
        "cost": paid + sum(f.number for f in cloud.values()) * places[0].start_price,
        "ideal_cost": tasks * seconds * price,
        "booked": fleet.spent_today,
        "throttled": sum(f.throttled for f in cloud.values()),
        "starts": sum(f.number for f in cloud.values()),
        "look_ms": 1000 * thinking / looks,
        "slowest_look_ms": 1000 * most,
    }


def ideal_end(workers: int, tasks: int, seconds: float, functions: int) -> float:
    """When the last task ends if workers come as the ramp lets them, at once and to the full."""
    left, now, running = tasks, 0.0, []
    started = 0
    while left or running:
        while running and running[0] <= now:
            heapq.heappop(running)
        allowed = min(workers, int(functions * (BURST + REFILL * now)))
        started = max(started, allowed)
        room = min(left, started - len(running))
        for _ in range(room):
            heapq.heappush(running, now + seconds)
        left -= room
        now += 1.0
    return now - 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--workers", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    given = (options.workers, options.tasks, options.seconds)
    found = [simulate(*given, functions) for functions in (1, 4)]
    if options.json:
        print(json.dumps(found))
        return 0
    print(
        f"{given[0]:,} workers of 1,769 MiB, {given[1]:,} tasks of {given[2]:g} s;"
        " the ideal in brackets"
    )
    print(
        "functions   all there after      last task after          cost             "
        "  throttled  a look"
    )
    for x in found:
        print(
            f"{x['functions']:9}   {x['full_after'] or 0:6.0f} s ({x['ideal_full_after']:4.0f} s)"
            f"    {x['done_after']:6.0f} s ({x['ideal_done_after']:5.0f} s)"
            f"    ${x['cost']:7.2f} (${x['ideal_cost']:7.2f})   {x['throttled']:9,}"
            f"  {x['look_ms']:.1f} ms, at most {x['slowest_look_ms']:.0f}"
        )
        print(
            f"            {x['starts']:,} starts;"
            f" the coordinator's own books say ${x['booked']:.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
