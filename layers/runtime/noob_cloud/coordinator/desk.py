"""The queue as the coordinator uses it: whole columns in and out, one transaction a request."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from noob_cloud.coordinator import traces, wire
from noob_cloud.coordinator.incoming import answered, batch_of, check_places, column, spans
from noob_cloud.coordinator.outgoing import lots
from noob_cloud.coordinator.statements import SQL
from noob_cloud.exceptions import (
    DecodeError,
    LeaseLostError,
    LimitError,
    TaskNotFoundError,
)
from noob_cloud.identity import BADGE_BITS
from noob_cloud.queue import TaskQueue, claims, leases, look, outcomes, submit
from noob_cloud.queue.checkpoints import Move, find, move
from noob_cloud.queue.refusals import refuse
from noob_cloud.task import Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from noob_cloud.queue.checkpoints import Checkpoint
    from noob_cloud.queue.ledger import Ledger, Piece
    from noob_cloud.queue.stored import StoredTask

T = TypeVar("T")
_ENDLESS = float("inf")
_place_of = attrgetter("_place")


class Desk(TaskQueue):
    """The coordinator's queue. Every method blocks: call it in a writer's thread."""

    max_batch: int = 10_000
    """Tasks that one request may submit, claim or settle."""
    traced: bool = False
    """Whether any task here belongs to a trace."""

    # ---- submit

    def submit_groups(
        self,
        body: wire.Submit,
        *,
        sender: str = "",
        mark: int = 0,
        guard: Callable[[Ledger], None] | None = None,
        trace: str | None = None,
        now: float | None = None,
        at_once: bool = False,
    ) -> list[int]:
        """Add every task in one commit; a request that came before adds nothing.

        Args:
            body: the tasks.
            sender: whose request it is: another's may have the same name.
            mark: a checksum of the request, by which another one of the same name is noticed.
            guard: raises if these tasks may not be submitted; called inside the transaction.
            trace: `traceparent` of what they belong to.
            now: Unix time.
            at_once: do not wait for others who write.

        Raises:
            WouldWaitError: with `at_once`, somebody else is writing; nothing was done.
            DecodeError: an argument is out of range; the message says which.
            LimitError: there are more than `max_batch` tasks.
            ConflictError: the sender sent something else under this name.
        """
        batches, count = self._batches(body)
        ledger = self._ledger
        once = None if body.once is None else f"{sender}\0{body.once}"
        at = self._now(now)

        def work() -> list[int]:
            if once is not None:
                known = ledger.execute(SQL.find_request, (once,)).fetchone()
                if known is not None:
                    return answered(known[0], mark, body.once)
            if guard is not None:
                guard(ledger)
            ids = submit.add_batches(ledger, batches, count, at) if count else []
            if once is not None:
                ledger.execute(SQL.add_request, (once, msgspec.msgpack.encode((mark, ids)), at))
            self.trace_tasks(ledger, ids, trace, at)
            return ids

        return self._run_at_once(work) if at_once else self._run(work)

    def _batches(self, body: wire.Submit) -> tuple[list[submit.Batch], int]:
        """Return the tasks of a request, packed, and how many they are."""
        batches: list[submit.Batch] = []
        count = 0
        for group in body.groups:
            batch = batch_of(group, count)
            count += len(batch.nodes)
            if count > self.max_batch:
                raise LimitError(
                    f"A request may submit up to {self.max_batch} tasks; send several.",
                    limit=self.max_batch,
                )
            batches.append(batch)
        if any(group.places is not None for group in body.groups):
            check_places(batches, count)
        for batch in batches:
            submit.pack_batch(self._values, batch)
        return batches, count

    def move(
        self,
        name: str,
        body: wire.Move,
        *,
        sender: str,
        mark: int,
        guard: Callable[[Ledger], None],
        now: float | None = None,
    ) -> tuple[list[int], list[int]]:
        """Move a sender's checkpoint, and submit and cancel tasks, in one commit.

        A request that came before does nothing. Returns the new tasks and those that were
        cancelled.

        Raises:
            DecodeError: an argument is out of range; the message says which.
            LimitError: there are more than `max_batch` tasks.
            ConflictError: the checkpoint has another version.
        """
        batches, count = self._batches(body.tasks)
        if len(body.marks) != count:
            raise DecodeError(f"There are {len(body.marks)} marks for {count} tasks.")
        ledger, at = self._ledger, self._now(now)
        once = None if body.tasks.once is None else f"{sender}\0{body.tasks.once}"
        to = Move(body.expected, body.state, body.marks, body.undo_above, body.forget_below)

        def work() -> tuple[list[int], list[int]]:
            if once is not None:
                known = ledger.execute(SQL.find_request, (once,)).fetchone()
                if known is not None:
                    return answered(known[0], mark, body.tasks.once), []
            guard(ledger)
            place = _checkpoint_of(sender, name)
            ids, undone = move(ledger, place, to, batches, count, at, called=name)
            if once is not None:
                ledger.execute(SQL.add_request, (once, msgspec.msgpack.encode((mark, ids)), at))
            return ids, undone

        return self._run(work)

    def checkpoint_of(self, sender: str, name: str) -> Checkpoint:
        """Return a sender's checkpoint; version 0 if there is none."""
        return self._run(lambda: find(self._ledger, _checkpoint_of(sender, name)))

    def _run_at_once(self, work: Callable[[], T]) -> T:
        return self._commits.run_at_once(work) if self._usable else self._run(work)

    # ---- claim

    def claim_lots(
        self, ask: wire.Ask, tags: frozenset[str], badge: int = 0, *, now: float | None = None
    ) -> list[wire.Lot]:
        """Lease the next tasks that a worker with these tags may run.

        Args:
            ask: who claims, and how many.
            tags: what it may claim.
            badge: of its identity; part of the leases' tokens.
            now: Unix time.
        """
        wanted = self._wanted(ask, tags, badge)
        at = self._now(now)
        return self._lots(self._run(lambda: self._claim_now(wanted, at)))

    def _lots(self, found: list[StoredTask]) -> list[wire.Lot]:
        made = lots(found)
        if self.traced and made:
            self._look(lambda _now: traces.mark(self._ledger, made))
        return made

    def trace_tasks(
        self, ledger: Ledger, ids: Sequence[int], trace: str | None, now: float
    ) -> None:
        """Keep what tasks belong to in their client's trace, if any; inside a transaction."""
        if trace is not None:
            self.traced = True
            traces.add(ledger, ids, trace, now)

    def take_back(
        self, ask: wire.Ask, badge: int, again: float, *, now: float | None = None
    ) -> None:
        """Make ready what an answer leased that was lost, `again` seconds ago or later.

        Its worker never learnt of it. Left alone it would wait for the end of the lease, and the
        attempt would count: a task without retries would be dead, and nobody have tried it.
        """
        wanted = self._wanted(ask, frozenset(), badge)
        at = self._now(now)
        self._run(lambda: self._take_back(wanted, at - again))

    def _take_back(self, wanted: claims.Claim, since: float) -> None:
        rows = self._ledger.execute(
            SQL.unknown_leases, (wanted.worker_id, wanted.epoch, since)
        ).fetchall()
        leases.release(
            self._ledger,
            [(first, first + n - 1, Token(epoch, claims)) for first, n, epoch, claims in rows],
        )

    def _wanted(self, ask: wire.Ask, tags: frozenset[str], badge: int) -> claims.Claim:
        if not ask.worker_id:
            raise DecodeError("worker_id is empty.")
        if not 0 < ask.limit <= self.max_batch:
            raise DecodeError(f"limit is a number from 1 to {self.max_batch}, not {ask.limit}.")
        seconds = self._lease(ask.lease_seconds)
        epoch = self.epoch << BADGE_BITS | badge
        return claims.Claim(
            ask.worker_id, ask.limit, tags, ask.accept_untagged, seconds, epoch, decode=False
        )

    def _lease(self, seconds: float | None) -> float:
        if seconds is None:
            return self.lease_seconds
        if not 0 < seconds < _ENDLESS:
            raise DecodeError(f"lease_seconds is a number above 0, not {seconds}.")
        return seconds

    # ---- leases and outcomes

    def settle(
        self,
        body: wire.Outcomes,
        tags: frozenset[str],
        badge: int = 0,
        *,
        now: float | None = None,
        again: float | None = None,
        at_once: bool = False,
    ) -> wire.Settled:
        """Take started, released, completed and failed tasks, and claim more, in one commit.

        With `again` the request was sent before, so many seconds ago, and its answer lost on the
        way: a task that this very token has settled is not refused, and what the request has leased
        is taken back.

        Raises:
            WouldWaitError: with `at_once`, somebody else is writing; nothing was done.
        """
        done = self._pack_done(body.done)
        started, released = spans(body.started), spans(body.released)
        wanted = None if body.claim is None else self._wanted(body.claim, tags, badge)
        at = self._now(now)

        def work() -> tuple[list[int], dict[int, str], list[StoredTask]]:
            ledger = self._ledger
            lost = leases.start(ledger, started, self.lease_seconds, at)
            lost += leases.release(ledger, released, at)
            lost += outcomes.complete(ledger, done, at)
            statuses: dict[int, str] = {}
            for failure in body.failed:
                try:
                    statuses[failure.task_id] = self._fail(failure, at)
                except (LeaseLostError, TaskNotFoundError):
                    lost.append(failure.task_id)
            if wanted is not None and again is not None:
                self._take_back(wanted, at - again)
            found = [] if wanted is None else self._claim_now(wanted, at)
            return lost, statuses, found

        lost, statuses, found = self._run_at_once(work) if at_once else self._run(work)
        if again is not None and lost:
            lost, known = self._known(body, lost)
            statuses |= known
        return wire.Settled(lost, statuses, self._lots(found))

    def _known(self, body: wire.Outcomes, lost: Iterable[int]) -> tuple[list[int], dict[int, str]]:
        """Return which of `lost` their token has not settled, and what became of failed tasks."""
        tokens = {i: group.token for group in body.done for i in group.ids}
        tokens |= {failure.task_id: failure.token for failure in body.failed}
        tokens |= {i: group.token for group in body.released for i in group.ids}
        released = {i for group in body.released for i in group.ids}
        failed = {failure.task_id for failure in body.failed}
        refused: list[int] = []
        statuses: dict[int, str] = {}
        for task_id in lost:
            try:
                task = self.get_task(task_id, decode=False)
            except TaskNotFoundError:
                refused.append(task_id)
                continue
            ours = task.token is not None and task_id in tokens
            if ours and task_id in failed:
                ours = task.token.attempt == tokens[task_id][1]  # type: ignore[union-attr]
                ours = ours and task.status.value in ("delayed", "ready", "dead")
            elif ours and task_id in released:
                ours = task.token.attempt == tokens[task_id][1]  # type: ignore[union-attr]
                ours = ours and task.status.value in ("ready", "parked")
            elif ours:
                ours = task.token == Token(*tokens[task_id])
                ours = ours and task.status.value == "completed"
            if not ours:
                refused.append(task_id)
            elif task_id in failed:
                statuses[task_id] = task.status.value
        return refused, statuses

    def _fail(self, failure: wire.Failure, now: float) -> str:
        told = (failure.error, failure.traceback, failure.retryable)
        ref = (failure.task_id, Token(*failure.token))
        if failure.refused:
            return refuse(self._ledger, ref, failure.error, failure.traceback, now).value
        return outcomes.fail(self._ledger, ref, told, self._backoff, now).value

    def _pack_done(self, done: Iterable[wire.Done]) -> outcomes.Results:
        ids: list[int] = []
        tokens: list[Token | None] = []
        values: list[Any] = []
        for group in done:
            count = len(group.ids)
            results = [None] * count if group.results is None else column(group.results)
            if len(results) != count:
                raise DecodeError(f"There are {len(results)} results for {count} tasks.")
            ids += group.ids
            tokens += [Token(*group.token)] * count
            values += results
        if len(ids) > self.max_batch:
            raise LimitError(
                f"A request may settle up to {self.max_batch} tasks; send several.",
                limit=self.max_batch,
            )
        return outcomes.Results(ids, tokens, self._values.pack_all(values))

    def beat(self, body: wire.Beat, *, now: float | None = None) -> wire.Beaten:
        """Extend leases; say which are lost or cancelled."""
        seconds = self._lease(body.lease_seconds)
        refs = spans(body.held)
        at = self._now(now)
        reply = self._run(lambda: leases.heartbeat(self._ledger, refs, seconds, at))
        return wire.Beaten(sorted(reply.lost), sorted(reply.cancelled))

    def cancel_many(self, task_ids: Iterable[int], *, now: float | None = None) -> list[int]:
        """Cancel tasks in one commit; return those that had no outcome."""
        at = self._now(now)
        wanted = sorted(set(task_ids))

        def work() -> list[int]:
            return [task_id for task_id in wanted if self._cancel(task_id, at)]

        return self._run(work)

    def _cancel(self, task_id: int, now: float) -> bool:
        try:
            return outcomes.cancel(self._ledger, task_id, now)
        except TaskNotFoundError:
            return False

    # ---- the coordinator's own tables

    def prepare(self, *, now: float | None = None) -> None:
        """Make the coordinator's tables where they are missing, and give every lease time.

        While no coordinator was there no worker could keep its lease. Each gets as long again as
        it had, up to this queue's own lease, but never past its task's `timeout_seconds`: whoever
        still works says so within that time.
        """
        at = self._now(now)

        def work() -> None:
            for statement in SQL.schema.split(";"):
                if statement.strip():
                    self._ledger.execute(statement)
            self._ledger.execute(SQL.give_leases_time, (at, self.lease_seconds))
            self.traced = bool(self._ledger.execute(SQL.any_trace).fetchone()[0])

        self._run(work)

    def on_kill(self, climb: Callable[[Ledger, Piece, str, float], int | None]) -> None:
        """Let `climb` choose the terms of tasks that are tried again."""
        ledger = self._ledger
        ledger.climb = lambda piece, why, now: climb(ledger, piece, why, now)

    def transact(self, work: Callable[[Ledger], T]) -> T:
        """Run `work` in one transaction."""

        def in_order() -> T:
            self._ledger.refresh()
            return work(self._ledger)

        return self._run(in_order)

    @property
    def limits_keys(self) -> bool:
        """Whether a task that ends may let another one begin."""
        return bool(self._ledger.limits)

    def pack(self, value: Any) -> Any:
        """Return what stands for `value` in a row; a large one goes to the blob store."""
        return self._values.pack(value)

    def unpack(self, packed: Any) -> Any:
        """Return the value that `pack` put away."""
        return self._values.unpack(packed)

    # ---- looking

    def settled_among(self, ids: Sequence[int]) -> list[StoredTask]:
        """Return those of these tasks that have an outcome."""
        return self._look(lambda now: look.settled_among(self._ledger, set(ids), now, decode=False))

    def clock_now(self) -> float:
        """Return the queue's time."""
        return self._now(None)

    def due_in(self, now: float | None = None) -> float:
        """Seconds until something is due by itself: a lease runs out, a delay ends."""
        return self._ledger.next_timer - self._now(now)

    def tick(self) -> int:
        """Do what is due; return how many tasks moved."""
        return self.expire()


def _checkpoint_of(sender: str, name: str) -> str:
    """Return what a sender's checkpoint is called in the file: another's may have the same name."""
    return f"{sender}\0{name}"
