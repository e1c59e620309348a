"""Calls become tasks of a sensible size, tasks become futures, results find their way back."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from math import ceil
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any

from noob_cloud.exceptions import (
    NoWorkerError,
    TaskCancelledError,
    WorkerError,
    WorkerLostError,
)
from noob_cloud.serverless.code import deployed_code
from noob_cloud.task import StageCall
from noob_cloud.worker.execute import FINISHED

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from noob_cloud.engine import Call
    from noob_cloud.plan.nouns import Stage
    from noob_cloud.runner.flights import Flight
    from noob_cloud.tubes import TubeSource

Ticket = tuple["Flight", int, "Call"]
"""Where a result belongs: the epoch in flight, the place in what it asked for, and the call."""
Landed = tuple[Ticket, Any, BaseException | None]
"""A call that has come back: its outputs, or its error."""

_CHUNK_SECONDS = 0.02
"""Work worth one task: far above what sending it costs, far below what a user waits for."""
_CHUNK_CALLS = 4096
_CHUNK_OF_TIMEOUT = 0.1
_SMOOTHING = 0.3
_NOT_RAISED = (NoWorkerError, TaskCancelledError, WorkerLostError)
"""What an executor says of a call that no node raised: it has tried itself what could be tried."""


class Dispatcher:
    """Send the calls of many epochs to one executor and hand back what became of them.

    Calls of one stage travel together, as many as their measured cost allows, unless the
    executor keeps every call a task of its own (`one_call_per_task`: a queue does, so that a
    run that is resumed finds the same tasks again). A stage whose placement has a `concurrency`
    has at most so many calls out at once.
    """

    def __init__(self, executor: Executor, tube: TubeSource) -> None:
        self._executor = executor
        self._tube = tube
        self._workers = max(1, int(getattr(executor, "capacity", 0) or _workers_of(executor)))
        self._single = bool(getattr(executor, "one_call_per_task", False))
        self._retries = not getattr(executor, "retries_errors", False)
        self._pump = getattr(executor, "pump", None)
        self._waiting: dict[tuple[str, ...], list[Ticket]] = {}
        self._running: Counter[tuple[str, ...]] = Counter()
        self._seconds: dict[tuple[str, ...], float] = {}
        self._raised: Counter[int] = Counter()
        """How often the call of a ticket, by its id, has raised; those that have not landed."""
        self._sent: dict[Future[Any], tuple[list[Ticket], float]] = {}
        self._done: SimpleQueue[Future[Any]] = SimpleQueue()

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting to be sent or to come back."""
        return not (self._waiting or self._sent)

    def add(self, ticket: Ticket) -> None:
        """Take one call; it leaves with the next `flush`."""
        self._waiting.setdefault(ticket[2].stage.nodes, []).append(ticket)

    def flush(self) -> None:
        """Send everything that waits, but for what a stage's `concurrency` holds back."""
        waiting, self._waiting = self._waiting, {}
        for nodes, tickets in waiting.items():
            limit = tickets[0][2].stage.concurrency
            if limit is not None:
                room = max(0, limit - self._running[nodes])
                if tickets[room:]:
                    self._waiting[nodes] = tickets[room:]
                if tickets[:room]:
                    self._send([[ticket] for ticket in tickets[:room]])
                continue
            size = 1 if self._single else self._chunk(tickets[0][2].stage, len(tickets))
            self._send([tickets[i : i + size] for i in range(0, len(tickets), size)])

    def collect(self) -> list[Landed]:
        """Wait for at least one task; return (ticket, outputs, error) for each call it held."""
        landed: list[Landed] = []
        if self._pump is not None:  # receive in this thread, rather than be woken by another
            self._pump(lambda: not self._done.empty(), None)
        future = self._done.get()
        while True:
            self._land(future, landed)
            try:
                future = self._done.get_nowait()
            except Empty:
                return landed

    def cancel(self) -> None:
        """Take back all that was sent; what runs is stopped where the executor can."""
        self._waiting.clear()
        sent, self._sent = self._sent, {}
        for future in sent:
            future.cancel()

    def _chunk(self, stage: Stage, count: int) -> int:
        seconds = self._seconds.get(stage.nodes)
        if seconds is None:  # nothing measured yet: a few tasks for each worker
            return 1 if stage.timeout else max(1, ceil(count / (4 * self._workers)))
        fair = ceil(count / self._workers)
        worth = _CHUNK_SECONDS
        if stage.timeout:  # of one call: what travels with it must not use it up
            worth = min(worth, stage.timeout * _CHUNK_OF_TIMEOUT)
        return max(1, min(fair, _CHUNK_CALLS, int(worth / max(seconds, 1e-9))))

    def _send(self, chunks: list[list[Ticket]]) -> None:
        calls = [self._call(chunk) for chunk in chunks]
        stage = chunks[0][0][2].stage
        now = perf_counter()
        submit_calls = getattr(self._executor, "submit_calls", None)
        if submit_calls is not None:
            futures = submit_calls(calls, tube=self._tube, stage=stage)
            for future, chunk in zip(futures, chunks, strict=True):
                self._watch(future, chunk, now)
            return
        for call, chunk in zip(calls, chunks, strict=True):  # a refusal must not hide those sent
            self._watch(self._submit(call, stage), chunk, now)

    def _submit(self, call: StageCall, stage: Stage) -> Future[Any]:
        submit_call = getattr(self._executor, "submit_call", None)
        if submit_call is not None:
            sent: Future[Any] = submit_call(call, tube=self._tube, stage=stage)
            return sent
        from noob_cloud.worker.execute import run_stage  # noqa: PLC0415 - only plain executors

        return self._executor.submit(run_stage, self._tube.document, call)

    def _watch(self, future: Future[Any], chunk: list[Ticket], now: float) -> None:
        self._sent[future] = (chunk, now)
        self._running[chunk[0][2].stage.nodes] += 1
        future.add_done_callback(self._done.put)

    def _call(self, chunk: list[Ticket]) -> StageCall:
        return StageCall(
            tube=self._tube.cid,
            nodes=chunk[0][2].stage.nodes,
            epochs=tuple([ticket[2].epoch.to_wire() for ticket in chunk]),
            inputs=tuple([ticket[2].values for ticket in chunk]),
            code=deployed_code() or self._tube.code,
        )

    def _land(self, future: Future[Any], landed: list[Landed]) -> None:
        entry = self._sent.pop(future, None)
        if entry is None:  # cancelled by us
            return
        chunk, sent_at = entry
        self._running[chunk[0][2].stage.nodes] -= 1
        error: BaseException | None
        if future.cancelled():
            error = WorkerError("the executor cancelled the task")
        else:
            error = future.exception()
        if error is None:
            try:
                pairs = list(zip(chunk, future.result(), strict=True))
            except (TypeError, ValueError) as wrong:
                error = WorkerError(f"a task of {len(chunk)} calls did not give one result each")
                error.__cause__ = wrong
            else:
                self._measure(chunk, getattr(future, "duration", None) or perf_counter() - sent_at)
                landed.extend((ticket, value, None) for ticket, value in pairs)
                for ticket in chunk if self._raised else ():
                    self._raised.pop(id(ticket), None)
                return
        if len(chunk) == 1:
            self._fail(chunk[0], error, landed)
            return
        ended = _ended_before(error, chunk)
        if ended is None:  # it may be any of them: each alone, so that only its own epoch fails
            self._send_again([[ticket] for ticket in chunk], landed)
            return
        landed.extend((ticket, value, None) for ticket, value in zip(chunk, ended, strict=False))
        stage = chunk[0][2].stage
        if stage.retries:  # alone, so that the others are not run again with it
            self._send_again([[chunk[len(ended)]]], landed)
        else:
            self._fail(chunk[len(ended)], error, landed)
        self._send_again([chunk[len(ended) + 1 :]], landed)

    def _fail(self, ticket: Ticket, error: BaseException, landed: list[Landed]) -> None:
        """Let a call fail, or run again where its placement gives it `retries`."""
        call = ticket[2]
        again = self._retries and isinstance(error, Exception) and (call.stage.retries or 0)
        if again and not isinstance(error, _NOT_RAISED):
            self._raised[id(ticket)] += 1
            if self._raised[id(ticket)] <= again:
                self._send_again([[ticket]], landed)
                return
        self._raised.pop(id(ticket), None)
        _locate(error, call)
        landed.append((ticket, None, error))

    def _send_again(self, chunks: list[list[Ticket]], landed: list[Landed]) -> None:
        for chunk in filter(None, chunks):
            try:
                self._send([chunk])
            except Exception as refused:  # noqa: BLE001 - raised when its epoch's turn comes
                landed.extend((ticket, None, refused) for ticket in chunk)

    def _measure(self, chunk: list[Ticket], seconds: float) -> None:
        nodes = chunk[0][2].stage.nodes
        cost = seconds / len(chunk)
        before = self._seconds.get(nodes, cost)
        self._seconds[nodes] = before + _SMOOTHING * (cost - before)


def _ended_before(error: BaseException, chunk: list[Ticket]) -> list[Any] | None:
    """Return the outputs of the calls before the one that raised; None where that is not known."""
    ended = getattr(error, FINISHED, None)
    if not isinstance(ended, list) or len(ended) >= len(chunk):
        return None
    same = getattr(error, "epoch", None) == chunk[len(ended)][2].epoch.to_wire()
    return ended if same else None


def _locate(error: BaseException, call: Call) -> None:
    """Name node and epoch in an error that does not: a worker that was lost, a time that was up."""
    if getattr(error, "epoch", None) is not None:
        return
    error.add_note(f"while running {', '.join(call.stage.nodes)} in epoch {call.epoch}")
    with suppress(AttributeError):
        error.epoch = call.epoch.to_wire()  # type: ignore[attr-defined]
        if len(call.stage.nodes) == 1:
            error.node_id = call.stage.nodes[0]  # type: ignore[attr-defined]


def _workers_of(executor: Executor) -> int:
    """How many tasks the executor runs at once, where it tells."""
    client = getattr(executor, "_client", None)  # Dask's ClientExecutor
    if client is not None and hasattr(client, "nthreads"):
        return sum(client.nthreads().values())
    return getattr(executor, "_max_workers", None) or 4
