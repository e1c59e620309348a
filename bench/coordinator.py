"""Tasks per second through a coordinator over HTTP, beside no-op tasks of its peers.

    python bench/coordinator.py [--json] [--seconds 4] [--rounds 3] [--clients 2]

Each client process submits a batch of 100, claims a batch and settles it (the claim of the next
batch rides on it), over one kept-alive connection. Rounds of ours and of the peers alternate.
"""

# ruff: noqa: PLC0415 - a peer that is not installed is left out

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOKEN = "bench-token-0123456789"
PAYLOAD = b"x" * 100


# ---- ours


def start(folder: Path, **settings: str) -> tuple[subprocess.Popen[bytes], str]:
    env = {**os.environ, "NOOB_CLOUD_TOKEN": TOKEN, "NOOB_CLOUD_PORT": "0"}
    env |= {"NOOB_CLOUD_DB_PATH": str(folder / "queue.db"), **settings}
    process = subprocess.Popen(
        [sys.executable, "-m", "noob_cloud.coordinator"], env=env, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    url = process.stdout.readline().decode().split()[-1]
    return process, url


def client(url: str, number: int, batch: int, seconds: float, ready, go, results) -> None:
    """Submit, claim and settle; send back (tasks, latency of each request, processor time).

    It speaks frames itself, so that the coordinator is measured more than its client.
    """
    from noob_cloud.codec.limits import DEFAULT
    from noob_cloud.coordinator import wire
    from noob_cloud.coordinator.transport import FRAMES, Transport

    transport = Transport(url, token=TOKEN)
    group = wire.Group(wire.Options(), "noop", list(range(batch)), [PAYLOAD] * batch)
    ask = wire.Ask(f"w{number}", batch)

    def post(path: str, body, kind):
        at = clock()
        reply = transport.send("POST", path, wire.to_frame(body), headers=FRAMES)
        took.append(clock() - at)
        return wire.from_frame(kind, reply.body, DEFAULT)

    clock = time.perf_counter
    took: list[float] = []
    transport.send("GET", "/stats")
    ready.release()
    go.wait()
    count = sent = 0
    cpu_before = time.process_time()
    done: list = []
    end = clock() + seconds
    while clock() < end:
        sent += 1
        post("/tasks", wire.Submit([group], f"{number}-{sent}"), wire.Submitted)
        settled = post("/outcomes", wire.Outcomes(ask.worker_id, done, claim=ask), wire.Settled)
        assert not settled.refused
        count += sum(len(each.ids) for each in done)
        done = [wire.Done(lot.token, lot.ids) for lot in settled.lots]
    post("/outcomes", wire.Outcomes(ask.worker_id, done), wire.Settled)
    results.put((count, took, time.process_time() - cpu_before))


def ours(batch: int, clients: int, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        server, url = start(Path(folder))
        try:
            context = mp.get_context("spawn")
            ready, go, results = context.Semaphore(0), context.Event(), context.Queue()
            started = [
                context.Process(target=client, args=(url, i, batch, seconds, ready, go, results))
                for i in range(clients)
            ]
            for process in started:
                process.start()
            for _ in started:
                ready.acquire()
            before = cpu(server.pid)
            go.set()
            found = [results.get() for _ in started]
            spent = cpu(server.pid) - before
            for process in started:
                process.join()
        finally:
            server.terminate()
            server.wait()
            server.stdout.close()
    took = sorted(t for _, each, _ in found for t in each)
    count = sum(each[0] for each in found)
    return {
        "tasks_per_second": count / seconds,
        "server_us_per_task": 1e6 * spent / count,
        "client_us_per_task": 1e6 * sum(each[2] for each in found) / count,
        "p50_ms": 1000 * statistics.median(took),
        "p99_ms": 1000 * took[int(len(took) * 0.99)],
    }


def cpu(pid: int) -> float:
    """Processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(count: int = 1_000_000) -> dict[str, float]:
    """Resident memory of a coordinator with so many queued tasks."""
    from noob_cloud.queue.remote import RemoteQueue

    with tempfile.TemporaryDirectory() as folder:
        server, url = start(Path(folder))
        try:
            queue = RemoteQueue(url, TOKEN)
            before = resident(server.pid)
            begun = time.perf_counter()
            for first in range(0, count, 5000):
                queue.submit_many(
                    [{"node_id": "noop", "epoch": first + i, "data": PAYLOAD} for i in range(5000)]
                )
            seconds = time.perf_counter() - begun
            assert queue.stats().ready == count
            at = time.perf_counter()
            queue.claim_many("w", 100)
            claim = time.perf_counter() - at
            return {
                "tasks": count,
                "rss_mb": resident(server.pid),
                "rss_empty_mb": before,
                "submit_seconds": seconds,
                "claim_100_ms": 1000 * claim,
            }
        finally:
            server.terminate()
            server.wait()
            server.stdout.close()


def resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


# ---- peers: no-op tasks per second, submitted all at once


def celery(seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "noop_app.py").write_text(
            "from celery import Celery\n"
            f"app = Celery('noop', broker='sqla+sqlite:///{folder}/b.db')\n"
            "app.conf.task_ignore_result = True\n"
            "import itertools; count = itertools.count(1)\n"
            "@app.task\ndef noop(i, x):\n"
            f"    open('{folder}/n', 'w').write(str(next(count)))\n"
        )
        env = {**os.environ, "PYTHONPATH": folder}
        code = "from noop_app import noop\nfor i in range(400): noop.delay(i, 'x' * 100)"
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], env=env, check=True, cwd=folder)
        submit = time.perf_counter() - begun
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "noop_app", "worker", "-P", "solo"],
            env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            done = Path(folder, "n")
            deadline = time.perf_counter() + 20 + seconds
            while not done.exists() and time.perf_counter() < deadline:
                time.sleep(0.01)
            begun, first = time.perf_counter(), _number(done)
            while _number(done) < 400 and time.perf_counter() - begun < seconds:
                time.sleep(0.01)
            run = (time.perf_counter() - begun) / max(1, _number(done) - first)
            return 1 / (submit / 400 + run)
        finally:
            worker.terminate()
            worker.wait()


def _number(path: Path) -> int:
    try:
        return int(path.read_text() or 0)
    except (FileNotFoundError, ValueError):
        return 0


def _noop(_number: int, _payload: bytes) -> None:
    return None


def dask(seconds: float) -> float:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as connected,
    ):
        connected.gather(connected.map(_noop, range(50), [PAYLOAD] * 50, pure=False))
        count, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            connected.gather(connected.map(_noop, range(500), [PAYLOAD] * 500, pure=False))
            count += 500
        return count / (time.perf_counter() - begun)


def ray(seconds: float) -> float:
    import ray as library

    library.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        noop = library.remote(_noop)
        library.get([noop.remote(i, PAYLOAD) for i in range(50)])
        count, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            library.get([noop.remote(i, PAYLOAD) for i in range(500)])
            count += 500
        return count / (time.perf_counter() - begun)
    finally:
        library.shutdown()


PEERS = {"celery": celery, "dask": dask, "ray": ray}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--peers", default="celery,dask,ray")
    parser.add_argument("--no-memory", action="store_true")
    options = parser.parse_args()
    rounds: dict[str, list[float]] = {"noob-cloud": []}
    detail: list[dict[str, float]] = []
    for _ in range(options.rounds):
        detail.append(ours(options.batch, options.clients, options.seconds))
        rounds["noob-cloud"].append(detail[-1]["tasks_per_second"])
        for name in filter(None, options.peers.split(",")):
            try:
                rounds.setdefault(name, []).append(PEERS[name](options.seconds))
            except ImportError as error:
                print(f"{name} is not installed: {error}", file=sys.stderr)
    middle = {name: statistics.median(x) for name, x in rounds.items() if x}
    found = {
        "work": f"submit, claim and settle in batches of {options.batch} over HTTP, NORMAL",
        "tasks_per_second": {name: round(x) for name, x in middle.items()},
        "ratio": {
            name: round(middle["noob-cloud"] / x, 1)
            for name, x in middle.items()
            if name != "noob-cloud"
        },
        "p50_ms": round(statistics.median(x["p50_ms"] for x in detail), 2),
        "p99_ms": round(statistics.median(x["p99_ms"] for x in detail), 2),
        "server_us_per_task": round(statistics.median(x["server_us_per_task"] for x in detail), 2),
        "client_us_per_task": round(statistics.median(x["client_us_per_task"] for x in detail), 2),
    }
    if not options.no_memory:
        found["memory"] = {name: round(x, 1) for name, x in memory().items()}
    if options.json:
        print(json.dumps(found))
    else:
        for name, x in found.items():
            print(f"{name}: {x}")


if __name__ == "__main__":
    main()
