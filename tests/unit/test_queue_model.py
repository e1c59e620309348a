"""The queue against a small model of it: whatever is done, in whatever order, both agree."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from noob_cloud.exceptions import LeaseLostError
from noob_cloud.queue import TaskQueue
from noob_cloud.task import TaskStatus, Token

TAGS = ("a", "b", "c")
KEYS = (None, None, None, "k1", "k2")
LEASE = 10.0


class NoJitter(Random):
    """Always waits the full backoff, so that the model knows how long."""

    def uniform(self, a: float, b: float) -> float:
        return b


@dataclass
class Model:
    """One task as it should be."""

    priority: int
    affinity: frozenset[str]
    required: frozenset[str]
    timeout: float
    retries: int
    key: str | None
    queue_deadline: float
    available_at: float
    status: TaskStatus = TaskStatus.READY
    claims: int = 0
    tries: int = 0
    expires_at: float = math.inf
    deadline: float = math.inf
    finished_at: float = math.inf
    result: object = None

    def waits(self) -> bool:
        return self.status in (TaskStatus.READY, TaskStatus.DELAYED)

    def leased(self) -> bool:
        return self.status in (TaskStatus.CLAIMED, TaskStatus.RUNNING)


class QueueMachine(RuleBasedStateMachine):
    """Two `TaskQueue` objects on one file, as two processes have them, and the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "queue.db"
        self.queues = [
            TaskQueue(db_path=path, lease_seconds=LEASE, backoff=(4.0, 60.0), rng=NoJitter())
            for _ in range(2)
        ]
        self.now = 1000.0
        self.tasks: dict[int, Model] = {}
        self.limits: dict[str, int] = {}

    def teardown(self) -> None:
        for queue in self.queues:
            queue.close()
        self.folder.cleanup()

    # ---- the model's own moves

    def settle_time(self) -> None:
        """What is due by now, in the model."""
        for task in self.tasks.values():
            if task.leased() and task.expires_at <= self.now:
                task.tries += 1
                dead = task.tries > task.retries
                task.status = TaskStatus.DEAD if dead else TaskStatus.READY
        for task in self.tasks.values():
            if task.status is TaskStatus.DELAYED and task.available_at <= self.now:
                task.status = TaskStatus.READY
            fresh = task.status is TaskStatus.READY and not task.claims
            if fresh and task.queue_deadline <= self.now:
                task.status = TaskStatus.DEAD

    def running(self, key: str) -> int:
        return sum(t.leased() and t.key == key for t in self.tasks.values())

    def claimable(self, tags: frozenset[str], limit: int, *, untagged: bool) -> list[int]:
        free = {key: limit - self.running(key) for key, limit in self.limits.items()}
        found = []
        for task_id, task in sorted(self.tasks.items(), key=lambda x: (x[1].priority, x[0])):
            if task.status is not TaskStatus.READY or len(found) == limit:
                continue
            if not task.affinity and not task.required:
                fits = untagged
            else:
                fits = (not task.affinity or task.affinity & tags) and task.required <= tags
            if fits and free.get(task.key or "", 1) > 0:
                if task.key in free:
                    free[task.key] -= 1
                found.append(task_id)
        return found

    # ---- rules

    @initialize(limit=st.integers(0, 2))
    def set_limit(self, limit: int) -> None:
        self.limits["k1"] = limit
        self.queues[0].set_limit("k1", concurrency=limit, now=self.now)

    @rule(which=st.integers(0, 1), limit=st.integers(1, 3))
    def change_limit(self, which: int, limit: int) -> None:
        self.limits["k2"] = limit
        self.queues[which].set_limit("k2", concurrency=limit, now=self.now)

    @rule(
        which=st.integers(0, 1),
        n=st.integers(1, 5),
        priority=st.integers(0, 3),
        affinity=st.sampled_from([frozenset(), frozenset(), frozenset("ab"), frozenset("c")]),
        required=st.sampled_from([frozenset(), frozenset(), frozenset("a")]),
        timeout=st.sampled_from([12.0, 300.0]),
        retries=st.integers(0, 2),
        key=st.sampled_from(KEYS),
        delay=st.sampled_from([0.0, 0.0, 5.0]),
        queue_timeout=st.sampled_from([None, 7.0]),
    )
    def submit(self, which, n, priority, affinity, required, timeout, retries, key, delay,
               queue_timeout) -> None:  # fmt: skip
        entry = {
            "node_id": "n",
            "priority": priority,
            "affinity_tags": sorted(affinity),
            "required_tags": sorted(required),
            "timeout_seconds": timeout,
            "max_retries": retries,
            "key": key,
            "delay": delay,
            "queue_timeout": queue_timeout,
        }
        entries = [{**entry, "epoch": e, "data": [e]} for e in range(n)]
        ids = self.queues[which].submit_many(entries, now=self.now)
        assert not set(ids) & set(self.tasks)
        at = self.now + delay
        due = math.inf if queue_timeout is None else at + queue_timeout
        for task_id in ids:
            self.tasks[task_id] = Model(
                priority, affinity, required, timeout, retries, key, due, at,
                TaskStatus.DELAYED if delay else TaskStatus.READY,
            )  # fmt: skip

    @rule(
        which=st.integers(0, 1),
        limit=st.integers(1, 15),
        tags=st.sampled_from([frozenset(TAGS), frozenset(TAGS), frozenset(), frozenset("b")]),
        untagged=st.sampled_from([True, True, False]),
    )
    def claim(
        self,
        which: int,
        limit: int,
        tags: frozenset[str],
        untagged: bool,  # noqa: FBT001 - Hypothesis calls it
    ) -> None:
        queue = self.queues[which]
        queue.expire(self.now)
        self.settle_time()
        wanted = self.claimable(tags, limit, untagged=untagged)
        got = queue.claim_many("w", limit, sorted(tags), accept_untagged=untagged, now=self.now)
        assert [t.task_id for t in got] == wanted
        for task in got:
            model = self.tasks[task.task_id]
            model.status = TaskStatus.CLAIMED
            model.claims += 1
            model.deadline = self.now + model.timeout
            model.expires_at = min(self.now + LEASE, model.deadline)
            assert task.token == Token(0, model.claims)

    def pick(self, data: st.DataObject) -> tuple[int, Model, Token]:
        """A task that was ever claimed, and the token of any of its claims, old ones too."""
        claimed = [i for i, t in self.tasks.items() if t.claims]
        leased = [i for i in claimed if self.tasks[i].leased()]
        again = [i for i in leased if self.tasks[i].claims > 1]
        task_id = data.draw(st.sampled_from(data.draw(st.sampled_from(
            [x for x in (claimed, leased, leased, again) if x]))))  # fmt: skip
        model = self.tasks[task_id]
        back = data.draw(st.integers(0, 1))
        return task_id, model, Token(0, max(1, model.claims - back))

    def any_claimed(self) -> bool:
        return any(t.claims for t in self.tasks.values())

    def holds(self, model: Model, token: Token) -> bool:
        return model.leased() and token.attempt == model.claims

    @precondition(any_claimed)
    @rule(data=st.data(), which=st.integers(0, 1), action=st.sampled_from(
        ["start", "complete", "fail", "fatal", "release", "heartbeat"]))  # fmt: skip
    def act(self, data: st.DataObject, which: int, action: str) -> None:
        self.do(data, which, action)

    @precondition(any_claimed)
    @rule(data=st.data(), which=st.integers(0, 1), action=st.sampled_from(
        ["start", "fail", "release", "heartbeat"]))  # fmt: skip
    def act_and_go_on(self, data: st.DataObject, which: int, action: str) -> None:
        """The actions after which a task has a life, more often."""
        self.do(data, which, action)

    def do(self, data: st.DataObject, which: int, action: str) -> None:
        task_id, model, token = self.pick(data)
        queue = self.queues[which]
        ref = (task_id, token)
        held = self.holds(model, token)
        cancelled = model.status is TaskStatus.CANCELLED
        try:
            if action == "start":
                queue.start_task(ref, now=self.now)
            elif action == "complete":
                queue.complete_task(ref, [task_id, token.attempt], now=self.now)
            elif action in ("fail", "fatal"):
                queue.fail_task(ref, "boom", retryable=action == "fail", now=self.now)
            elif action == "release":
                queue.release(ref, now=self.now)
            else:
                lost = queue.heartbeat(ref, now=self.now).lost
                assert bool(lost) is cancelled
        except LeaseLostError:
            assert not held
            return
        assert held or (action == "heartbeat" and cancelled)
        self.applied(action, model, task_id, token)

    def applied(self, action: str, model: Model, task_id: int, token: Token) -> None:
        if action == "start" and model.status is TaskStatus.CLAIMED:
            model.status = TaskStatus.RUNNING
            model.deadline = self.now + model.timeout
            model.expires_at = min(self.now + LEASE, model.deadline)
        elif action == "complete":
            model.status = TaskStatus.COMPLETED
            model.result = [task_id, token.attempt]
            model.finished_at = self.now
        elif action in ("fail", "fatal"):
            model.tries += 1
            if action == "fatal" or model.tries > model.retries:
                model.status = TaskStatus.DEAD
            else:
                model.status = TaskStatus.DELAYED
                model.available_at = self.now + min(60.0, 4.0 * 2.0 ** (model.tries - 1))
        elif action == "release":
            model.status = TaskStatus.READY
        elif action == "heartbeat" and model.leased():
            expires = min(self.now + LEASE, model.deadline)
            if expires - model.expires_at >= LEASE / 2:
                model.expires_at = expires

    @precondition(any_claimed)
    @rule(data=st.data(), which=st.integers(0, 1), n=st.integers(1, 12))
    def complete_many(self, data: st.DataObject, which: int, n: int) -> None:
        picked = {}
        for _ in range(n):
            task_id, _, token = self.pick(data)
            picked[task_id] = token
        results = [((i, token), [i, token.attempt]) for i, token in picked.items()]
        lost = self.queues[which].complete_many(results, now=self.now)
        held = {i for i, token in picked.items() if self.holds(self.tasks[i], token)}
        assert set(lost) == set(picked) - held
        for task_id in held:
            self.applied("complete", self.tasks[task_id], task_id, picked[task_id])

    @precondition(lambda self: bool(self.tasks))
    @rule(data=st.data(), which=st.integers(0, 1))
    def cancel(self, data: st.DataObject, which: int) -> None:
        task_id = data.draw(st.sampled_from(list(self.tasks)))
        model = self.tasks[task_id]
        assert self.queues[which].cancel_task(task_id, now=self.now) is not model.status.settled
        if not model.status.settled:
            model.status = TaskStatus.CANCELLED
            model.finished_at = self.now

    @precondition(lambda self: any(t.status is TaskStatus.DEAD for t in self.tasks.values()))
    @rule(data=st.data(), which=st.integers(0, 1))
    def redrive(self, data: st.DataObject, which: int) -> None:
        dead = [i for i, t in self.tasks.items() if t.status is TaskStatus.DEAD]
        task_id = data.draw(st.sampled_from(dead))
        assert self.queues[which].redrive([task_id], now=self.now) == [task_id]
        model = self.tasks[task_id]
        model.status, model.tries, model.queue_deadline = TaskStatus.READY, 0, math.inf

    @rule(seconds=st.sampled_from([1.0, 6.0, 6.0, 11.0]), which=st.integers(0, 1))
    def time_passes(self, seconds: float, which: int) -> None:
        self.now += seconds
        self.queues[which].expire(self.now)
        self.settle_time()

    @precondition(any_claimed)
    @rule(which=st.integers(0, 1), released=st.booleans())
    def change_hands(self, which: int, released: bool) -> None:  # noqa: FBT001 - Hypothesis calls it
        """Every lease ends, handed back or run out, and other workers claim what there is."""
        leased = [(i, Token(0, t.claims)) for i, t in self.tasks.items() if t.leased()]
        if released and leased:
            self.queues[which].release(leased, now=self.now)
            for task_id, _ in leased:
                self.tasks[task_id].status = TaskStatus.READY
        else:
            self.time_passes(11.0, which)
        self.claim(1 - which, 30, frozenset(TAGS), True)

    @rule(which=st.integers(0, 1), keep=st.sampled_from([0.0, 5.0]))
    def cleanup(self, which: int, keep: float) -> None:
        """Dead letters and live tasks stay; which outcomes go, the queue says."""
        self.queues[which].cleanup(keep, now=self.now)
        left = {t.task_id for t in self.queues[1 - which].list_tasks(limit=10_000)}
        for task_id in set(self.tasks) - left:
            gone = self.tasks.pop(task_id)
            assert gone.status in (TaskStatus.COMPLETED, TaskStatus.CANCELLED)
            assert gone.finished_at <= self.now - keep

    # ---- what always holds

    @invariant()
    def agrees(self) -> None:
        listed = self.queues[0].list_tasks(limit=10_000)
        assert [t.task_id for t in listed] == sorted(self.tasks)
        for task in listed:
            model = self.tasks[task.task_id]
            status = TaskStatus.READY if task.status is TaskStatus.PARKED else task.status
            assert status is model.status
            assert task.attempt == model.claims
            assert task.payload == [task.epoch]
            if model.status is TaskStatus.COMPLETED:
                assert task.result == model.result
            if model.leased():
                assert task.lease_expires_at == model.expires_at

    @invariant()
    def counts(self) -> None:
        stats = self.queues[1].stats()
        by_status = dict.fromkeys(TaskStatus, 0)
        for model in self.tasks.values():
            by_status[model.status] += 1
        assert stats.ready + stats.parked == by_status[TaskStatus.READY]
        for status in ("delayed", "claimed", "running", "completed", "dead", "cancelled"):
            assert getattr(stats, status) == by_status[TaskStatus(status)]
        rows = self.queues[0]._connection.execute("SELECT key, running FROM key_limit").fetchall()
        for key, running in rows:
            assert 0 <= running <= self.running(key)


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
