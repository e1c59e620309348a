"""Slots: where a worker's tasks run, and where they can be stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import OrderedDict
from contextlib import suppress
from multiprocessing.connection import Connection
from threading import Lock, Semaphore
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from noob_cloud import codec
from noob_cloud.exceptions import TaskCancelledError, TaskTimeoutError, WorkerLostError
from noob_cloud.interrupts import held_back
from noob_cloud.worker import child
from noob_cloud.worker.execute import outcome_of_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noob_cloud.worker.child import Reply

_GRACE = 0.5
"""Seconds that an interrupted node has for its `finally` clauses before it is killed."""
_START_SECONDS = 60.0
_DOCUMENTS = 256
"""Tubes whose documents are kept for children that start later."""


class Slots(Protocol):
    """Runs frames one at a time in each of `limit` places."""

    limit: int

    def run(
        self, frame: bytes, *, timeout: float | None, stop: Stop, kind: bytes = child.CALL
    ) -> Reply:
        """Run one call and wait for its answer; never raises for what the call does."""
        ...

    def warm(self) -> None:
        """Get ready for the first call."""
        ...

    def load(self, document: bytes) -> Reply:
        """Know a tube from now on, and load it once to see that it loads."""
        ...

    def close(self) -> None:
        """Stop what runs and end the places."""
        ...


def slots(limit: int, *, isolate: bool, allowed_modules: Sequence[str] | None) -> Slots:
    """Make child processes to run in, or threads of this process."""
    if isolate:
        return ProcessSlots(limit, allowed_modules=allowed_modules)
    from noob_cloud.worker.threads import ThreadSlots  # noqa: PLC0415 - it takes Stop from here

    return ThreadSlots(limit, allowed_modules=allowed_modules)


class Interruptible(Protocol):
    """Where a call runs."""

    def interrupt(self) -> None:
        """Stop the call that runs there."""
        ...


class Stop:
    """A way to stop one call from another thread. Made by the caller, filled by the slot."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._place: Interruptible | None = None
        self.reason: str | None = None
        """Why the call is to stop; None while it may run."""

    def __call__(self, reason: str = "the task was cancelled") -> None:
        """Stop the call now, or keep it from starting."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            if self._place is not None:  # under the lock: never a call that came after
                self._place.interrupt()

    def enter(self, place: Interruptible) -> bool:
        """Say where the call runs; False when it is not to run any more."""
        with self._lock:
            if self.reason is not None:
                return False
            self._place = place
            return True

    def leave(self) -> None:
        """Say that the call has ended."""
        with self._lock:
            self._place = None


class Child:
    """One child process, started when made and ready when first asked."""

    def __init__(self, allowed_modules: Sequence[str] | None) -> None:
        here, there = socket.socketpair()
        with there, held_back():
            setup = {
                "fd": there.fileno(),
                "path": sys.path,
                "allowed_modules": None if allowed_modules is None else list(allowed_modules),
            }
            self._process = subprocess.Popen(  # noqa: S603 - this package, this interpreter
                [sys.executable, "-m", "noob_cloud.worker.child", json.dumps(setup)],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
        self._connection = Connection(here.detach())
        self._ready = False
        self._deadline: float | None = None

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def ask(self, kind: bytes, body: bytes, *, timeout: float | None) -> Reply | None:
        """Send a message and return the answer; None when `timeout` seconds have passed.

        Raises:
            WorkerLostError: the process died.
        """
        try:
            if not self._ready:
                if self._receive(_START_SECONDS) is None:
                    raise WorkerLostError(f"no answer in {_START_SECONDS:g} s from a new child")
                self._ready = True
            self._connection.send_bytes(kind)
            self._connection.send_bytes(body)
            return self._receive(timeout)
        except (EOFError, OSError) as error:
            raise WorkerLostError(f"the process that ran the task {self._fate()}") from error

    def interrupt(self) -> None:
        """Stop the running node: by an exception, and by a kill when that does not help."""
        with suppress(ProcessLookupError):
            self._process.send_signal(child.INTERRUPT)
        self._deadline = monotonic() + _GRACE

    def wait(self) -> None:
        """Wait until an interrupted node has ended, or has been killed."""
        with suppress(EOFError, OSError):
            self._receive(None)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _receive(self, timeout: float | None) -> Reply | None:
        end = None if timeout is None else monotonic() + timeout
        while True:
            now = monotonic()
            if self._deadline is not None and now >= self._deadline:
                self._process.kill()
            if end is not None and now >= end:
                return None
            wait = 0.1 if end is None else min(0.1, end - now)
            if self._connection.poll(wait):
                return self._connection.recv_bytes(), self._connection.recv_bytes()

    def _fate(self) -> str:
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


class ProcessSlots:
    """Each call in a child process of its own, `limit` at once; children are kept and reused.

    A node that hangs, eats memory or crashes its interpreter takes its child with it, and
    nothing else: the call gets an error outcome and the next call a new child.

    Args:
        limit: calls at once.
        allowed_modules: prefixes of the modules that a tube may import; None: any.
    """

    def __init__(self, limit: int, *, allowed_modules: Sequence[str] | None) -> None:
        self.limit = limit
        self._allowed = allowed_modules
        self._places = Semaphore(limit)
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._documents: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """The children that are alive."""
        with self._lock:
            return [running.pid for running in (*self._idle, *self._busy)]

    def run(
        self, frame: bytes, *, timeout: float | None, stop: Stop, kind: bytes = child.CALL
    ) -> Reply:
        """Run one call in an idle child, or a new one; the answer's kind is one of `child`'s."""
        with self._places:
            running = self._take()
            reply: Reply | None = None
            error: Exception = TaskTimeoutError(f"the task ran longer than its {timeout} seconds")
            try:
                if stop.enter(running):
                    reply = self._ask(running, kind, frame, timeout)
            except WorkerLostError as lost:
                error = lost
            finally:
                stop.leave()
            if stop.reason is not None:
                reply, error = None, TaskCancelledError(stop.reason)
            if reply is not None:
                self._give(running)
                return reply
            self._drop(running)
            return failed(error)

    def _ask(
        self, running: Child, kind: bytes, frame: bytes, timeout: float | None
    ) -> Reply | None:
        reply = running.ask(kind, frame, timeout=timeout)
        if reply is not None and reply[0] == child.UNKNOWN:
            document = self._documents.get(reply[1].decode())
            if document is not None:
                running.ask(child.TUBE, document, timeout=_START_SECONDS)
                reply = running.ask(kind, frame, timeout=timeout)
        if reply is None:
            running.interrupt()
            running.wait()
        return reply

    def warm(self) -> None:
        """Start one child, so that the first call need not wait for it."""
        with self._lock:
            if not self._idle and not self._closed:
                self._idle.append(Child(self._allowed))

    def load(self, document: bytes) -> Reply:
        """Load a tube in one child; keep its document for the others."""
        with self._places:
            running = self._take()
            try:
                reply = running.ask(child.TUBE, document, timeout=_START_SECONDS)
            except WorkerLostError as error:
                self._drop(running)
                return failed(error)
            if reply is None:
                self._drop(running)
                return failed(TaskTimeoutError(f"the tube did not load in {_START_SECONDS:g} s"))
            self._give(running)
        if reply[0] == child.OUTCOME:
            self._keep(codec.loads(reply[1]).value["cid"], document)
        return reply

    def close(self) -> None:
        """Kill every child, with what it runs."""
        with self._lock:
            self._closed = True
            idle, busy = list(self._idle), list(self._busy)
            self._idle.clear()
        for running in busy:
            running.interrupt()  # its own thread sees it die and drops it
        for running in idle:
            running.kill()

    def _keep(self, cid: str, document: bytes) -> None:
        with self._lock:
            self._documents[cid] = document
            self._documents.move_to_end(cid)
            while len(self._documents) > _DOCUMENTS:
                self._documents.popitem(last=False)

    def _take(self) -> Child:
        with self._lock:
            running = self._idle.pop() if self._idle else Child(self._allowed)
            self._busy.add(running)
            return running

    def _give(self, running: Child) -> None:
        with self._lock:
            self._busy.discard(running)
            if not self._closed:
                self._idle.append(running)
                return
        running.kill()

    def _drop(self, running: Child) -> None:
        with self._lock:
            self._busy.discard(running)
        running.kill()


def failed(error: Exception) -> Reply:
    """Answer a call with an error of the worker's own."""
    return child.ERROR, codec.dumps(outcome_of_error(error))
