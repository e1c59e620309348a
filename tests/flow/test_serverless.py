"""Functions on real processes that die: workers, the coordinator, the program that submitted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import noob_cloud_testfunctions as functions
import noob_cloud_testnodes as nodes
import numpy as np
import pytest
from tests.conformance.servers import (
    TOKEN,
    environment,
    free_port,
    process,
    wait_for_health,
    worker_server,
)

from noob_cloud.deployment import Deployment
from noob_cloud.executors import ServerlessExecutor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def coordinator_at(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A coordinator on this port, over the queue file in `folder`."""
    log = folder / f"coordinator-{time.monotonic_ns()}.log"
    words = ["-m", "noob_cloud.cli", "coordinator", "--port", str(port)]
    with process(*words, "--queue", str(folder / "queue.db"), log=log) as started:
        wait_for_health(f"http://127.0.0.1:{port}", started, log)
        yield started


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    port = free_port()
    with coordinator_at(tmp_path, port):
        yield Deployment.at(f"http://127.0.0.1:{port}", TOKEN)


def test_large_values_in_real_workers(tmp_path: Path, deployment: Deployment) -> None:
    """Arguments and results above 64 KiB go between processes by their cid."""
    large = np.arange(300_000, dtype=float)
    with (
        worker_server(tmp_path, coordinator=deployment.url),
        ServerlessExecutor(deployment) as executor,
    ):
        doubled = executor.submit(functions.double, large)
        again = [executor.submit(functions.add, doubled, n) for n in range(5)]
        for n, future in enumerate(again):
            np.testing.assert_array_equal(future.result(60), 2 * large + n)
        assert doubled.cid is not None


def test_coordinator_restarts(tmp_path: Path) -> None:
    """A coordinator that is killed in the middle loses no call, and none is settled twice."""
    port = free_port()
    found = Deployment.at(f"http://127.0.0.1:{port}", TOKEN)
    with coordinator_at(tmp_path, port) as first:
        worker = worker_server(tmp_path, coordinator=found.url)
        with worker, ServerlessExecutor(found) as executor:
            futures = [executor.submit(functions.nap, 0.005, n) for n in range(400)]
            assert futures[0].result(60) == 0
            first.kill()
            first.wait()
            more = [executor.submit(functions.nap, 0.0, n) for n in range(100)]
            chained = executor.submit(functions.add, futures[-1], more[-1])
            with coordinator_at(tmp_path, port):
                assert [future.result(60) for future in futures] == list(range(400))
                assert [future.result(60) for future in more] == list(range(100))
                assert chained.result(60) == 498
                executor.shutdown()
                assert found.queue().stats().completed == 501


def test_worker_is_killed(tmp_path: Path, deployment: Deployment) -> None:
    """A call whose process is killed runs again, and the calls beside it come home."""
    with (
        worker_server(tmp_path, coordinator=deployment.url),
        ServerlessExecutor(deployment) as executor,
    ):
        marker = tmp_path / "marker"
        marker.write_text(str(os.getpid()))
        futures = [executor.submit(nodes.kill_once, n, str(marker), at=2) for n in range(5)]

        assert [future.result(60) for future in futures] == [2 * n for n in range(5)]
        assert deployment.queue().get_task(futures[2].task_id).attempt == 2


SCRIPT = """
    import os, sys
    import noob_cloud_testfunctions as functions
    from noob_cloud.executors import ServerlessExecutor

    with ServerlessExecutor(sys.argv[1]) as executor:
        futures = [executor.submit(functions.nap, 30, n) for n in range(2000)]
        executor._outbox.flush()
        print("ready", flush=True)
        futures[0].result()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_program_is_interrupted(tmp_path: Path, deployment: Deployment, number: int) -> None:
    """Ctrl-C ends the program at once, and what it submitted is cancelled, running or not."""
    queue = deployment.queue()
    script = tmp_path / "script.py"
    body = textwrap.dedent(SCRIPT)
    if number == signal.SIGTERM:  # programs that end by an exception, as many do on SIGTERM
        body = "import signal\nsignal.signal(signal.SIGTERM, signal.default_int_handler)\n" + body
    script.write_text(body)
    with worker_server(tmp_path, coordinator=deployment.url):
        program = subprocess.Popen(
            [sys.executable, str(script), deployment.url],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        while not queue.list_tasks("running"):
            time.sleep(0.02)
        began = time.monotonic()
        os.kill(program.pid, number)
        _, said = program.communicate(timeout=30)
        assert time.monotonic() - began < 15
        assert "KeyboardInterrupt" in said
        stats = queue.stats()
        assert (stats.live, stats.cancelled) == (0, 2000)
