"""LocalStack as the local cloud: started here, or one that runs already."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from localdev.cdk import Cdk
from localdev.errors import LocalCloudError, RefusedError
from localdev.local import ROOT, LocalCloud
from localdev.localstack.agent import ADDRESS_VARIABLE
from localdev.localstack.install import install

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["LocalStackCloud"]

_START_SECONDS: Final = 90.0
_DOWN_SECONDS: Final = 40.0
_SERVICES: Final = (
    "cloudformation", "cloudwatch", "ec2", "ecr", "events", "iam", "kms", "lambda", "logs", "s3",
    "scheduler", "secretsmanager", "sns", "sqs", "ssm", "sts",
)  # fmt: skip


class LocalStackCloud(LocalCloud):
    """LocalStack on this machine, and the services that it does not run.

    Args:
        directory: for its files and its logs, in `logs/`; what it left there before is removed.
        endpoint: URL of a LocalStack that runs already; by default one is started here, in an
            environment of its own, which is installed when it is first needed.
        address: of this machine, where the Lambdas of that LocalStack find the coordinator: the
            loopback by default, which containers do not reach.
        say: is told when something takes a while.
        options: `LocalCloud`'s.
    """

    def __init__(
        self,
        directory: Path,
        *,
        endpoint: str | None = None,
        address: str = "",
        say: Callable[[str], None] | None = None,
        concurrency: int = 10,
        **options: Any,
    ) -> None:
        super().__init__(directory, concurrency=concurrency, **options)
        self._endpoint = endpoint
        self._address = address
        self._say = say
        self._concurrency = concurrency
        self.cdk: Cdk = _BootstrappingCdk(self)

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to use this cloud instead of AWS's."""
        return {**super().environment, "AWS_ENDPOINT_URL_ECS": self.agent_url}

    @property
    def account(self) -> str:
        """The account of everything: what LocalStack makes of our credentials."""
        return str(self.client("sts").get_caller_identity()["Account"])

    def client(self, service: str) -> Any:
        """Return a boto3 client of this cloud; ECS is answered by the agent that runs it."""
        url = self.agent_url if service == "ecs" else self.url
        return self._session().client(service, endpoint_url=url)

    def _start_cloud(self) -> None:
        if self._endpoint is None:
            self._start_localstack(install(self._say))
        else:
            self.url = self._endpoint.rstrip("/")
            self._check_endpoint()

    def _start_agent(self, listening: socket.socket) -> None:
        told = {ADDRESS_VARIABLE: self._address}
        self._spawn_agent("localdev.localstack.agent", listening, told)

    def _start_localstack(self, python: Path) -> None:
        listening = self._listen(self._port)
        port = listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        own = self.directory / "localstack"
        (own / "tmp").mkdir(parents=True)
        entry = Path(__file__).resolve().parent / "entry"
        environment = {
            "CFN_IGNORE_UNSUPPORTED_RESOURCE_TYPES": "1",  # the services of ECS are our agent's
            "DISABLE_EVENTS": "1",
            "DNS_ADDRESS": "0",
            "FILESYSTEM_ROOT": str(own),
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "GATEWAY_SERVER": "noob-cloud",
            "HOME": str(own),
            "LAMBDA_KEEPALIVE_MS": "120000",
            "LAMBDA_LIMITS_CONCURRENT_EXECUTIONS": str(self._concurrency),
            "LAMBDA_LIMITS_MINIMUM_UNRESERVED_CONCURRENCY": "0",
            "LAMBDA_RUNTIME_EXECUTOR": "noob-cloud",
            "LOCALDEV_CACHE": str(self.cache / "localstack"),
            "LOCALDEV_FOLDER": str(self.directory),
            "LOCALDEV_SOCKET": str(listening.fileno()),
            "OVERRIDE_IN_DOCKER": "0",  # or it keeps files in /tmp, beside those of others
            "PROVIDER_OVERRIDE_DYNAMODB": "moto",
            "PROVIDER_OVERRIDE_DYNAMODBSTREAMS": "moto",
            "PYTHONPATH": str(entry),
            "SERVICES": ",".join(_SERVICES),
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "TMPDIR": str(own / "tmp"),
        }
        words = ["-m", "localstack.runtime.main"]
        self._spawn("cloud", words, listening, environment, python=str(python))
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as http:
            self._until(lambda: http.get("/_localstack/health").is_success, _START_SECONDS)

    def _check_endpoint(self) -> None:
        try:
            told = httpx.get(f"{self.url}/_localstack/health", timeout=10, trust_env=False)
            version = told.raise_for_status().json()["version"]
        except httpx.TransportError as error:
            raise RefusedError(
                f"Nothing answers at {self.url} ({error}): start your LocalStack (`localstack"
                " start`), or leave --endpoint out to have one started here."
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as error:
            raise RefusedError(
                f"{self.url} is no LocalStack: it has no /_localstack/health ({error}). Name the"
                " URL of one, or leave --endpoint out to have one started here."
            ) from error
        if self._say is not None:
            self._say(f"LocalStack {version} runs at {self.url}.")

    def destroy(
        self,
        stacks: Iterable[str] = (),
        *,
        context: Mapping[str, str] | None = None,
        app: str | None = None,
    ) -> None:
        """Destroy stacks with the CDK's command line, all of them by default.

        The storage goes last, and is emptied before: LocalStack says that it has deleted a bucket
        with something in it, and keeps it.

        Raises:
            LocalCloudError: the CDK says why, or something is left.
        """
        name = dict(context or {}).get("name", "noob-cloud")
        chosen = list(stacks) or self._stacks(f"{name}-")
        storage = f"{name}-storage"
        others = [stack for stack in chosen if stack != storage]
        if others:
            super().destroy(others, context=context, app=app)
        if storage in chosen:
            self._until(lambda: not self.status()["services"], _DOWN_SECONDS)  # they write to it
            self._empty(name)
            super().destroy([storage], context=context, app=app)
        left = sorted(set(chosen).intersection(self._stacks(f"{name}-")))
        if left:
            raise LocalCloudError(
                f"cdk destroy left {', '.join(left)}: see {self.logs / 'cloud.log'}"
            )

    def _stacks(self, prefix: str) -> list[str]:
        pages = self.client("cloudformation").get_paginator("describe_stacks").paginate()
        found = [
            stack["StackName"]
            for page in pages
            for stack in page["Stacks"]
            if stack["StackStatus"] != "DELETE_COMPLETE"  # LocalStack tells of them, too
        ]
        return [stack for stack in found if stack.startswith(prefix)]

    def _empty(self, name: str) -> None:
        done = subprocess.run(  # noqa: S603 - ours
            [sys.executable, "-m", "infra.empty", name, "--yes"],
            cwd=ROOT, env={**os.environ, **self.environment}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise LocalCloudError(f"The bucket of {name} is not emptied: {done.stderr.strip()}")


class _BootstrappingCdk(Cdk):
    """Has LocalStack bootstrapped by the CDK itself, which makes all it asks for."""

    def _bootstrap(self) -> None:
        self._call(["bootstrap", f"aws://{self._cloud.account}/{self._cloud.region}"])
