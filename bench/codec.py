"""The wire format against pickle 5 and msgspec: ratios of medians, interleaved in one run.

python bench/codec.py [--rounds N]
"""

from __future__ import annotations

import argparse
import pickle
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from noob_cloud.codec import dumps, dumps_parts, loads, loads_parts
from noob_cloud.task import StageCall

if TYPE_CHECKING:
    from collections.abc import Callable

Row = tuple[str, int, "dict[str, Callable[[], Any]]"]


def mixed(seed: int = 1) -> dict[str, Any]:
    """Return about 1 MB of what messages hold: numbers, records, strings, bytes."""
    rng = random.Random(seed)
    return {
        "floats": [rng.random() for _ in range(20_000)],
        "ints": [rng.randrange(1 << 40) for _ in range(20_000)],
        "records": [
            {
                "id": i,
                "name": f"node-{i}",
                "ok": i % 2 == 0,
                "score": rng.random(),
                "tags": ["a", "b"],
            }
            for i in range(5_000)
        ],
        "strings": [f"some string {i} with text" for i in range(6_000)],
        "blob": rng.randbytes(200_000),
    }


def rows() -> list[Row]:
    """Return (name, calls in a sample, what to compare); ours first."""
    pack, unpack = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode
    big = mixed()
    frame, pickled, packed = dumps(big), pickle.dumps(big, 5), pack(big)
    small = {"id": 123, "node": "blur", "epoch": 7, "ok": True, "v": [1.5, 2, 3], "w": "worker-1"}
    small["more"] = [1, 2, 3]
    array = np.random.default_rng(1).random(1 << 17)
    call = StageCall("bafkr4i" + "a" * 52, ("a", "b"), (*range(10),), ((1, 2.0),) * 10)
    pairs = [(i, i / 2, "x") for i in range(100)]
    return [
        (f"encode a mixed dict of {len(frame) / 1e6:.2f} MB", 3, {
            "ours": lambda: dumps(big),
            "pickle 5": lambda: pickle.dumps(big, 5),
            "msgspec": lambda: pack(big),
        }),
        ("decode it", 3, {
            "ours": lambda: loads(frame),
            "pickle 5": lambda: pickle.loads(pickled),
            "msgspec": lambda: unpack(packed),
        }),
        ("1 MB numpy array, encode + decode, out of band", 50, {
            "ours": lambda: loads_parts(dumps_parts(array), copy=False),
            "pickle 5 in band": lambda: pickle.loads(pickle.dumps(array, 5)),
            "pickle 5 out of band": lambda: out_of_band(array),
        }),
        ("the same as one frame of bytes, read in place", 20, {
            "ours": lambda: loads(dumps(array), copy=False),
            "pickle 5 in band": lambda: pickle.loads(pickle.dumps(array, 5)),
        }),
        (f"message of {len(dumps(small)) - 24} B, encode + decode", 2000, {
            "ours": lambda: loads(dumps(small)),
            "pickle 5": lambda: pickle.loads(pickle.dumps(small, 5)),
            "msgspec": lambda: unpack(pack(small)),
        }),
        ("StageCall of 10 epochs, encode + decode", 500, {
            "ours": lambda: loads(dumps(call)),
            "pickle 5": lambda: pickle.loads(pickle.dumps(call, 5)),
        }),
        ("100 tuples of 3, encode + decode", 100, {
            "ours": lambda: loads(dumps(pairs)),
            "pickle 5": lambda: pickle.loads(pickle.dumps(pairs, 5)),
        }),
    ]  # fmt: skip


def out_of_band(value: Any) -> Any:
    """Pickle 5 as it is fastest: buffers handed over, nothing copied."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, 5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=buffers)


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
    for name, calls, contenders in rows():
        times = measure(contenders, calls, rounds)
        ours = times.pop("ours")
        print(f"{name}: {ours * 1e6:.2f} us")
        for peer, seconds in times.items():
            print(f"    {seconds / ours:6.2f}x of {peer} ({seconds * 1e6:.2f} us)")


if __name__ == "__main__":
    main()
