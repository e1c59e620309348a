"""The task queue beside huey and honker: ratios from interleaved rounds on the same work.

    python bench/task_queue.py [--json] [--rounds 7] [--rows single,batch,...] [--scale 1.0]

One unit of work is enqueue + claim + done with a payload of 100 bytes and a result of one byte, on
one file. A ratio is the median of the ratios of neighbouring measurements. Huey is measured at its
storage (enqueue, dequeue, put_data), without its task objects, honker at its queue.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huey.storage import SqliteStorage

from noob_cloud.queue import TaskQueue

if TYPE_CHECKING:
    import sqlite3

PAYLOAD = b"x" * 100
FOLDER = Path(tempfile.mkdtemp(prefix="bench-queue-", dir=os.environ.get("BENCH_DIR")))
_numbers = iter(range(10**9))

Measured = Callable[[], float]
"""Does its share of work once and returns tasks a second."""


@dataclass(frozen=True)
class Row:
    """One comparison: ours and the peer are made, run once to warm up, then measured in turn."""

    name: str
    what: str
    target: float | None
    """Ratio to reach; for `depth` the ratio to stay under."""
    ours: Callable[[], Measured]
    peer: Callable[[], Measured]


def new_path() -> Path:
    return FOLDER / f"{next(_numbers)}.db"


def rate(count: int, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


# ---- peers


def huey(count: int, synchronous: str = "NORMAL") -> Measured:
    storage = SqliteStorage(filename=str(new_path()))
    storage.conn.execute(f"PRAGMA synchronous = {synchronous}")
    key = iter(range(10**9))

    def work() -> None:
        for _ in range(count):
            storage.enqueue(PAYLOAD)
            storage.dequeue()
            storage.put_data(str(next(key)), b"r")

    return lambda: rate(count, work)


def honker_on(path: Path) -> Any:
    import honker  # noqa: PLC0415 - only its rows need it

    return honker.open(str(path)).queue("bench")


def honker(count: int, batch: int) -> Measured:
    queue = honker_on(new_path())
    text = PAYLOAD.decode()

    def work() -> None:
        for _ in range(count // batch):
            honker_batch(queue, text, batch)

    return lambda: rate(count, work)


def honker_batch(queue: Any, text: str, batch: int) -> None:
    with queue.db.transaction() as tx:
        for _ in range(batch):
            queue.enqueue(text, tx=tx)
    jobs = queue.claim_batch("w", batch)
    queue.ack_batch([job.id for job in jobs if job.payload], "w")


# ---- ours


def single(count: int, **settings: Any) -> Measured:
    queue = TaskQueue(db_path=new_path(), **settings)

    def work() -> None:
        for epoch in range(count):
            queue.submit_task("node", epoch, data=PAYLOAD)
            task = queue.claim_task("w")
            assert task is not None
            assert task.payload
            queue.complete_task(task, b"r")

    return lambda: rate(count, work)


def our_batch(
    queue: TaskQueue, batch: int, terms: list[dict[str, Any]], tags: tuple[str, ...]
) -> None:
    n = len(terms)
    queue.submit_many(
        [
            {"node_id": f"n{e % 4}", "epoch": e, "data": PAYLOAD, **terms[e % n]}
            for e in range(batch)
        ]
    )
    tasks = queue.claim_many("w", batch, tags)
    queue.complete_many([(task, b"r") for task in tasks if task.payload])


def batches(
    count: int,
    batch: int = 100,
    terms: list[dict[str, Any]] | None = None,
    tags: tuple[str, ...] = (),
    prepare: Callable[[TaskQueue], None] | None = None,
    **settings: Any,
) -> Measured:
    queue = TaskQueue(db_path=new_path(), **settings)
    if prepare is not None:
        prepare(queue)

    def work() -> None:
        for _ in range(count // batch):
            our_batch(queue, batch, terms or [{}], tags)

    return lambda: rate(count, work)


def chunk(count: int, batch: int = 100, **settings: Any) -> Measured:
    """A map: one node, many epochs, submitted, claimed and settled a chunk at a time."""
    queue = TaskQueue(db_path=new_path(), **settings)

    def work() -> None:
        for _ in range(count // batch):
            queue.submit_many(
                [{"node_id": "node", "epoch": e, "data": PAYLOAD} for e in range(batch)]
            )
            tasks = queue.claim_many("w", batch)
            queue.complete_many([(task, b"r") for task in tasks if task.payload])

    return lambda: rate(count, work)


# ---- two processes on one file


def _process(kind: str, path: Path, count: int, batch: int, barrier: Any) -> None:
    if kind == "ours":
        queue = TaskQueue(db_path=path)
        one = lambda: our_batch(queue, batch, [{}], ())  # noqa: E731 - chosen below
    elif kind == "honker":
        theirs = honker_on(path)
        one = lambda: honker_batch(theirs, PAYLOAD.decode(), batch)  # noqa: E731
    else:
        storage = SqliteStorage(filename=str(path), timeout=60)
        storage.conn.execute("PRAGMA synchronous = NORMAL")

        def one() -> None:
            for _ in range(batch):
                storage.enqueue(PAYLOAD)
                storage.dequeue()
                storage.put_data(f"{os.getpid()}{next(_numbers)}", b"r")

    one()
    barrier.wait()
    for _ in range(count // batch):
        one()
    barrier.wait()


def two_processes(kind: str, count: int, batch: int = 100) -> Measured:
    def measure() -> float:
        path = new_path()
        if kind == "ours":
            TaskQueue(db_path=path).close()
        elif kind == "honker":
            honker_on(path)
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(3)
        arguments = (kind, path, count // 2, batch, barrier)
        children = [context.Process(target=_process, args=arguments) for _ in range(2)]
        for child in children:
            child.start()
        barrier.wait(60)
        start = time.perf_counter()
        barrier.wait(60)
        seconds = time.perf_counter() - start
        for child in children:
            child.join()
        return count / seconds

    return measure


# ---- 64 threads, FULL


def threads(per_thread: int, *, grouped: bool, number: int = 64) -> Measured:
    """Operations a second: each a submit by one of 64 threads, on disk when it returns."""
    path = new_path()
    shared = TaskQueue(db_path=path, synchronous="FULL")
    own = [shared] * number
    if not grouped:  # a queue, that is a connection, for each thread: one commit each
        own = [TaskQueue(db_path=path, synchronous="FULL") for _ in range(number)]

    def submit(queue: TaskQueue) -> None:
        for epoch in range(per_thread):
            queue.submit_task("node", epoch, data=PAYLOAD)

    def work() -> None:
        running = [threading.Thread(target=submit, args=(queue,)) for queue in own]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    return lambda: rate(number * per_thread, work)


# ---- depth and memory


def fill(queue: TaskQueue, depth: int) -> None:
    """Ready tasks of one row each, as `submit_task` writes them."""
    queue.submit_task("node", 0, data=PAYLOAD)
    connection: sqlite3.Connection = queue._connection  # noqa: SLF001 - a million calls take long
    last, *row = connection.execute("SELECT * FROM task ORDER BY last DESC LIMIT 1").fetchone()
    key, *ready = connection.execute("SELECT * FROM ready ORDER BY key DESC LIMIT 1").fetchone()
    with connection:
        connection.execute("BEGIN")
        marks = ", ".join("?" * (len(row) + 1))
        connection.executemany(
            f"INSERT INTO task VALUES ({marks})", ((last + i, *row) for i in range(1, depth))
        )
        connection.executemany(
            "INSERT INTO ready VALUES (?, ?, ?, ?, ?)", ((key + i, *ready) for i in range(1, depth))
        )
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def claims(depth: int, count: int) -> Measured:
    queue = TaskQueue(db_path=new_path())
    if depth:
        fill(queue, depth)

    def work() -> float:
        """Claims only; the submits that keep an empty queue's worker busy are not counted."""
        seconds = 0.0
        for epoch in range(count):
            if not depth:
                queue.submit_task("node", epoch, data=PAYLOAD)
            start = time.perf_counter()
            task = queue.claim_task("w")
            seconds += time.perf_counter() - start
            assert task is not None
            queue.complete_task(task, b"r")
        return count / seconds

    return work


MEMORY = """
import resource, sys
from noob_cloud.queue import TaskQueue
queue = TaskQueue(db_path=sys.argv[1])
for low in range(0, 1_000_000, 1000):
    queue.submit_many(
        [{"node_id": "node", "epoch": e, "data": b"x" * 100} for e in range(low, low + 1000)]
    )
for _ in range(300):
    queue.complete_many([(t, None) for t in queue.claim_many("w", 100)])
print(queue.stats().ready, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def memory() -> dict[str, float]:
    out = subprocess.run(
        [sys.executable, "-c", MEMORY, str(new_path())], capture_output=True, text=True, check=True
    )
    ready, kib = map(int, out.stdout.split())
    return {"ready": ready, "peak_rss_mb": kib / 1000}


# ---- rows


def compare(ours: Measured, peer: Measured, rounds: int) -> dict[str, float]:
    ours()
    peer()
    pairs = [(ours(), peer()) for _ in range(rounds)]
    return {
        "ours_per_s": statistics.median(x for x, _ in pairs),
        "peer_per_s": statistics.median(x for _, x in pairs),
        "ratio": statistics.median(x / y for x, y in pairs),
    }


MIXED: list[dict[str, Any]] = [
    {"priority": p, "affinity_tags": tags} for p in range(4) for tags in ((), ("gpu",))
]


def limited(queue: TaskQueue) -> None:
    queue.set_limit("user", concurrency=1000)


def entries(**more: Any) -> list[dict[str, Any]]:
    return [{"node_id": "n", "epoch": e, "data": PAYLOAD, **more} for e in range(100)]


def in_batches(count: int, turn: Callable[[TaskQueue], None]) -> Measured:
    queue = TaskQueue(db_path=new_path())

    def work() -> None:
        for _ in range(count // 100):
            turn(queue)

    return lambda: rate(count, work)


def with_unique_keys(queue: TaskQueue) -> None:
    queue.submit_many([{**x, "idempotency_key": f"{next(_numbers)}"} for x in entries()])
    queue.complete_many([(t, b"r") for t in queue.claim_many("w", 100) if t.payload])


def with_heartbeats(queue: TaskQueue) -> None:
    queue.submit_many(entries())
    tasks = queue.claim_many("w", 100)
    queue.heartbeat(tasks)
    queue.complete_many([(t, b"r") for t in tasks if t.payload])


def joined() -> Callable[[TaskQueue], None]:
    done: list[Any] = []

    def turn(queue: TaskQueue) -> None:
        queue.submit_many(entries())
        _, tasks = queue.complete_and_claim(done, "w", 100)
        done[:] = [(t, b"r") for t in tasks if t.payload]

    return turn


def rows(scale: float) -> dict[str, Row]:
    def n(count: int) -> int:
        return max(200, int(count * scale) // 200 * 200)

    few, many = n(600), n(10_000)

    def base() -> Measured:
        return batches(many)

    def feature(*terms: dict[str, Any], **settings: Any) -> Callable[[], Measured]:
        return lambda: batches(many, terms=list(terms), **settings)

    def peer() -> Measured:
        return huey(few)

    def pair(kind: str, count: int) -> Callable[[], Measured]:
        return lambda: two_processes(kind, n(count))

    found = [
        Row("single", "one at a time, NORMAL / huey", 1.4, lambda: single(few), peer),
        Row("exclusive", "the same, exclusive=True / huey", None,
            lambda: single(few, exclusive=True), peer),
        Row("batch", "batch 100, NORMAL / huey", 15, base, peer),
        Row("batch-honker", "batch 100, NORMAL / honker", 5, base, lambda: honker(n(2_000), 100)),
        Row("two", "batch 100, 2 processes / huey", 15, pair("ours", 20_000), pair("huey", 1_200)),
        Row("two-honker", "batch 100, 2 processes / honker", 5,
            pair("ours", 20_000), pair("honker", 4_000)),
        Row("chunk", "homogeneous chunk of a map, 256 / huey", 40,
            lambda: chunk(25_600, 256), peer),
        Row("chunk-100", "homogeneous chunk of a map, 100 / huey", None,
            lambda: chunk(many), peer),
        Row("full", "batch 100, FULL / huey FULL", 60,
            lambda: batches(n(4_000), synchronous="FULL"), lambda: huey(200, "FULL")),
        Row("threads", "64 threads, submits, FULL / one commit each", 25,
            lambda: threads(60, grouped=True), lambda: threads(3, grouped=False)),
        Row("depth", "claims at none / at 1,000,000 ready", 1.3,
            lambda: claims(0, few), lambda: claims(1_000_000, few)),
        Row("mixed", "4 priorities x 2 tag sets / plain", None,
            feature(*MIXED, tags=("gpu",)), base),
        Row("run", "with a run_id / plain", None, feature({"run_id": "r"}), base),
        Row("limit", "with a limited key / plain", None,
            feature({"key": "user"}, prepare=limited), base),
        Row("unique", "with idempotency keys / plain", None,
            lambda: in_batches(many, with_unique_keys), base),
        Row("deadline", "with a queue_timeout / plain", None,
            feature({"queue_timeout": 60.0}), base),
        Row("heartbeat", "with a heartbeat / plain", None,
            lambda: in_batches(many, with_heartbeats), base),
        Row("joined", "complete_and_claim / plain", None,
            lambda: in_batches(many, joined()), base),
    ]  # fmt: skip
    return {row.name: row for row in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--rows", default="")
    options = parser.parse_args()
    wanted = set(filter(None, options.rows.split(",")))
    results: dict[str, Any] = {}
    for name, row in rows(options.scale).items():
        if wanted and name not in wanted:
            continue
        rounds = min(options.rounds, 3) if name in ("two", "two-honker") else options.rounds
        result = compare(row.ours(), row.peer(), rounds)
        results[name] = {"what": row.what, "target": row.target, **result}
        if not options.json:
            reach = "" if row.target is None else f"  (target {row.target:g})"
            print(
                f"{row.what:46s} {result['ours_per_s']:10,.0f}/s {result['peer_per_s']:10,.0f}/s"
                f"  {result['ratio']:6.2f}x{reach}",
                flush=True,
            )
    if not wanted or "memory" in wanted:
        results["memory"] = memory()
        if not options.json:
            used = results["memory"]
            print(f"peak memory with {used['ready']:,} ready tasks: {used['peak_rss_mb']:.0f} MB")
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    try:
        main()
    finally:
        for leftover in FOLDER.glob("*"):
            leftover.unlink()
        FOLDER.rmdir()
