"""The Lambda worker under AWS's runtime client: how long until it takes events, and in and out.

    python bench/lambda_worker.py [--json] [--rounds 5] [--calls 300]

`cold` is from the start of the process until the answer of its first request; `init` is the part
of that until it asks for its first event, the handler imported: Lambda's Init Duration. `handler`
is what the handler itself takes of a warm request that does
nothing, from event to answer; `invoke` is that with the runtime client and its two requests to the
Runtime API. The peer is a function that returns `{}` under the same client, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.latencies import show  # noqa: E402 - after the path
from localdev.code import CodeFolder  # noqa: E402 - after the path
from localdev.functions import Function  # noqa: E402
from localdev.runtime import Invocation  # noqa: E402
from localdev.sandbox import Sandbox  # noqa: E402

REQUEST = {
    "version": "2.0",
    "rawPath": "/health",
    "rawQueryString": "",
    "headers": {"host": "x"},
    "requestContext": {"http": {"method": "GET", "path": "/health", "sourceIp": "192.0.2.1"}},
    "isBase64Encoded": False,
}
TIMED = """
import time
import handler as _own
def handler(event, context):
    start = time.perf_counter()
    answer = _own.handler(event, context)
    return {**answer, "seconds": time.perf_counter() - start}
"""
EMPTY = "def handler(event, context):\n    return {}\n"


def environment(folder: Path, code: Path, name: str) -> Sandbox:
    function = Function(
        name="bench",
        version="1",
        arn="arn:aws:lambda:us-east-1:123456789012:function:bench",
        handler=f"{name}.handler",
        runtime="python3",
        timeout=30,
        memory=1024,
        code="bench",
        environment={"NOOB_CLOUD_TOKEN": "a-token-for-the-bench"},
    )
    installed = [Path(path) for path in sys.path if path.endswith("site-packages")]
    runtime = CodeFolder(folder / "unpacked").runtime()
    return Sandbox(
        function,
        paths=[code, ROOT / "layers" / "runtime", *installed, runtime],
        environment={"PATH": os.environ["PATH"]},
        folder=folder / uuid4().hex,
        log=folder / "log",
    )


async def call(sandbox: Sandbox, event: object) -> tuple[float, dict[str, float]]:
    deadline = time.time() + 30
    invocation = Invocation(str(uuid4()), json.dumps(event).encode(), "arn", deadline)
    start = time.perf_counter()
    answer = await sandbox.invoke(invocation)
    seconds = time.perf_counter() - start
    if answer.error:
        raise SystemExit(answer.payload.decode())
    return seconds, json.loads(answer.payload)


async def measure(folder: Path, rounds: int, calls: int) -> dict[str, list[float]]:
    code = folder / "code"
    code.mkdir()
    # what was waiting when its process was killed is of no interest
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    shutil.copy(ROOT / "functions" / "worker" / "handler.py", code)
    (code / "timed.py").write_text(TIMED)
    (code / "empty.py").write_text(EMPTY)
    found: dict[str, list[float]] = {
        name: []
        for name in (
            "init",
            "init, peer",
            "cold",
            "cold, peer",
            "handler",
            "invoke",
            "invoke, peer",
        )
    }
    for _ in range(rounds):
        made = {name: environment(folder, code, name) for name in ("timed", "empty")}
        for name, sandbox in made.items():
            start = time.perf_counter()
            failed = await sandbox.start()
            if failed is not None:
                raise SystemExit(failed.payload.decode())
            peer = "" if name == "timed" else ", peer"
            found[f"init{peer}"].append(time.perf_counter() - start)
            await call(sandbox, REQUEST if name == "timed" else {})
            found[f"cold{peer}"].append(time.perf_counter() - start)
        for _ in range(calls // rounds):
            seconds, told = await call(made["timed"], REQUEST)
            found["invoke"].append(seconds)
            found["handler"].append(told["seconds"])
            found["invoke, peer"].append((await call(made["empty"], {}))[0])
        for sandbox in made.values():
            await sandbox.kill()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder), options.rounds, options.calls))
    show(found, as_json=options.json, digits=2)


if __name__ == "__main__":
    main()
