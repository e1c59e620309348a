"""The whole local cloud as one object: started, deployed to, broken, and taken down."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from localdev.cdk import Cdk
from localdev.cloud import ACCOUNT
from localdev.directory import Directory
from localdev.errors import LocalCloudError, RefusedError
from localdev.process import DIE_WITH_PARENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

__all__ = ["LocalCloud", "LocalCloudError", "RefusedError"]

ROOT: Final = Path(__file__).resolve().parent.parent
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 25.0
_POLL_SECONDS: Final = 0.05


class LocalCloud:
    """An emulated cloud on this machine, and what runs of what is deployed on it.

    As a context manager it starts, and takes everything down at its end, whatever happens: its
    processes die with this one.

    Args:
        directory: for its files and its logs, in `logs/`; what it left there before is removed.
        region: of everything.
        concurrency: environments of functions that may run at once.
        gpus: GPUs that tasks are told of.
        duplicates: whether asynchronous calls are delivered twice, as AWS sometimes does.
        port: of the emulated cloud; 0: any free one.
        cache: kept from run to run: built layers, unpacked code and its byte code.
    """

    def __init__(
        self,
        directory: Path,
        *,
        region: str = "us-east-1",
        concurrency: int = 10,
        gpus: int = 1,
        duplicates: bool = False,
        port: int = 0,
        cache: Path | None = None,
    ) -> None:
        self._place = Directory(directory)
        self.directory = self._place.path
        self.cache = (cache or ROOT / "dist" / "local").resolve()
        self.region = region
        self.outputs: dict[str, dict[str, str]] = {}
        """What the deployed stacks say, by stack."""
        self._options = ["--concurrency", str(concurrency), "--gpus", str(gpus)]
        self._options += ["--duplicates"] if duplicates else []
        self._port = port
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._sockets: list[socket.socket] = []
        self._agent: httpx.Client | None = None
        self.url = ""
        """Of the emulated cloud: AWS_ENDPOINT_URL."""
        self.agent_url = ""
        """Of the agent that runs what is deployed."""
        self.cdk = Cdk(self)

    @property
    def logs(self) -> Path:
        """The folder of the logs: one for each function and service, and our own."""
        return self._place.logs

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to use this cloud instead of AWS's."""
        return {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the emulated cloud and its agent; return once both answer.

        Raises:
            RefusedError: the directory or the port is not free.
            LocalCloudError: one of them does not start.
        """
        try:
            self._place.take()
            agent = self._listen(0)
            self.agent_url = f"http://127.0.0.1:{agent.getsockname()[1]}"
            self._agent = httpx.Client(base_url=self.agent_url, timeout=60, trust_env=False)
            self._start_cloud()
            self._start_agent(agent)
            self._until(lambda: self._ask("GET", "/status").is_success, _START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def _start_cloud(self) -> None:
        """Start AWS's API, at `url`."""
        listening = self._listen(self._port)
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        words = ["-m", "localdev.cloud", "--fd", str(listening.fileno())]
        words += ["--agent", self.agent_url, "--region", self.region]
        self._spawn("cloud", words, listening)
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as http:
            self._until(lambda: http.get("/_localdev/state").is_success, _START_SECONDS)

    def _start_agent(self, listening: socket.socket) -> None:
        """Start what runs what is deployed there, at `agent_url`."""
        self._spawn_agent("localdev.agent", listening)

    def stop(self) -> None:
        """Take everything down: no process of it is left."""
        for _, process in reversed(self._processes):  # the agent first: its tasks use the cloud
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        self._place.leave()
        for each in self._sockets:
            each.close()
        self._sockets.clear()
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def check(self) -> None:
        """See that everything that was started still runs.

        Raises:
            LocalCloudError: something ended by itself.
        """
        for name, process in self._processes:
            if process.poll() is not None:
                raise LocalCloudError(f"`{name}` ended:\n{self.log(name)[-3000:]}")

    def client(self, service: str) -> Any:
        """Return a boto3 client of this cloud."""
        return self._session().client(service, endpoint_url=self.url)

    def _session(self) -> Any:
        import boto3  # noqa: PLC0415 - heavy

        return boto3.Session(
            region_name=self.region,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",  # noqa: S106 - of an emulated cloud
        )

    def deploy(
        self,
        stacks: Iterable[str] = (),
        *,
        context: Mapping[str, str] | None = None,
        app: str | None = None,
    ) -> dict[str, dict[str, str]]:
        """Deploy stacks with the CDK's command line, all of them by default; return their outputs.

        Args:
            stacks: their names.
            context: of the CDK: settings of the deployment.
            app: command that synthesizes, instead of the one in `cdk.json`.

        Raises:
            LocalCloudError: the CDK says why.
        """
        self.outputs |= self.cdk.deploy(list(stacks), context=dict(context or {}), app=app)
        return self.outputs

    def destroy(
        self,
        stacks: Iterable[str] = (),
        *,
        context: Mapping[str, str] | None = None,
        app: str | None = None,
    ) -> None:
        """Destroy stacks with the CDK's command line, all of them by default.

        Raises:
            LocalCloudError: the CDK says why.
        """
        self.cdk.destroy(list(stacks), context=dict(context or {}), app=app)

    def status(self) -> dict[str, Any]:
        """Return what is deployed and runs: functions, sources, services."""
        found: dict[str, Any] = self._ask("GET", "/status").raise_for_status().json()
        return found

    def service(self, name: str) -> dict[str, Any]:
        """Return a service and its tasks, by its name or by the end of it.

        Raises:
            LookupError: there is none.
        """
        found: list[dict[str, Any]] = self.status()["services"]
        for each in found:
            if each["name"] == name or each["name"].endswith(f"-{name}"):
                return each
        raise LookupError(f"no service {name!r}, only {[each['name'] for each in found]}")

    def wait_for_service(self, name: str, *, running: int, seconds: float = 60) -> None:
        """Return once so many tasks of a service run, and none is stopping.

        Raises:
            LocalCloudError: that took too long.
        """

        def settled() -> bool:
            tasks = self.service(name)["tasks"]
            return len(tasks) == running and not any(task["stopping"] for task in tasks)

        self._until(settled, seconds)

    def kill_service(self, name: str) -> int:
        """Lose the machines of a service: kill -9 of all its processes, and their disks are gone.

        Returns:
            how many tasks there were.
        """
        answer = self._ask("POST", f"/services/{name}/kill")
        return int(answer.json()["tasks"])

    def reclaim_service(self, name: str) -> int:
        """Give the tasks of a service their spot notice: SIGTERM, and the end after their time."""
        return int(self._ask("POST", f"/services/{name}/reclaim").json()["tasks"])

    def signal_service(self, name: str, number: signal.Signals) -> int:
        """Send a signal to all processes of a service."""
        answer = self._ask("POST", f"/services/{name}/signal", params={"name": number.name})
        return int(answer.json()["tasks"])

    def fire(self, schedule: str) -> None:
        """Have a schedule be due now."""
        httpx.post(f"{self.url}/_localdev/fire/{schedule}", trust_env=False).raise_for_status()

    def recorded(self) -> list[str]:
        """Return the types of resources that were deployed and that nothing emulates."""
        found: list[str] = httpx.get(f"{self.url}/_localdev/recorded", trust_env=False).json()
        return found

    def log(self, name: str) -> str:
        """Return the log of a function, a service, `cloud`, `agent` or `cdk`."""
        path = self.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for_coordinator(self, name: str = "noob-cloud", *, seconds: float = 120) -> str:
        """Return the URL of a deployment's coordinator, once it answers.

        Raises:
            LocalCloudError: that took too long.
        """
        ssm, s3 = self.client("ssm"), self.client("s3")
        found: list[str] = []

        def ready() -> bool:
            replica = ssm.get_parameter(Name=f"/noob-cloud/{name}/replica")["Parameter"]["Value"]
            bucket, _, prefix = replica.removeprefix("s3://").partition("/")
            with suppress(s3.exceptions.NoSuchKey):
                lease = json.load(s3.get_object(Bucket=bucket, Key=f"{prefix}/lease.json")["Body"])
                url = str(lease.get("url") or "")
                if url and not lease.get("released"):
                    answer = httpx.get(f"{url}/health", trust_env=False)
                    found.extend([url] if answer.is_success else [])
            return bool(found)

        self._until(ready, seconds)
        return found[0]

    @property
    def account(self) -> str:
        """The account of everything."""
        return ACCOUNT

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        if self._agent is None:
            raise LocalCloudError("The local cloud is not started.")
        return self._agent.request(method, path, **options)

    def _listen(self, port: int) -> socket.socket:
        try:
            listening = socket.create_server(("127.0.0.1", port), backlog=512)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise RefusedError(
                f"Port {port} is taken: end what listens there, or choose another one (0: any that"
                f" is free). If it is a LocalStack, use it: --endpoint http://127.0.0.1:{port}"
            ) from error
        listening.set_inheritable(True)
        self._sockets.append(listening)
        return listening

    def _spawn_agent(
        self, module: str, listening: socket.socket, environment: Mapping[str, str] | None = None
    ) -> None:
        words = ["-m", module, "--fd", str(listening.fileno()), "--cloud", self.url]
        words += ["--folder", str(self.directory), "--cache", str(self.cache)]
        words += ["--region", self.region, *self._options]
        self._spawn("agent", words, listening, environment)

    def _spawn(
        self,
        name: str,
        words: list[str],
        listening: socket.socket,
        environment: Mapping[str, str] | None = None,
        *,
        python: str = sys.executable,
    ) -> None:
        """Start a Python that inherits a socket, logs to a file of its name, and dies with us."""
        words = [python, *words]
        if sys.platform == "linux":
            words = [sys.executable, "-ISc", DIE_WITH_PARENT, str(os.getpid()), *words]
        told = {**os.environ, **(environment or {})}
        told["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), told.get("PYTHONPATH"))))
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - a Python of ours
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=told,
                pass_fds=[listening.fileno()],
                start_new_session=True,  # Ctrl-C is for whoever started it
            )
        listening.close()  # or who asks a process that has ended would wait for its answer
        self._sockets.remove(listening)
        self._processes.append((name, process))

    def _until(self, done: Callable[[], bool], seconds: float) -> None:
        give_up = time.monotonic() + seconds
        while True:
            with suppress(httpx.TransportError, json.JSONDecodeError, LookupError):
                if done():
                    return
            self.check()
            if time.monotonic() > give_up:
                raise LocalCloudError(
                    f"Not within {seconds:.0f} s; see {self.logs}:\n{self.log('agent')[-2000:]}"
                )
            time.sleep(_POLL_SECONDS)
