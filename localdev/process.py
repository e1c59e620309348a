"""Start a process that dies with its parent, in a group of its own; end it with all it started."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["DIE_WITH_PARENT", "Child", "memory_of", "start_process"]

DIE_WITH_PARENT: Final = (
    "import ctypes, os, signal, sys;"
    " ctypes.CDLL(None).prctl(1, signal.SIGKILL);"
    " os.getppid() == int(sys.argv[1]) or sys.exit(1);"
    " os.execvp(sys.argv[2], sys.argv[2:])"
)
"""A process that becomes another, which dies when its parent does."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Child:
    """A running process and its group."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process.returncode is None

    @property
    def code(self) -> int | None:
        """Its exit status; None while it lives, negative for the signal that ended it."""
        return self._process.returncode

    async def wait(self) -> int:
        """Return its exit status once it has ended; nothing of its group is left then."""
        code = await self._process.wait()
        self.send(signal.SIGKILL)  # what it started and did not end
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its whole group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def terminate(self) -> None:
        """Ask it, and it alone, to end: it is what tells those that it started."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    async def end(self, *, seconds: float) -> int:
        """Ask it to end, and make it end after so many seconds; return its exit status."""
        self.terminate()
        try:
            return await asyncio.wait_for(self.wait(), seconds)
        except TimeoutError:
            self.send(signal.SIGKILL)
            return await self.wait()


async def start_process(
    words: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path
) -> Child:
    """Start a process whose output is added to a log; it dies when this process does.

    Call it from the thread that lives longest: Linux ends the child with the thread that started
    it.
    """
    if sys.platform == "linux":
        words = [sys.executable, "-ISc", DIE_WITH_PARENT, str(os.getpid()), *words]
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
    return Child(process)


def memory_of(pid: int) -> int:
    """Return the bytes that a process and its descendants hold in memory; 0 if it is gone."""
    return sum(_resident(each) for each in _family(pid))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for thread in _names(f"/proc/{pid}/task"):
        with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:  # noqa: PTH123 - read 20 times a second
            for child in file.read().split():
                yield from _family(int(child))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - as above
    except OSError:
        return []


def _resident(pid: int) -> int:
    with suppress(OSError, ValueError), open(f"/proc/{pid}/statm") as file:  # noqa: PTH123 - as above
        return int(file.read().split()[1]) * _PAGE
    return 0


def environment_of(chosen: Mapping[str, Any]) -> dict[str, str]:
    """Return an environment with these values and what every program needs of this one."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ
    }
    return kept | {name: str(value) for name, value in chosen.items()}
