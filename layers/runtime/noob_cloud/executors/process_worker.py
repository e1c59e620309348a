"""The loop of a worker process: read a frame of calls, run them, answer.

Started by `process_link.Link` as `python -c`; what it needs comes in the first frame.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import traceback
from time import monotonic_ns, perf_counter, sleep
from typing import TYPE_CHECKING, Any

from noob_cloud.executors import process_boot
from noob_cloud.executors.arena import (
    CONSUMED,
    REVOKED,
    STARTED,
    STARTED_AT,
    ArenaFullError,
    SharedMemory,
)
from noob_cloud.executors.channel import (
    BOOT,
    BROKEN,
    CALLS,
    DEFINE,
    HELLO,
    PARTIAL,
    REPLY,
    TIMED,
    TUBE,
    Borrowed,
    FrameReader,
    pack,
    unpack_borrowed,
    write,
)
from noob_cloud.executors.process_call import CHUNK, KWARGS, STAGE, STARRED_CHUNK
from noob_cloud.interrupts import leave_to_parent
from noob_cloud.upstream import quieten

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FLUSH", "Server", "main"]

FLUSH = getattr(signal, "SIGRTMIN", signal.SIGUSR2)
"""Asks a worker that is busy with a long call to send the results before it."""
_ARENA_PATIENCE = 0.0005
"""Seconds between two looks whether the parent has read what fills the arena."""
_NOTES = ("__notes__", "node_id", "epoch", "_noob_cloud_finished")
"""What is set on an exception after it was made, and its own `__reduce__` may not know."""


class PartialChunkError(Exception):
    """A chunk raised; carries what came before."""

    def __init__(self, results: list[Any], error: BaseException) -> None:
        super().__init__()
        self.results = results
        self.error = error


class Server:
    """One worker's side of its pipes and memory.

    Args:
        source: descriptor to read frames from.
        sink: descriptor to write answers to.
        memory: what the two share.
    """

    def __init__(self, source: int, sink: int, memory: SharedMemory) -> None:
        self._sink = sink
        self._memory = memory
        self._reader = FrameReader(source)
        self._pickled: dict[int, bytes] = {}
        self._functions: dict[int, Callable[..., Any]] = {}
        self._tubes: dict[str, bytes] = {}
        self._unit = self._batches = 0
        self._replies = 0
        self._lent: list[tuple[int, tuple[int, int]]] = []
        self._held: list[tuple[int, Borrowed]] = []
        self._busy = False
        self._ending = False
        self._results: list[Any] = []
        self._errors: list[tuple[int, bytes]] = []
        self._sent = 0

    def serve(self) -> None:
        """Answer frames until the parent closes the pipe or is gone."""
        while not self._ending:
            if not self._reader.fill():
                return
            while (frame := self._reader.next()) is not None:
                kind, flags, count, regions, payload = frame
                if kind == CALLS:
                    self._calls(flags, count, regions, payload)
                    if self._ending:
                        return
                elif kind == DEFINE:
                    number, hint, pickled = self._load(flags, regions, payload)[0]
                    process_boot.remember(*hint)
                    self._pickled[number] = pickled
                elif kind == TUBE:
                    cid, document = self._load(flags, regions, payload)[0]
                    self._tubes[cid] = document
                elif kind == BOOT and not self._boot(self._load(flags, regions, payload)[0]):
                    return

    # ---- signals

    def on_flush(self, *_: object) -> None:
        """Send the results so far; the call that runs goes on."""
        count = len(self._results)
        if self._busy and count > self._sent:
            self._busy = False
            errors = [e for e in self._errors if self._sent <= e[0] < count]
            self._reply(PARTIAL, self._results[self._sent : count], errors, 0.0, 0)
            self._sent = count
            self._busy = True

    def on_terminate(self, *_: object) -> None:
        """Leave the call that runs, through its `finally` clauses, and then the process."""
        self._ending = True
        raise SystemExit(128 + signal.SIGTERM)

    # ---- frames

    def _load(self, flags: int, regions: int, payload: memoryview) -> tuple[Any, Borrowed | None]:
        return unpack_borrowed(flags, regions, payload, self._memory.view)

    def _boot(self, setup: dict[str, Any]) -> bool:
        try:
            process_boot.prepare(setup)
            if setup["initializer"] is not None:
                initializer, initargs = pickle.loads(setup["initializer"])  # noqa: S301 - own parent
                initializer(*initargs)
        except BaseException:  # noqa: BLE001 - whatever it is, the parent says it
            self._send(BROKEN, traceback.format_exc())
            return False
        self._send(HELLO, os.getpid())
        return True

    def _calls(self, flags: int, count: int, regions: int, payload: memoryview) -> None:
        self._batches += 1
        self._results, self._errors, self._sent = [], [], 0
        borrowed: Borrowed | None = None
        try:
            (number, mode, function, items), borrowed = self._load(flags, regions, payload)
            function = self._function(number, mode, function)
        except BaseException as error:  # noqa: BLE001 - an argument may raise anything when loaded
            self._unit += count
            self._memory.control[STARTED] = self._unit
            self._reply(REPLY, [], [(-1, _portable(error))], 0.0, 0)
            return
        start = perf_counter()
        self._busy = True
        try:
            self._run(function, items, timed=bool(flags & TIMED))
        finally:
            self._busy = False
        if self._ending:
            return
        elapsed = perf_counter() - start
        skipped = count - len(self._results)
        self._unit += skipped
        del items
        results = self._results[self._sent :] if self._sent else self._results
        self._results = []
        self._reply(REPLY, results, self._errors, elapsed, skipped, borrowed)

    def _function(self, number: int, mode: int, function: Any) -> Callable[[Any], Any]:
        """Give the function of a frame as one that takes an item."""
        if mode == STAGE:
            return self._stage()
        if number:
            if number not in self._functions:
                self._functions[number] = pickle.loads(self._pickled[number])  # noqa: S301 - ours
            function = self._functions[number]
        return _adapt(function, mode)

    def _run(self, function: Callable[[Any], Any], items: list[Any], *, timed: bool) -> None:
        control, unit, results = self._memory.control, self._unit, self._results
        for item in items:
            if control[REVOKED] <= unit + 1:
                break
            unit += 1
            self._unit = unit
            if timed:
                control[STARTED_AT] = monotonic_ns()
            control[STARTED] = unit
            try:
                value = function(item)
            except BaseException as error:  # noqa: BLE001 - comes home
                if self._ending:
                    return
                value = None
                if isinstance(error, PartialChunkError):
                    value, error = error.results, error.error
                self._errors.append((len(results), _portable(error)))
            results.append(value)

    def _stage(self) -> Callable[[Any], Any]:
        quieten()
        from noob_cloud.task import StageCall  # noqa: PLC0415 - only for a tube's stages
        from noob_cloud.worker.execute import run_stage  # noqa: PLC0415

        tubes = self._tubes

        def run(item: tuple[Any, ...]) -> Any:
            return run_stage(tubes.get(item[0]), StageCall(*item))

        return run

    # ---- answers

    def _reply(
        self,
        kind: int,
        results: list[Any],
        errors: list[tuple[int, bytes]],
        elapsed: float,
        skipped: int,
        borrowed: Borrowed | None = None,
    ) -> None:
        released = self._release()
        keep = borrowed is not None and borrowed.held()
        if keep and borrowed is not None:
            self._held.append((self._batches, borrowed))
        try:
            self._send(kind, (results, errors or None, elapsed, skipped, keep, released))
        except (ConnectionError, SystemExit):
            raise
        except Exception:  # noqa: BLE001 - one of the results; each alone shows which
            first = self._sent
            for index, value in enumerate(results, first):
                mine = [entry for entry in errors if entry[0] == index]
                try:
                    self._send(PARTIAL, ([value], mine or None, 0.0, 0, False, None))
                except (ConnectionError, SystemExit):
                    raise
                except Exception as error:  # noqa: BLE001 - whatever its __reduce__ raises
                    mine = [(index, _portable(error))]
                    self._send(PARTIAL, ([None], mine, 0.0, 0, False, None))
            if kind == REPLY:
                self._send(kind, ([], None, elapsed, skipped, keep, released))

    def _release(self) -> list[int] | None:
        """Name the batches whose borrowed arguments nothing holds any more."""
        if not self._held:
            return None
        free = [number for number, borrowed in self._held if not borrowed.held()]
        self._held = [entry for entry in self._held if entry[0] not in free]
        return free or None

    def _send(self, kind: int, value: Any) -> None:
        self._reclaim()
        while True:
            try:
                frame, region = pack(kind, value, self._memory.view, self._memory.to_parent)
                break
            except ArenaFullError:
                if not self._lent:
                    raise
                sleep(_ARENA_PATIENCE)
                self._reclaim()
        self._replies += 1
        if region is not None:
            self._lent.append((self._replies, region))
        write(self._sink, frame)

    def _reclaim(self) -> None:
        if self._lent:
            consumed = self._memory.control[CONSUMED]
            while self._lent and self._lent[0][0] <= consumed:
                self._memory.to_parent.give(self._lent.pop(0)[1])


def _adapt(function: Callable[..., Any], mode: int) -> Callable[[Any], Any]:
    if mode == KWARGS:
        return lambda item: function(*item[0], **item[1])
    if mode in (CHUNK, STARRED_CHUNK):
        starred = mode == STARRED_CHUNK

        def run(items: list[Any]) -> list[Any]:
            results: list[Any] = []
            try:
                if starred:
                    results.extend(function(*item) for item in items)
                else:
                    results.extend(map(function, items))
            except BaseException as error:
                raise PartialChunkError(results, error) from error
            return results

        return run
    return lambda item: function(*item)


def _portable(error: BaseException) -> bytes:
    """Pickle (exception, traceback, notes); a RemoteError where the exception would not survive."""
    text = "".join(traceback.format_exception(error))
    found = getattr(error, "__dict__", {})
    notes = {name: found[name] for name in _NOTES if name in found}
    try:
        data = pickle.dumps((error, text, notes))
        pickle.loads(data)  # noqa: S301 - bytes we have just made
    except Exception:  # noqa: BLE001 - anything a user's __reduce__ raises means no
        from noob_cloud.exceptions import RemoteError  # noqa: PLC0415 - rare

        name = f"{type(error).__module__}.{type(error).__qualname__}"
        try:
            message = str(error)
        except Exception:  # noqa: BLE001 - a user's __str__ may itself be broken
            message = "(its message could not be made)"
        return pickle.dumps((RemoteError(f"{name}: {message}", error_type=name), text, {}))
    return data


def main(source: int, sink: int, memory_fd: int, arena_bytes: int, parent: int) -> None:
    """Run a worker over descriptors inherited from its parent."""
    for fd in (source, sink, memory_fd):
        os.set_inheritable(fd, False)
    leave_to_parent()
    process_boot.die_with_parent(parent)
    memory = SharedMemory(memory_fd, arena_bytes)
    os.close(memory_fd)
    server = Server(source, sink, memory)
    signal.signal(FLUSH, server.on_flush)
    signal.siginterrupt(FLUSH, False)
    signal.signal(signal.SIGTERM, server.on_terminate)
    with contextlib.suppress(BrokenPipeError):
        server.serve()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
