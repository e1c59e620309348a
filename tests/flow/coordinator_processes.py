"""Coordinators and workers as processes, for the tests beside this file."""

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

from noob_cloud.coordinator.client import CoordinatorClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TUBES = Path(__file__).parents[1] / "tubes"
OWNER = "owner-token-0123456789"
TOKENS = """
[[tokens]]
token = "client-token-0123456789"
name = "ci"
role = "submit"

[[tokens]]
token = "worker-token-0123456789"
name = "cpu-box"
role = "work"

[[tokens]]
token = "gpu-token-0123456789"
name = "gpu-box"
role = "work"
tags = ["gpu"]

[[tokens]]
token = "owner-token-0123456789"
name = "root"
role = "admin"
tags = ["*"]
"""


class Coordinator:
    """A coordinator over one file, which can be killed and started again at the same port."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        tokens = folder / "tokens.toml"
        tokens.write_text(TOKENS)
        self._settings = {
            "PORT": self.port,
            "DB_PATH": folder / "queue.db",
            "TOKEN_FILE": tokens,
            **{name.upper(): value for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("NOOB_CLOUD_")}
        env |= {f"NOOB_CLOUD_{name}": str(value) for name, value in self._settings.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "noob_cloud.coordinator"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "coordinator.log").open("ab"),
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        assert self.url in line, (self.folder / "coordinator.log").read_text()[-3000:]

    def kill(self) -> None:
        """Kill it as the kernel would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self) -> int:
        """Ask it to end; return its status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(20)
        self.process.stdout.close()
        return status

    def client(self, token: str = OWNER, patience: float = 30.0) -> CoordinatorClient:
        """A client with one of the tokens."""
        return CoordinatorClient(self.url, token, patience=patience)


@contextmanager
def coordinator(folder: Path, **settings: object) -> Iterator[Coordinator]:
    """A running coordinator, ended at the end."""
    made = Coordinator(folder, **settings)
    made.start()
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.stop()


WORKER = """
import sys
from noob_cloud.coordinator.drivers import Drivers
from noob_cloud.queue.remote import RemoteQueue
from noob_cloud.worker.pull import pull
url, token, name, lease = sys.argv[1:5]
queue = RemoteQueue(url, token)
modules = ["noob_cloud_testnodes"]
drivers = Drivers(queue, token=token, worker_id=name, allowed_modules=modules,
                  lease_seconds=float(lease), poll_seconds=1.0)
drivers.start()
print("ready", flush=True)
pull(queue, worker_id=name, max_tasks=1, allowed_modules=modules, isolate=False,
     lease_seconds=float(lease), poll_seconds=1.0, documents=queue.blobs.get)
drivers.stop()
drivers.join(5)
"""


@contextmanager
def worker(
    made: Coordinator, name: str, *, token: str = "worker-token-0123456789", lease: float = 2.0
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that pulls tasks and drives runs, ended at the end."""
    env = {**os.environ, "PYTHONPATH": str(TUBES)}
    started = subprocess.Popen(
        [sys.executable, "-c", WORKER, made.url, token, name, str(lease)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=(made.folder / f"{name}.log").open("ab"),
    )
    try:
        assert started.stdout is not None
        assert started.stdout.readline() == b"ready\n", log(made, name)
        yield started
    finally:
        if started.poll() is None:
            started.terminate()
            try:
                started.wait(15)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()
        started.stdout.close()


def log(made: Coordinator, name: str) -> str:
    """What a process said."""
    path = made.folder / f"{name}.log"
    return path.read_text(errors="replace")[-4000:] if path.exists() else ""


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until it is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.02)


def decode(frame: bytes) -> object:
    """The value of a frame."""
    from noob_cloud import codec  # noqa: PLC0415 - for one test

    return codec.loads(frame)
