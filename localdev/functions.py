"""Run deployed functions: as many environments as calls at once, within limits."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from localdev.runtime import Answer, Invocation
from localdev.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from localdev.code import CodeFolder

__all__ = ["Function", "Functions", "ThrottledError"]

_IDLE_SECONDS: Final = 120.0
"""How long an environment that nobody calls is kept."""
_MAX_PAYLOAD: Final = 6 << 20
"""Bytes of an answer, and of a call that waits for one."""


class ThrottledError(Exception):
    """All the environments that may run at once are busy."""


@dataclass(frozen=True, slots=True)
class Function:
    """A deployed function, at one version."""

    name: str
    version: str
    arn: str
    """Without a qualifier."""
    handler: str
    runtime: str
    timeout: float
    memory: int
    """In MiB."""
    code: str
    """What its archive is called where it is fetched."""
    layers: tuple[str, ...] = ()
    """The same of its layers, in their order: later ones go before earlier ones."""
    environment: Mapping[str, str] = field(default_factory=dict)
    reserved: int | None = None
    """How many environments it may have; None: as many as there are."""
    snapstart: bool = False

    @property
    def key(self) -> tuple[Any, ...]:
        """What an environment must have in common with it, to be used for it."""
        variables = tuple(sorted(self.environment.items()))
        return (self.name, self.version, self.handler, self.code, self.layers, self.timeout,
                self.memory, self.snapstart, variables)  # fmt: skip


class Functions:
    """The environments of all functions on this machine.

    Args:
        folder: of their temporary files.
        logs: one log a function.
        code: where archives are unpacked.
        fetch: gets an archive by what it is called.
        environment: what every function is told: endpoint, region, credentials.
        concurrency: how many environments may run at once, of all functions.
    """

    def __init__(
        self,
        folder: Path,
        *,
        logs: Path,
        code: CodeFolder,
        fetch: Callable[[str], Awaitable[bytes]],
        environment: Mapping[str, str],
        concurrency: int,
    ) -> None:
        self._folder = folder
        self._logs = logs
        self._code = code
        self._fetch = fetch
        self._environment = environment
        self.concurrency = concurrency
        self.running: Counter[str] = Counter()
        """How many invocations of each function run now."""
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        """For each function: invocations, errors, throttles, cold starts."""
        self._idle: dict[tuple[Any, ...], list[Sandbox]] = defaultdict(list)
        self._all: set[Sandbox] = set()
        self._unpacked: dict[str, Path] = {}

    async def invoke(
        self, function: Function, payload: bytes, *, qualifier: str = "", context: str = ""
    ) -> Answer:
        """Run a function once, and wait for it.

        Raises:
            ThrottledError: too many run already.
        """
        counts = self.counts[function.name]
        limit = self.concurrency if function.reserved is None else function.reserved
        if self.running[function.name] >= limit or self.running.total() >= self.concurrency:
            counts["throttles"] += 1
            raise ThrottledError(
                f"Rate Exceeded: {self.running[function.name]} invocations of {function.name} run,"
                f" {self.running.total()} in all; at most {limit} and {self.concurrency} may."
            )
        self.running[function.name] += 1
        counts["invocations"] += 1
        try:
            answer = await self._run(function, payload, qualifier, context)
        finally:
            self.running[function.name] -= 1
        if len(answer.payload) > _MAX_PAYLOAD:
            answer = Answer.failed(
                "Function.ResponseSizeTooLarge",
                f"Response payload size ({len(answer.payload)} bytes) exceeded maximum allowed"
                f" payload size ({_MAX_PAYLOAD} bytes).",
            )
        counts["errors"] += answer.error
        return answer

    async def _run(
        self, function: Function, payload: bytes, qualifier: str, context: str
    ) -> Answer:
        idle = self._idle[function.key]
        while idle:
            sandbox = idle.pop()
            if sandbox.alive:
                break
            self._all.discard(sandbox)
        else:
            sandbox = await self._prepare(function)
            self._all.add(sandbox)
            self.counts[function.name]["cold starts"] += 1
            failed = await sandbox.start()
            if failed is not None:
                self._all.discard(sandbox)
                return failed
        arn = f"{function.arn}:{qualifier}" if qualifier else function.arn
        invocation = Invocation(
            id=str(uuid4()),
            payload=payload,
            arn=arn,
            deadline=time.time() + function.timeout,
            trace=f"Root=1-{int(time.time()):08x}-{uuid4().hex[:24]};Sampled=0",
            client_context=context,
        )
        try:
            answer = await sandbox.invoke(invocation)
        except BaseException:
            await sandbox.kill()
            self._all.discard(sandbox)
            raise
        if sandbox.alive:
            idle.append(sandbox)
        else:
            self._all.discard(sandbox)
        return answer

    async def _prepare(self, function: Function) -> Sandbox:
        names = [function.code, *reversed(function.layers)]
        found = [await self._unpack(name) for name in names]
        paths = found[:1]
        for layer in found[1:]:
            paths += [layer / "python", *layer.glob("python/lib/*/site-packages")]
        return Sandbox(
            function,
            paths=[*paths, self._code.runtime()],
            environment=self._environment,
            folder=self._folder / f"{function.name}-{uuid4().hex[:8]}",
            log=self._logs / f"{function.name}.log",
        )

    async def _unpack(self, name: str) -> Path:
        if name not in self._unpacked:
            archive = await self._fetch(name)
            self._unpacked[name] = await asyncio.to_thread(self._code.unpack, archive)
        return self._unpacked[name]

    async def sweep(self, deployed: set[tuple[Any, ...]]) -> None:
        """End environments that nobody used for long, or whose function is no longer deployed."""
        now = time.monotonic()
        for key, idle in list(self._idle.items()):
            for sandbox in list(idle):
                if key not in deployed or now - sandbox.used > _IDLE_SECONDS or not sandbox.alive:
                    idle.remove(sandbox)
                    self._all.discard(sandbox)
                    await sandbox.kill()
            if not idle:
                self._idle.pop(key, None)

    async def stop(self) -> None:
        """End all environments."""
        await asyncio.gather(*(sandbox.kill() for sandbox in self._all))
        self._all.clear()
        self._idle.clear()
