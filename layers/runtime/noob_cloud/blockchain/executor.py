"""An executor whose workers are strangers: calls are bought on the chain, and results checked."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, Final

from noob_cloud.blobs.interface import verify
from noob_cloud.blockchain.amounts import to_eth, to_wei
from noob_cloud.blockchain.call import frame_of, value_in
from noob_cloud.blockchain.checking import Checker
from noob_cloud.blockchain.deals import Deals
from noob_cloud.blockchain.errors import (
    ChainError,
    RpcError,
    WrongChainError,
)
from noob_cloud.blockchain.judging import Judge
from noob_cloud.blockchain.offers import Offer, Report
from noob_cloud.blockchain.payday import chain_time
from noob_cloud.blockchain.purse import Purse
from noob_cloud.blockchain.snapshot import Reader
from noob_cloud.blockchain.views import TaskState
from noob_cloud.codec import dumps
from noob_cloud.exceptions import (
    BlobCorruptError,
    BlobNotFoundError,
    DecodeError,
    NoWorkerError,
    TaskCancelledError,
    UnavailableError,
)
from noob_cloud.task import Outcome, StageCall
from noob_cloud.worker.execute import FINISHED, exception_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from noob_cloud.blobs import BlobStore
    from noob_cloud.blockchain.amounts import Ether
    from noob_cloud.blockchain.ethereum import EthereumTaskCoordinator
    from noob_cloud.plan import Stage
    from noob_cloud.tubes import TubeSource

__all__ = ["ChainExecutor"]

_log = logging.getLogger(__name__)
_PATIENCE: Final = 600.0
"""Seconds that all nodes may be away before the run ends."""


class ChainExecutor(Executor):
    """Buys calls on the chain and resolves their futures with results that it has looked at.

    The calls of one stage and epoch are one task. Results are held until all that is out has come
    back, or half of a challenge period is over; then a random sample is executed again here. A
    wrong result is challenged, and every other result that its worker gave meanwhile is executed
    again, too; what is used then is one's own.

    Everything happens in the thread that waits for results, by `pump`.

    Args:
        coordinator: the contract, with the submitter's key.
        store: where calls and tubes go and results are.
        run_id: names the run; the same name finds what was bought before.
        reward_eth: of each task.
        budget_eth: the most that is spent in all: rewards, fees, bonds and gas.
        sample: the share of results that is executed again, from 0 to 1.
        same: see `Checker`.
        untaken_seconds: after how long a task that nobody took is cancelled; None: when it expires.
        run_untaken: execute such a task here; else its epoch raises NoWorkerError.
        poll_seconds: between looks at the chain.
        rng: draws the sample; for tests.
        before: of a run before this one: its spending counts, and what it left is settled.
    """

    one_call_per_task = True
    retries_errors = True

    def __init__(
        self,
        coordinator: EthereumTaskCoordinator,
        store: BlobStore,
        *,
        run_id: str,
        reward_eth: Ether,
        budget_eth: Ether | None = None,
        sample: float = 0.1,
        same: Callable[[Any, Any], bool] | None = None,
        untaken_seconds: float | None = None,
        run_untaken: bool = False,
        poll_seconds: float = 1.0,
        rng: Random | None = None,
        before: ChainExecutor | None = None,
    ) -> None:
        self.coordinator = coordinator
        self.reward = to_wei(reward_eth, name="reward_per_task_eth")
        budget = None if budget_eth is None else to_wei(budget_eth, name="budget_eth")
        self.purse: Purse = before.purse if before else Purse(coordinator, budget)
        self.report: Report = before.report if before else Report()
        self._left = before.unsettled if before else []
        self.stopping = threading.Event()
        """Set by another thread: the run ends with TaskCancelledError."""
        self._store = store
        self._run_id = run_id
        self._checker = Checker(same)
        self._untaken = untaken_seconds
        self._run_untaken = run_untaken
        self._poll = poll_seconds
        self._reader = Reader(coordinator)
        self.deals = Deals(self.purse, self._reader, self.report, reward=self.reward)
        self._judge = Judge(
            self._checker,
            sample=sample,
            period=coordinator.terms().challenge_period,
            rng=rng or secrets.SystemRandom(),
        )
        self._offers: dict[str, Offer] = {}
        self._published: set[str] = set()
        self._away: float | None = None
        self._closed = False

    # ---- buying

    def submit(self, fn: Callable[..., Any], /, *_args: Any, **_kwargs: Any) -> Future[Any]:
        """Refuse: only stages of a tube are bought."""
        raise TypeError(f"the chain takes stages of a tube, not {fn!r}")

    def submit_call(
        self, call: StageCall, *, tube: TubeSource, stage: Stage | None = None
    ) -> Future[Any]:
        """Buy one call; its future gives one tuple of outputs for each of its epochs."""
        return self.submit_calls([call], tube=tube, stage=stage)[0]

    def submit_calls(
        self,
        calls: Sequence[StageCall],
        *,
        tube: TubeSource,
        stage: Stage | None = None,  # noqa: ARG002 - where a stranger runs it is not ours to say
    ) -> list[Future[Any]]:
        """Buy calls of one epoch each, those of one epoch's sub-epochs as one task.

        Raises:
            BudgetExceededError: the budget does not allow it; nothing was bought.
        """
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if tube.cid not in self._published:
            self._store.put(tube.document)
            self._published.add(tube.cid)
        together: dict[tuple[Any, ...], list[int]] = {}
        for place, call in enumerate(calls):
            first = call.epochs[0]
            root = first if isinstance(first, int) else first[0]
            together.setdefault((call.nodes, repr(root)), []).append(place)
        futures: list[Future[Any]] = [Future() for _ in calls]
        new: list[Offer] = []
        for places in together.values():
            parts = [calls[place] for place in places]
            whole = StageCall(
                tube=parts[0].tube,
                nodes=parts[0].nodes,
                epochs=tuple([epoch for part in parts for epoch in part.epochs]),
                inputs=tuple([row for part in parts for row in part.inputs]),
                code=parts[0].code,
            )
            cid = self._store.put(frame_of(whole, run=self._run_id))
            offer = self._offers.get(cid)
            if offer is None:
                offer = self._offers[cid] = Offer(cid, bytes(dumps(whole)), tube.document)
                new.append(offer)
            at = 0
            for place, part in zip(places, parts, strict=True):
                offer.futures.append((futures[place], at))
                at += len(part.epochs)
            if offer.done:
                self._resolve(offer)
        self.report.tasks += len(new)
        self.deals.buy(new)
        return futures

    # ---- waiting

    def pump(self, until: Callable[[], bool], timeout: float | None) -> None:
        """Look at the chain, again and again, until there is something for the caller.

        Raises:
            TaskCancelledError: `stopping` was set.
            RpcError: no node could be asked for ten minutes.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        while not until():
            self._patient_step()
            if until() or (ends is not None and time.monotonic() >= ends):
                return
            if self.stopping.wait(self._poll):
                raise TaskCancelledError("the run was cancelled")

    def _patient_step(self) -> None:
        try:
            self.step()
            self._away = None
        except WrongChainError:
            raise
        except (RpcError, UnavailableError) as error:
            now = time.monotonic()
            self._away = now if self._away is None else self._away
            if now - self._away > _PATIENCE:
                raise
            _log.warning("the chain or the store is away: %s", error)

    def step(self) -> None:
        """Look once at what is open, and do what is to be done about it."""
        live = [
            o
            for o in self._offers.values()
            if o.bought and not o.closed and (o.challenged or not o.done)
        ]
        block = self._reader.settled_block()
        found = self._reader.tasks([(o.cid, o.generation) for o in live], block=block)
        now = chain_time(self.coordinator)
        for offer, task in zip(live, found, strict=True):
            offer.task = task
            if not offer.done and not offer.arrived:
                self._fetch(offer, now)
        gone = [o for o in live if o.state is TaskState.NONE and not o.done]
        self.deals.buy_again(gone)
        self.deals.free([o for o in live if o.state is TaskState.CLAIMED], now)
        self._take_back([o for o in live if o.state is TaskState.OPEN], now)
        for offer in self._judge.judge([o for o in self._offers.values() if not o.done], now):
            if offer.wrong is not None:
                self.deals.challenge(offer)
            self._finish(offer)
        for offer in live:
            offer.closed = offer.done and offer.state in (TaskState.VERIFIED, TaskState.NONE)

    def _fetch(self, offer: Offer, now: int) -> None:
        """Have the result of a worker, if there is one."""
        task = offer.task
        if task is None or task.result_cid is None:
            return
        if task.state not in (TaskState.SUBMITTED, TaskState.CHALLENGED, TaskState.VERIFIED):
            return
        cid = offer.result_cid = task.result_cid
        try:
            offer.value = self._read(offer, cid)
        except BlobNotFoundError as error:
            if task.state is not TaskState.VERIFIED and not self._judge.presses(offer, now):
                return  # it may be on its way
            offer.wrong = f"its result cannot be had: {error}"
        except (BlobCorruptError, DecodeError) as error:
            offer.wrong = f"its result is none: {error}"
        offer.arrived = True

    def _read(self, offer: Offer, cid: str) -> Any:
        value = value_in(verify(cid, bytes(self._store.get(cid)), "the store"), cid)
        count = max(at for _, at in offer.futures) + 1
        if isinstance(value, list) and len(value) < count:
            raise DecodeError(f"{cid} holds outputs of {len(value)} epochs: {count} were asked for")
        return value

    def _finish(self, offer: Offer) -> None:
        if offer.worker is not None:
            worker = self.report.of(offer.worker)
            worker.checked += offer.checked
            if offer.wrong is None:
                worker.tasks += 1
                worker.earned_wei += offer.task.reward_wei if offer.task else 0
            else:
                worker.wrong += 1
        offer.done = True
        self._resolve(offer)

    def _resolve(self, offer: Offer) -> None:
        """Give those who wait their outputs, or the error."""
        value = offer.value
        error: BaseException | None = None
        outputs = value
        if isinstance(value, Outcome):
            error = exception_of(value)
            outputs = getattr(error, FINISHED, None) or []
        for future, at in offer.futures:
            if not future.set_running_or_notify_cancel():
                continue
            if at < len(outputs):
                future.set_result([outputs[at]])
            else:
                future.set_exception(error)
        offer.futures.clear()

    # ---- what nobody does

    def _take_back(self, offers: list[Offer], now: int) -> None:
        """Cancel what nobody took in time, and what was challenged in earnest."""
        past = time.monotonic() - (self._untaken or 0.0)
        late = [
            offer
            for offer in offers
            if offer.done
            or (offer.task is not None and offer.task.expires_at <= now)
            or (self._untaken is not None and (offer.bought_at or 0.0) <= past)
        ]
        for offer in self.deals.cancel(late):
            if offer.done:
                continue
            if self._run_untaken:
                offer.value = self._checker.run(offer.payload, offer.document)
                self.report.done_here += 1
            else:
                offer.value = Outcome(
                    ok=False,
                    error_type=f"{NoWorkerError.__module__}.{NoWorkerError.__qualname__}",
                    message=(
                        f"nobody took {offer.cid} for {to_eth(self.reward):f} ether in time;"
                        " it was cancelled and its price given back. Offer more, or wait longer."
                    ),
                )
            offer.done = True
            self._resolve(offer)

    # ---- the end

    def settle(self) -> list[str]:
        """End what can be ended of challenged tasks, and take back what they cost.

        Returns:
            cids that still wait for a ruling, or for the end of its time.
        """
        return self.deals.settle(self.unsettled)

    @property
    def unsettled(self) -> list[Offer]:
        """Tasks whose results were judged, and that the chain is not done with."""
        return [o for o in (*self._left, *self._offers.values()) if o.done and not o.closed]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - the standard library's signature
        """Take no more; with `cancel_futures` take back what nobody holds."""
        if self._closed:
            return
        self._closed = True
        if not cancel_futures:
            return
        waiting = [offer for offer in self._offers.values() if not offer.done]
        for offer in waiting:
            for future, _ in offer.futures:
                future.cancel()
        waiting = [offer for offer in waiting if offer.bought]
        if waiting:
            try:
                self.deals.cancel(waiting)
            except ChainError as error:
                self.deals.note(f"{len(waiting)} tasks are left on the chain: {error}")
