"""A coordinator's queue: the same methods as a file's, over HTTP."""

from __future__ import annotations

import traceback as tracebacks
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NoReturn
from uuid import uuid4

from noob_cloud.coordinator import columns, wire
from noob_cloud.coordinator.remote_checkpoints import RemoteCheckpoints
from noob_cloud.coordinator.transport import PATIENCE, Transport
from noob_cloud.exceptions import LeaseLostError
from noob_cloud.queue import submit
from noob_cloud.queue.interface import HeartbeatReply
from noob_cloud.queue.stored import StoredTask
from noob_cloud.task import Task, TaskPriority, TaskStatus, Token
from noob_cloud.tracing import submitting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from noob_cloud.queue.bodies import Blobs
    from noob_cloud.queue.interface import TaskRef

_LONGEST_POLL: Final = 20.0
"""Seconds that one request waits; a longer wait is several requests."""
_MOST: Final = 5_000
"""Tasks in one request; more are several."""
_MOST_BYTES: Final = 4_000_000
"""Of data in one request that submits: gateways take 10 MB at most."""
_LONGEST_TEXT: Final = 100_000
"""Characters of an error or a traceback that travel."""


class RemoteQueue(RemoteCheckpoints):
    """The queue of the coordinator at `url`.

    What is submitted is submitted once, whatever happens on the way: a request whose answer was
    lost is sent again, and the coordinator knows it. While it is restarted calls wait, up to
    `patience` seconds.

    Args:
        url: of the coordinator.
        token: bearer token; by default the environment's `NOOB_CLOUD_TOKEN`.
        patience: how long the coordinator may be away, in seconds.
        transport: instead of a new one.
        blobs: the coordinator's blob store, where it can be reached without the coordinator.
    """

    def __init__(
        self,
        url: str = "",
        token: str | None = None,
        *,
        patience: float = PATIENCE,
        transport: Transport | None = None,
        blobs: Blobs | None = None,
    ) -> None:
        super().__init__(transport or Transport(url, token=token, patience=patience), blobs)
        self._held: dict[int, Token] = {}
        self._tags: dict[str, list[str]] = {}
        """What each worker last asked for: a coordinator that was started anew learns it so."""

    # ---- submit

    def submit_task(
        self,
        node_id: str,
        epoch: int,
        priority: int = TaskPriority.NORMAL,
        affinity_tags: Iterable[str] = (),
        timeout_seconds: float = 300.0,
        max_retries: int = 3,
        *,
        required_tags: Iterable[str] = (),
        data: Any = None,
        delay: float = 0.0,
        idempotency_key: str | None = None,
        key: str | None = None,
        run_id: str | None = None,
        queue_timeout: float | None = None,
        memory: int | None = None,
        now: float | None = None,
    ) -> int:
        """Add one task and return its id; see `TaskQueue.submit_task`."""
        arguments = {
            "node_id": node_id,
            "epoch": epoch,
            "priority": priority,
            "affinity_tags": affinity_tags,
            "timeout_seconds": timeout_seconds,
            "max_retries": max_retries,
            "required_tags": required_tags,
            "data": data,
            "delay": delay,
            "idempotency_key": idempotency_key,
            "key": key,
            "run_id": run_id,
            "queue_timeout": queue_timeout,
            "memory": memory,
        }
        return self.submit_many([arguments], now=now)[0]

    def submit_many(
        self, tasks: Iterable[Mapping[str, Any]], *, now: float | None = None
    ) -> list[int]:
        """Add every task; the ids are in the order of `tasks`.

        One commit up to 5,000 tasks, or 4 MB where their data are bytes already.
        """
        entries = tasks if isinstance(tasks, list) else list(tasks)
        ids: list[int] = []
        for part in _parts(entries):
            batches, count = submit.gather(part)
            groups = [columns.group(batch, self.blobs.put) for batch in batches]
            body = wire.Submit(groups, uuid4().hex)
            node = batches[0].nodes[0]
            with submitting(node, node=node, tasks=count, run_id=batches[0].recipe.run_id) as told:
                ids += self._post("/tasks", body, wire.Submitted, now=now, headers=told).ids
        return ids

    # ---- claim

    def claim_task(
        self,
        worker_id: str,
        affinity_tags: Iterable[str] = (),
        *,
        accept_untagged: bool = True,
        lease_seconds: float | None = None,
        wait: float = 0.0,
        decode: bool = True,
        now: float | None = None,
    ) -> Task | None:
        """Lease the next task that this worker may run; None if there is none within `wait` s."""
        found = self.claim_many(
            worker_id,
            1,
            affinity_tags,
            accept_untagged=accept_untagged,
            lease_seconds=lease_seconds,
            wait=wait,
            decode=decode,
            now=now,
        )
        return found[0] if found else None

    def claim_many(
        self,
        worker_id: str,
        limit: int = 1,
        affinity_tags: Iterable[str] = (),
        *,
        accept_untagged: bool = True,
        lease_seconds: float | None = None,
        wait: float = 0.0,
        decode: bool = True,
        now: float | None = None,
    ) -> list[Task]:
        """Lease up to `limit` tasks in one commit, the most urgent first.

        The token's identity says which tags this worker may claim; `affinity_tags` narrow them.
        """
        ask = columns.ask(worker_id, limit, affinity_tags, accept_untagged, lease_seconds)
        self._tags[worker_id] = ask.tags or []
        give_up = monotonic() + wait
        while True:
            ask.wait = max(0.0, min(_LONGEST_POLL, give_up - monotonic()))
            lots = self._post("/claims", ask, wire.Claimed, now=now, wait=ask.wait).lots
            if lots or monotonic() >= give_up:
                return self._hold(lots, worker_id, decode=decode)

    def _hold(self, lots: list[wire.Lot], worker_id: str, *, decode: bool) -> list[Task]:
        for lot in lots:
            token = Token(*lot.token)
            self._held.update(dict.fromkeys(lot.ids, token))
        return list(self._decoder.claimed(lots, worker_id, decode=decode))

    # ---- leases

    def start_task(self, task: TaskRef, *, now: float | None = None) -> None:
        """Say that the work begins: `timeout_seconds` counts from here.

        Raises:
            LeaseLostError: it is not this worker's any more.
        """
        body = wire.Outcomes(self._worker_of(task), started=self._held_of([task]))
        if self._settle(body, now=now).refused:
            self._refuse(task)

    def heartbeat(
        self,
        tasks: TaskRef | Sequence[TaskRef],
        *,
        lease_seconds: float | None = None,
        now: float | None = None,
    ) -> HeartbeatReply:
        """Extend the leases, never past `timeout_seconds`; say which are lost or cancelled.

        Raises:
            LeaseLostError: a single task was given, and it is lost and was not cancelled.
        """
        refs, single = columns.listed(tasks)
        worker_id = self._worker_of(refs[0]) if refs else ""
        lost: set[int] = set()
        cancelled: set[int] = set()
        for first in range(0, max(1, len(refs)), _MOST):
            held = self._held_of(refs[first : first + _MOST])
            tags = self._tags.get(worker_id, [])
            body = wire.Beat(worker_id, held, lease_seconds, tags, len(refs))
            found = self._post("/heartbeats", body, wire.Beaten, now=now)
            lost.update(found.lost)
            cancelled.update(found.cancelled)
        for task_id in lost:
            self._held.pop(task_id, None)
        if single and lost and not cancelled:
            self._refuse(refs[0])
        return HeartbeatReply(frozenset(lost), frozenset(cancelled))

    def release(self, tasks: TaskRef | Sequence[TaskRef], *, now: float | None = None) -> None:
        """Hand tasks back unworked: ready at once, and no attempt is counted.

        Raises:
            LeaseLostError: a single task was given, and it is not this worker's any more.
        """
        refs, single = columns.listed(tasks)
        worker_id = self._worker_of(refs[0]) if refs else ""
        refused: list[int] = []
        for first in range(0, len(refs), _MOST):
            held = self._held_of(refs[first : first + _MOST])
            refused += self._settle(wire.Outcomes(worker_id, released=held), now=now).refused
        for ref in refs:
            self._held.pop(columns.id_of(ref), None)
        if single and refused:
            self._refuse(refs[0])

    # ---- outcomes

    def complete_task(self, task: TaskRef, result: Any = None, *, now: float | None = None) -> None:
        """Settle the task with its result.

        Raises:
            LeaseLostError: it is not this worker's any more; the result is dropped.
        """
        if self.complete_many([(task, result)], now=now):
            self._refuse(task)

    def complete_many(
        self, results: Iterable[tuple[TaskRef, Any]], *, now: float | None = None
    ) -> list[int]:
        """Settle each task; return the ids that were refused because their lease is lost."""
        refused: list[int] = []
        for page in filter(None, self._pages(results)):
            refused += self._settle(self._outcomes(page), now=now).refused
        return refused

    def complete_and_claim(
        self,
        results: Iterable[tuple[TaskRef, Any]],
        worker_id: str,
        limit: int = 1,
        affinity_tags: Iterable[str] = (),
        *,
        accept_untagged: bool = True,
        lease_seconds: float | None = None,
        decode: bool = True,
        now: float | None = None,
    ) -> tuple[list[int], list[Task]]:
        """`complete_many` and `claim_many` in one commit: the refused ids and the new tasks."""
        *before, last = self._pages(results)
        refused: list[int] = []
        for page in before:
            refused += self._settle(self._outcomes(page, worker_id), now=now).refused
        body = self._outcomes(last, worker_id)
        body.claim = columns.ask(worker_id, limit, affinity_tags, accept_untagged, lease_seconds)
        settled = self._settle(body, now=now)
        return refused + settled.refused, self._hold(settled.lots, worker_id, decode=decode)

    def _outcomes(
        self, pairs: list[tuple[TaskRef, Any]], worker_id: str | None = None
    ) -> wire.Outcomes:
        done: dict[Token | None, tuple[list[int], list[Any]]] = {}
        for task, result in pairs:
            task_id, token = self._ref(task)
            ids, values = done.setdefault(token, ([], []))
            ids.append(task_id)
            values.append(result)
        if worker_id is None:
            worker_id = self._worker_of(pairs[0][0]) if pairs else ""
        groups = [
            wire.Done(
                columns.pair(token), ids, None if all(value is None for value in values) else values
            )
            for token, (ids, values) in done.items()
        ]
        return wire.Outcomes(worker_id, groups)

    def _pages(self, results: Iterable[tuple[TaskRef, Any]]) -> list[list[tuple[TaskRef, Any]]]:
        """Return results packed, as they fit into requests; large ones go to the blob store."""
        pairs = list(results)
        packed = [wire.pack(result) for _, result in pairs]
        tasks = [task for task, _ in pairs]
        if len(pairs) <= _MOST and wire.total(packed) <= _MOST_BYTES:
            return [list(zip(tasks, packed, strict=True))]
        packed = wire.by_cid(packed, self.blobs.put)
        pages: list[list[tuple[TaskRef, Any]]] = []
        size = 0
        for task, value in zip(tasks, packed, strict=True):
            more = wire.size_of(value)
            if not pages or len(pages[-1]) == _MOST or size + more > _MOST_BYTES:
                pages.append([])
                size = 0
            pages[-1].append((task, value))
            size += more
        return pages

    def _settle(self, body: wire.Outcomes, *, now: float | None) -> wire.Settled:
        settled: wire.Settled = self._post("/outcomes", body, wire.Settled, now=now)
        for group in body.done:
            for task_id in group.ids:
                self._held.pop(task_id, None)
        return settled

    def fail_task(
        self,
        task: TaskRef,
        error: str | BaseException,
        traceback: str | None = None,
        *,
        retryable: bool = True,
        now: float | None = None,
    ) -> TaskStatus:
        """Report a failure: DELAYED when it will be tried again after a backoff, else DEAD.

        Raises:
            LeaseLostError: it is not this worker's any more.
        """
        if isinstance(error, BaseException):
            traceback = traceback or "".join(tracebacks.format_exception(error))
            error = f"{type(error).__name__}: {error}"
        return self._fail(task, error, traceback, retryable=retryable, now=now)

    def refuse_task(
        self,
        task: TaskRef,
        error: str,
        traceback: str | None = None,
        *,
        now: float | None = None,
    ) -> TaskStatus:
        """Hand a task back that this worker has other code for: READY, and no attempt is counted.

        DEAD when for two minutes, or for as long as one attempt of it may take, only such workers
        have claimed it.

        Raises:
            LeaseLostError: it is not this worker's any more.
        """
        return self._fail(task, error, traceback, refused=True, now=now)

    def _fail(
        self,
        task: TaskRef,
        error: str,
        traceback: str | None,
        *,
        retryable: bool = True,
        refused: bool = False,
        now: float | None,
    ) -> TaskStatus:
        task_id, token = self._ref(task)
        told = None if traceback is None else _told(traceback)
        pair = columns.pair(token)
        failure = wire.Failure(task_id, pair, _told(error), told, retryable, refused)
        settled = self._settle(wire.Outcomes(self._worker_of(task), failed=[failure]), now=now)
        self._held.pop(task_id, None)
        if task_id not in settled.statuses:
            self._refuse(task)
        return TaskStatus(settled.statuses[task_id])

    # ---- inside

    def _ref(self, task: TaskRef) -> tuple[int, Token | None]:
        if type(task) is StoredTask:
            return task.task_id, task._place.token  # noqa: SLF001 - without unpacking the rest
        if isinstance(task, int):
            return task, self._held.get(task)
        if isinstance(task, Task):
            return task.task_id, task.token
        return task

    def _held_of(self, tasks: Iterable[TaskRef]) -> list[wire.Held]:
        held: dict[Token | None, list[int]] = {}
        for task in tasks:
            task_id, token = self._ref(task)
            held.setdefault(token, []).append(task_id)
        return [wire.Held(columns.pair(token), ids) for token, ids in held.items()]

    def _worker_of(self, task: TaskRef) -> str:
        if type(task) is StoredTask:
            return task._place.worker_id or ""  # noqa: SLF001 - without unpacking the rest
        return task.worker_id or "" if isinstance(task, Task) else ""

    def _refuse(self, task: TaskRef) -> NoReturn:
        """Raise what a worker is told that does not hold this task."""
        found = self.get_task(columns.id_of(task), decode=False)
        cancelled = found.status is TaskStatus.CANCELLED
        what = "has been cancelled" if cancelled else f"is {found.status.value}"
        holder = f", held by {found.worker_id}" if found.worker_id and not cancelled else ""
        raise LeaseLostError(
            f"task {found.task_id} {what}{holder}; this lease of it is lost",
            task_id=found.task_id,
            cancelled=cancelled,
        )


def _parts(entries: list[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Yield tasks as they fit into requests."""
    first = size = 0
    for index, entry in enumerate(entries):
        data = entry.get("data")
        more = len(data) if isinstance(data, bytes) else 0
        size += more
        if index > first and (index - first == _MOST or size > _MOST_BYTES):
            yield entries[first:index]
            first, size = index, more
    if entries:
        yield entries[first:]


def _told(text: str) -> str:
    """Return what went wrong so that it can travel: its beginning and its end, if it is long."""
    if len(text) > _LONGEST_TEXT:
        half = _LONGEST_TEXT // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters ...\n{text[-half:]}"
    # a name of a file may hold what is no character
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
