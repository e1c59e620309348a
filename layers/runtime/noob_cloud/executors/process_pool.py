"""Which call goes to which worker, when, and what becomes of it when the worker dies."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import BrokenExecutor
from itertools import repeat
from time import monotonic
from typing import TYPE_CHECKING, Any

from noob_cloud.exceptions import (
    LimitError,
    RemoteError,
    RunnerError,
    TaskTimeoutError,
    WorkerLostError,
)
from noob_cloud.executors.arena import ArenaFullError
from noob_cloud.executors.channel import BROKEN, HELLO, REPLY, unpack_copied
from noob_cloud.executors.process_call import STAGE, Call, settle_many
from noob_cloud.executors.process_cost import Cost, Costs, weight
from noob_cloud.executors.process_error import rebuild
from noob_cloud.executors.process_link import Link
from noob_cloud.executors.process_pump import Pump
from noob_cloud.task import TaskPriority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Settled = tuple[Call, Any, BaseException | None]

__all__ = ["Pool", "WorkerStartError"]

_STUCK = 0.005
"""Seconds after which a call counts as long: what waits behind it is looked after."""
_REVOKE = 0.001
"""Seconds after which a worker has surely seen that calls were revoked; memory takes far less."""
_TAKEN = float("inf")
"""In place of the time of revoking: what was revoked has been taken back."""
_PREFETCH = 0.001
"""A call this short may be sent to a worker that still runs another batch, in seconds."""
_GRACE = 1.0
"""Seconds from asking a worker to leave its call to killing it."""
_BOOTS = 3
"""Workers that may die before they are ready, in a row."""
_HELP = 32
"""A submitter looks for answers each time this many more calls wait."""


class WorkerStartError(RunnerError, BrokenExecutor):
    """The worker processes cannot be started."""


class Pool:
    """The workers of one executor and the calls that wait for them."""

    def __init__(  # noqa: D417 - the executor documents them
        self,
        *,
        max_workers: int,
        setup: Callable[[], dict[str, Any]],
        max_retries: int,
        max_pending: int | None,
        cancel_running: bool,
        arena_bytes: int,
        batch_seconds: float,
    ) -> None:
        self.max_workers = max_workers
        self.closed = False
        self._setup = setup
        self._max_retries = max_retries
        self._max_pending = max_pending
        self._cancel_running = cancel_running
        self._arena_bytes = arena_bytes
        self._lock = threading.RLock()
        self._queues: tuple[deque[Call], ...] = tuple(deque() for _ in TaskPriority)
        self._waiting = 0
        self._links: list[Link] = []
        self._idle: list[Link] = []
        self._starting = 0
        self._bad_boots = 0
        self._crowded = False
        self._dispatching = False
        self._broken: str | None = None
        self._costs = Costs(batch_seconds)
        self._pump = Pump(self)
        self.pump = self._pump.pump

    # ---- what the executor calls

    def submit(self, calls: list[Call]) -> None:
        """Queue calls of one priority and send what workers can take."""
        if self._max_pending is not None:
            self._pump.pump(self._has_room, None)
            while not self._has_room():
                threading.Event().wait(_REVOKE)
        with self._lock:
            self._refuse()
            queue = self._queues[calls[0].priority]
            if len(calls) == 1:
                queue.append(calls[0])
            else:
                queue.extend(calls)
            before = self._waiting
            self._waiting = before + len(calls)
            failed = self._dispatch()
            crowded = self._crowded and before // _HELP != self._waiting // _HELP
        if failed:
            settle_many(failed)
        if crowded:
            self._pump.help()

    def withdraw(self, call: Call, *, running: bool | None = None) -> bool:
        """Cancel a call; one that runs only with `running`, by ending its worker."""
        with self._lock:
            if call.done():
                return False
            if call.running():
                if not (self._cancel_running if running is None else running):
                    return False
                link = self._link_of(call)
                if link is not None:
                    link.end(call, _GRACE)
            cancelled = call.mark_cancelled()
        call.announce()
        self._pump.wake()
        return cancelled

    def close(self, *, cancel: bool, kill: bool) -> None:
        """Take no more calls; the pool ends when those it has are done.

        Args:
            cancel: cancel the calls that wait.
            kill: cancel also those that run, and kill the workers.
        """
        cancelled = []
        with self._lock:
            self.closed = True
            if cancel or kill:
                for queue in self._queues:
                    cancelled += [call for call in queue if call.mark_cancelled()]
                    queue.clear()
                self._waiting = 0
            if kill:
                for link in self._links:
                    for batch in link.inflight:
                        cancelled += [call for call in batch.calls if call.mark_cancelled()]
                    link.process.kill()
        for call in cancelled:
            call.announce()
        if self._pump.started:
            self._pump.wake()
        else:
            self._pump.close()

    def join(self) -> None:
        """Wait until every worker has ended."""
        self._pump.join()

    def pids(self) -> list[int]:
        """The process ids of the workers that are ready."""
        with self._lock:
            return [link.process.pid for link in self._links if link.ready and not link.lost]

    # ---- what the pump calls

    def on_wake(self) -> bool:
        """Start the workers that are missing; false when closed and all is done."""
        with self._lock:
            missing = self._missing()
            self._starting += missing
        for _ in range(missing):
            try:
                link = Link(self._setup(), self._arena_bytes)
            except Exception as error:  # noqa: BLE001 - whatever keeps us from starting processes
                with self._lock:
                    self._starting -= 1
                    failed = self._break(f"{type(error).__name__}: {error}")
                settle_many(failed)
                break
            with self._lock:
                self._starting -= 1
                self._links.append(link)
                self._pump.add(link)
        with self._lock:
            if not self.closed or self._waiting or any(link.inflight for link in self._links):
                return True
            links, self._links = self._links, []
            for link in links:
                self._pump.remove(link)
        for link in links:
            link.hang_up()
        for link in links:
            link.reap(_GRACE * 5)
        return False

    def on_ready(self, link: Link) -> None:
        """Read what a worker has sent; settle it; send it more."""
        if link.lost:
            return
        settled: list[Settled] = []
        try:
            alive = link.receive()
            with self._lock:
                while (frame := link.reader.next()) is not None:
                    kind, flags, _, regions, payload = frame
                    self._answer(link, kind, flags, regions, payload, settled)
                if not alive:
                    self._lose(link, settled)
                self._crowded = False
                if self._waiting:
                    settled += self._dispatch()
        except BaseException:  # an interrupt in the midst of it: this worker's state is unknown
            link.process.kill()
            raise
        finally:
            if settled:
                settle_many(settled)

    def on_tick(self, now: float) -> float | None:
        """Look after timeouts, long calls, and workers that do not end; give the next time."""
        due: list[float] = []
        settled: list[Settled] = []
        with self._lock:
            for link in self._links:
                if link.kill_at is not None:
                    if now >= link.kill_at:
                        link.process.kill()
                    due.append(max(link.kill_at - now, _STUCK))
                elif link.inflight and link.ready:
                    self._look_at(link, now, due, settled)
        if settled:
            settle_many(settled)
        return min(due) if due else None

    # ---- sending; all with the lock held

    def _refuse(self) -> None:
        if self._broken is not None:
            raise WorkerStartError(self._broken)
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self._pump.start()

    def _has_room(self) -> bool:
        with self._lock:
            flying = sum(len(batch.calls) for link in self._links for batch in link.inflight)
            return self._waiting + flying < (self._max_pending or 0) or self.closed

    def _dispatch(self) -> list[Settled]:
        failed: list[Settled] = []
        if self._dispatching or self._crowded:  # the first: pickling an argument has submitted
            return failed
        self._dispatching = True
        try:
            while self._waiting:
                link = self._idle[-1] if self._idle else self._roomy()
                if link is None or not self._feed(link, failed):
                    break
        finally:
            self._dispatching = False
        if self._waiting:
            self._crowded = not self._idle
            if len(self._links) + self._starting < self.max_workers and self._missing():
                self._pump.wake()
        return failed

    def _missing(self) -> int:
        """How many workers to start for what waits."""
        if self._broken is not None or not self._waiting:
            return 0
        booting = self._starting + sum(not link.ready for link in self._links)
        room = self.max_workers - len(self._links) - self._starting
        return max(0, min(room, self._waiting - booting))

    def _roomy(self) -> Link | None:
        """A busy worker that may have one more batch of short calls."""
        head = self._head()
        if head is None or self._costs.of(head).seconds * weight(head) > _PREFETCH:
            return None
        for link in self._links:
            if (
                link.ready
                and len(link.inflight) == 1
                and link.kill_at is None
                and link.revoking_since is None
                and link.inflight[0].short(_PREFETCH)
            ):
                return link
        return None

    def _head(self) -> Call | None:
        for queue in self._queues:
            while queue and queue[0].done():
                queue.popleft()
                self._waiting -= 1
            if queue:
                return queue[0]
        return None

    def _feed(self, link: Link, failed: list[Settled]) -> bool:
        """Send one batch; false if nothing could be sent to this worker now."""
        head = self._head()
        if head is None:
            return False
        queue = self._queues[head.priority]
        cost = self._costs.of(head)
        size = 1
        if self._waiting > 1 and not head.alone:
            size = self._costs.batch(cost, head, self._waiting // len(self._links) + 1)
        calls = self._take(queue, size)
        try:
            batch = link.send(calls, cost)
        except ArenaFullError as error:
            return self._no_room(link, calls, error, failed, cost)
        except Exception as error:  # noqa: BLE001 - whatever pickling raises belongs to a call
            if len(calls) == 1:
                failed.append((head, None, error))
            else:
                self._put_back(calls, alone=True)
            return True
        except BaseException:
            if not link.inflight or link.inflight[-1].calls is not calls:
                self._put_back(calls)
            raise
        if batch.region is not None:
            cost.bytes = batch.region[1] / len(calls)
        if self._idle and self._idle[-1] is link:
            self._idle.pop()
        if self._pump.drowsy and (len(calls) > 1 or head.timeout or len(link.inflight) > 1):
            self._pump.drowsy = False
            self._pump.wake()
        return True

    def _take(self, queue: deque[Call], size: int) -> list[Call]:
        head = queue.popleft()
        head.start()
        self._waiting -= 1
        calls = [head]
        function, mode = head.fn, head.mode
        while len(calls) < size and queue:
            call = queue[0]
            if call.fn is not function or call.mode != mode or call.alone:
                break
            if mode == STAGE and call.args[:2] != head.args[:2]:
                break
            if (call.timeout is None) != (head.timeout is None):
                break
            queue.popleft()
            self._waiting -= 1
            if call.start():
                calls.append(call)
        return calls

    def _put_back(self, calls: Iterable[Call], *, alone: bool = False) -> None:
        """Queue calls again, before those that wait, in their order."""
        for call in reversed(list(calls)):
            if not call.done():
                call.rest()
                call.alone = call.alone or alone
                self._queues[call.priority].appendleft(call)
                self._waiting += 1

    def _no_room(
        self, link: Link, calls: list[Call], error: LimitError, failed: list[Settled], cost: Cost
    ) -> bool:
        if len(calls) > 1:
            self._put_back(calls)
            cost.too_large(len(calls))
            return True
        if link.memory.to_worker.used == 0:
            failed.append((calls[0], None, error))
            return True
        self._put_back(calls)
        if not link.inflight:  # the worker holds on to arguments of earlier calls
            self._idle.remove(link)
            link.end(None, _GRACE)
        return False

    # ---- receiving; all with the lock held

    def _answer(
        self,
        link: Link,
        kind: int,
        flags: int,
        regions: int,
        payload: memoryview,
        settled: list[Settled],
    ) -> None:
        try:
            value = unpack_copied(flags, regions, payload, link.memory.view)
        except Exception as error:  # noqa: BLE001 - whatever loading a result raises
            self._unreadable(link, error, settled)
            return
        link.read_one()
        if kind == HELLO:
            link.ready = True
            self._bad_boots = 0
            self._idle.append(link)
            return
        if kind == BROKEN:
            settled += self._break(value)
            return
        results, errors, seconds, skipped, keep, released = value
        batch = link.inflight[0]
        calls = batch.calls
        done = batch.done
        if not errors:
            mine = calls if len(results) == len(calls) else calls[done : done + len(results)]
            settled += zip(mine, results, repeat(None))
        elif errors[0][0] < 0:  # the frame could not be loaded; nothing has run
            if len(calls) == 1:
                settled.append((calls[0], None, rebuild(errors[0][1])))
            else:
                self._put_back(calls, alone=True)
        else:
            raised = dict(errors)
            for index, result in enumerate(results, done):
                if index not in raised:
                    settled.append((calls[index], result, None))
                else:
                    calls[index].partial = result or ()
                    settled.append((calls[index], None, rebuild(raised[index])))
        batch.done = done + len(results)
        if kind != REPLY:
            return
        if skipped and batch.done < len(calls):
            self._put_back(calls[batch.done :])
        if batch.done:
            batch.cost.note(calls, batch.done, seconds)
        link.finish_batch(keep=keep, released=released)
        if not link.inflight and link.kill_at is None:
            self._idle.append(link)

    def _unreadable(self, link: Link, error: Exception, settled: list[Settled]) -> None:
        """A result cannot be loaded here: its worker starts afresh, its calls fail or go alone."""
        link.process.kill()
        for batch in link.inflight:
            left = batch.calls[batch.done :]
            if len(batch.calls) > 1 and self._max_retries:
                self._put_back(left, alone=True)
            elif batch is link.inflight[0]:
                problem = RemoteError(f"the result cannot be loaded here: {error!r}")
                problem.__cause__ = error
                settled += [(call, None, problem) for call in left]
            else:
                self._put_back(left)
            batch.calls = []

    # ---- losing a worker; all with the lock held

    def _lose(self, link: Link, settled: list[Settled]) -> None:
        """Forget a worker that is gone; its calls fail, or run again elsewhere."""
        self._pump.remove(link)
        self._links.remove(link)
        if link in self._idle:
            self._idle.remove(link)
        started = link.started()
        code = link.reap(_GRACE)
        if not link.ready:
            self._bad_boots += 1
            if self._bad_boots >= _BOOTS and self._broken is None:
                settled += self._break(
                    f"{_BOOTS} workers in a row ended before they were ready ({_how(code)})"
                )
        again = []
        for batch in link.inflight:
            for unit, call in enumerate(batch.calls[batch.done :], batch.first + batch.done):
                if call.done():
                    continue
                if unit <= started and not self._retry(call, link, ran=unit == started):
                    problem = WorkerLostError(
                        f"the worker (process {link.process.pid}) that ran the call ended: "
                        f"{_how(code)}; it was tried {max(call.tries, 1)} time(s)",
                        exit_code=code,
                        tries=call.tries,
                    )
                    settled.append((call, None, problem))
                else:
                    again.append(call)
        link.inflight.clear()
        self._put_back(again)
        if self._missing():
            self._pump.wake()

    def _retry(self, call: Call, link: Link, *, ran: bool) -> bool:
        """Whether a call that had started runs again."""
        limit = self._max_retries if call.max_retries is None else call.max_retries
        if not ran:  # it had ended, its result is lost
            return limit > 0
        if link.culprits:  # we ended the worker, because of another call
            return True
        call.tries += 1
        call.alone = True
        return call.tries <= limit

    def _break(self, reason: str) -> list[Settled]:
        """Give up: fail all that waits, now and later."""
        self._broken = reason
        calls = [call for queue in self._queues for call in queue if not call.done()]
        for link in self._links:
            calls += [call for batch in link.inflight for call in batch.calls if not call.done()]
        for queue in self._queues:
            queue.clear()
        self._waiting = 0
        return [(call, None, WorkerStartError(reason)) for call in calls]

    def _link_of(self, call: Call) -> Link | None:
        for link in self._links:
            for batch in link.inflight:
                if call in batch.calls:
                    return link
        return None

    # ---- looking after long calls; with the lock held

    def _look_at(
        self, link: Link, now: float, due: list[float], settled: list[Settled]
    ) -> None:
        call, began = link.current()
        if call is not None and call.timeout is not None:
            left = began + call.timeout - now
            if left <= 0 and not call.done():
                problem = TaskTimeoutError(
                    f"the call ran longer than its timeout of {call.timeout} s",
                    timeout=call.timeout,
                )
                settled.append((call, None, problem))
                link.end(call, _GRACE)
                due.append(_STUCK)
                return
            due.append(max(left, _REVOKE))
        elif call is None and link.inflight[0].calls and link.inflight[0].calls[0].timeout:
            due.append(_STUCK)  # sent, not started
        batch = link.inflight[0]
        if len(batch.calls) - batch.done <= 1 and len(link.inflight) == 1:
            return
        if link.revoking_since == _TAKEN:
            return
        due.append(_STUCK if link.revoking_since is None else _REVOKE)
        started = link.started()
        if link.seen != started:
            link.seen, link.seen_at = started, now
            return
        if now - link.seen_at < _STUCK:
            return
        if started > batch.first + batch.done:
            link.flush(started)
        if link.revoking_since is None:
            if self._waiting == 0 and (self._idle or len(self._links) < self.max_workers):
                link.revoke(started, now)
        elif now - link.revoking_since >= _REVOKE:
            self._take_back(link, started)
            link.revoking_since = _TAKEN
            settled += self._dispatch()

    def _take_back(self, link: Link, started: int) -> None:
        """Queue again what a worker, busy with `started`, has been forbidden to start."""
        again: list[Call] = []
        for batch in link.inflight:
            keep = max(started + 1 - batch.first, 0)
            again += batch.calls[keep:]
            del batch.calls[keep:]
        self._crowded = False
        self._put_back(again)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
