"""Do tasks of the chain for their reward: claim, execute, submit the result, be paid.

```python
with EthereumTaskCoordinator(config) as coordinator, TaskQueue(db_path="chain.db") as queue:
    ChainWorker(coordinator, queue, open_store("s3://bucket/blobs"), allowed_modules=["mine"]).run()
```

The queue holds the contract's events, as `ChainListener` submits them. Whatever stands on the chain
goes before what the queue says, so a worker that was killed at any moment goes on when its queue
task comes to it, or to another process with the same key, again.
"""

from __future__ import annotations

import json
import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from noob_cloud import codec
from noob_cloud.blobs.by_cid import Fetched
from noob_cloud.blockchain.amounts import to_eth, to_wei
from noob_cloud.blockchain.call import read_call
from noob_cloud.blockchain.contract import coordinator_abi
from noob_cloud.blockchain.errors import (
    ChainError,
    NotMinedError,
    RpcError,
    TransactionRevertedError,
    WrongChainError,
)
from noob_cloud.blockchain.payday import Payday, chain_time, same_account
from noob_cloud.blockchain.views import TaskState
from noob_cloud.coordinator.routing import POOL
from noob_cloud.exceptions import (
    BlobCorruptError,
    CodecError,
    CodeMismatchError,
    DecodeError,
    TubeRefusedError,
    UnavailableError,
)
from noob_cloud.queue.interface import Encoded
from noob_cloud.serverless.code import deployed_code
from noob_cloud.tubes import TubeSource
from noob_cloud.worker import child
from noob_cloud.worker.claim import ClaimLoop
from noob_cloud.worker.execute import exception_of
from noob_cloud.worker.pull import default_worker_id
from noob_cloud.worker.slots import failed, slots

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from noob_cloud.blobs import BlobStore
    from noob_cloud.blockchain.amounts import Ether
    from noob_cloud.blockchain.call import ChainCall
    from noob_cloud.blockchain.contract import Event
    from noob_cloud.blockchain.ethereum import EthereumTaskCoordinator
    from noob_cloud.blockchain.views import ChainTask
    from noob_cloud.queue import Queue, TaskQueue
    from noob_cloud.task import Task
    from noob_cloud.worker.child import Reply
    from noob_cloud.worker.slots import Stop

__all__ = ["OFFERS", "TAG", "ChainWorker"]

_log = logging.getLogger(__name__)
TAG: Final = "chain"
"""What the queue tasks of the chain's events require."""
OFFERS: Final = ("TaskSubmitted", "TaskReopened")
"""Events after which a task may be there to claim."""
_FETCHES: Final = 8
_MARGIN: Final = 10
"""Seconds of the claim's time that are kept for submitting the result."""
_PAUSES: Final = (0.2, 10.0)
_OVER: Final = ("WrongState", "TaskExpired", "RewardTooLow", "NotClaimant", "DeadlinePassed")
"""What the contract says when a task is not, or no longer, there to claim."""


_NO_STAKE: Final = ("StakeNotFree", "StakeTooLow")
"""What it says while this worker's stake is behind other claims: their verification frees it."""
_AWAY: Final = (RpcError, NotMinedError, UnavailableError, TransactionRevertedError)


class _Skip(Exception):  # noqa: N818 - no error: somebody else does it, or nobody can
    """The task is not for this worker; the message says why."""


class ChainWorker:
    """Does the tasks of one contract with one key.

    A task is claimed only once its call and tube are here and may be run here; the claim names the
    reward that was seen, so it costs nothing where that fell. What a node raises is a result like
    any other. What keeps this worker from executing (a child that dies, a time that is up) is no
    result, and is tried again while the claim lasts.

    Args:
        coordinator: the contract, with the worker's key; the worker must be registered.
        queue: where the contract's events come from.
        store: where calls and tubes are, and results go: both sides reach it.
        allowed_modules: prefixes of the modules that tubes may import; None trusts every
            submitter.
        min_reward_eth: tasks that pay less are left to others.
        max_tasks: tasks that are claimed on the chain at once.
        processes: child processes that execute.
        isolate: execute in child processes; else in threads, for tests.
        timeout_seconds: longest execution; never beyond the claim's own time.
        withdraw_at_eth: credit from which on earnings are withdrawn; None: they are left there.
        withdraw_to: address that they go to; None: the worker's own.
        ledger: remembers which results are to be verified; None: `queue`, if it is a file's.
        verify_seconds: longest time between looks at a result that is not paid yet.
        worker_id: the worker's name in the queue.
        poll_seconds: how long one look for work waits.
        lease_seconds: how soon another process may have what this one held when it died.

    Raises:
        ReadOnlyError: the coordinator has no key.
        TypeError: the queue is a coordinator's, and there is no ledger.
    """

    def __init__(
        self,
        coordinator: EthereumTaskCoordinator,
        queue: Queue,
        store: BlobStore,
        *,
        allowed_modules: Sequence[str] | None,
        min_reward_eth: Ether = 0,
        max_tasks: int = 4,
        processes: int = 1,
        isolate: bool = True,
        timeout_seconds: float = 3600.0,
        withdraw_at_eth: Ether | None = None,
        withdraw_to: str | None = None,
        ledger: TaskQueue | None = None,
        verify_seconds: float = 600.0,
        worker_id: str | None = None,
        poll_seconds: float = 1.0,
        lease_seconds: float = 30.0,
    ) -> None:
        from noob_cloud.queue import TaskQueue  # noqa: PLC0415 - opens SQLite

        self.address = coordinator.account.own_address()
        if ledger is None:
            if not isinstance(queue, TaskQueue):
                raise TypeError(
                    "a coordinator's queue does not remember which results are to be verified:"
                    ' give ledger=TaskQueue(db_path="chain-worker.db")'
                )
            ledger = queue
        self._coordinator = coordinator
        self._store = store
        self._least = to_wei(min_reward_eth, name="min_reward_eth")
        self._timeout = timeout_seconds
        at = None if withdraw_at_eth is None else to_eth(to_wei(withdraw_at_eth))
        self.payday = Payday(
            coordinator,
            ledger,
            withdraw_at=at,
            withdraw_to=withdraw_to,
            poll_seconds=poll_seconds,
            longest_wait=verify_seconds,
        )
        self._slots = slots(processes, isolate=isolate, allowed_modules=allowed_modules)
        self._blobs = Fetched(store.get)
        self._loaded: dict[str, TubeSource] = {}
        self._busy: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._loop = ClaimLoop(
            queue,
            _Hands(max_tasks, self._slots),
            worker_id=worker_id or default_worker_id(),
            tags=[TAG, POOL + TAG],  # of a coordinator with pools: the one of the chain's workers
            accept_untagged=False,
            poll_seconds=poll_seconds,
            lease_seconds=lease_seconds,
            drive=self._drive,
        )

    @property
    def counts(self) -> Counter[str]:
        """Queue tasks by what became of them."""
        return self._loop.counts

    def run(self) -> Counter[str]:
        """Work until `stop`; return what became of the queue's tasks.

        Raises:
            AuthenticationError, ForbiddenError: the coordinator refuses this worker.
        """
        verifier = threading.Thread(target=self.payday.run, name="noob-cloud-payday", daemon=True)
        verifier.start()
        try:
            self._slots.warm()
            return self._loop.run()
        finally:
            self.stop()
            verifier.join(timeout=60.0)
            self._slots.close()

    def stop(self) -> None:
        """Claim no more; `run` returns when what runs has ended, or has been handed back."""
        self._loop.stop()
        self._over.set()
        self.payday.stop()

    # ---- one task

    def _drive(self, task: Task, stop: Stop, _trace: str | None) -> Reply:
        """Do one event's task; ask again for as long as chain or store are away."""
        pause, longest = _PAUSES
        while True:
            try:
                return _done(self._offer(_event_of(task), stop))
            except _Skip as reason:
                return _done({"status": "skipped", "reason": str(reason)})
            except WrongChainError as error:
                return failed(error)
            except _AWAY as error:
                if isinstance(error, TransactionRevertedError) and error.name not in _NO_STAKE:
                    return failed(error)
                _log.warning("task %s waits: %s", task.task_id, error)
                if stop.reason is not None or self._over.wait(pause):
                    return failed(error)
                pause = min(2 * pause, longest)
            except Exception as error:  # noqa: BLE001 - the queue tries it again, or keeps it
                return failed(error)

    def _offer(self, event: Event | None, stop: Stop) -> dict[str, Any]:
        if event is None or event.name not in OFFERS:
            raise _Skip("this event offers no task")
        cid, generation = event.values["taskCID"], event.values["generation"]
        with self._lock:
            if (cid, generation) in self._busy:
                raise _Skip("this worker is doing the task already")
            self._busy.add((cid, generation))
        try:
            return self._do(cid, generation, stop)
        finally:
            with self._lock:
                self._busy.discard((cid, generation))

    def _do(self, cid: str, generation: int, stop: Stop) -> dict[str, Any]:
        found = self._coordinator.get_task(cid, generation=generation)
        if found.state in (TaskState.NONE, TaskState.OPEN):
            call = self._prepared(cid)
            found = self._claim(cid, found)
        elif not same_account(found.worker, self.address):
            raise _Skip(f"the task is {found.state}, by {found.worker}")
        elif found.state is not TaskState.CLAIMED:
            return self._remember(found)  # submitted before this process began
        else:
            call = self._prepared(cid)
        result = self._store.put(self._execute(call, found, stop))
        try:
            self._coordinator.submit_result(cid, result)
        except TransactionRevertedError as error:
            now = self._coordinator.get_task(cid, generation=generation)
            if not same_account(now.worker, self.address) or now.state is TaskState.CLAIMED:
                raise _Skip(f"the result came too late: {error}") from error
        return self._remember(self._coordinator.get_task(cid, generation=generation))

    def _claim(self, cid: str, found: ChainTask) -> ChainTask:
        now = self._coordinator.get_task(cid)
        if now.generation != found.generation:
            if now.generation > found.generation:
                raise _Skip(f"purchase {found.generation} of the task is over")
            if now.state in (TaskState.CLAIMED, TaskState.SUBMITTED, TaskState.CHALLENGED):
                raise ChainError(f"{cid}: purchase {found.generation} waits for the one before it")
        elif now.state is TaskState.NONE:
            raise _Skip("its submitters have taken their money back")
        if found.reward_wei < self._least:
            raise _Skip(f"it pays {found.reward_eth:f} ether, less than {to_eth(self._least):f}")
        try:
            self._coordinator.claim_task(cid, min_reward_eth=found.reward_eth)
        except TransactionRevertedError as error:
            now = self._coordinator.get_task(cid, generation=found.generation)
            if now.state is TaskState.CLAIMED and same_account(now.worker, self.address):
                return now  # by a process before this one
            if error.name in _OVER and now.generation == found.generation:
                raise _Skip(str(error)) from error
            raise
        return self._coordinator.get_task(cid, generation=found.generation)

    def _remember(self, found: ChainTask) -> dict[str, Any]:
        if found.state is TaskState.SUBMITTED:
            self.payday.remember(found)
        return {"status": str(found.state), "task": found.cid, "result": found.result_cid}

    # ---- execution

    def _prepared(self, cid: str) -> ChainCall:
        """Fetch a call and load its tube: what cannot be done here is not claimed."""
        try:
            call = read_call(self._store, cid)
            if call.tube not in self._loaded:
                self._load(call)
            self._check_code(call)
        except (BlobCorruptError, DecodeError, CodecError, TubeRefusedError) as error:
            raise _Skip(f"{type(error).__name__}: {error}") from error
        return call

    def _load(self, call: ChainCall) -> None:
        document = self._blobs.get(call.tube)
        source = TubeSource.from_document(document)
        if source.cid != call.tube:
            raise BlobCorruptError(f"The store gives the tube {source.cid} for {call.tube}.")
        kind, body = self._slots.load(document)
        if kind == child.ERROR:
            raise exception_of(codec.loads(body))
        if kind != child.OUTCOME:
            raise DecodeError(body.decode(errors="replace"))
        self._loaded[call.tube] = source

    def _check_code(self, call: ChainCall) -> None:
        source = self._loaded[call.tube]
        if call.code not in (None, source.code, deployed_code()):
            raise CodeMismatchError(
                f"the call wants code {call.code}, and this worker has {source.code}: install the"
                f" same version of {', '.join(source.modules)}",
                wanted=call.code,
                found=source.code,
            )

    def _execute(self, call: ChainCall, claim: ChainTask, stop: Stop) -> bytes:
        """Return the frame of the result.

        Raises:
            Exception: why there is none.
        """
        left = claim.deadline - chain_time(self._coordinator) - _MARGIN
        timeout = max(1.0, min(self._timeout, left))
        blobs: dict[str, bytes] = {}
        body = partial(
            child.task_body, tube=None, node_id="", epoch=0, payload=call.payload, blobs=blobs
        )
        run = partial(self._slots.run, timeout=timeout, stop=stop, kind=child.TASK)
        kind, answer = run(body())
        for _ in range(_FETCHES):
            if kind == child.UNKNOWN:
                self._slots.load(self._blobs.get(answer.decode()))
            elif kind == child.WANTED:
                blobs |= {name: self._blobs.get(name) for name in json.loads(answer)}
            else:
                break
            kind, answer = run(body())
        if kind in (child.OUTCOME, child.RAISED):
            return answer
        if kind == child.ERROR:
            raise exception_of(codec.loads(answer))
        raise DecodeError(answer.decode(errors="replace"))


class _Hands:
    """As many places as tasks may be claimed on the chain at once; execution has its own."""

    def __init__(self, limit: int, places: Any) -> None:
        self.limit = limit
        self.run, self.load = places.run, places.load
        self.warm, self.close = places.warm, places.close


def _done(value: dict[str, Any]) -> Reply:
    return child.OUTCOME, codec.dumps(value)


def _event_of(task: Task) -> Event | None:
    """Return the contract's event that a listener has put into a task.

    Raises:
        DecodeError: the task holds none.
    """
    payload = task.payload
    value = codec.loads(payload) if isinstance(payload, Encoded) else payload
    try:
        topics = ["0x" + topic.hex() for topic in value["topics"]]
        data = "0x" + value["data"].hex()
    except (KeyError, TypeError, AttributeError) as error:
        raise DecodeError(f"task {task.task_id} holds no event of a chain") from error
    return coordinator_abi().event({"topics": topics, "data": data})
