"""A coordinator and its workers as processes of this machine, which end when the block ends."""

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

import httpx

PR_SET_PDEATHSIG = 1
START_SECONDS = 120.0
"""How long a start may take; the first after an install also compiles every module."""


class Cluster:
    """One coordinator and `workers` workers that pull from it, with logs in `folder`.

    Used in a `with` block: however the block ends (an error, Ctrl-C, SIGTERM), every process has
    ended after it.
    """

    def __init__(self, folder: Path, *, workers: int, tube: str) -> None:
        """Say what to start; nothing starts before the `with` block."""
        self.folder = folder
        self.token = secrets.token_urlsafe(24)
        self.url = f"http://127.0.0.1:{_free_port()}"
        self._workers = [f"worker-{number}" for number in range(1, workers + 1)]
        self._tube = tube
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        """Start everything and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            port = self.url.rpartition(":")[2]
            queue = self.folder / "queue.db"
            for old in self.folder.glob("queue.db*"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            self._start(
                "coordinator", "noob_cloud.cli", "coordinator", "--port", port, "--queue", queue
            )
            self._wait_for_coordinator()
            for name in self._workers:
                self._start(
                    name,
                    "noob_cloud.runner.worker_server",
                    *("--coordinator", self.url, "--worker-id", name, "--port", 0),
                    *("--max-tasks", 1, "--tube", self._tube),
                )
            self._wait_for_workers()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End everything."""
        self.stop()

    def check(self) -> None:
        """Raise if a process has ended, with the end of its log."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = (self.folder / f"{name}.log").read_text(errors="replace")
                raise RuntimeError(
                    f"{name} ended with {process.returncode}; the end of its log:\n{log[-2000:]}"
                )

    def stop(self) -> None:
        """Ask every process to end, workers first; after ten seconds, make it."""
        processes = list(reversed(self._processes.values()))
        for process in processes:
            with suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + 10
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            with suppress(ProcessLookupError):  # and whatever it started and left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()
        signal.signal(signal.SIGTERM, self._before)

    def _start(self, name: str, module: str, *arguments: object) -> None:
        log = (self.folder / f"{name}.log").open("wb")
        environment = os.environ | {"NOOB_CLOUD_TOKEN": self.token, "PYTHONUNBUFFERED": "1"}
        with log:
            self._processes[name] = subprocess.Popen(  # noqa: S603 - this interpreter, our modules
                [sys.executable, "-m", module, *map(str, arguments)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C comes to us; we end them in order
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads have started yet
            )

    def _wait_for_coordinator(self) -> None:
        self._wait_until("the coordinator answers", "/health", lambda _reply: True)

    def _wait_for_workers(self) -> None:
        self._wait_until(
            "the workers ask for tasks",
            "/workers",
            # by name: the driver of a worker is listed until the worker itself has asked
            lambda reply: {row["worker_id"] for row in reply["workers"]}.issuperset(self._workers),
        )

    def _wait_until(self, what: str, path: str, true: Callable[[Any], bool]) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            with suppress(httpx.TransportError):
                reply = httpx.get(f"{self.url}{path}", headers=headers, timeout=2)
                if reply.is_success and true(reply.json()):
                    return
            time.sleep(0.05)
        raise RuntimeError(f"Waited in vain until {what}; the logs are in {self.folder}")


def _die_with_parent() -> None:
    """Linux: end this process when its parent is killed outright. Elsewhere: nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
