"""`python -m localdev.agent`: runs what is deployed on the emulated cloud.

Functions, the queues that call them, their URLs, and ECS services. One process, one loop: all that
it starts dies with it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import uvicorn

from localdev.calls import Calls
from localdev.code import CodeFolder
from localdev.functions import Functions
from localdev.http import Door
from localdev.services import Services
from localdev.sources import QueueSource

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Agent", "main"]

_LOOK_SECONDS: Final = 0.2
_SWEEP_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 6.0
_log: Final = logging.getLogger("localdev")


class Agent:
    """Everything that runs, and the loop that follows what is deployed.

    Args:
        cloud: URL of the emulated cloud.
        url: where this agent listens.
        folder: for temporary files, disks and logs.
        cache: for unpacked code and its byte code, kept from run to run.
        region: of everything.
        concurrency: environments of functions that may run at once.
        gpus: GPUs that this machine shows to tasks.
        duplicates: whether every asynchronous call is delivered twice, as AWS sometimes does.
    """

    kind_of_services = Services

    def __init__(
        self,
        cloud: str,
        *,
        url: str,
        folder: Path,
        cache: Path,
        region: str,
        concurrency: int,
        gpus: int,
        duplicates: bool,
    ) -> None:
        logs = folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        told = {
            **self.told(url),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_ENDPOINT_URL": cloud,
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONPYCACHEPREFIX": str(cache / "pycache"),
        }
        self._http = httpx.AsyncClient(base_url=f"{cloud}/_localdev/", timeout=30, trust_env=False)
        self.functions = Functions(
            folder / "functions",
            logs=logs,
            code=CodeFolder(cache / "code"),
            fetch=self._fetch,
            environment=told,
            concurrency=concurrency,
        )
        self.services = self.kind_of_services(
            (folder / "tasks").resolve(), logs=logs, environment=told, agent=url, gpus=gpus
        )
        self.calls = Calls(self.functions, refresh=self.refresh, duplicates=duplicates)
        self.sources: dict[str, QueueSource] = {}
        self._threads = ThreadPoolExecutor(64, thread_name_prefix="sqs")
        self._tag = ""
        self._swept = 0.0
        self._services: list[dict[str, Any]] = []
        self._counts: dict[str, dict[str, int]] = {}
        self._refreshing = asyncio.Lock()

    @staticmethod
    def told(url: str) -> dict[str, str]:
        """Return what everything that runs is told of the agent at a URL."""
        del url
        return {}

    async def refresh(self) -> None:
        """Read what is deployed, if it has changed."""
        async with self._refreshing:
            answer = await self._http.get("state", headers={"If-None-Match": self._tag})
            if answer.status_code == 304:  # noqa: PLR2004 - HTTP's
                return
            answer.raise_for_status()
            self._tag = answer.headers["etag"]
            told = answer.json()
            self.calls.learn(told["functions"])
            self._services = told["services"]
            await self._follow_sources(told["sources"])

    async def _fetch(self, digest: str) -> bytes:
        answer = await self._http.get(f"archive/{digest}")
        answer.raise_for_status()
        return answer.content

    async def _follow_sources(self, mappings: list[dict[str, Any]]) -> None:
        wanted = {mapping["id"]: mapping for mapping in mappings}
        for key, source in list(self.sources.items()):
            if wanted.get(key) != source.mapping:
                del self.sources[key]
                await source.stop()
        for key, mapping in wanted.items():
            if key not in self.sources:
                self.sources[key] = QueueSource(
                    mapping, invoke=self.calls.call, threads=self._threads
                )

    def door(self) -> Door:
        """Return what answers requests."""
        return Door(self)

    async def follow(self) -> None:
        """Keep what runs as what is deployed, until cancelled."""
        while True:
            try:
                await self.refresh()
                counts = await self.services.reconcile(self._services)
                if counts != self._counts:
                    await self._report(counts)
                    self._counts = counts
                if time.monotonic() - self._swept > _SWEEP_SECONDS:
                    self._swept = time.monotonic()
                    await self.functions.sweep(self.calls.keys())
            except httpx.HTTPError as error:
                _log.warning("the emulated cloud does not answer: %r", error)
                await asyncio.sleep(1)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _report(self, counts: dict[str, dict[str, int]]) -> None:
        """Tell the emulated cloud how many tasks of each service run."""
        await self._http.post("counts", json=counts)

    async def stop(self) -> None:
        """End everything that runs."""
        for source in self.sources.values():
            await source.stop()
        await self.calls.stop()
        await asyncio.gather(self.services.stop(seconds=_STOP_SECONDS), self.functions.stop())
        await self._http.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def status(self) -> dict[str, Any]:
        """Return a line for everything that is deployed and runs."""
        return {
            "functions": [
                {"name": name, "running": self.functions.running[name],
                 **self.functions.counts[name],
                 "url": self.calls.url(name)}
                for name in sorted(self.calls.names())
            ],
            "sources": [
                {"queue": source.mapping["queue"].split(":")[-1],
                 "function": source.mapping["function"]}
                for source in self.sources.values()
            ],
            "services": [
                {"name": service["name"], "cluster": service["cluster"],
                 "desired": service["desired"], "running": len(self.services.running(key)),
                 "tasks": [
                     {"id": task.id, "address": task.address, "memory": task.memory,
                      "gpus": list(task.gpus), "stopping": task.stopping,
                      "protected": task.protected}
                     for task in self.services.tasks.get(key, [])
                     if not task.ended
                 ]}
                for key, service in sorted(self.services.wanted.items())
            ],
        }  # fmt: skip


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the agent, which ends what it runs first."""
        yield


async def _run(chosen: argparse.Namespace, kind: type[Agent]) -> None:
    listening = socket.socket(fileno=chosen.fd) if chosen.fd is not None else None
    if listening is None:
        listening = socket.create_server(("127.0.0.1", chosen.port))
    port = listening.getsockname()[1]
    agent = kind(
        chosen.cloud,
        url=f"http://127.0.0.1:{port}",
        folder=chosen.folder,
        cache=chosen.cache or chosen.folder,
        region=chosen.region,
        concurrency=chosen.concurrency,
        gpus=chosen.gpus,
        duplicates=chosen.duplicates,
    )
    config = uvicorn.Config(
        agent.door(), log_config=None, access_log=False, lifespan="off", ws="none",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    following = asyncio.create_task(agent.follow())
    following.add_done_callback(lambda _: setattr(server, "should_exit", True))
    try:
        await server.serve([listening])
    finally:
        following.cancel()
        (ended,) = await asyncio.gather(following, return_exceptions=True)
        await agent.stop()
    if isinstance(ended, Exception):
        raise ended


def main(arguments: list[str] | None = None, *, kind: type[Agent] = Agent) -> int:
    """Run until told to stop."""
    parser = argparse.ArgumentParser(prog="localdev.agent", description=__doc__)
    parser.add_argument("--cloud", required=True, help="URL of the emulated cloud")
    parser.add_argument("--fd", type=int, help="a listening socket of the parent")
    parser.add_argument("--port", type=int, default=4567)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="kept from run to run")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--concurrency", type=int, default=10)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--duplicates", action="store_true")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    _log.setLevel(logging.INFO)
    _credentials(chosen)
    code = 1
    try:
        asyncio.run(_run(chosen, kind))
        code = 0
    except Exception:  # noqa: BLE001 - the one place: its end is said, and is an exit code
        _log.exception("the agent ends")
    logging.shutdown()
    os._exit(code)  # threads may wait for messages for seconds yet


def _credentials(chosen: argparse.Namespace) -> None:
    """Ask the emulated cloud, and never another one, whatever the environment says."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": chosen.region,
        "AWS_ENDPOINT_URL": chosen.cloud,
    }
    os.environ.pop("AWS_PROFILE", None)
    os.environ.pop("AWS_SESSION_TOKEN", None)


if __name__ == "__main__":
    sys.exit(main())
