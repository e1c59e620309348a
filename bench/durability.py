"""Acknowledged submits of a coordinator whose commits are copied to S3, beside the bare barrier.

    python bench/durability.py [--json] [--seconds 4] [--rounds 3] [--clients 32]

S3 is a real one on this machine: `versitygw` on the PATH (a server on a folder), or else moto's.
A barrier alone is an insert into a SQLite file and Litestream's answer that it is in S3; rounds of
it, of acknowledged and of local submits alternate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "bench-token-0123456789"
BATCH = 100
PAYLOAD = b"x" * 100
KEYS = {"AWS_ACCESS_KEY_ID": "bench-key", "AWS_SECRET_ACCESS_KEY": "bench-secret"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def s3(folder: Path) -> Iterator[tuple[str, str]]:
    """Start an S3; give its name and the URL of a bucket in it."""
    port = free_port()
    program = shutil.which("versitygw")
    if program is None:
        words = [sys.executable, "-m", "moto.server", "-p", str(port)]
    else:
        (folder / "s3").mkdir()
        words = [program, "--access", KEYS["AWS_ACCESS_KEY_ID"], "--port", f"127.0.0.1:{port}"]
        words += ["--secret", KEYS["AWS_SECRET_ACCESS_KEY"], "posix", str(folder / "s3")]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield ("moto" if program is None else "versitygw"), make_bucket(port)
    finally:
        server.terminate()
        server.wait()


def make_bucket(port: int) -> str:
    import boto3  # noqa: PLC0415 - loaded when the keys are set
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - see above

    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1")
    for _ in range(100):
        try:
            client.create_bucket(Bucket="bench")
        except BotoCoreError:
            time.sleep(0.1)
        else:
            break
    return f"s3://bench/{{}}?endpoint_url=http://127.0.0.1:{port}"


@contextmanager
def coordinator(folder: Path, replica: str, ack: str) -> Iterator[str]:
    env = {**os.environ, "NOOB_CLOUD_TOKEN": TOKEN, "NOOB_CLOUD_PORT": "0"}
    env |= {"NOOB_CLOUD_DB_PATH": str(folder / f"{ack}.db"), "NOOB_CLOUD_ACK": ack}
    env |= {"NOOB_CLOUD_REPLICA": replica}
    process = subprocess.Popen(
        [sys.executable, "-m", "noob_cloud.coordinator"], env=env, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().decode().split()[-1]
    finally:
        process.terminate()
        process.wait()


def submit(url: str, number: int, size: int, end: float) -> tuple[int, list[float]]:
    """Submit batches until `end`; give how many tasks, and the seconds of each request."""
    from noob_cloud.codec.limits import DEFAULT  # noqa: PLC0415 - after the fork
    from noob_cloud.coordinator import wire  # noqa: PLC0415 - see above
    from noob_cloud.coordinator.transport import FRAMES, Transport  # noqa: PLC0415 - see above

    transport = Transport(url, token=TOKEN)
    group = wire.Group(wire.Options(), "noop", list(range(size)), [PAYLOAD] * size)
    took: list[float] = []
    count = 0
    while (at := time.time()) < end:
        body = wire.to_frame(wire.Submit([group], f"{number}-{at}"))
        reply = transport.send("POST", "/tasks", body, headers=FRAMES)
        count += len(wire.from_frame(wire.Submitted, reply.body, DEFAULT).ids)
        took.append(time.time() - at)
    return count, took


LOAD = """
import sys, json
from concurrent.futures import ThreadPoolExecutor
sys.path.insert(0, {here!r})
import durability
url, first, threads, size, end = sys.argv[1], *map(float, sys.argv[2:])
with ThreadPoolExecutor(int(threads)) as pool:
    found = list(pool.map(lambda n: durability.submit(url, n, int(size), end),
                          range(int(first), int(first + threads))))
print(json.dumps([sum(n for n, _ in found), [t for _, took in found for t in took]]))
"""


def load(url: str, clients: int, size: int, seconds: float) -> tuple[float, list[float]]:
    """Submit from several clients at once; give tasks/s and the seconds of the requests, sorted."""
    processes = min(4, clients)
    threads = clients // processes
    end = time.time() + seconds + 1.0
    text = LOAD.format(here=str(Path(__file__).parent))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", text, url, str(i * threads), str(threads), str(size), str(end)],
            stdout=subprocess.PIPE,
        )
        for i in range(processes)
    ]
    counts, took = 0, []
    for process in running:
        said, _ = process.communicate()
        count, times = json.loads(said)
        counts += count
        took += times
    return counts / seconds, sorted(took)


def barriers(folder: Path, replica: str, number: int, seconds: float) -> list[float]:
    """Seconds from an insert until Litestream says that it is in S3, one after the other."""
    from noob_cloud.coordinator.durability import Litestream, Place  # noqa: PLC0415 - needs keys

    path = folder / f"bare-{number}" / "bare.db"
    path.parent.mkdir()
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE bare (value)")
    copying = Litestream(path, Place.parse(replica), number)
    copying.start()
    took: list[float] = []

    async def measure() -> None:
        await copying.sync(timeout=10)
        end = time.time() + seconds
        while (at := time.time()) < end:
            database.execute("INSERT INTO bare VALUES (?)", (PAYLOAD,))
            await copying.sync(timeout=10)
            took.append(time.time() - at)

    asyncio.run(measure())
    copying.stop()
    return sorted(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=32)
    given = parser.parse_args()
    os.environ.update(KEYS, AWS_DEFAULT_REGION="us-east-1")
    rows: dict[str, list[float]] = {}
    folder = Path(tempfile.mkdtemp(prefix="bench-durability-"))
    with s3(folder) as (name, url):
        for number in range(1, given.rounds + 1):
            for ack in ("replicated", "local"):
                with coordinator(folder, url.format(f"{ack}{number}"), ack) as at:
                    speed, took = load(at, given.clients, BATCH, given.seconds)
                    rows.setdefault(f"{ack}, tasks/s", []).append(speed)
                    rows.setdefault(f"{ack}, p50 ms", []).append(took[len(took) // 2] * 1e3)
                    rows.setdefault(f"{ack}, p99 ms", []).append(took[len(took) * 99 // 100] * 1e3)
                    _, lone = load(at, 1, 1, given.seconds)
                    rows.setdefault(f"{ack} lone, p50 ms", []).append(lone[len(lone) // 2] * 1e3)
            bare = barriers(folder, url.format("bare"), number, given.seconds)
            rows.setdefault("barrier alone, p50 ms", []).append(bare[len(bare) // 2] * 1e3)
    shutil.rmtree(folder)
    found = {key: statistics.median(values) for key, values in rows.items()}
    found["lone submit / barrier"] = (
        found["replicated lone, p50 ms"] / found["barrier alone, p50 ms"]
    )
    if given.json:
        print(json.dumps({"s3": name, **found}))
        return
    print(f"S3: {name}; {given.clients} clients, batches of {BATCH}")
    for key, value in found.items():
        print(f"{key:32} {value:12,.2f}")


if __name__ == "__main__":
    main()
