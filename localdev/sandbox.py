"""One execution environment of a function: a process under AWS's runtime client, with limits."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from localdev.process import environment_of, memory_of, start_process
from localdev.runtime import Answer, Invocation, RuntimeApi

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from localdev.functions import Function
    from localdev.process import Child

__all__ = ["Sandbox"]

_INIT_SECONDS: Final = 10.0
"""How long an initialization may take, as on AWS."""
_LOOK_SECONDS: Final = 0.02
"""How often a running function's memory is looked at."""
_MIB: Final = 1 << 20


class Sandbox:
    """Runs one invocation at a time; is frozen between them, as on AWS.

    Args:
        function: what runs.
        paths: where its modules are: its code, its layers, what the runtime brings.
        environment: what the platform tells it, beside the function's own variables.
        folder: its own temporary folder.
        log: the file that its output is added to.
    """

    def __init__(
        self,
        function: Function,
        *,
        paths: list[Path],
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
    ) -> None:
        self.function = function
        self.used = 0.0
        """When it last answered, on the monotonic clock."""
        self._paths = paths
        self._environment = environment
        self._folder = folder
        self._log = log
        self._api = RuntimeApi(function.arn)
        self._child: Child | None = None
        self._peak = 0

    @property
    def alive(self) -> bool:
        """Whether it can take another invocation."""
        return self._child is not None and self._child.running

    async def start(self) -> Answer | None:
        """Start it and wait until it is initialized; return what that failed with."""
        self._folder.mkdir(parents=True, exist_ok=True)
        address = await self._api.start()
        function = self.function
        told = {
            **function.environment,
            **self._environment,
            "AWS_LAMBDA_RUNTIME_API": address,
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": function.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": function.memory,
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": self._folder.name,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start" if function.snapstart else "on-demand",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
            "LAMBDA_TASK_ROOT": self._paths[0],
            "LAMBDA_RUNTIME_DIR": self._paths[-1],
            "_HANDLER": function.handler,
            "PYTHONPATH": ":".join(map(str, self._paths)),
            "HOME": self._folder,
            "TMPDIR": self._folder,
            "TZ": ":UTC",
        }
        words = [sys.executable, "-S", "-m", "awslambdaric", function.handler]
        began = time.monotonic()
        self._child = await start_process(
            words, environment=environment_of(told), folder=self._paths[0], log=self._log
        )
        ended = asyncio.ensure_future(self._child.wait())
        ready = asyncio.ensure_future(self._api.began.wait())
        await asyncio.wait({ended, ready}, timeout=_INIT_SECONDS, return_when="FIRST_COMPLETED")
        ready.cancel()
        if self._api.began.is_set():
            self._say(f"INIT_REPORT Init Duration: {1000 * (time.monotonic() - began):.2f} ms")
            return None
        if ended.done():
            failed = self._api.init_error or _exited(ended.result(), "init")
        else:
            failed = Answer.failed(
                "Sandbox.Timedout", f"Initialization timed out after {_INIT_SECONDS:.2f} seconds"
            )
        await self.kill()
        return failed

    async def invoke(self, invocation: Invocation) -> Answer:
        """Run one invocation; return what came of it. After a crash it is not alive."""
        if self._child is None:
            raise RuntimeError("a sandbox is started before it is used")
        self._say(f"START RequestId: {invocation.id} Version: {self.function.version}")
        began = time.monotonic()
        self._peak = 0
        self._child.send(signal.SIGCONT)
        answered = asyncio.ensure_future(self._api.invoke(invocation))
        ended = asyncio.ensure_future(self._child.wait())
        watched = asyncio.ensure_future(self._exhausted())
        left = max(0.0, invocation.deadline - time.time())
        try:
            await asyncio.wait(
                {answered, ended, watched}, timeout=left, return_when="FIRST_COMPLETED"
            )
            answer = await self._settle(invocation, answered, ended, watched)
        finally:
            for each in (answered, ended, watched):
                each.cancel()
            with suppress(asyncio.CancelledError):
                await answered
        self._peak = max(self._peak, memory_of(self._child.pid))
        if self.alive:
            self._child.send(signal.SIGSTOP)
        self.used = time.monotonic()
        self._say(
            f"END RequestId: {invocation.id}\n"
            f"REPORT RequestId: {invocation.id} Duration: {1000 * (self.used - began):.2f} ms"
            f" Memory Size: {self.function.memory} MB Max Memory Used: {self._peak // _MIB} MB"
        )
        return answer

    async def _settle(
        self,
        invocation: Invocation,
        answered: asyncio.Future[Answer],
        ended: asyncio.Future[int],
        watched: asyncio.Future[None],
    ) -> Answer:
        if answered.done():
            return answered.result()
        if ended.done():
            return _exited(ended.result(), invocation.id)
        await self.kill()
        if watched.done():
            return _exited(-signal.SIGKILL, invocation.id)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return Answer.failed(
            "Sandbox.Timedout",
            f"{now} {invocation.id} Task timed out after {self.function.timeout:.2f} seconds",
        )

    async def _exhausted(self) -> None:
        """Return when it holds more memory than the function may."""
        limit = self.function.memory * _MIB
        while self._child is not None:
            held = memory_of(self._child.pid)
            self._peak = max(self._peak, held)
            if held > limit:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def kill(self) -> None:
        """End it and everything it started."""
        self._api.stop()
        if self._child is not None:
            self._child.send(signal.SIGKILL)
            await self._child.wait()

    def _say(self, text: str) -> None:
        with self._log.open("a") as file:
            file.write(text + "\n")


def _exited(code: int, request: str) -> Answer:
    how = f"exit status {code}"
    if code < 0:
        how = f"signal: {signal.Signals(-code).name.removeprefix('SIG').lower()}"
        how = "signal: killed" if -code == signal.SIGKILL else how
    reason = (
        f"Runtime exited with error: {how}" if code else "Runtime exited without providing a reason"
    )
    return Answer.failed("Runtime.ExitError", f"RequestId: {request} Error: {reason}")
