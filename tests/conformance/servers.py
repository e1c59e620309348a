"""Real worker servers, coordinators and workers as processes of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from noob_cloud.runner import WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

TUBES = Path(__file__).parents[1] / "tubes"
TOKEN = "a-token-for-tests"
MODULES = ("noob_cloud_testnodes", "noob_cloud_testfunctions", "builtins")
_PATIENCE = 40.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """This process's environment, with the test nodes importable and the token set."""
    path = os.pathsep.join([str(TUBES), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "NOOB_CLOUD_TOKEN": TOKEN, **more}


@contextmanager
def process(
    *arguments: str, log: Path | None = None, **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process with these arguments, ended at the end, and what it said on failure."""
    output = log.open("wb") if log else subprocess.DEVNULL
    started = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )
    try:
        yield started
    finally:
        end(started)
        if log:
            output.close()  # type: ignore[union-attr]


def end(started: subprocess.Popen[bytes]) -> None:
    """Ask it to stop; insist after a while."""
    if started.poll() is None:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
    started.wait()


def wait_for_health(url: str, started: subprocess.Popen[bytes], log: Path | None = None) -> None:
    """Until the server answers; what it printed is in the error if it never does."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if started.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/health", timeout=2).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    said = log.read_text(errors="replace")[-4000:] if log and log.exists() else ""
    raise RuntimeError(f"{url} does not answer (exit status {started.poll()}):\n{said}")


@contextmanager
def worker_server(
    folder: Path, name: str = "w", *, tags: str = "", max_tasks: int = 2, coordinator: str = ""
) -> Iterator[tuple[WorkerConfig, subprocess.Popen[bytes]]]:
    """A worker server: its WorkerConfig and its process."""
    port = free_port()
    log = folder / f"worker-{name}.log"
    arguments = ["-m", "noob_cloud.runner.worker_server", "--host", "127.0.0.1"]
    arguments += ["--port", str(port), "--worker-id", name, "--max-tasks", str(max_tasks)]
    arguments += [part for module in MODULES for part in ("--allow-module", module)]
    if tags:
        arguments += ["--tags", tags]
    if coordinator:
        arguments += ["--coordinator", coordinator]
    config = WorkerConfig(host="127.0.0.1", port=port, tags=tags, token=TOKEN, worker_id=name)
    with process(*arguments, log=log, PLACE=name) as started:
        wait_for_health(config.url, started, log)
        yield config, started


@contextmanager
def coordinator(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A coordinator over a queue file in `folder`: its URL and its process."""
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", folder / "coordinator.log"
    arguments = ["-m", "noob_cloud.cli", "coordinator", "--port", str(port)]
    arguments += ["--queue", str(folder / "queue.db"), *options]
    with process(*arguments, log=log) as started:
        wait_for_health(url, started, log)
        yield url, started


@contextmanager
def queue_worker(queue: Path, name: str = "q") -> Iterator[subprocess.Popen[bytes]]:
    """A process that pulls from a queue file."""
    arguments = ["-m", "noob_cloud.cli", "worker", "--queue", str(queue)]
    with process(*arguments, log=queue.with_name(f"worker-{name}.log"), PLACE=name) as started:
        yield started
