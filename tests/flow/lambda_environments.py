"""Execution environments of Lambda on this machine, for the tests beside this file."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4
from zipfile import ZipFile

from localdev.code import CodeFolder
from localdev.functions import Function
from localdev.runtime import Invocation
from localdev.sandbox import Sandbox

from noob_cloud.serverless.package import pack

ROOT = Path(__file__).parents[2]
TUBES = ROOT / "tests" / "tubes"


class Environments:
    """A function: environments of it, started when they are needed, as on Lambda.

    It has the worker's handler, the test nodes packed as a user's project, and this checkout in
    the place of the layers.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        code = folder / "code"
        packed = pack(TUBES, folder / "packed", arch="x86_64")
        with ZipFile(packed.path) as archive:
            archive.extractall(code)
        shutil.copy(ROOT / "functions" / "worker" / "handler.py", code)
        self.cid = packed.cid
        self.log = folder / "lambda.log"
        self.environment = {"NOOB_CLOUD_CODE": packed.cid, **environment}
        installed = [Path(path) for path in sys.path if path.endswith("site-packages")]
        runtime = CodeFolder(folder / "unpacked").runtime()
        self._paths = [code, ROOT / "layers" / "runtime", *installed, runtime]
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._idle: list[Sandbox] = []
        self.all: list[Sandbox] = []

    def invoke(self, event: Any, *, timeout: float = 30.0, memory: int = 1024) -> tuple[Any, bool]:
        """Call it; return what it answers, and whether that is an error."""
        work = self._invoke(event, timeout, memory)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout + 60)

    async def _invoke(self, event: Any, timeout: float, memory: int) -> tuple[Any, bool]:  # noqa: ASYNC109 - Lambda's own
        sandbox = next((each for each in self._idle if each.alive), None)
        if sandbox is None:
            sandbox = self._make(timeout, memory)
            self.all.append(sandbox)
            failed = await sandbox.start()
            if failed is not None:
                return json.loads(failed.payload), True
        else:
            self._idle.remove(sandbox)
        deadline = time.time() + timeout
        call = Invocation(str(uuid4()), json.dumps(event).encode(), sandbox.function.arn, deadline)
        answer = await sandbox.invoke(call)
        if sandbox.alive:
            self._idle.append(sandbox)
        return json.loads(answer.payload), answer.error

    def _make(self, timeout: float, memory: int) -> Sandbox:
        function = Function(
            name="worker",
            version="1",
            arn="arn:aws:lambda:us-east-1:123456789012:function:worker",
            handler="handler.handler",
            runtime=f"python3.{sys.version_info.minor}",
            timeout=timeout,
            memory=memory,
            code="worker",
            environment=self.environment,
        )
        number = len(self.all)
        return Sandbox(
            function,
            paths=self._paths,
            environment={"AWS_REGION": "us-east-1", "PATH": os.environ["PATH"]},
            folder=self.folder / f"environment-{number}",
            log=self.log,
        )

    def kill(self) -> None:
        """End every environment at once, whatever it does."""
        for sandbox in self.all:
            asyncio.run_coroutine_threadsafe(sandbox.kill(), self._loop).result(10)

    def close(self) -> None:
        """End everything."""
        self.kill()
        asyncio.run_coroutine_threadsafe(_end_others(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _end_others() -> None:
    """End the connections that the killed processes left."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
