"""Which call goes to which worker, when, and what becomes of it when the worker dies."""

from __future__ import annotations

import threading
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING, Any

from noob_cloud.exceptions import LimitError, RunnerError, TaskTimeoutError
from noob_cloud.executors.arena import ArenaFullError
from noob_cloud.executors.channel import BROKEN, HELLO, REPLY, unpack_copied
from noob_cloud.executors.process_answer import (
    Settled,
    give_up_results,
    how,
    settle_results,
    sort_out,
)
from noob_cloud.executors.process_backlog import Backlog
from noob_cloud.executors.process_call import Call, settle_many
from noob_cloud.executors.process_cost import Cost, Costs, weight
from noob_cloud.executors.process_link import Link, end_all
from noob_cloud.executors.process_pump import Pump
from noob_cloud.executors.process_watch import leave, look, overdue

if TYPE_CHECKING:
    from collections.abc import Callable

    from noob_cloud.executors.channel import Frame

__all__ = ["Pool", "WorkerStartError"]

_LOOK, _ROOM = 0.005, 0.001
"""Seconds between looks at a worker that was asked to end, and for room for one more call."""
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

    def __init__(
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
        self._backlog = Backlog()
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
                threading.Event().wait(_ROOM)
        with self._lock:
            self._refuse()
            before = self._backlog.size
            self._backlog.add(calls)
            failed = self._dispatch()
            crowded = self._crowded and before // _HELP != self._backlog.size // _HELP
        if failed:
            settle_many(failed)
        if crowded:
            self._pump.help(mute=True)

    def withdraw(self, call: Call, *, running: bool | None = None) -> bool:
        """Cancel a call; one that runs only with `running`, by ending its worker."""
        with self._lock:
            if call.done():
                return False
            if call.running():
                if not (self._cancel_running if running is None else running):
                    return False
                for link in self._links:
                    if link.carries(call):
                        link.end(_GRACE) if running else link.leave()
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
                cancelled += [call for call in self._backlog.clear() if call.mark_cancelled()]
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
            if not self.closed or self._backlog.size or any(link.inflight for link in self._links):
                return True
            links, self._links = self._links, []
            for link in links:
                self._pump.remove(link)
        end_all(links, _GRACE * 5)
        return False

    def on_ready(self, link: Link) -> None:
        """Read what a worker has sent; settle it; send it more."""
        if link.lost:
            return
        settled: list[Settled] = []
        try:
            alive = link.receive()
            with self._lock:
                while not link.given_up and (frame := link.reader.next()) is not None:
                    self._answer(link, frame, settled)
                if not alive:
                    self._lose(link, settled)
                self._crowded = False
                if self._backlog.size:
                    settled += self._dispatch()
        except BaseException:  # an interrupt in the midst of it: this worker's state is unknown
            link.process.kill()
            raise
        finally:
            if settled:
                settle_many(settled)

    def on_tick(self, now: float) -> float | None:
        """Look after timeouts, long calls, and workers that do not end; give the next time."""
        due: list[float | None] = []
        settled: list[Settled] = []
        with self._lock:
            for link in self._links:
                if link.kill_at is not None:
                    if now >= link.kill_at:
                        link.process.kill()
                    due.append(max(link.kill_at - now, _LOOK))
                elif link.inflight and link.ready:
                    due += self._look_after(link, now, settled)
        if settled:
            settle_many(settled)
        return min((seconds for seconds in due if seconds is not None), default=None)

    def _look_after(self, link: Link, now: float, settled: list[Settled]) -> list[float | None]:
        leaving = leave(link, now)
        if leaving == 0:
            link.end(_GRACE)
            return [_LOOK]
        late, timed = overdue(link, now)
        if late is not None:
            text = f"the call ran longer than its timeout of {late.timeout} s"
            settled.append((late, None, TaskTimeoutError(text, timeout=late.timeout)))
            link.end(_GRACE)
            return [_LOOK]
        room = bool(self._idle) or len(self._links) < self.max_workers
        again, stuck = look(link, now, spare=room and not self._backlog.size)
        if again:
            self._backlog.put_back(again)
            self._crowded = False
            settled += self._dispatch()
        return [leaving, timed, stuck]

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
            return self._backlog.size + flying < (self._max_pending or 0) or self.closed

    def _dispatch(self) -> list[Settled]:
        failed: list[Settled] = []
        if self._dispatching or self._crowded:  # the first: pickling an argument has submitted
            return failed
        self._dispatching = True
        try:
            while self._backlog.size:
                link = self._idle[-1] if self._idle else self._roomy()
                if link is None or not self._feed(link, failed):
                    break
        finally:
            self._dispatching = False
        if self._backlog.size:
            self._crowded = not self._idle
            if len(self._links) + self._starting < self.max_workers and self._missing():
                self._pump.wake()
        return failed

    def _missing(self) -> int:
        """How many workers to start for what waits."""
        if self._broken is not None or not self._backlog.size:
            return 0
        booting = self._starting + sum(not link.ready for link in self._links)
        room = self.max_workers - len(self._links) - self._starting
        return max(0, min(room, self._backlog.size - booting))

    def _roomy(self) -> Link | None:
        """A busy worker that may have one more batch of short calls."""
        head = self._backlog.head()
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

    def _feed(self, link: Link, failed: list[Settled]) -> bool:
        """Send one batch; false if nothing could be sent to this worker now."""
        head = self._backlog.head()
        if head is None:
            return False
        cost = self._costs.of(head)
        share = self._backlog.size // len(self._links) + 1
        calls = self._backlog.take(self._costs.batch(cost, head, share))
        try:
            batch = link.send(calls, cost)
        except ArenaFullError as error:
            return self._no_room(link, calls, error, failed, cost)
        except Exception as error:  # noqa: BLE001 - whatever pickling raises belongs to a call
            if len(calls) == 1:
                failed.append((head, None, error))
            else:
                self._backlog.put_back(calls, alone=True)
            return True
        except BaseException:
            if not link.inflight or link.inflight[-1].calls is not calls:
                self._backlog.put_back(calls)
            raise
        if batch.region is not None:
            cost.bytes = batch.region[1] / len(calls)
        if self._idle and self._idle[-1] is link:
            self._idle.pop()
        if self._pump.drowsy and (len(calls) > 1 or head.timeout or len(link.inflight) > 1):
            self._pump.rouse()
        return True

    def _no_room(
        self, link: Link, calls: list[Call], error: LimitError, failed: list[Settled], cost: Cost
    ) -> bool:
        if len(calls) > 1:
            self._backlog.put_back(calls)
            cost.too_large(len(calls))
            return True
        if link.memory.to_worker.used == 0:
            failed.append((calls[0], None, error))
            return True
        self._backlog.put_back(calls)
        if not link.inflight:  # the worker holds on to arguments of earlier calls
            self._idle.remove(link)
            link.end(_GRACE)
        return False

    # ---- receiving; all with the lock held

    def _answer(self, link: Link, frame: Frame, settled: list[Settled]) -> None:
        kind, flags, _, regions, payload = frame
        try:
            value = unpack_copied(flags, regions, payload, link.memory.view)
        except Exception as error:  # noqa: BLE001 - whatever loading a result raises
            settled += give_up_results(link, error, retry=self._max_retries > 0)
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
        again = settle_results(link, results, errors, settled)
        if again:
            self._backlog.put_back(again, alone=True)
        if kind != REPLY:
            return
        if skipped and batch.done < len(batch.calls):
            self._backlog.put_back(batch.calls[batch.done :])
        if batch.done:
            batch.cost.note(batch.calls, batch.done, seconds)
        link.finish_batch(keep=keep, released=released)
        if not link.inflight and link.kill_at is None:
            self._idle.append(link)

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
                    f"{_BOOTS} workers in a row ended before they were ready ({how(code)})"
                )
        again, failed = sort_out(link, code, started, self._max_retries)
        settled += failed
        self._backlog.put_back(again)
        if self._missing():
            self._pump.wake()

    def _break(self, reason: str) -> list[Settled]:
        """Give up: fail all that waits, now and later."""
        self._broken = reason
        calls = self._backlog.clear()
        for link in self._links:
            calls += [call for batch in link.inflight for call in batch.calls if not call.done()]
        return [(call, None, WorkerStartError(reason)) for call in calls]
