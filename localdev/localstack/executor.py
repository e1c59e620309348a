"""Run LocalStack's functions as processes under AWS's runtime client, within their limits.

LocalStack decides which environment takes an invocation; here each is a `Sandbox`, the same as on
the other local cloud. One that has died is begun again: LocalStack does not ask for that.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import json
import os
import time
from collections import Counter
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, TypeVar

from localstack import config  # type: ignore[import-not-found]
from localstack.http import Response  # type: ignore[import-not-found]
from localstack.services.edge import ROUTER  # type: ignore[import-not-found]
from localstack.services.lambda_.invocation.executor_endpoint import (  # type: ignore[import-not-found]
    StatusErrorException,
)
from localstack.services.lambda_.invocation.lambda_models import (  # type: ignore[import-not-found]
    InvocationResult,
)
from localstack.services.lambda_.invocation.runtime_executor import (  # type: ignore[import-not-found]
    RuntimeExecutor,
)

from localdev.code import CodeFolder
from localdev.functions import Function
from localdev.runtime import Invocation
from localdev.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from localdev.runtime import Answer

__all__ = ["CACHE_VARIABLE", "COUNTS_PATH", "FOLDER_VARIABLE", "ProcessExecutor"]

FOLDER_VARIABLE: Final = "LOCALDEV_FOLDER"
"""Where temporary files and logs go."""
CACHE_VARIABLE: Final = "LOCALDEV_CACHE"
"""Where unpacked code and its byte code are kept from run to run."""
COUNTS_PATH: Final = "/_localdev/functions"
"""What LocalStack answers there: how often each function was called, and how many run."""
_Result = TypeVar("_Result")


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the loop of all environments, in a thread that lives as long as LocalStack."""
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, name="sandboxes", daemon=True).start()
    return loop


def _wait(work: Coroutine[Any, Any, _Result]) -> _Result:
    return asyncio.run_coroutine_threadsafe(work, _loop()).result()


@functools.cache
def _code() -> CodeFolder:
    return CodeFolder(Path(os.environ[CACHE_VARIABLE]) / "code")


_counts: Final[dict[str, Counter[str]]] = {}


def _count(name: str, what: str, number: int = 1) -> None:
    _loop().call_soon_threadsafe(_counts.setdefault(name, Counter()).update, {what: number})


@functools.cache
def _serve_counts() -> None:
    def answer(_request: Any) -> Response:
        told = {name: dict(counts) for name, counts in list(_counts.items())}
        return Response(json.dumps(told), mimetype="application/json")

    ROUTER.add(COUNTS_PATH, answer)


class ProcessExecutor(RuntimeExecutor):  # type: ignore[misc] # its types are not here
    """One environment of a function."""

    def __init__(self, id: str, function_version: Any) -> None:  # noqa: A002 - LocalStack's name
        super().__init__(id=id, function_version=function_version)
        folder = Path(os.environ[FOLDER_VARIABLE])
        self._folder = folder / "functions" / id
        self._log = folder / "logs" / f"{function_version.id.function_name}.log"
        self._environment: dict[str, str] = {}
        self._sandbox: Sandbox | None = None

    def start(self, env_vars: dict[str, Any]) -> None:
        """Begin the environment.

        Raises:
            StatusErrorException: its initialization failed; LocalStack answers with the reason.
        """
        self._environment = {
            **{key: str(value) for key, value in env_vars.items()},
            "PYTHONPYCACHEPREFIX": str(Path(os.environ[CACHE_VARIABLE]) / "pycache"),
        }
        failed = _wait(self._begin())
        if failed is not None:
            _count(self.function_version.id.function_name, "errors")
            raise StatusErrorException("The environment does not begin", payload=failed.payload)

    async def _begin(self) -> Answer | None:
        _count(self.function_version.id.function_name, "cold starts")
        self._sandbox = Sandbox(
            self._function(),
            paths=await asyncio.to_thread(self._paths),
            environment=self._environment,
            folder=self._folder,
            log=self._log,
        )
        return await self._sandbox.start()

    def _paths(self) -> list[Path]:
        """Return where its modules are; later layers go before earlier ones."""
        chosen = self.function_version.config
        paths = [_unpacked(chosen.code)]
        for layer in reversed(chosen.layers or []):
            unpacked = _unpacked(layer.code)
            paths += [unpacked / "python", *unpacked.glob("python/lib/*/site-packages")]
        return [*paths, _code().runtime()]

    def _function(self) -> Function:
        version = self.function_version
        return Function(
            name=version.id.function_name,
            version=version.id.qualifier,
            arn=version.id.unqualified_arn(),
            handler=version.config.handler,
            runtime=version.config.runtime,
            timeout=version.config.timeout,
            memory=version.config.memory_size,
            code=version.config.code.code_sha256,
            environment=version.config.environment or {},
            snapstart=False,
        )

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        """Run one invocation in it; begin it again if it had died."""
        name = self.function_version.id.function_name
        _count(name, "invocations")
        _count(name, "running")
        begun = self._log.stat().st_size if self._log.exists() else 0
        try:
            answer = _wait(self._invoke(payload))
        finally:
            _count(name, "running", -1)
        _count(name, "errors", int(answer.error))
        with self._log.open("rb") as log:
            log.seek(begun)
            said = log.read().decode(errors="replace")
        return InvocationResult(payload["invoke-id"], answer.payload, answer.error, said)

    async def _invoke(self, payload: dict[str, str]) -> Answer:
        if self._sandbox is None or not self._sandbox.alive:
            failed = await self._begin()
            if failed is not None or self._sandbox is None:
                raise StatusErrorException(
                    "The environment does not begin again",
                    payload=failed.payload if failed else b"{}",
                )
        return await self._sandbox.invoke(
            Invocation(
                id=payload["invoke-id"],
                payload=payload["payload"].encode(),
                arn=payload["invoked-function-arn"],
                deadline=time.time() + self.function_version.config.timeout,
                trace=payload.get("trace-id", ""),
            )
        )

    def stop(self) -> None:
        """End it, whatever it does."""
        if self._sandbox is not None:
            _wait(self._sandbox.kill())

    def get_address(self) -> str:
        """Return where it is."""
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        """Return the address at which it finds LocalStack."""
        return "127.0.0.1"

    def get_runtime_endpoint(self) -> str:
        """Return where it would answer, if it did so over HTTP."""
        return f"http://127.0.0.1:{config.GATEWAY_LISTEN[0].port}/_localstack_lambda/{self.id}"

    def get_logs(self) -> str:
        """Return what its function has logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @classmethod
    def prepare_version(cls, function_version: Any) -> None:
        """Unpack its code and its layers."""
        _serve_counts()
        for each in (function_version.config.code, *(function_version.config.layers or ())):
            _unpacked(getattr(each, "code", each))

    @classmethod
    def cleanup_version(cls, function_version: Any) -> None:
        """Leave its code: the same bytes are not unpacked again."""
        del function_version


def _unpacked(code: Any) -> Path:
    """Return the folder with an archive's contents."""
    if code.is_hot_reloading():
        return Path(code.get_unzipped_code_location())
    digest = base64.b64decode(code.code_sha256).hex()
    return _code().known(digest) or _code().unpack(_archive(code))


def _archive(code: Any) -> bytes:
    file = io.BytesIO()
    code._download_archive_to_file(file)  # noqa: SLF001 - LocalStack's own way
    return file.getvalue()
