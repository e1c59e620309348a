"""Claim tasks, keep their leases alive, run them, settle them: the one loop of every worker."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from threading import Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import structlog
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay
from tenacity.wait import wait_random_exponential

from noob_cloud import codec
from noob_cloud.exceptions import (
    LeaseLostError,
    NoobCloudError,
    QueueError,
    TaskNotFoundError,
    TubeNotFoundError,
    UnavailableError,
)
from noob_cloud.queue.interface import Encoded
from noob_cloud.worker import child
from noob_cloud.worker.execute import failure_of
from noob_cloud.worker.slots import Stop, failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from noob_cloud.queue.interface import HeartbeatReply, Queue
    from noob_cloud.task import Outcome, Task
    from noob_cloud.worker.child import Reply
    from noob_cloud.worker.slots import Slots

    Documents = Callable[[str], bytes]
    """Returns the document of a tube by its cid; LookupError when there is none."""
    Drive = Callable[[Task, Stop], Reply | None]
    """Drives a run when the task is a run's driver task; None when it is not."""

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)

OUTAGE_SECONDS = 200.0
"""How long the queue may be away before a finished task's outcome is given up: three minutes of a
coordinator's restart and some more. The lease then runs out, and another worker runs the task."""
_AHEAD_SECONDS = 0.25
"""Work that is claimed ahead of what runs, so that nobody waits for a claim."""
_MOST_AHEAD = 200
_SMOOTHING = 0.2
_START_AFTER = 0.2
"""Seconds after which a task is told to be running; a shorter one is settled by then."""
_TICK = 0.1


@dataclass(eq=False, slots=True)
class Held:
    """A task that is ours until its lease ends."""

    task: Task
    stop: Stop = field(default_factory=Stop)
    began: float | None = None
    """Monotonic time at which it began to run."""
    told: bool = False
    """Whether the queue knows that it runs."""
    lost: bool = False
    """Not ours any more: whatever comes of it is dropped."""


class ClaimLoop:
    """Pulls tasks from a queue, `max_tasks` at once, until it is stopped.

    Args:
        queue: where tasks come from: a file's `TaskQueue`, or a coordinator's `RemoteQueue`.
        slots: where they run.
        worker_id: the worker's name in the queue.
        tags: what it may claim; a coordinator goes by the token's identity and only narrows.
        accept_untagged: whether it takes tasks that name no tag.
        lease_seconds: how long a lease lasts without a heartbeat.
        poll_seconds: how long one claim waits for a task.
        pulse_seconds: time between heartbeats, which is also how soon a cancellation arrives.
        drain_seconds: how long running tasks may take to end once it is stopped.
        documents: where a tube that is not here yet is had by its cid.
        hand_tube: cid of the tube whose nodes tasks submitted by hand mean.
        drive: runs the driver tasks of runs without a client.
    """

    def __init__(
        self,
        queue: Queue,
        slots: Slots,
        *,
        worker_id: str,
        tags: Iterable[str] = (),
        accept_untagged: bool = True,
        lease_seconds: float = 30.0,
        poll_seconds: float = 2.0,
        pulse_seconds: float = 1.0,
        drain_seconds: float = 30.0,
        documents: Documents | None = None,
        hand_tube: str | None = None,
        drive: Drive | None = None,
    ) -> None:
        self.worker_id = worker_id
        self.tags = frozenset(tags)
        self.counts: Counter[str] = Counter()
        """Tasks by what became of them: completed, failed, lost, released."""
        self._queue = queue
        self._slots = slots
        self._accept_untagged = accept_untagged
        self._lease = lease_seconds
        self._poll = poll_seconds
        self._pulse = min(pulse_seconds, lease_seconds / 3)
        self._drain = drain_seconds
        self._documents = documents
        self._hand_tube = hand_tube
        self._drive = drive
        self._change = Condition()
        self._held: dict[int, Held] = {}
        self._ready: deque[Held] = deque()
        self._done: list[tuple[Held, Reply]] = []
        self._settling = 0
        self._reserved = 0
        self._seconds: float | None = None
        self._ending = False
        self._over = False
        self._away = False

    # ---- the life of the loop

    @property
    def active(self) -> list[Task]:
        """The tasks that run now."""
        with self._change:
            return [held.task for held in self._held.values() if held.began is not None]

    def run(self) -> Counter[str]:
        """Work until `stop`; return what became of the tasks."""
        threads = [Thread(target=self._settle_all, name="noob-cloud-settle", daemon=True)]
        threads += [Thread(target=self._beat, name="noob-cloud-pulse", daemon=True)]
        threads += [
            Thread(target=self._work, name=f"noob-cloud-slot-{number}", daemon=True)
            for number in range(self._slots.limit)
        ]
        claimer = Thread(target=self._claim_all, name="noob-cloud-claim", daemon=True)
        for thread in (*threads, claimer):
            thread.start()
        try:
            with self._change:
                while not self._ending:
                    self._change.wait(_TICK)
        finally:
            self._finish()
            claimer.join(timeout=self._poll + 0.5)
            with self._change:
                self._over = True
                self._change.notify_all()
            for thread in threads:
                thread.join(timeout=5.0)
        return self.counts

    def stop(self) -> None:
        """Claim no more; `run` returns when what runs has ended, or has been handed back."""
        self._ending = True  # from a signal handler: no lock

    def _finish(self) -> None:
        """Hand back what has not begun; wait for the rest; hand back what does not end."""
        with self._change:
            waiting = list(self._ready)
            self._ready.clear()
        self._release(waiting)
        end = monotonic() + self._drain
        with self._change:
            self._change.wait_for(self._idle, timeout=self._drain)
            running = [held for held in self._held.values() if held.began is not None]
        for held in running:
            held.stop("the worker is shutting down")
        with self._change:
            self._change.wait_for(self._idle, timeout=max(2.0, min(10.0, end - monotonic())))

    def _idle(self) -> bool:
        return not (self._held or self._done or self._settling)

    # ---- claim

    def _wanted(self) -> int:
        """Return how many more tasks to claim. The lock is held."""
        if self._ending:
            return 0
        limit = self._slots.limit
        ahead = 0
        if self._seconds is not None:
            ahead = min(_MOST_AHEAD, int(limit * _AHEAD_SECONDS / max(self._seconds, 1e-4)))
        return max(0, limit + ahead - len(self._held) - self._reserved)

    def _claim_all(self) -> None:
        while not self._ending:
            self._claim()

    def _claim(self) -> None:
        with self._change:
            wanted = self._wanted()
            idle = self._slots.limit - len(self._held) - self._reserved
            if wanted == 0 or idle <= 0 or self._done:  # what settles outcomes claims as well
                self._change.wait(_TICK)
                return
            self._reserved += wanted
        tasks: list[Task] = []
        try:
            tasks = self._queue.claim_many(
                self.worker_id,
                wanted,
                self.tags,
                accept_untagged=self._accept_untagged,
                lease_seconds=self._lease,
                wait=self._poll,
                decode=False,
            )
            self._away = False
        except (UnavailableError, QueueError) as error:
            self._pause(error)
        finally:
            self._receive(tasks, wanted)

    def _receive(self, tasks: list[Task], reserved: int) -> None:
        """Hold what was claimed, or hand it back when the loop has been stopped meanwhile."""
        with self._change:
            self._reserved -= reserved
            if not self._ending:
                self._take(tasks)
                return
        self._release([Held(task) for task in tasks])

    def _pause(self, error: Exception) -> None:
        if not self._away:
            _log.warning("the queue is away", worker_id=self.worker_id, error=str(error))
        self._away = True
        with self._change:
            self._change.wait(self._poll)

    def _forget(self, held: Held) -> None:
        """Hold a task no more. The lock is held."""
        if self._held.get(held.task.task_id) is held:
            del self._held[held.task.task_id]

    def _take(self, tasks: Iterable[Task]) -> None:
        """Hold claimed tasks. The lock is held."""
        for task in tasks:
            held = Held(task)
            self._held[task.task_id] = held
            self._ready.append(held)
        self._change.notify_all()

    # ---- run

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._ready or self._over)
                if not self._ready:
                    return
                held = self._ready.popleft()
                held.began = monotonic()
            try:
                reply = self._execute(held)
            except Exception as error:  # noqa: BLE001 - a slot must not die of one task
                reply = failed(error)
            with self._change:
                seconds = monotonic() - held.began
                before = seconds if self._seconds is None else self._seconds
                self._seconds = before + _SMOOTHING * (seconds - before)
                self._done.append((held, reply))
                self._change.notify_all()

    def _execute(self, held: Held) -> Reply:
        task = held.task
        if self._drive is not None:
            driven = self._drive(task, held.stop)
            if driven is not None:
                return driven
        payload = task.payload
        body = child.task_body(
            tube=self._hand_tube,
            node_id=task.node_id,
            epoch=task.epoch,
            payload=payload if isinstance(payload, Encoded) else codec.dumps(payload),
        )
        reply = self._run(body, held)
        if reply[0] == child.UNKNOWN:
            cid = reply[1].decode()
            loaded = self._slots.load(self._document(cid))
            if loaded[0] != child.OUTCOME:
                return loaded
            reply = self._run(body, held)
        return reply

    def _run(self, body: bytes, held: Held) -> Reply:
        timeout = held.task.timeout_seconds
        return self._slots.run(body, timeout=timeout, stop=held.stop, kind=child.TASK)

    def _document(self, cid: str) -> bytes:
        if self._documents is None:
            raise TubeNotFoundError(f"no tube {cid} is known here, nor where to ask for it")
        try:
            return self._documents(cid)
        except LookupError as error:
            raise TubeNotFoundError(f"no tube {cid} is known here, nor where it was put") from error

    # ---- settle

    def _settle_all(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._done or self._over)
                if not self._done:
                    return
                done, self._done = self._done, []
                self._settling = len(done)
            try:
                self._settle(done)
            finally:
                with self._change:
                    self._settling = 0
                    for held, _reply in done:
                        self._forget(held)
                    self._change.notify_all()

    def _settle(self, done: list[tuple[Held, Reply]]) -> None:
        results: list[tuple[Held, Encoded]] = []
        stopped: list[Held] = []
        for held, (kind, body) in done:
            if held.lost:
                self.counts["lost"] += 1
            elif held.stop.reason is not None:
                stopped.append(held)
            elif kind in (child.OUTCOME, child.RAISED):
                results.append((held, Encoded(body)))
            else:
                self._fail(held, kind, body)
        self._release(stopped)
        if results:
            self._complete(results)

    def _complete(self, done: list[tuple[Held, Encoded]]) -> None:
        """Settle tasks with their results, and claim as many in the same call."""
        results = [(held.task, body) for held, body in done]
        with self._change:
            wanted = 0 if self._ending else min(self._wanted() + len(done), _MOST_AHEAD)
            self._reserved += wanted

        def say() -> tuple[list[int], list[Task]]:
            if not wanted:
                return self._queue.complete_many(results), []
            return self._queue.complete_and_claim(
                results,
                self.worker_id,
                wanted,
                self.tags,
                accept_untagged=self._accept_untagged,
                lease_seconds=self._lease,
                decode=False,
            )

        said = self._insist(say)
        refused, tasks = said if said is not None else ([held.task.task_id for held, _ in done], [])
        self.counts["lost"] += len(refused)
        self.counts["completed"] += len(done) - len(refused)
        with self._change:
            for held, _body in done:
                self._forget(held)
        self._receive(tasks, wanted)

    def _fail(self, held: Held, kind: bytes, body: bytes) -> None:
        error: str
        traceback: str | None = None
        retryable = True
        if kind == child.ERROR:
            outcome: Outcome = codec.loads(body)
            error, traceback = failure_of(outcome)
            retryable = outcome.retryable
        else:
            error = f"noob_cloud.exceptions.DecodeError: {body.decode(errors='replace')}"
            retryable = False
        _log.info("task failed", task_id=held.task.task_id, node_id=held.task.node_id, error=error)
        self.counts["failed"] += 1
        self._insist(
            lambda: self._queue.fail_task(held.task, error, traceback, retryable=retryable)
        )

    def _release(self, held: list[Held]) -> None:
        ours = [one.task for one in held if not one.lost]
        if ours:
            self._insist(lambda: self._queue.release(ours))
            self.counts["released"] += len(ours)
        with self._change:
            for one in held:
                self._forget(one)

    def _insist(self, say: Callable[[], _T]) -> _T | None:
        """Say something to the queue, again while it is away; None when that was in vain."""
        retrying = Retrying(
            retry=retry_if_exception_type(UnavailableError),
            wait=wait_random_exponential(multiplier=0.1, max=5.0),
            stop=stop_after_delay(OUTAGE_SECONDS),
        )
        try:
            return retrying(say)
        except RetryError as error:
            _log.error("the queue stays away: outcomes are dropped", error=str(error))
        except (LeaseLostError, TaskNotFoundError):
            self.counts["lost"] += 1
        except NoobCloudError as error:
            _log.error("the queue refuses", error=str(error))
        return None

    # ---- heartbeat

    def _beat(self) -> None:
        last = monotonic()
        while True:
            with self._change:
                if self._over:
                    return
                self._change.wait(_TICK)
                now = monotonic()
                held = list(self._held.values())
            for one in held:
                if one.began is not None and not one.told and now - one.began > _START_AFTER:
                    self._tell(one)
            if held and now - last >= self._pulse:
                last = now
                self._renew(held)

    def _tell(self, held: Held) -> None:
        held.told = True
        try:
            self._queue.start_task(held.task)
        except (LeaseLostError, TaskNotFoundError):
            self._lose(held, "its lease is lost")
        except (UnavailableError, QueueError):
            held.told = False

    def _renew(self, held: list[Held]) -> None:
        try:
            reply: HeartbeatReply = self._queue.heartbeat(
                [one.task for one in held], lease_seconds=self._lease
            )
        except (UnavailableError, QueueError) as error:
            _log.debug("no heartbeat", error=str(error))
            return
        with self._change:
            ours = {one.task.task_id: one for one in held}
            lost = [ours[task_id] for task_id in reply.lost if task_id in self._held]
        for one in lost:
            cancelled = one.task.task_id in reply.cancelled
            self._lose(one, "the task was cancelled" if cancelled else "its lease is lost")

    def _lose(self, held: Held, reason: str) -> None:
        with self._change:
            held.lost = True
            if held in self._ready:
                self._ready.remove(held)
                self._forget(held)
                self.counts["lost"] += 1
        held.stop(reason)
