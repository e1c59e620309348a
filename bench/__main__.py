"""Run every measurement, one after the other, each beside its named peers: `make bench`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from time import perf_counter

HERE = Path(__file__).parent
NATIVE = ("native_serializer", "native_scheduler", "native_event_store", "native_pool")
PARTS = (
    "engine",
    "task_queue",
    "process",
    "codec",
    "coordinator",
    "durability",
    "routing",
    "capacity",
    "lambda_worker",
    "events",
    "chain",
    "chain_listener",
    *NATIVE,
)


def main() -> int:
    """Run the parts named on the command line, or all; return how many failed."""
    failed = 0
    for part in sys.argv[1:] or PARTS:
        print(f"\n== {part}: python bench/{part}.py", flush=True)
        start = perf_counter()
        code = subprocess.run([sys.executable, str(HERE / f"{part}.py")], check=False).returncode
        failed += code != 0
        print(f"   {perf_counter() - start:.0f} s, exit code {code}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
