"""An executor whose workers are strangers: calls are bought on the chain, and results checked."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, Final

from noob_cloud.blobs.interface import verify
from noob_cloud.blockchain.amounts import to_wei
from noob_cloud.blockchain.call import frame_of, value_in
from noob_cloud.blockchain.checking import Checker
from noob_cloud.blockchain.errors import (
    ChainError,
    RpcError,
    TransactionRevertedError,
    WrongChainError,
)
from noob_cloud.blockchain.offers import Offer, Report
from noob_cloud.blockchain.payday import chain_time, same_account
from noob_cloud.blockchain.purse import BudgetExceededError, Purse
from noob_cloud.blockchain.reading import Reader
from noob_cloud.blockchain.views import TaskState, to_digest
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
    from collections.abc import Callable, Iterable, Sequence
    from random import Random

    from noob_cloud.blobs import BlobStore
    from noob_cloud.blockchain.amounts import Ether
    from noob_cloud.blockchain.contract import Event
    from noob_cloud.blockchain.ethereum import EthereumTaskCoordinator
    from noob_cloud.blockchain.receipts import Receipt
    from noob_cloud.plan import Stage
    from noob_cloud.tubes import TubeSource

__all__ = ["ChainExecutor"]

_log = logging.getLogger(__name__)
_BATCH: Final = 50
"""Tasks of one transaction."""
_PATIENCE: Final = 600.0
"""Seconds that all nodes may be away before the run ends."""
_PAUSE: Final = 30.0
"""Seconds until the same is tried for a task again: what was done may not be deep enough yet."""
_SHARE: Final = 0.5
"""Of a challenge period that a result may wait for others, so that one sample is drawn of all."""


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
    ) -> None:
        self.coordinator = coordinator
        self.me = coordinator.account.own_address()
        self.reward = to_wei(reward_eth, name="reward_per_task_eth")
        budget = None if budget_eth is None else to_wei(budget_eth, name="budget_eth")
        self.purse = Purse(coordinator, budget)
        self.report = Report()
        self.stopping = threading.Event()
        """Set by another thread: the run ends with TaskCancelledError."""
        self._store = store
        self._run_id = run_id
        self._sample = sample
        self._checker = Checker(same)
        self._untaken = untaken_seconds
        self._run_untaken = run_untaken
        self._poll = poll_seconds
        self._rng = rng or secrets.SystemRandom()
        self._reader = Reader(coordinator)
        self._period = coordinator.terms().challenge_period
        self._offers: dict[str, Offer] = {}
        self._published: set[str] = set()
        self._caught: set[str] = set()
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
        self._buy(new)
        return futures

    def _buy(self, offers: list[Offer]) -> None:
        self.report.tasks += len(offers)
        missing = self._not_ours_yet(offers)
        cost = to_wei(self.coordinator.cost_of(_eth(self.reward)))
        if missing:
            self.purse.check(cost * len(missing), f"{len(missing)} tasks")
        for start in range(0, len(missing), _BATCH):
            part = missing[start : start + _BATCH]
            digests = [to_digest(offer.cid) for offer in part]
            message = self.coordinator.message(
                "submitTasks", digests, self.reward, value=cost * len(part)
            )
            receipts = self.purse.pay([message], "submitTasks")
            bought = {
                event.values["taskCID"]: event.values["generation"]
                for event in self._said(receipts)
                if event.name == "TaskSubmitted"
            }
            for offer in part:
                offer.generation = bought[offer.cid]
                offer.bought_at = time.monotonic()

    def _not_ours_yet(self, offers: list[Offer]) -> list[Offer]:
        """Return those that no run of this name has bought before."""
        found = self._reader.tasks([(offer.cid, None) for offer in offers])
        known = [
            (offer, generation)
            for offer, task in zip(offers, found, strict=True)
            if task.state is not TaskState.NONE
            for generation in range(task.generation + 2)  # one may wait behind what is held
        ]
        shares = self._reader.shares([(offer.cid, number) for offer, number in known], self.me)
        ours: set[str] = set()
        for (offer, generation), share in zip(known, shares, strict=True):
            if share:
                ours.add(offer.cid)
                offer.generation, offer.bought_at = generation, time.monotonic()
                self.purse.count("submitTasks", share)
        self.report.resumed += len(ours)
        return [offer for offer in offers if offer.cid not in ours]

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
        live = [o for o in self._offers.values() if not o.closed and (o.challenged or not o.done)]
        block = self._reader.settled_block()
        found = self._reader.tasks([(o.cid, o.generation) for o in live], block=block)
        now = chain_time(self.coordinator)
        for offer, task in zip(live, found, strict=True):
            offer.task = task
            if not offer.done and not offer.arrived:
                self._fetch(offer, now)
        self._free([o for o in live if o.state is TaskState.CLAIMED], now)
        self._take_back([o for o in live if o.state is TaskState.OPEN], now)
        self._judge(now)
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
            if task.state is TaskState.SUBMITTED and now < task.deadline - self._period * _SHARE:
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

    # ---- judging

    def _judge(self, now: int) -> None:
        """Draw a sample of what has arrived, once all is there or time presses."""
        waiting = [offer for offer in self._offers.values() if not offer.done]
        arrived = [offer for offer in waiting if offer.arrived]
        pressing = any(
            offer.task is not None
            and offer.state is TaskState.SUBMITTED
            and now >= offer.task.deadline - self._period * _SHARE
            for offer in arrived
        )
        if not arrived or (len(arrived) < len(waiting) and not pressing):
            return
        chosen = [o for o in arrived if o.wrong or self._rng.random() < self._sample]
        while chosen:
            for offer in chosen:
                self._check(offer)
            chosen = [
                offer
                for offer in arrived
                if not offer.checked and (offer.worker or "").lower() in self._caught
            ]
        self._challenge([offer for offer in arrived if offer.wrong])
        for offer in arrived:
            self._finish(offer)

    def _check(self, offer: Offer) -> None:
        mine = self._checker.run(offer.payload, offer.document)
        offer.checked = True
        if offer.wrong is None and not self._checker.agrees(mine, offer.value):
            offer.wrong = f"executed again, it gives {_name(mine)} and not {offer.result_cid}"
        if offer.wrong is not None:
            self._caught.add((offer.worker or "").lower())
            offer.value = mine

    def _challenge(self, offers: list[Offer]) -> None:
        for offer in offers:
            worker, reason = offer.worker or "", offer.wrong or ""
            self.report.challenges.append((offer.cid, worker, reason))
            if offer.state is not TaskState.SUBMITTED:
                self._note(
                    f"{offer.cid} is {offer.state} already, so its result of {worker} was"
                    f" not challenged: {reason}"
                )
                continue
            assert offer.task is not None  # noqa: S101 - it has a state
            bond = to_wei(self.coordinator.bond_for(offer.task.reward_eth))
            offer.bond = bond
            message = self.coordinator.message(
                "challengeTask", to_digest(offer.cid), reason[:500], value=bond
            )
            try:
                self.purse.pay([message], "challengeTask")
            except (BudgetExceededError, TransactionRevertedError) as error:
                self._note(f"The result of {offer.cid} was not challenged: {error}")
            else:
                offer.challenged = True

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

    def _free(self, offers: list[Offer], now: int) -> None:
        """Free what a worker has held for too long; others may have it then."""
        late = [o for o in offers if o.task is not None and o.task.deadline <= now]
        self._quietly("reclaimTasks", late)

    def _take_back(self, offers: list[Offer], now: int) -> None:
        """Cancel what nobody took in time, and what was challenged in earnest."""
        past = time.monotonic() - (self._untaken or 0.0)
        late = [
            offer
            for offer in offers
            if offer.done
            or (offer.task is not None and offer.task.expires_at <= now)
            or (self._untaken is not None and offer.bought_at <= past)
        ]
        for offer in self._cancel(late):
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
                        f"nobody took the task {offer.cid} for {_eth(self.reward):f} ether in time;"
                        " it was cancelled and its price given back. Offer more, or wait longer."
                    ),
                )
            offer.done = True
            self._resolve(offer)

    def _cancel(self, offers: Iterable[Offer]) -> list[Offer]:
        """Take shares back; return what is cancelled."""
        by_cid = {offer.cid: offer for offer in offers}
        gone = []
        for event in self._quietly("cancelTasks", list(by_cid.values())):
            if event.name == "ShareRefunded" and same_account(event.values["submitter"], self.me):
                back = event.values["reward"] + event.values["fee"]
                self.purse.count("refunds", -back)
                offer = by_cid[event.values["taskCID"]]
                offer.closed = True
                if offer.challenged:  # whatever opened the task again gave the bond back
                    self.purse.count("bonds back", -offer.bond)
                gone.append(offer)
        return gone

    def _quietly(self, name: str, offers: list[Offer]) -> list[Event]:
        """Do something for many tasks whose state may have changed meanwhile."""
        said: list[Event] = []
        now = time.monotonic()
        offers = [o for o in offers if o.touched.get(name, -_PAUSE) <= now - _PAUSE]
        for start in range(0, len(offers), _BATCH):
            part = offers[start : start + _BATCH]
            for offer in part:
                offer.touched[name] = now
            digests = [to_digest(offer.cid) for offer in part]
            try:
                message = self.coordinator.message(name, digests)
                said += self._said(self.purse.pay([message], name))
            except (BudgetExceededError, TransactionRevertedError) as error:
                self._note(f"{name} of {len(digests)} tasks was not done: {error}")
        return said

    def _said(self, receipts: Sequence[Receipt]) -> list[Event]:
        return [event for receipt in receipts for event in self.coordinator.events(receipt)]

    def _note(self, text: str) -> None:
        if text not in self.report.notes:
            _log.warning("%s", text)
            self.report.notes.append(text)

    # ---- the end

    def settle(self) -> list[str]:
        """End what can be ended of challenged tasks, and take back what they cost.

        Returns:
            cids that still wait for a ruling, or for the end of its time.
        """
        open_ = [offer for offer in self._offers.values() if offer.done and not offer.closed]
        found = self._reader.tasks([(offer.cid, offer.generation) for offer in open_])
        now = chain_time(self.coordinator)
        for offer, task in zip(open_, found, strict=True):
            offer.task = task
        expired = [
            offer
            for offer in open_
            if offer.state is TaskState.CHALLENGED and offer.task and offer.task.deadline <= now
        ]
        self._quietly("expireChallenges", expired)
        self._cancel([o for o in open_ if o.state is TaskState.OPEN or o in expired])
        for offer in open_:
            offer.closed |= offer.state in (TaskState.VERIFIED, TaskState.NONE)
        return [offer.cid for offer in open_ if offer.challenged and not offer.closed]

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
        if waiting:
            try:
                self._cancel(waiting)
            except ChainError as error:
                self._note(f"{len(waiting)} tasks are left on the chain: {error}")


def _eth(wei: int) -> Any:
    from noob_cloud.blockchain.amounts import to_eth  # noqa: PLC0415 - one name for short

    return to_eth(wei)


def _name(value: Any) -> str:
    from noob_cloud.cid import cid  # noqa: PLC0415 - loads blake3

    return cid(dumps(value))
