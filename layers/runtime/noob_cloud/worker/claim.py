"""Claim tasks, run them, settle them: the one loop of every worker."""

from __future__ import annotations

import json
import logging
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

from noob_cloud import codec, tracing
from noob_cloud.blobs.by_cid import Fetched
from noob_cloud.exceptions import AuthenticationError, ForbiddenError, TubeNotFoundError
from noob_cloud.queue.interface import Encoded
from noob_cloud.worker import child
from noob_cloud.worker.held import LONGEST_WAIT, Holding
from noob_cloud.worker.pulse import Pulse
from noob_cloud.worker.settle import TROUBLE, Settler
from noob_cloud.worker.slots import failed
from noob_cloud.worker.traced import Traced

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable

    from noob_cloud.queue.interface import Queue
    from noob_cloud.task import Task
    from noob_cloud.worker.child import Reply
    from noob_cloud.worker.held import Held
    from noob_cloud.worker.slots import Slots, Stop

    Documents = Callable[[str], bytes]
    """Returns the document of a tube by its cid; LookupError when there is none."""
    Drive = Callable[[Task, Stop, str | None], Reply | None]
    """Drives a run, as part of a trace, when the task is its driver task; None when it is not."""

_log = logging.getLogger(__name__)

_TICK = 0.1
_FETCHES = 8
"""How often what a task needs is fetched: its tube, and values that name further ones."""


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
        documents: where a tube that is not here yet, or a large value, is had by its cid.
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
        self._queue = queue
        self._slots = slots
        self._claim_as: dict[str, Any] = {
            "worker_id": worker_id,
            "affinity_tags": self.tags,
            "accept_untagged": accept_untagged,
            "lease_seconds": lease_seconds,
            "decode": False,
        }
        self._poll = poll_seconds
        self._drain = drain_seconds
        self._documents = documents
        self._blobs = Fetched(self._fetch)
        self._hand_tube = hand_tube
        self._drive = drive
        self._holding = Holding(slots.limit)
        self._settler = Settler(queue, self._holding, self._claim_as)
        self._pulse = Pulse(
            queue, self._holding, lease_seconds=lease_seconds, pulse_seconds=pulse_seconds
        )
        self._away = False
        self._refusal: Exception | None = None

    @property
    def active(self) -> list[Task]:
        """The tasks that run now."""
        return [held.task for held in self._holding.running]

    @property
    def holds(self) -> bool:
        """Whether any lease is held: of a task that runs, waits to, or is being settled."""
        return bool(self._holding.all)

    @property
    def counts(self) -> Counter[str]:
        """Tasks by what became of them: completed, failed, lost, released."""
        return self._holding.counts

    def run(self) -> Counter[str]:
        """Work until `stop`; return what became of the tasks.

        Raises:
            AuthenticationError: the coordinator does not know the token.
            ForbiddenError: the token is not a worker's.
        """
        tracing.check()  # what it lacks is said before the first task
        claimer = Thread(target=self._claim_all, name="noob-cloud-claim", daemon=True)
        threads = [Thread(target=self._settler.run, name="noob-cloud-settle", daemon=True)]
        threads += [Thread(target=self._pulse.run, name="noob-cloud-pulse", daemon=True)]
        threads += [
            Thread(target=self._work, name=f"noob-cloud-slot-{number}", daemon=True)
            for number in range(self._slots.limit)
        ]
        for thread in (*threads, claimer):
            thread.start()
        holding = self._holding
        try:
            with holding.change:
                while not holding.ending:
                    holding.change.wait(_TICK)
        finally:
            self._finish()
            claimer.join(timeout=self._poll + 0.5)
            with holding.change:
                holding.over = True
                holding.change.notify_all()
            for thread in threads:
                thread.join(timeout=5.0)
        if self._refusal is not None:
            raise self._refusal
        return self.counts

    def stop(self) -> None:
        """Claim no more; `run` returns when what runs has ended, or has been handed back."""
        self._holding.ending = True  # from a signal handler: no lock

    def _finish(self) -> None:
        """Hand back what has not begun; wait for the rest; hand back what does not end."""
        holding = self._holding
        holding.ending = True
        self._settler.release(holding.withdraw())
        if holding.wait_idle(self._drain):
            return
        for held in holding.running:
            held.stop("the worker is shutting down")
        holding.wait_idle(5.0)

    # ---- claim

    def _claim_all(self) -> None:
        while not self._holding.ending:
            wanted = self._holding.reserve()
            if wanted:
                self._claim(wanted)
                continue
            # behind a long task others would wait as long, although a worker may be idle
            self._settler.release(self._holding.withdraw(longer_than=LONGEST_WAIT))
            with self._holding.change:
                self._holding.change.wait(_TICK)

    def _claim(self, wanted: int) -> None:
        tasks: list[Task] = []
        try:
            tasks = self._queue.claim_many(limit=wanted, wait=self._poll, **self._claim_as)
            self._away = False
        except (AuthenticationError, ForbiddenError) as error:
            self._refusal = error
            self.stop()
        except TROUBLE as error:
            if not self._away:
                _log.warning("the queue of worker %s is away: %s", self.worker_id, error)
            self._away = True
        self._settler.release(self._holding.take(tasks, reserved=wanted))
        if self._away:
            with self._holding.change:
                self._holding.change.wait(self._poll)

    # ---- run

    def _work(self) -> None:
        while (held := self._holding.begin()) is not None:
            traced = Traced.begin(held.task, self.worker_id)
            try:
                reply = self._execute(held, traced)
            except Exception as error:  # noqa: BLE001 - a slot must not die of one task
                reply = failed(error)
            if traced is not None:
                held.trace = traced.end(reply, held.stop.reason)
            self._holding.end(held, reply)

    def _execute(self, held: Held, traced: Traced | None) -> Reply:
        task = held.task
        if self._drive is not None:
            driven = self._drive(task, held.stop, None if traced is None else traced.name)
            if driven is not None:
                return driven
        payload = task.payload
        blobs: dict[str, bytes] = {}
        body = partial(
            child.task_body,
            tube=self._hand_tube,
            node_id=task.node_id,
            epoch=task.epoch,
            payload=payload if isinstance(payload, Encoded) else codec.dumps(payload),
            blobs=blobs,
        )
        reply = self._run(body(), held)
        for _ in range(_FETCHES):
            if reply[0] == child.UNKNOWN:
                loaded = self._slots.load(self._fetch(reply[1].decode(), "tube"))
                if loaded[0] != child.OUTCOME:
                    return loaded
            elif reply[0] == child.WANTED:
                blobs |= {cid: self._blobs.get(cid) for cid in json.loads(reply[1])}
            else:
                break
            reply = self._run(body(), held)
        return reply

    def _run(self, body: bytes, held: Held) -> Reply:
        timeout = held.task.timeout_seconds
        return self._slots.run(body, timeout=timeout, stop=held.stop, kind=child.TASK)

    def _fetch(self, cid: str, what: str = "value") -> bytes:
        if self._documents is None:
            raise TubeNotFoundError(f"no {what} {cid} is known here, nor where to ask for it")
        try:
            return self._documents(cid)
        except LookupError as error:
            raise TubeNotFoundError(
                f"no {what} {cid} is known here, nor where it was put"
            ) from error
