"""The parent's side of one worker: its process, its pipes, and the calls in flight on it."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
from collections import deque
from multiprocessing.spawn import get_executable
from pathlib import Path
from time import monotonic
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import noob_cloud
from noob_cloud.executors.arena import CONSUMED, STARTED, STARTED_AT, SharedMemory
from noob_cloud.executors.channel import (
    BOOT,
    CALLS,
    DEFINE,
    TIMED,
    TUBE,
    FrameReader,
    pack,
    write,
)
from noob_cloud.executors.process_boot import module_of
from noob_cloud.executors.process_call import KWARGS, STAGE, Call
from noob_cloud.executors.process_cost import weight
from noob_cloud.executors.process_worker import FLUSH
from noob_cloud.interrupts import held_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from noob_cloud.executors.process_cost import Cost

__all__ = ["LEAVE_SECONDS", "Batch", "Link", "end_all"]

LEAVE_SECONDS = 0.05
"""How long a call that was cancelled may still run: a short one then costs no worker."""

_BOOT = (
    "import sys; sys.path.append(sys.argv[6]); "
    "from noob_cloud.executors.process_worker import main; main(*map(int, sys.argv[1:6]))"
)
_TRIM_BYTES = 64 << 20
"""Arena pages kept when nothing is in flight."""


class Batch:
    """Calls that travel to a worker in one frame."""

    __slots__ = ("calls", "cost", "done", "first", "region", "serial")

    def __init__(self, calls: list[Call], cost: Cost, first: int, serial: int) -> None:
        self.calls = calls
        self.cost = cost
        self.first = first
        """Number of the first call among all that this worker got."""
        self.serial = serial
        self.done = 0
        self.region: tuple[int, int] | None = None

    def short(self, seconds: float) -> bool:
        """Whether each call should take at most so long."""
        return not self.calls or self.cost.seconds * weight(self.calls[0]) <= seconds


class Link:
    """One worker process.

    Args:
        setup: what the worker must know first (`process_boot.setup`).
        arena_bytes: bytes of shared memory for each direction.
    """

    def __init__(self, setup: dict[str, Any], arena_bytes: int) -> None:
        source, self.sink = os.pipe()
        self.source, sink = os.pipe()
        os.set_blocking(self.source, False)
        memory_fd = SharedMemory.create(arena_bytes)
        try:
            numbers = (source, sink, memory_fd, arena_bytes, os.getpid())
            where = str(Path(noob_cloud.__file__).parents[1])
            with held_back():
                self.process = subprocess.Popen(  # noqa: S603 - this interpreter
                    [
                        os.fsdecode(get_executable()),
                        *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
                        "-c",
                        _BOOT,
                        *map(str, numbers),
                        where,
                    ],
                    pass_fds=numbers[:3],
                    stdin=subprocess.DEVNULL,
                )
            self.memory = SharedMemory(memory_fd, arena_bytes)
        finally:
            for fd in (source, sink, memory_fd):
                os.close(fd)
        self.pidfd = os.pidfd_open(self.process.pid)
        self.reader = FrameReader(self.source)
        self.inflight: deque[Batch] = deque()
        self.ready = False
        self.lost = False
        self.revoking_since: float | None = None
        self.kill_at: float | None = None
        """When to kill it for good, if it has been asked to end."""
        self.leave_at: float | None = None
        """When to ask it to end if it still runs a call that was cancelled."""
        self.ended_by_us = False
        """We end it because of one of its calls; the others are not to blame."""
        self.given_up = False
        """What it still sends is not read."""
        self.seen = -1
        self.seen_at = 0.0
        self._flushed = -1
        self._units = 0
        self._batches = 0
        self._replies = 0
        self._functions: dict[Any, int] = {}
        self._modules: set[str] = set()
        self._tubes: set[str] = set()
        self._kept: dict[int, tuple[int, int]] = {}
        self._early: list[tuple[int, tuple[int, int]]] = []
        self._write(BOOT, setup)

    # ---- sending

    def send(self, calls: list[Call], cost: Cost) -> Batch:
        """Send calls of one function and one shape; they are in flight when this returns.

        Raises:
            ArenaFullError: the arguments do not fit the arena now.
            Exception: what pickling the arguments raises. Nothing is in flight then.
        """
        first = calls[0]
        mode, function = first.mode, first.fn
        number = 0
        if mode == STAGE:
            function = None  # type: ignore[assignment]
            if first.document is not None and first.args[0] not in self._tubes:
                self._write(TUBE, (first.args[0], first.document))
                self._tubes.add(first.args[0])
        else:
            by_name = goes_by_name(function)
            number = self._functions.get(function, 0) if by_name else 0
            if not number:
                number = self._define(function, by_name=by_name)
            if number:
                function = None  # type: ignore[assignment]
        items = [c.args for c in calls] if mode != KWARGS else [(c.args, c.kwargs) for c in calls]
        frame, region = pack(
            CALLS,
            (number, mode, function, items),
            self.memory.view,
            self.memory.to_worker,
            flags=0 if first.timeout is None else TIMED,
            count=len(calls),
        )
        self._batches += 1
        batch = Batch(calls, cost, self._units + 1, self._batches)
        batch.region = region
        self._units += len(calls)
        self.inflight.append(batch)
        self._transmit(frame)
        return batch

    def _define(self, function: Callable[..., Any], *, by_name: bool) -> int:
        """Send what the worker needs to import the function; number it if it goes by its name."""
        module, file = module_of(function)
        if not by_name and module in self._modules:
            return 0
        pickled = pickle.dumps(function) if by_name else b""
        number = len(self._functions) + 1 if by_name else 0
        self._write(DEFINE, (number, (module, file), pickled))
        self._modules.add(module)
        if by_name:
            self._functions[function] = number
        return number

    def _write(self, kind: int, value: Any) -> None:
        frame, region = pack(kind, value, self.memory.view, self.memory.to_worker)
        self._transmit(frame)
        if region is not None:  # read before any later batch: free with the next one
            self._early.append((self._batches + 1, region))

    def _transmit(self, frame: bytes) -> None:
        # A worker that is gone is noticed by the end of its stream, with these calls in flight.
        with contextlib.suppress(ConnectionError):
            write(self.sink, frame)

    # ---- receiving

    def receive(self) -> bool:
        """Read once without waiting; False at the end of the stream."""
        try:
            return self.reader.fill()
        except BlockingIOError:
            return True

    def read_one(self) -> None:
        """Count an answer whose content has been copied out of the arena."""
        self._replies += 1
        self.memory.control[CONSUMED] = self._replies

    def finish_batch(self, *, keep: bool, released: list[int] | None) -> None:
        """Drop the oldest batch; its arguments' memory is free unless the worker keeps it."""
        batch = self.inflight.popleft()
        while self._early and self._early[0][0] <= batch.serial:
            self.memory.to_worker.give(self._early.pop(0)[1])
        for serial in released or ():
            self.memory.to_worker.give(self._kept.pop(serial))
        if batch.region is not None:
            if keep:
                self._kept[batch.serial] = batch.region
            else:
                self.memory.to_worker.give(batch.region)
                if batch.region[0] + batch.region[1] > _TRIM_BYTES:
                    self.memory.trim(_TRIM_BYTES)
        if not self.inflight and self.revoking_since is not None:
            self.revoking_since = None
            self.memory.revoke(None)

    # ---- what the worker is doing

    def started(self) -> int:
        """Number of the call it has started last."""
        return int(self.memory.control[STARTED])

    def carries(self, call: Call) -> bool:
        """Whether the call is in flight here."""
        return any(call in batch.calls for batch in self.inflight)

    def current(self) -> tuple[Call | None, float]:
        """The call it runs, and when that started (known for calls with a timeout)."""
        started = self.started()
        for batch in self.inflight:
            if batch.first <= started < batch.first + len(batch.calls):
                began = self.memory.control[STARTED_AT] / 1e9
                return batch.calls[started - batch.first], began
        return None, 0.0

    def flush(self, started: int) -> None:
        """Ask for the results before the call that runs; once for each such call."""
        if self._flushed != started:
            self._flushed = started
            self.signal(FLUSH)

    def revoke(self, started: int, now: float) -> None:
        """Forbid it to start what follows the call that runs."""
        self.memory.revoke(started + 1)
        self.revoking_since = now

    # ---- its end

    def end(self, grace: float) -> None:
        """Ask it to leave its call and end; `kill_at` says when to be firm."""
        self.ended_by_us = True
        if self.kill_at is None:
            self.kill_at = monotonic() + grace
            self.signal(signal.SIGTERM)

    def leave(self) -> None:
        """Have it end soon if it is still busy then with a call that was cancelled."""
        if self.leave_at is None:
            self.leave_at = monotonic() + LEAVE_SECONDS

    def give_up(self) -> None:
        """Kill it and read no more from it."""
        self.given_up = self.ended_by_us = True
        self.kill_at = monotonic()
        self.process.kill()

    def signal(self, number: int) -> None:
        """Send a signal to a process that may have ended."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def hang_up(self) -> None:
        """Close our end of its pipe: the worker ends when it has nothing more to read."""
        if self.sink >= 0:
            os.close(self.sink)
            self.sink = -1

    def reap(self, timeout: float) -> int:
        """Wait for the process, kill it when time is up, free what belongs to it."""
        self.lost = True
        self.hang_up()
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        os.close(self.source)
        os.close(self.pidfd)
        self.memory.close()
        return code


def end_all(links: list[Link], seconds: float) -> None:
    """Let idle workers end, all at the same time; kill those that have not after `seconds`."""
    for link in links:
        link.hang_up()
    end = monotonic() + seconds
    for link in links:
        link.reap(max(0.0, end - monotonic()))


def goes_by_name(function: Any) -> bool:
    """Whether a callable pickles as a name, so that a worker may keep what it once looked up."""
    return type(function) is FunctionType or (
        type(function) is BuiltinFunctionType and isinstance(function.__self__, ModuleType)
    )
