"""One task of an ECS service: its containers as processes, with an address and a disk of their own.

A process cannot be given a network or a root file system without privileges, so a task gets a
loopback address of its own (`127.A.B.N`) where its definition says 0.0.0.0 or 127.0.0.1, and a
folder of its own where it says `/tmp`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from localdev.aws import client
from localdev.process import environment_of, memory_of, start_process

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localdev.process import Child

__all__ = ["Task", "python_folder"]

_LOCAL: Final = re.compile(r"\b(0\.0\.0\.0|127\.0\.0\.1|localhost)\b")
_TMP: Final = re.compile(r"(?<![\w.])/tmp(?=/|$)")
_STOP_SECONDS: Final = 30.0
"""How long a container may take to stop where its definition says nothing, as on AWS."""
_log: Final = logging.getLogger("localdev")


class Task:
    """A running copy of a task definition.

    Args:
        service: that it belongs to, as the state has it.
        address: its own.
        folder: its disk, which goes with it.
        log: the file that its output is added to.
        environment: what the platform tells it: endpoint, region, credentials.
        agent: URL where it finds its metadata.
        gpus: numbers of those that it may use.
        programs: folder that comes first on its PATH.
    """

    def __init__(
        self,
        service: dict[str, Any],
        *,
        address: str,
        folder: Path,
        log: Path,
        environment: Mapping[str, str],
        agent: str,
        gpus: tuple[int, ...],
        programs: Path,
    ) -> None:
        self.id = folder.name
        self.service = service
        self.address = address
        self.gpus = gpus
        self.began = time.monotonic()
        self.stopping = False
        self.protected_until = 0.0
        """Until when it is not to be stopped by a lower count, on the monotonic clock."""
        self.memory = 0
        self.code: int | None = None
        """How its essential container ended."""
        self._folder = folder
        self._log = log
        self._environment = environment
        self._agent = f"{agent}/ecs/{self.id}"
        self._programs = programs
        self._children: list[Child] = []
        self._ends: set[asyncio.Task[Any]] = set()

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The containers that say what to run; others are only images."""
        return [each for each in self.service["containers"] if _words(each)]

    @property
    def ended(self) -> bool:
        """Whether none of its processes lives."""
        return not self._children or not any(child.running for child in self._children)

    @property
    def protected(self) -> bool:
        """Whether it asked not to be stopped now."""
        return time.monotonic() < self.protected_until

    async def start(self) -> None:
        """Start its containers.

        Raises:
            LookupError: a secret is not there.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for container in self.runs:
            variables = await asyncio.to_thread(self._variables, container)
            words = [self._own(word) for word in _words(container)]
            child = await start_process(
                words, environment=environment_of(variables), folder=self._folder, log=self._log
            )
            self._children.append(child)
            watch = asyncio.create_task(self._watch(child, container))
            self._ends.add(watch)
            watch.add_done_callback(self._ends.discard)

    async def _watch(self, child: Child, container: dict[str, Any]) -> None:
        code = await child.wait()
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        if str(container.get("essential", True)).lower() == "true":
            self.code = code
            for other in self._children:
                other.terminate()
        with self._log.open("a") as file:
            file.write(f"--- task {self.id} {how}\n")
        _log.info("task %s of %s %s", self.id, self.service["name"], how)

    def _variables(self, container: dict[str, Any]) -> dict[str, str]:
        given = {each["name"]: self._own(str(each.get("value", "")))
                 for each in container.get("environment", [])}  # fmt: skip
        for secret in container.get("secrets", []):
            given[secret["name"]] = _secret(secret["valueFrom"])
        if self.gpus:
            visible = ",".join(map(str, self.gpus))
            given |= {"NVIDIA_VISIBLE_DEVICES": visible, "CUDA_VISIBLE_DEVICES": visible}
        path = f"{self._programs}:{environment_of({})['PATH']}"
        return {
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder),
            "PATH": path,
            **given,
            **self._environment,
            "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
            "ECS_AGENT_URI": self._agent,
            "ECS_CONTAINER_METADATA_URI_V4": self._agent,
        }

    def _own(self, text: str) -> str:
        """Return a word of its definition with its own address and folder."""
        if "\n" in text:  # a program, not a setting
            return text
        return _TMP.sub(str(self._folder), _LOCAL.sub(self.address, text))

    def look(self) -> None:
        """End it if it holds more memory than it may."""
        limit = int(self.service.get("memory") or 0)
        self.memory = sum(memory_of(child.pid) for child in self._children if child.running)
        if limit and self.memory > limit << 20:
            _log.warning("task %s of %s is killed: it holds %d MiB of %d", self.id,
                         self.service["name"], self.memory >> 20, limit)  # fmt: skip
            self.kill()

    async def healthy(self) -> bool:
        """Run the check of its definition, if it has one."""
        for container in self.runs:
            check = container.get("healthCheck")
            if not check:
                continue
            kind, *words = check["command"]
            words = ["/bin/sh", "-c", words[0]] if kind == "CMD-SHELL" else words
            child = await start_process(
                [self._own(word) for word in words],
                environment=environment_of(await asyncio.to_thread(self._variables, container)),
                folder=self._folder,
                log=Path("/dev/null"),
            )
            try:
                if await asyncio.wait_for(child.wait(), float(check.get("timeout", 5))):
                    return False
            except TimeoutError:
                child.send(signal.SIGKILL)
                return False
        return True

    def stop(self) -> None:
        """Ask it to end, and make it end after its definition's time."""
        if not self.stopping:
            self.stopping = True
            self._keep(asyncio.create_task(self._stop()))

    async def _stop(self) -> None:
        given = [each.get("stopTimeout") for each in self.runs]
        seconds = float(max((each for each in given if each), default=_STOP_SECONDS))
        await asyncio.gather(*(child.end(seconds=seconds) for child in self._children))

    def kill(self) -> None:
        """End everything that it started at once, as a power cut does."""
        self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        for child in self._children:
            child.send(number)

    async def clean(self) -> None:
        """Remove its disk, once it has ended."""
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def finish(self) -> None:
        """Wait until it has ended."""
        await asyncio.gather(*(child.wait() for child in self._children))

    def metadata(self) -> dict[str, Any]:
        """Return what a container is told of itself.

        https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4.html
        """
        return {
            "DockerId": self.id,
            "Name": self.runs[0]["name"] if self.runs else "",
            "Image": self.runs[0].get("image", "") if self.runs else "",
            "Labels": {"com.amazonaws.ecs.task-arn": self.arn},
            "KnownStatus": "RUNNING",
            "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": [self.address]}],
        }

    @property
    def arn(self) -> str:
        """Its name in AWS."""
        head = ":".join(self.service["definition"].split(":")[:5])
        return f"{head}:task/{self.service['cluster']}/{self.id}"

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)


def gpus_of(service: dict[str, Any]) -> int:
    """Return how many GPUs a task of a service needs."""
    return sum(
        int(need["value"])
        for container in service["containers"]
        for need in container.get("resourceRequirements", [])
        if need["type"] == "GPU"
    )


def new_id() -> str:
    """Return the id of another task."""
    return uuid4().hex[:12]


def python_folder(folder: Path) -> Path:
    """Return a folder with `python`, as bare as a container's: without our packages."""
    folder.mkdir(parents=True, exist_ok=True)
    bare = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    for name in ("python", "python3"):
        link = folder / name
        if not link.exists():
            link.symlink_to(bare)
    return folder


def _words(container: dict[str, Any]) -> list[str]:
    return [*container.get("entryPoint", []), *container.get("command", [])]


def _secret(named: str) -> str:
    """Return the value of a secret: `ARN`, `ARN:KEY:STAGE:VERSION`, or a parameter's."""
    if ":secretsmanager:" not in named:
        answer = client("ssm").get_parameter(
            Name=named.rsplit(":parameter", maxsplit=1)[-1], WithDecryption=True
        )
        return str(answer["Parameter"]["Value"])
    parts = named.split(":")
    arn, key = ":".join(parts[:7]), parts[7] if len(parts) > 7 else ""  # noqa: PLR2004 - of an ARN
    value = str(client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"])
    return str(json.loads(value)[key]) if key else value
