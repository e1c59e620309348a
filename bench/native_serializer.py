"""The wire format in the Rust core against pickle 5, msgspec, and the codec in Python.

python bench/native_serializer.py [--rounds N]
"""

from __future__ import annotations

import argparse
import pickle
import random
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from codec import mixed
from noob_cloud.cid import cid
from noob_cloud.codec import dumps, dumps_batch, dumps_parts, loads, loads_parts, twin
from noob_cloud.native import core
from noob_cloud.task import Outcome, StageCall

if TYPE_CHECKING:
    from collections.abc import Callable

Row = tuple[str, int, "dict[str, Callable[[], Any]]"]
BATCH = 1000
"""Values of 100 KB in the row of the parallel batch."""


def rows() -> list[Row]:
    """Return (name, calls in a sample, what to compare); ours first."""
    pack, unpack = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode
    big = mixed()
    frame, pickled, packed = dumps(big), pickle.dumps(big, 5), pack(big)
    small = {"id": 123, "node": "blur", "epoch": 7, "ok": True, "v": [1.5, 2, 3], "w": "worker-12"}
    small["more"] = [1, 2, 300]
    array = np.random.default_rng(1).random(1 << 17)
    call = StageCall("bafkr4i" + "a" * 52, ("a", "b"), (*range(10),), ((1, 2.0),) * 10)
    result = Outcome(ok=True, value=[1.5, "x"], node_id="blur", epoch=3, duration=0.25)
    pairs = [(i, i / 2, "x") for i in range(100)]
    stable = core.FastSerializer(stable=True).dumps
    return [
        (f"encode a mixed dict of {len(frame) / 1e6:.2f} MB", 3, {
            "ours": lambda: dumps(big),
            "pickle 5": lambda: pickle.dumps(big, 5),
            "msgspec": lambda: pack(big),
            "the stable interface alone": lambda: stable(big),
            "Python": lambda: twin.dumps(big),
        }),
        ("decode it", 3, {
            "ours": lambda: loads(frame),
            "pickle 5": lambda: pickle.loads(pickled),
            "msgspec": lambda: unpack(packed),
            "Python": lambda: twin.loads(frame),
        }),
        ("1 MB numpy array, encode + decode, out of band", 50, {
            "ours": lambda: loads_parts(dumps_parts(array), copy=False),
            "pickle 5 in band": lambda: pickle.loads(pickle.dumps(array, 5)),
            "Python": lambda: twin.loads_parts(twin.dumps_parts(array), copy=False),
        }),
        (f"message of {len(dumps(small)) - 24} B, encode + decode", 2000, {
            "ours": lambda: loads(dumps(small)),
            "pickle 5": lambda: pickle.loads(pickle.dumps(small, 5)),
            "msgspec": lambda: unpack(pack(small)),
            "Python": lambda: twin.loads(twin.dumps(small)),
        }),
        ("StageCall of 10 epochs, encode + decode", 500, against_pickle(call)),
        ("Outcome, encode + decode", 500, against_pickle(result)),
        ("100 tuples of 3, encode + decode", 100, against_pickle(pairs)),
        ("set of 100 strings, encode + decode", 50, against_pickle({f"w{i}" for i in range(100)})),
        *scalars(),
    ]  # fmt: skip


def against_pickle(value: Any) -> dict[str, Callable[[], Any]]:
    """Return the round trips of a value."""
    return {
        "ours": lambda: loads(dumps(value)),
        "pickle 5": lambda: pickle.loads(pickle.dumps(value, 5)),
        "Python": lambda: twin.loads(twin.dumps(value)),
    }


def scalars() -> list[Row]:
    """Return a row for a list of each of the standard library's scalars."""
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415 - these rows alone
    from decimal import Decimal  # noqa: PLC0415
    from uuid import UUID  # noqa: PLC0415

    kinds: dict[str, list[Any]] = {
        "datetimes": [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=i) for i in range(100)],
        "UUIDs": [UUID(int=i << 64) for i in range(100)],
        "Decimals": [Decimal(i) / 7 for i in range(100)],
        "integers beyond 64 bits": [1 << (64 + i) for i in range(100)],
    }
    return [(f"100 {name}, encode + decode", 20, against_pickle(v)) for name, v in kinds.items()]


def batches(rounds: int) -> dict[str, float]:
    """Return seconds of a batch of bytes and arrays with their cids, on one thread and on all."""
    rng = random.Random(1)
    numbers = np.random.default_rng(1)
    values = [rng.randbytes(100_000) if i % 2 else numbers.random(12_500) for i in range(BATCH)]
    ways = {
        "all cores": lambda: dumps_batch(values),
        "one thread": lambda: dumps_batch(values, parallel=False),
        "Python": lambda: [(parts, cid(parts)) for parts in map(twin.canonical_parts, values)],
    }
    return measure(ways, 1, rounds)


def measure(contenders: dict[str, Callable[[], Any]], calls: int, rounds: int) -> dict[str, float]:
    """Return seconds a call of each, the median over rounds in which all take turns."""
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            start = time.perf_counter()
            for _ in range(calls):
                work()
            samples[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(times) for name, times in samples.items()}


def main() -> None:
    """Print one line for each row and peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=41)
    rounds = parser.parse_args().rounds
    if core is None:
        sys.exit("The Rust core is not installed: see native/README.md.")
    for name, calls, contenders in rows():
        times = measure(contenders, calls, rounds)
        ours = times.pop("ours")
        print(f"{name}: {ours * 1e6:.2f} us")
        for peer, seconds in times.items():
            print(f"    {seconds / ours:6.2f}x of {peer} ({seconds * 1e6:.2f} us)")
    times = batches(max(rounds // 4, 3))
    ours = times.pop("all cores")
    print(f"batch of {BATCH} x 100 KB with their cids: {ours * 1e3:.1f} ms")
    for peer, seconds in times.items():
        print(f"    {seconds / ours:6.2f}x of {peer} ({seconds * 1e3:.1f} ms)")


if __name__ == "__main__":
    main()
