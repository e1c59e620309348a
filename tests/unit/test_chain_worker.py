"""Runs on the chain: results come home right, work is paid, wrong results and dear ones are not."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from noob_cloud_testtubes.case import chain as tube_of
from noob_cloud_testtubes.case import load, node, scalar

from noob_cloud import codec
from noob_cloud.blobs import FolderStore
from noob_cloud.blockchain.call import frame_of, read_call
from noob_cloud.blockchain.contract import coordinator_abi
from noob_cloud.blockchain.ethereum import Terms
from noob_cloud.blockchain.feed import ChainFeed
from noob_cloud.blockchain.localchain import embedded_chain
from noob_cloud.blockchain.payday import Payday
from noob_cloud.blockchain.purse import BudgetExceededError
from noob_cloud.blockchain.runner import BlockchainTaskRunner
from noob_cloud.blockchain.views import TaskState
from noob_cloud.blockchain.worker import ChainWorker
from noob_cloud.cid import format_cid
from noob_cloud.exceptions import (
    BlobNotFoundError,
    DecodeError,
    NoWorkerError,
    QueueBusyError,
    QueueFullError,
    RunnerError,
)
from noob_cloud.queue import TaskQueue
from noob_cloud.runner import SynchronousRunner
from noob_cloud.task import StageCall
from noob_cloud.testing.chain import Deployed
from noob_cloud.tubes import TubeSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from noob_cloud.blockchain.ethereum import EthereumTaskCoordinator

pytestmark = pytest.mark.blockchain

BOSS, HONEST, WRONG = 0, 1, 2
DOUBLE = tube_of("on_chain", a=node("double", "value=src.index"), out=scalar("a.value"))
MODULES = ["noob_cloud_testnodes"]
HOUR = 3_600
REWARD = 10**15
PRICE = REWARD + REWARD // 50


class Site:
    """A contract, a store that both sides reach, and workers that are stepped or run."""

    def __init__(self, deployed: Deployed, folder: Path) -> None:
        self.deployed = deployed
        self.chain = deployed.chain
        self.folder = folder
        self.store: Any = FolderStore(folder / "blobs", durable=False)
        self._stack = ExitStack()

    def worker(
        self,
        account: int = HONEST,
        *,
        name: str = "worker",
        stake: float = 1.0,
        store: Any = None,
        **options: Any,
    ) -> tuple[ChainWorker, TaskQueue, ChainFeed]:
        """A registered worker, its queue and its feed; the same name has the same queue file."""
        coordinator = self.deployed.coordinator(account)
        if not coordinator.get_worker().registered:
            coordinator.register_worker(stake_eth=stake)
        queue = TaskQueue(persistent=True, db_path=str(self.folder / f"{name}.db"))
        made = ChainWorker(
            coordinator,
            queue,
            store or self.store,
            **{
                "allowed_modules": MODULES,
                "isolate": False,
                "poll_seconds": 0.02,
                "verify_seconds": 0.1,
                **options,
            },
        )
        return made, queue, ChainFeed(self.chain.rpc, queue, self.deployed.address, start=0)

    def run(self, made: tuple[ChainWorker, TaskQueue, ChainFeed]) -> ChainWorker:
        """Let a worker work until the test is over."""
        worker, queue, feed = made
        feed._poll = 0.02
        threads = [threading.Thread(target=worker.run), threading.Thread(target=feed.run)]
        for thread in threads:
            thread.start()

        def end() -> None:
            worker.stop()
            feed.stop()
            for thread in threads:
                thread.join()
            queue.close()

        self._stack.callback(end)
        return worker

    def runner(self, spec: Any = DOUBLE, **options: Any) -> BlockchainTaskRunner:
        """A runner of the submitter's."""
        return BlockchainTaskRunner(
            load(spec),
            **{
                "blockchain_config": self.deployed.config(BOSS),
                "reward_per_task_eth": 0.001,
                "blobs": self.store,
                "rpc": self.chain.rpc,
                "poll_seconds": 0.02,
                **options,
            },
        )

    def paid(self, worker: ChainWorker, count: int) -> None:
        """Let the time for challenges pass, and wait until so many results are paid."""
        self.chain.advance(HOUR)
        until(lambda: worker.payday.verified >= count)

    def end_workers(self) -> None:
        """Let no worker work any more."""
        self._stack.close()

    def close(self) -> None:
        """End what runs."""
        self.end_workers()
        self.deployed.close()


@pytest.mark.parametrize("error", [QueueBusyError("held"), QueueFullError("full")], ids=repr)
def test_feed_waits_for_the_queue(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A file that another process holds, or a queue at its limit, is asked again."""
    with TaskQueue() as queue:
        feed = ChainFeed(site.chain.rpc, queue, site.deployed.address, start=0, poll_seconds=0.01)
        steps = iter([error, error, None])
        step = feed.step

        def stumble() -> bool:
            trouble = next(steps, None)
            if trouble is not None:
                raise trouble
            return step()

        monkeypatch.setattr(feed, "step", stumble)
        feed.run(until="read")

        assert feed.block is not None


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A contract whose challenges last an hour, on a chain in this process."""
    with embedded_chain() as chain:
        made = Site(Deployed.on(chain, Terms(challenge_period=HOUR, claim_period=HOUR)), tmp_path)
        yield made
        made.close()


def until(true: Callable[[], Any]) -> None:
    """Wait until something is true."""
    tick = threading.Event()
    for _ in range(1_000):
        if true():
            return
        tick.wait(0.02)
    raise AssertionError("it did not come to be in time")


def run(runner: BlockchainTaskRunner, epochs: int) -> list[Any]:
    """Run on the chain."""
    return asyncio.run(runner.run_with_blockchain(n_epochs=epochs))


def alone(epochs: int, spec: Any = DOUBLE) -> list[Any]:
    """What a runner in one process gives."""
    return SynchronousRunner(load(spec)).run(epochs) or []


class Liar(FolderStore):
    """The store of a worker whose results are wrong."""

    def __init__(self, root: Path, tell: Callable[[Any], Any]) -> None:
        super().__init__(root, durable=False)
        self._tell = tell

    def put(self, data: Any, *, now: float | None = None) -> str:
        """Keep something else, where it is a result."""
        return super().put(codec.dumps(self._tell(codec.loads(bytes(data)))), now=now)


# ---- a whole run


def test_results_come_home_and_work_is_paid(site: Site) -> None:
    """Results equal the SynchronousRunner's; the worker earns every reward, and withdraws it."""
    worker = site.run(site.worker(withdraw_at_eth="0.005"))
    runner = site.runner(budget_eth=1)

    assert run(runner, 5) == alone(5)
    site.paid(worker, 5)

    assert runner.purse is not None
    assert runner.purse.items["submitTasks"] == 5 * PRICE
    (told,) = runner.report.workers.values()
    assert (told.tasks, told.earned_wei, told.wrong) == (5, 5 * REWARD, 0)
    assert site.deployed.coordinator(HONEST).get_worker().reputation == 5 * (REWARD // 50) // 10**9
    assert not runner.report.challenges
    site.close()
    assert site.deployed.coordinator(HONEST).credits() == 0, "it was withdrawn"


def test_sub_epochs_are_one_task(site: Site) -> None:
    """What a map makes of one epoch is one task, whatever its number."""
    spec = tube_of(
        "on_chain_map",
        many=node("spread", "value=src.index"),
        each=node("map", "value=many.value"),
        a=node("double", "value=each.value"),
        all=node("gather", "value=a.value", "n=each.n"),
        out=scalar("all.value"),
    )
    site.run(site.worker())
    runner = site.runner(spec)

    assert run(runner, 4) == alone(4, spec)
    stages = sum(stage.remote for stage in runner.engine.plan.stages)
    assert runner.report.tasks <= stages * 4


def test_error_of_a_node_is_a_result(site: Site) -> None:
    """What a node raises comes home as it is, and whoever found it out is paid for it."""
    spec = tube_of("on_chain_error", a=node("fail_at", "value=src.index"), out=scalar("a.value"))
    site.run(site.worker())
    runner = site.runner(spec, sample=1.0)

    with pytest.raises(ValueError, match="2"):
        run(runner, 4)

    assert not runner.report.challenges


def test_stateful_tube_is_refused() -> None:
    """Without a stateless stage there is nothing to buy; the message names the nodes."""
    spec = tube_of("on_chain_state", out=scalar("src.index"))
    with embedded_chain() as chain, pytest.raises(RunnerError, match="src is pinned"):
        BlockchainTaskRunner(
            load(spec),
            blockchain_config=chain.config(contract_address="0x" + "11" * 20),
            reward_per_task_eth=1,
        )


# ---- money


def test_budget_is_checked_before_anything_is_paid(site: Site) -> None:
    """A run that cannot be paid for is refused whole, with the amounts."""
    runner = site.runner(budget_eth="0.005")
    boss = site.deployed.coordinator(BOSS)
    before = boss.balance()

    with pytest.raises(BudgetExceededError, match=r"10 epochs would cost up to 0\.0102 ether"):
        run(runner, 10)

    assert boss.balance() == before


def test_budget_counts_gas(site: Site) -> None:
    """Rewards and fees alone would fit: with gas they do not, and nothing is sent."""
    runner = site.runner(budget_eth="0.00306")  # three times 0.00102
    boss = site.deployed.coordinator(BOSS)
    before = boss.balance()

    with pytest.raises(BudgetExceededError, match="submitTasks"):
        run(runner, 3)

    assert boss.balance() == before


def test_budget_is_never_exceeded(site: Site) -> None:
    """A run that ends for want of money has spent no more, and takes back what nobody holds."""
    boss = site.deployed.coordinator(BOSS)
    before = boss.balance()
    runner = site.runner(budget_eth="0.0045", window=2, sample=0)
    site.run(site.worker())

    with pytest.raises(BudgetExceededError):
        run(runner, 4)

    spent = before - boss.balance() - boss.credits()
    assert runner.purse is not None
    assert spent <= runner.purse.spent_eth <= 0.0045


def test_budget_is_that_of_all_runs_of_a_runner(site: Site) -> None:
    """What the first run spent is not there for the second."""
    site.run(site.worker())
    runner = site.runner(budget_eth="0.005", sample=0)

    assert run(runner, 2) == alone(2)
    with pytest.raises(BudgetExceededError, match=r"0\.002\d+ of the budget of 0\.005 are spent"):
        run(runner, 3)


def test_untaken_tasks_are_cancelled_and_refunded(site: Site) -> None:
    """Nobody works: every price comes back, and the run says why it has no result."""
    boss = site.deployed.coordinator(BOSS)
    runner = site.runner(untaken_seconds=0)

    with pytest.raises(NoWorkerError, match="nobody took bafk"):
        run(runner, 3)

    assert boss.credits() == 3 * boss.cost_of(0.001)
    assert runner.purse is not None
    assert runner.purse.spent == runner.purse.items["gas"]


def test_untaken_tasks_run_here(site: Site) -> None:
    """Where one says so, what nobody took is done by oneself."""
    runner = site.runner(untaken_seconds=0, run_untaken=True)

    assert run(runner, 3) == alone(3)
    assert runner.report.done_here == 3


def test_resumed_run_pays_once(site: Site) -> None:
    """A run of the same name finds what was bought, and pays for the rest alone."""
    first = site.runner(run_id="monday", sample=0)
    site.run(site.worker())
    assert run(first, 3) == alone(3)

    again = site.runner(run_id="monday", sample=0)
    assert run(again, 4) == alone(4)

    assert (again.report.tasks, again.report.resumed) == (4, 3)
    boss = site.deployed.coordinator(BOSS)
    assert len(_events(site, "TaskSubmitted")) == 4
    assert again.purse is not None
    assert again.purse.items["submitTasks"] == 4 * PRICE
    assert boss.credits() == 0


def test_run_that_was_killed_is_resumed(site: Site) -> None:
    """What a killed run had bought, and nobody has done yet, is not bought again."""

    class Killed(BaseException):
        """The process ends here."""

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    first = site.runner(run_id="tuesday")
    first.init()
    assert first._bought is not None
    first._bought.pump = die  # type: ignore[method-assign]
    first._bought.shutdown = lambda *_, **__: None  # type: ignore[method-assign]
    with pytest.raises(Killed):
        run(first, 3)

    site.run(site.worker())
    again = site.runner(run_id="tuesday")

    assert run(again, 3) == alone(3)
    assert again.report.resumed == 3
    assert len(_events(site, "TaskSubmitted")) == 3


def test_other_run_is_another_purchase(site: Site) -> None:
    """Two runs of the same tube share no cid: a second opinion is not the first one's copy."""
    site.run(site.worker())
    for name in ("one", "two"):
        assert run(site.runner(run_id=name), 2) == alone(2)

    assert len({event["taskCID"] for event in _events(site, "TaskSubmitted")}) == 4


# ---- wrong results


def test_wrong_result_is_challenged_and_its_worker_slashed(site: Site) -> None:
    """One's own result is used; after the ruling the worker has lost, and the price is back."""
    lies = Liar(site.folder / "blobs", lambda value: [(row[0] + 1,) for row in value])
    site.run(site.worker(WRONG, store=lies))
    runner = site.runner(sample=1.0, budget_eth=1)

    assert run(runner, 2) == alone(2)

    site.end_workers()
    runner.init()
    runner.deinit()  # another run of the runner, that does nothing, does not forget the first
    assert runner.purse is not None
    boss, wrong = runner.purse.coordinator, site.deployed.coordinator(WRONG)
    cids = [cid for cid, _, _ in runner.report.challenges]
    assert [who.lower() for _, who, _ in runner.report.challenges] == [
        str(wrong.address).lower()
    ] * 2
    assert runner.settle() == cids, "nobody has ruled yet"
    for cid in cids:
        boss.resolve_challenge(cid, upheld=True)
    earned = boss.credits()
    assert wrong.get_worker().stake_eth < 0.51
    assert wrong.credits() == 0

    assert runner.settle() == []

    assert boss.credits() - earned == 2 * boss.cost_of(0.001), "the price is back, too"
    assert runner.purse.spent == runner.purse.items["gas"]


def test_next_worker_does_what_was_done_wrong(site: Site) -> None:
    """After the ruling the task is open again: an honest worker does it."""
    tube = TubeSource.of(DOUBLE)
    site.store.put(tube.document)
    cid = site.store.put(frame_of(_call(tube, 5), run="r"))
    boss, wrong = site.deployed.coordinator(BOSS), site.deployed.coordinator(WRONG)
    _offered(site, cid, boss)
    wrong.register_worker(stake_eth=1)
    wrong.claim_task(cid)
    wrong.submit_result(cid, site.store.put(codec.dumps([(11,)])))
    boss.challenge_task(cid, "it is 10")
    boss.resolve_challenge(cid, upheld=True)

    told = _told(site, site.worker())

    (done,) = [one for one in told if one["status"] == "submitted"]
    assert codec.loads(site.store.get(done["result"])) == [(10,)]


def test_one_wrong_result_has_all_of_its_worker_checked(site: Site) -> None:
    """A sample finds one lie; every other result of the liar is then executed again."""
    lies = Liar(site.folder / "blobs", lambda value: [(-1,) for _ in value])
    site.run(site.worker(WRONG, store=lies, max_tasks=2))
    runner = site.runner(sample=0.3, rng=Random(1))

    assert run(runner, 6) == alone(6)

    assert len(runner.report.challenges) == 6


def test_result_that_is_none_is_challenged(site: Site) -> None:
    """A frame that holds no outputs is wrong without a sample."""
    lies = Liar(site.folder / "blobs", lambda _: "no outputs")
    site.run(site.worker(WRONG, store=lies))
    runner = site.runner(sample=0)

    assert run(runner, 1) == alone(1)
    assert "holds a str" in runner.report.challenges[0][2]


def test_honest_results_are_not_challenged(site: Site) -> None:
    """All are executed again, and none differs."""
    site.run(site.worker())
    runner = site.runner(sample=1.0)

    assert run(runner, 4) == alone(4)
    (told,) = runner.report.workers.values()
    assert (told.checked, told.wrong) == (4, 0)


# ---- what a worker refuses, each before it claims


def _offered(site: Site, cid: str, boss: EthereumTaskCoordinator | None = None) -> None:
    (boss or site.deployed.coordinator(BOSS)).submit_task(cid, reward_eth=0.001)


def _told(site: Site, made: tuple[ChainWorker, TaskQueue, ChainFeed]) -> list[Any]:
    """What became of the events so far, stepping the worker once for each."""
    worker, queue, feed = made
    while feed.step():
        pass
    thread = threading.Thread(target=worker.run)
    thread.start()
    ids = [task.task_id for task in queue.list_tasks() if task.node_id == "chain_event"]
    done = queue.wait_settled(ids, timeout=30)
    worker.stop()
    thread.join()
    return [task.result for task in sorted(done, key=lambda task: task.task_id)]


def _call(tube: TubeSource, value: int = 1, code: str | None = None) -> StageCall:
    return StageCall(tube.cid, ("a",), (0,), ((value,),), code)


def test_store_that_lies_is_refused(site: Site) -> None:
    """Other bytes under the task's cid are not executed, and the task is not claimed."""
    tube = TubeSource.of(DOUBLE)
    site.store.put(tube.document)
    cid = site.store.put(frame_of(_call(tube), run="r"))
    other = frame_of(_call(tube, 7), run="r")
    site.store._path(cid).write_bytes(other)
    _offered(site, cid)

    (told,) = _told(site, site.worker())

    assert told["status"] == "skipped"
    assert told["reason"].startswith("BlobCorruptError")
    assert site.deployed.coordinator(BOSS).get_task(cid).state is TaskState.OPEN


class Trusting(FolderStore):
    """A store that does not look at what it gives."""

    def get(self, cid: str) -> bytes:
        """Return the bytes, unverified."""
        return self._path(cid).read_bytes()


def test_what_the_store_gives_is_looked_at(site: Site) -> None:
    """A store that does not verify is not believed either."""
    tube = TubeSource.of(DOUBLE)
    trusting = Trusting(site.folder / "blobs", durable=False)
    trusting.put(tube.document)
    cid = trusting.put(frame_of(_call(tube), run="r"))
    trusting._path(cid).write_bytes(frame_of(_call(tube, 7), run="r"))
    _offered(site, cid)

    (told,) = _told(site, site.worker(store=trusting))

    assert told["reason"].startswith("BlobCorruptError")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"allowed_modules": ["other"]}, "TubeRefusedError"),
        ({"min_reward_eth": 0.002}, "it pays 0.001 ether, less than 0.002"),
    ],
)
def test_not_for_this_worker(site: Site, options: dict[str, Any], reason: str) -> None:
    """A tube that it may not import, or too small a reward, is left to others."""
    tube = TubeSource.of(DOUBLE)
    site.store.put(tube.document)
    cid = site.store.put(frame_of(_call(tube), run="r"))
    _offered(site, cid)

    (told,) = _told(site, site.worker(**options))

    assert told["status"] == "skipped"
    assert reason in told["reason"]
    assert site.deployed.coordinator(BOSS).get_task(cid).state is TaskState.OPEN


def test_what_is_no_call_is_refused(site: Site) -> None:
    """A blob that holds something else is no task."""
    cid = site.store.put(codec.dumps({"numbers": [1, 2]}))
    _offered(site, cid)

    (told,) = _told(site, site.worker())

    assert told["reason"].startswith("DecodeError")
    with pytest.raises(DecodeError):
        read_call(site.store, cid)


def test_call_that_is_not_there_is_waited_for(site: Site) -> None:
    """The store may have it later: the queue tries again, and the task is not claimed."""
    cid = format_cid(bytes(range(32)))
    _offered(site, cid)
    worker, queue, feed = site.worker()
    while feed.step():
        pass
    site.run((worker, queue, feed))
    until(lambda: queue.list_tasks()[0].error)

    (task,) = queue.list_tasks()
    assert task.error is not None
    assert BlobNotFoundError.__name__ in task.error
    assert not task.status.settled
    assert site.deployed.coordinator(BOSS).get_task(cid).state is TaskState.OPEN


def test_bare_call_is_a_task(site: Site) -> None:
    """Whoever submits by hand may put the call itself into the store."""
    tube = TubeSource.of(DOUBLE)
    site.store.put(tube.document)
    cid = site.store.put(codec.dumps(_call(tube, 21)))
    _offered(site, cid)

    (told,) = _told(site, site.worker())

    assert codec.loads(site.store.get(told["result"])) == [(42,)]


def test_held_by_another(site: Site) -> None:
    """The first worker has it; for the second its event is done with."""
    tube = TubeSource.of(DOUBLE)
    site.store.put(tube.document)
    cid = site.store.put(frame_of(_call(tube), run="r"))
    _offered(site, cid)
    other = site.deployed.coordinator(WRONG)
    other.register_worker(stake_eth=1)
    other.claim_task(cid)

    (told,) = _told(site, site.worker())

    assert told == {
        "status": "skipped",
        "reason": f"the task is claimed, by {str(other.address).lower()}",
    }


def test_same_cid_twice_is_done_once(site: Site) -> None:
    """A second payment for an open task adds to its reward: it is executed and paid once."""
    tube = TubeSource.of(DOUBLE)
    site.store.put(tube.document)
    cid = site.store.put(frame_of(_call(tube), run="r"))
    _offered(site, cid)
    _offered(site, cid)

    told = _told(site, site.worker())

    assert "submitted" in {one["status"] for one in told}
    assert len(_events(site, "ResultSubmitted")) == 1
    assert site.deployed.coordinator(BOSS).get_task(cid).reward_wei == 2 * REWARD


# ---- again after the end


@pytest.mark.parametrize("stage", ["claimed", "submitted"])
def test_worker_goes_on_where_another_process_ended(site: Site, stage: str) -> None:
    """A claim of one's own is continued; a result that is there already is not submitted again."""
    tube = TubeSource.of(DOUBLE)
    site.store.put(tube.document)
    cid = site.store.put(frame_of(_call(tube, 4), run="r"))
    _offered(site, cid)
    before = site.deployed.coordinator(HONEST)
    before.register_worker(stake_eth=1)
    before.claim_task(cid)
    if stage == "submitted":
        before.submit_result(cid, site.store.put(codec.dumps([(8,)])))

    made = site.worker()
    (told,) = _told(site, made)

    assert told["status"] == "submitted"
    assert codec.loads(site.store.get(told["result"])) == [(8,)]
    assert len(_events(site, "ResultSubmitted")) == 1
    site.chain.advance(HOUR)
    worker = site.run(site.worker(name="worker"))
    site.paid(worker, 1)


def test_result_that_left_the_chain_is_submitted_again(site: Site) -> None:
    """What a reorganisation took off the chain is there again before the claim ends."""
    tube = TubeSource.of(DOUBLE)
    site.store.put(tube.document)
    cid = site.store.put(frame_of(_call(tube, 4), run="r"))
    _offered(site, cid)
    coordinator = site.deployed.coordinator(HONEST)
    coordinator.register_worker(stake_eth=1)
    coordinator.claim_task(cid)
    result = site.store.put(codec.dumps([(8,)]))
    claimed = coordinator.get_task(cid)
    with TaskQueue(persistent=False) as ledger:
        payday = Payday(coordinator, ledger, poll_seconds=2.0, longest_wait=0.1)
        payday.remember(replace(claimed, result_cid=result, deadline=claimed.deadline - HOUR))
        assert payday.step() == []

        site.chain.advance(HOUR)
        assert coordinator.get_task(cid).result_cid == result
        assert payday.step() == [cid]


def test_purchase_that_left_the_chain_is_made_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run does not wait for what a reorganisation took away."""
    monkeypatch.setattr("noob_cloud.blockchain.deals._PAUSE", 0.0)
    runner = site.runner(sample=0)
    before = site.chain.rpc.call("evm_snapshot")
    runner.init()
    assert runner._bought is not None
    pump, undone = runner._bought.pump, []

    def once(until: Any, timeout: Any) -> None:
        if not undone:
            undone.append(site.chain.rpc.call("evm_revert", before))
            runner._bought.coordinator.account.close()  # type: ignore[union-attr]
            site.run(site.worker())
        pump(until, timeout)

    runner._bought.pump = once  # type: ignore[method-assign]

    assert run(runner, 2) == alone(2)
    assert runner.purse is not None
    assert runner.purse.items["submitTasks"] == 2 * PRICE


def test_cancelled_run_takes_back_what_nobody_holds(site: Site) -> None:
    """Whoever stops waiting gets every price back."""
    runner = site.runner()

    async def give_up() -> None:
        async with asyncio.timeout(1.0):
            await runner.run_with_blockchain(n_epochs=3)

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())

    boss = site.deployed.coordinator(BOSS)
    assert boss.credits() == 3 * boss.cost_of(0.001)


def test_stake_that_is_not_free_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small stake is behind one claim at a time: the next task waits until that is paid."""
    monkeypatch.setattr("noob_cloud.blockchain.worker._PAUSES", (0.05, 0.1))
    tube = TubeSource.of(DOUBLE)
    site.store.put(tube.document)
    for value in (1, 2):
        _offered(site, site.store.put(frame_of(_call(tube, value), run="r")))
    worker = site.run(site.worker(stake=0.015))

    for number in (1, 2):
        until(lambda: len(_events(site, "ResultSubmitted")) == number)  # noqa: B023 - called at once
        site.paid(worker, number)


def test_task_that_was_reopened_is_offered_again(site: Site) -> None:
    """A worker that let its time pass is out; the next one does the task."""
    tube = TubeSource.of(DOUBLE)
    site.store.put(tube.document)
    cid = site.store.put(frame_of(_call(tube, 4), run="r"))
    _offered(site, cid)
    idle = site.deployed.coordinator(WRONG)
    idle.register_worker(stake_eth=1)
    idle.claim_task(cid)
    site.chain.advance(HOUR)
    site.deployed.coordinator(BOSS).reclaim_task(cid)

    told = _told(site, site.worker())

    assert "submitted" in {one["status"] for one in told}


def _events(site: Site, name: str) -> list[dict[str, Any]]:
    abi = coordinator_abi()
    (topic,) = [key for key, event in abi.events.items() if event.name == name]
    logs = site.chain.rpc.call(
        "eth_getLogs",
        {
            "fromBlock": "0x0",
            "toBlock": "latest",
            "address": site.deployed.address,
            "topics": ["0x" + topic.hex()],
        },
    )
    found = [abi.event(log) for log in logs]
    return [event.values for event in found if event is not None]
