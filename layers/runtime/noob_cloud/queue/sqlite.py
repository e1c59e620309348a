"""The task queue in one SQLite file, or in memory."""

from __future__ import annotations

import traceback as tracebacks
from typing import TYPE_CHECKING, Any

from noob_cloud.queue import claims, leases, outcomes, submit, timers
from noob_cloud.queue.bodies import pack
from noob_cloud.queue.checkpoints import Checkpoints
from noob_cloud.task import Task, TaskPriority, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from noob_cloud.queue.interface import HeartbeatReply, TaskRef
    from noob_cloud.queue.stored import StoredTask
    from noob_cloud.queue.terms import Terms

RECIPES = 1000
"""So many ways to schedule a task are remembered as checked."""


class TaskQueue(Checkpoints):
    """A queue of tasks that survives crashes, shared by any number of threads and processes.

    Args:
        persistent: Keep the tasks in a file; without it they live as long as this object.
        db_path: The file; its directory is made.
        lease_seconds: How long a claim lasts without a heartbeat.
        synchronous: `NORMAL` survives the death of any process; `FULL` also that of the machine.
        exclusive: No other process opens the file meanwhile: each commit is about twice as fast.
        epoch: The coordinator's epoch, part of every lease's token.
        blobs: Where payloads and results above `blob_threshold` bytes go.
        backoff: Base and cap, in seconds, of the wait after a failure.
        keep_seconds: How long completed and cancelled tasks stay; dead letters stay until redriven.
        rng: Source of the jitter.
        clock: Source of the time.

    Raises:
        DatabaseVersionError: A newer noob-cloud wrote the file.
        DatabaseDamagedError: The file is damaged. Either way it is left byte for byte as it is.
    """

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
        """Add one task and return its id.

        Args:
            node_id: The node to run.
            epoch: The epoch to run it for.
            priority: CRITICAL before HIGH before NORMAL before LOW, then first in, first out.
            affinity_tags: A worker must have one of these.
            timeout_seconds: Longest run of one attempt.
            max_retries: Further attempts after the first.
            required_tags: A worker must have all of these.
            data: The payload: any value that `noob_cloud.codec` encodes.
            delay: Seconds before which no worker gets it.
            idempotency_key: A task with this key is submitted once; again, its id is returned,
                and `ConflictError` raised if the node, the epoch or the data is another.
            key: Name that `set_limit` limits.
            run_id: Run that the task belongs to.
            queue_timeout: Seconds after which it is dead if no worker has claimed it.
            memory: Bytes that a worker needs: a coordinator with pools sends it to one that has
                them; a queue of one's own has no pools, and does not ask.
            now: Unix time; the queue's clock by default.
        """
        if (
            delay
            or idempotency_key is not None
            or key is not None
            or queue_timeout is not None
            or memory is not None
        ):
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
        name = (priority, (*affinity_tags,), timeout_seconds, max_retries, (*required_tags,))
        terms = self._recipes.get(name)
        if terms is None:
            terms = self._recipe(name, affinity_tags, required_tags)
        body = submit.pack_one(self._values, node_id, epoch, data)
        at = self._now(now)
        task_id = self._run(lambda: submit.add_one(self._ledger, terms, run_id, body, at))
        self._tell()
        return task_id

    def _recipe(
        self, name: tuple[Any, ...], affinity: Iterable[str], required: Iterable[str]
    ) -> Terms:
        """Check how a task is to be scheduled, once for all tasks that are scheduled so."""
        priority, _, timeout_seconds, max_retries, _ = name
        terms = submit.terms_of(priority, affinity, required, timeout_seconds, max_retries)
        if len(self._recipes) >= RECIPES:
            self._recipes.clear()
        self._recipes[name] = terms
        return terms

    def submit_many(
        self, tasks: Iterable[Mapping[str, Any]], *, now: float | None = None
    ) -> list[int]:
        """Add every task in one commit; the ids are in the order of `tasks`.

        Each entry holds the arguments of `submit_task` by name.
        """
        batches, count = submit.gather(tasks)
        if not count:
            return []
        for batch in batches:
            submit.pack_batch(self._values, batch)
        at = self._now(now)
        ids = self._run(lambda: submit.add_batches(self._ledger, batches, count, at))
        self._tell()
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
        wanted = self._claim(worker_id, 1, affinity_tags, accept_untagged, lease_seconds, decode)
        found = self._claim_at(wanted, now)
        if not found and wait > 0:
            found = self._until(lambda: self._claim_at(wanted, now) or None, wait) or []
        if not found:
            return None
        task = found[0]
        self._held[task.task_id] = task._place.token  # type: ignore[assignment]  # noqa: SLF001 - the rest stays packed
        return task

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

        A task with tags goes to no worker without a matching one; `accept_untagged=False` keeps a
        worker for tagged tasks alone. With `decode=False` payloads come as `Encoded` frames.
        """
        wanted = self._claim(
            worker_id, limit, affinity_tags, accept_untagged, lease_seconds, decode
        )
        if wait <= 0:
            return self._hold(self._claim_at(wanted, now))
        return self._hold(self._until(lambda: self._claim_at(wanted, now) or None, wait) or [])

    def _claim(
        self,
        worker_id: str,
        limit: int,
        affinity_tags: Iterable[str],
        accept_untagged: bool,  # noqa: FBT001 - two places call it
        lease_seconds: float | None,
        decode: bool,  # noqa: FBT001 - two places call it
    ) -> claims.Claim:
        if not isinstance(worker_id, str) or not worker_id:
            raise TypeError(f"worker_id is a string that is not empty, not {worker_id!r}")
        return claims.Claim(
            worker_id,
            limit,
            submit.tag_set(affinity_tags),
            accept_untagged,
            self.lease_seconds if lease_seconds is None else lease_seconds,
            self.epoch,
            decode,
        )

    def _claim_at(self, wanted: claims.Claim, now: float | None) -> list[StoredTask]:
        at = self._now(now)
        return self._run(lambda: self._claim_now(wanted, at))

    def _claim_now(self, wanted: claims.Claim, now: float) -> list[StoredTask]:
        self._ledger.refresh()
        timers.tick(self._ledger, now)
        return claims.claim(self._ledger, wanted, now)

    # ---- leases

    def start_task(self, task: TaskRef, *, now: float | None = None) -> None:
        """Say that the work begins: the task is RUNNING and `timeout_seconds` counts from here.

        Raises:
            LeaseLostError: It is not this worker's any more.
        """
        ref = self._ref(task)
        at = self._now(now)

        def work() -> None:
            self._ledger.hold(*ref)
            leases.start(self._ledger, [(ref[0], *ref)], self.lease_seconds, at)

        self._run(work)

    def heartbeat(
        self,
        tasks: TaskRef | Sequence[TaskRef],
        *,
        lease_seconds: float | None = None,
        now: float | None = None,
    ) -> HeartbeatReply:
        """Extend the leases, never past `timeout_seconds`; say which are lost or cancelled.

        Raises:
            LeaseLostError: A single task was given, and it is lost and was not cancelled.
        """
        refs, single = self._refs(tasks)
        seconds = self.lease_seconds if lease_seconds is None else lease_seconds
        at = self._now(now)
        reply = self._run(lambda: leases.heartbeat(self._ledger, leases.runs(*refs), seconds, at))
        self._let_go(reply.lost)
        if single and reply.lost and not reply.cancelled:
            self._run(lambda: self._ledger.hold(refs[0][0], refs[1][0]))
        return reply

    def release(self, tasks: TaskRef | Sequence[TaskRef], *, now: float | None = None) -> None:
        """Hand tasks back unworked: ready at once, and no attempt is counted.

        Raises:
            LeaseLostError: A single task was given, and it is not this worker's any more.
        """
        refs, single = self._refs(tasks)

        def work() -> list[int]:
            if single:
                self._ledger.hold(refs[0][0], refs[1][0])
            return leases.release(self._ledger, leases.runs(*refs))

        self._now(now)
        self._run(work)
        self._let_go(refs[0])
        self._tell()

    # ---- outcomes

    def complete_task(self, task: TaskRef, result: Any = None, *, now: float | None = None) -> None:
        """Settle the task with its result: any value that `noob_cloud.codec` encodes.

        Raises:
            LeaseLostError: It is not this worker's any more; the result is dropped.
        """
        ref = self._ref(task)
        body = None if result is None else pack(self._values.pack(result))
        at = self._now(now)
        self._run(lambda: outcomes.complete_one(self._ledger, ref, body, at))
        self._held.pop(ref[0], None)
        self._tell()

    def complete_many(
        self, results: Iterable[tuple[TaskRef, Any]], *, now: float | None = None
    ) -> list[int]:
        """Settle each task; return the ids that were refused because their lease is lost."""
        packed = self._pack_results(results)
        at = self._now(now)
        lost = self._run(lambda: outcomes.complete(self._ledger, packed, at))
        self._settled(packed, lost)
        return lost

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
        packed = self._pack_results(results)
        wanted = self._claim(
            worker_id, limit, affinity_tags, accept_untagged, lease_seconds, decode
        )
        at = self._now(now)

        def work() -> tuple[list[int], list[StoredTask]]:
            lost = outcomes.complete(self._ledger, packed, at)
            return lost, self._claim_now(wanted, at)

        lost, found = self._run(work)
        self._settled(packed, lost)
        return lost, self._hold(found)

    def _pack_results(self, results: Iterable[tuple[TaskRef, Any]]) -> outcomes.Results:
        columns = list(zip(*results, strict=True))
        if not columns:
            return outcomes.Results([], [], [])
        return outcomes.Results(*self._columns(columns[0]), self._values.pack_all(columns[1]))

    def _settled(self, packed: outcomes.Results, lost: list[int]) -> None:
        refused = set(lost)
        self._let_go(packed.ids if not lost else [x for x in packed.ids if x not in refused])
        self._tell()

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

        An exception given as `error` brings its own traceback.

        Raises:
            LeaseLostError: It is not this worker's any more.
        """
        if isinstance(error, BaseException):
            traceback = traceback or "".join(tracebacks.format_exception(error))
            error = f"{type(error).__name__}: {error}"
        ref = self._ref(task)
        at = self._now(now)
        failure = (error, traceback, retryable)
        status = self._run(lambda: outcomes.fail(self._ledger, ref, failure, self._backoff, at))
        self._held.pop(ref[0], None)
        self._tell()
        return status

    def cancel_task(self, task_id: int, *, now: float | None = None) -> bool:
        """Cancel the task, running or not; False if it already has its outcome.

        Its worker learns by its next heartbeat, and its outcome is refused.
        """
        at = self._now(now)
        done = self._run(lambda: outcomes.cancel(self._ledger, task_id, at))
        self._tell()
        return done

    def redrive(
        self, task_ids: Iterable[int] | None = None, *, now: float | None = None
    ) -> list[int]:
        """Bring dead letters (all of them without `task_ids`) back with a full set of attempts."""
        self._now(now)
        wanted = None if task_ids is None else list(task_ids)
        found = self._run(lambda: outcomes.redrive(self._ledger, wanted))
        self._tell()
        return found
