"""The contract through its client, on a chain in this process and on anvil.

pytest tests/test_blockchain_integration.py -m blockchain
NOOB_CLOUD_CHAIN_TRANSACTIONS=2000 pytest tests/test_blockchain_integration.py -k forty
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from noob_cloud_testtubes.case import chain as tube_of
from noob_cloud_testtubes.case import load, node, scalar

from noob_cloud import codec
from noob_cloud.blobs import FolderStore
from noob_cloud.blockchain import reverts
from noob_cloud.blockchain.account import Account
from noob_cloud.blockchain.errors import (
    ConfigError,
    DisagreementError,
    InsufficientFundsError,
    NotMinedError,
    ReadOnlyError,
    TransactionRevertedError,
)
from noob_cloud.blockchain.ethereum import (
    AsyncEthereumTaskCoordinator,
    BlockchainConfig,
    EthereumTaskCoordinator,
    Terms,
    create_task_cid,
    deploy,
)
from noob_cloud.blockchain.feed import ChainFeed
from noob_cloud.blockchain.localchain import anvil_chain
from noob_cloud.blockchain.rpc import HttpEndpoint, Rpc
from noob_cloud.blockchain.runner import BlockchainTaskRunner
from noob_cloud.blockchain.transactions import Message
from noob_cloud.blockchain.worker import ChainWorker
from noob_cloud.queue import TaskQueue
from noob_cloud.testing.chain import Deployed

if TYPE_CHECKING:
    from pathlib import Path

    from noob_cloud.blockchain.localchain import LocalChain

pytestmark = pytest.mark.blockchain
pytest_plugins = ["noob_cloud.testing.chain"]

BOSS, WORKER, STRANGER = 0, 1, 2
TASK = create_task_cid({"image": 1})
RESULT = create_task_cid(b"result")
DAY = 86_400


def submitted(
    contract: Deployed, cid: str = TASK, *, stake: float = 1.0
) -> EthereumTaskCoordinator:
    """A worker that has submitted the result of a task of 0.001 ether."""
    contract.coordinator(BOSS).submit_task(cid, reward_eth=0.001)
    worker = contract.coordinator(WORKER)
    worker.register_worker(stake_eth=stake)
    worker.claim_task(cid)
    worker.submit_result(cid, RESULT)
    return worker


# ---- registration


def test_register_with_stake(contract: Deployed) -> None:
    """A worker registers with its stake, adds to it, and is not registered twice."""
    worker = contract.coordinator(WORKER)
    assert not worker.get_worker().registered

    receipt = worker.register_worker(stake_eth=1.0)
    worker.top_up_stake("0.5")

    assert [event.name for event in worker.events(receipt)] == ["WorkerRegistered"]
    assert worker.get_worker().stake_eth == Decimal("1.5")
    with pytest.raises(reverts.AlreadyRegistered) as caught:
        worker.register_worker(stake_eth=1.0)
    assert caught.value.values["worker"] == str(worker.address).lower()


def test_stake_below_the_least(contract: Deployed) -> None:
    """Too little stake is refused, with both amounts, before anything is paid."""
    worker = contract.coordinator(WORKER)
    before = worker.balance()

    with pytest.raises(reverts.StakeTooLow, match=r"StakeTooLow\(required 10000000000000000"):
        worker.register_worker(stake_eth=0.001)

    assert worker.balance() == before


def test_unstake_after_the_unbonding_period(contract: Deployed) -> None:
    """Stake comes back after the unbonding period, and not before."""
    worker = contract.coordinator(WORKER)
    worker.register_worker(stake_eth=1)
    worker.request_unstake(1)
    with pytest.raises(reverts.StillUnbonding):
        worker.complete_unstake()

    contract.chain.advance(7 * DAY + 1)
    worker.complete_unstake()

    assert worker.credits() == 1
    assert not worker.get_worker().registered


# ---- a task's life


def test_task_from_submission_to_payment(contract: Deployed) -> None:
    """The user's sequence: submit, claim, do, wait, verify, be paid."""
    worker = submitted(contract)
    task = worker.get_task(TASK)
    assert (task.state, task.worker, task.result_cid) == (
        "submitted",
        str(worker.address).lower(),
        RESULT,
    )
    with pytest.raises(reverts.TooEarly):
        worker.verify_task(TASK)

    contract.chain.advance(DAY)
    receipt = worker.verify_task(TASK)

    assert worker.get_task(TASK).state == "verified"
    assert worker.events(receipt)[-1].values["resultCID"] == RESULT
    assert worker.credits() == Decimal("0.001")
    before = worker.balance()
    paid = worker.withdraw()
    assert worker.balance() == before + Decimal("0.001") - paid.fee_eth


def test_a_claimed_task_is_nobody_elses(contract: Deployed) -> None:
    """A second worker can neither claim it nor submit its result."""
    contract.coordinator(BOSS).submit_task(TASK, reward_eth=0.001)
    first, second = contract.coordinator(WORKER), contract.coordinator(STRANGER)
    for each in (first, second):
        each.register_worker(stake_eth=1)
    first.claim_task(TASK, min_reward_eth="0.001")

    with pytest.raises(reverts.WrongState):
        second.claim_task(TASK)
    with pytest.raises(reverts.NotClaimant):
        second.submit_result(TASK, RESULT)


def test_task_of_a_worker_that_vanished(contract: Deployed) -> None:
    """A claim past its deadline can be freed by anybody, and be claimed again."""
    contract.coordinator(BOSS).submit_task(TASK, reward_eth=0.001)
    worker = contract.coordinator(WORKER)
    worker.register_worker(stake_eth=1)
    worker.claim_task(TASK)

    contract.chain.advance(3_601)
    stranger = contract.coordinator(STRANGER)
    stranger.reclaim_task(TASK)

    assert worker.get_task(TASK).state == "open"
    assert worker.get_worker().locked_wei == 0
    assert stranger.credits() > 0


def test_many_tasks_in_few_transactions(contract: Deployed) -> None:
    """Batches do what single calls do, in chunks, and say which tasks were done."""
    count = 60 if contract.chain.url else 8  # an EVM in Python takes its time
    cids = [create_task_cid(index) for index in range(count)]
    boss, worker = contract.coordinator(BOSS), contract.coordinator(WORKER)
    worker.register_worker(stake_eth=1)

    assert len(boss.submit_tasks(cids, reward_eth="0.0001")) == -(-count // 50)
    other = contract.coordinator(STRANGER)
    other.register_worker(stake_eth=1)
    other.claim_task(cids[7])
    claimed = worker.claim_tasks(cids)
    assert claimed == [cid for cid in cids if cid != cids[7]]
    assert worker.submit_results([(cid, RESULT) for cid in claimed]) == claimed
    contract.chain.advance(DAY)
    assert worker.verify_tasks(cids) == claimed
    assert worker.credits() == Decimal("0.0001") * (count - 1)
    assert boss.cancel_tasks(cids) == []


# ---- reputation


def test_reputation_grows_with_fees_and_is_halved_by_a_slash(contract: Deployed) -> None:
    """Reputation counts the fees of paid tasks, in gwei; a wrong result costs half of it."""
    worker = submitted(contract)
    contract.chain.advance(DAY)
    worker.verify_task(TASK)
    assert worker.get_worker().reputation == 20_000

    other = create_task_cid("wrong")
    contract.coordinator(BOSS).submit_task(other, reward_eth=0.001)
    worker.claim_task(other)
    worker.submit_result(other, RESULT)
    contract.coordinator(STRANGER).challenge_task(other, "not what the code gives")
    contract.coordinator(BOSS).resolve_challenge(other, upheld=True)

    assert worker.get_worker().reputation == 10_000


# ---- Byzantine behaviour


def test_wrong_result_is_slashed(contract: Deployed) -> None:
    """An upheld challenge costs the worker half of its stake, and reopens the task."""
    worker = submitted(contract)
    stranger = contract.coordinator(STRANGER)
    stranger.challenge_task(TASK, "not what the code gives")
    with pytest.raises(reverts.NotArbitrator):
        stranger.resolve_challenge(TASK, upheld=True)

    contract.coordinator(BOSS).resolve_challenge(TASK, upheld=True)

    assert worker.get_worker().stake_eth == Decimal("0.5")
    assert worker.credits() == 0
    assert worker.get_task(TASK).state == "open"
    assert stranger.credits() > Decimal("0.01"), "the bond and a share of the slash"


def test_right_result_survives_a_challenge(contract: Deployed) -> None:
    """A challenge that is not upheld costs its bond; the worker is paid."""
    worker = submitted(contract)
    stranger = contract.coordinator(STRANGER)
    stranger.challenge_task(TASK, "envy")

    contract.coordinator(BOSS).resolve_challenge(TASK, upheld=False)

    assert worker.get_worker().stake_eth == 1
    assert worker.get_task(TASK).state == "verified"
    assert worker.credits() >= Decimal("0.001")
    assert stranger.credits() == 0


def test_arbitrator_that_says_nothing(contract: Deployed) -> None:
    """Without a ruling in time nobody loses anything, and the task is open again."""
    worker = submitted(contract)
    stranger = contract.coordinator(STRANGER)
    stranger.challenge_task(TASK, "perhaps")
    with pytest.raises(reverts.TooEarly):
        stranger.expire_challenge(TASK)

    contract.chain.advance(3 * DAY + 1)
    stranger.expire_challenge(TASK)

    assert stranger.credits() == Decimal("0.01")
    assert worker.get_worker().stake_eth == 1
    assert worker.get_worker().locked_wei == 0


# ---- payments


def test_fee_is_on_top_of_the_reward(contract: Deployed) -> None:
    """A submission costs the reward and 2 %; the worker earns the whole reward."""
    boss = contract.coordinator(STRANGER)
    assert boss.cost_of("0.001") == Decimal("0.00102")
    before = boss.balance()
    receipt = boss.submit_task(TASK, reward_eth="0.001")
    assert before - boss.balance() == Decimal("0.00102") + receipt.fee_eth

    worker = contract.coordinator(WORKER)
    worker.register_worker(stake_eth=1)
    worker.claim_task(TASK)
    worker.submit_result(TASK, RESULT)
    contract.chain.advance(DAY)
    worker.verify_task(TASK)

    assert worker.credits() == Decimal("0.001")
    assert contract.coordinator(BOSS).credits() == Decimal("0.00002")


def test_everything_paid_in_can_be_taken_out(contract: Deployed) -> None:
    """When all have withdrawn what is theirs, the contract has nothing left."""
    worker = submitted(contract)
    boss = contract.coordinator(BOSS)
    contract.chain.advance(DAY)
    worker.verify_task(TASK)
    unused = create_task_cid("nobody does it")
    boss.submit_task(unused, reward_eth=0.5)
    boss.cancel_task(unused)
    worker.request_unstake(1)
    contract.chain.advance(7 * DAY + 1)
    worker.complete_unstake()

    for each in (worker, boss):
        each.withdraw()

    assert boss.balance(contract.address) == 0
    with pytest.raises(reverts.NothingToWithdraw):
        worker.withdraw()


def test_expired_task_is_refunded(contract: Deployed) -> None:
    """A task that nobody did in time is not claimed any more, and its price comes back."""
    boss, worker = contract.coordinator(BOSS), contract.coordinator(WORKER)
    boss.submit_task(TASK, reward_eth=1)
    worker.register_worker(stake_eth=20)
    contract.chain.advance(7 * DAY + 1)
    with pytest.raises(reverts.TaskExpired):
        worker.claim_task(TASK)

    boss.cancel_task(TASK)

    assert boss.credits() == Decimal("1.02")


def test_too_little_ether(contract: Deployed) -> None:
    """An account that cannot pay is told what it has; nothing is lost, no nonce either."""
    boss = contract.coordinator(BOSS)
    with pytest.raises(InsufficientFundsError, match="too little for the value and the fee"):
        boss.submit_task(TASK, reward_eth=10_000_000)
    boss.submit_task(TASK, reward_eth="0.001")


# ---- the client


def test_without_a_key_it_is_only_read(contract: Deployed) -> None:
    """Everything can be read without a key, and nothing done."""
    contract.coordinator(BOSS).submit_task(TASK, reward_eth=1)
    reader = contract.coordinator(private_key=None)

    assert reader.get_task(TASK).reward_eth == 1
    assert reader.terms() == Terms()
    with pytest.raises(ReadOnlyError, match="NOOB_CLOUD_CHAIN_PRIVATE_KEY"):
        reader.claim_task(TASK)
    with pytest.raises(ReadOnlyError):
        reader.credits()


def test_no_contract_there(any_chain: LocalChain) -> None:
    """An address without a contract is said to be one; so is a missing address."""
    config = any_chain.config(contract_address="0x" + "12" * 20)
    with pytest.raises(ConfigError, match="no contract at 0x1212"):
        EthereumTaskCoordinator(config, rpc=any_chain.rpc).get_task(TASK)
    with pytest.raises(ConfigError, match="set contract_address"):
        EthereumTaskCoordinator(any_chain.config(), rpc=any_chain.rpc)


def test_terms_that_the_contract_refuses(any_chain: LocalChain) -> None:
    """A stake that could be taken back before a ruling is refused when one deploys."""
    with pytest.raises(reverts.SettingRefused) as caught:
        deploy(any_chain.config(), terms=Terms(unbonding_period=DAY), rpc=any_chain.rpc)
    assert caught.value.values == {"setting": "unbondingPeriod"}


def test_awaitable(contract: Deployed) -> None:
    """Every method can be awaited, many at once."""

    async def work() -> list[Any]:
        async with AsyncEthereumTaskCoordinator(
            contract.config(), rpc=contract.chain.rpc
        ) as coordinator:
            cids = [create_task_cid(index) for index in range(5)]
            await asyncio.gather(*(coordinator.submit_task(cid, "0.001") for cid in cids))
            return await asyncio.gather(*(coordinator.get_task(cid) for cid in cids))

    assert [task.state for task in asyncio.run(work())] == ["open"] * 5


def test_web3_on_the_same_nodes(contract: Deployed) -> None:
    """web3.py reads through our nodes, and decodes what the contract refused."""
    web3 = contract.coordinator().web3
    assert web3.eth.chain_id == contract.chain.chain_id
    assert len(web3.eth.get_code(contract.address)) > 10_000


def test_refused_when_it_is_mined(contract: Deployed) -> None:
    """What is refused only on the chain raises its reason too."""
    boss = contract.coordinator(BOSS)
    with pytest.raises(TransactionRevertedError, match=r"NothingToWithdraw|verifyTask"):
        boss.account.transact([boss.message("withdraw", gas=100_000)], "withdraw")


def test_forty_threads_with_one_key(local_anvil: LocalChain) -> None:
    """Forty threads with one key leave no gap in the nonces and use none twice."""
    total = int(os.environ.get("NOOB_CLOUD_CHAIN_TRANSACTIONS", "200"))
    with Account(local_anvil.config(), rpc=local_anvil.rpc) as account:
        pay = Message("0x" + "77" * 20, value=1, gas=21_000)
        with ThreadPoolExecutor(40) as pool:
            done = list(pool.map(lambda _: account.transact([pay], "pay")[0], range(total)))
        found = local_anvil.rpc.call_many(
            [("eth_getTransactionByHash", [receipt.hash]) for receipt in done]
        )

        assert sorted(int(each["nonce"], 16) for each in found) == list(range(total))
        assert account.balance("0x" + "77" * 20) == Decimal(total).scaleb(-18)


def test_forty_threads_on_a_chain_that_is_not_made_for_them(local_chain: LocalChain) -> None:
    """The chain in this process takes many threads too, since a lock stands before it."""
    with Account(local_chain.config(), rpc=local_chain.rpc) as account:
        pay = Message("0x" + "77" * 20, value=1)
        with ThreadPoolExecutor(40) as pool:
            list(pool.map(lambda _: account.transact([pay], "pay"), range(80)))
        assert account.balance("0x" + "77" * 20) == Decimal(80).scaleb(-18)


def test_restart_with_transactions_under_way(local_anvil: LocalChain, tmp_path: Path) -> None:
    """A new process sends again what the old one sent and the node forgot, and goes on after it."""
    local_anvil.automine(on=False)
    config = local_anvil.config(nonce_file=str(tmp_path / "nonces.db"))
    pay = Message("0x" + "77" * 20, value=1, gas=21_000)
    before = Account(config, rpc=local_anvil.rpc)
    before.send([pay] * 3, "pay")
    local_anvil.rpc.call("anvil_dropAllTransactions")
    before.close()

    with Account(config, rpc=local_anvil.rpc) as after:
        sent = after.send([pay], "pay")
        local_anvil.mine()
        after.wait(sent, "pay")

        assert sent[0].nonce == 3
        assert after.balance("0x" + "77" * 20) == Decimal(4).scaleb(-18)


def test_restart_behind_a_stuck_transaction(local_anvil: LocalChain, tmp_path: Path) -> None:
    """What the old process left stuck is replaced by the new one, which waits behind it."""
    local_anvil.automine(on=False)
    settings = {"nonce_file": str(tmp_path / "nonces.db"), "stuck_after": 0.1}
    pay = Message("0x" + "77" * 20, value=1, gas=21_000)
    before = Account(local_anvil.config(**settings), rpc=local_anvil.rpc)
    left = before.send([pay], "pay")
    before.close()

    with (
        Account(local_anvil.config(**settings), rpc=local_anvil.rpc) as after,
        ThreadPoolExecutor(1) as pool,
    ):
        sent = after.send([pay], "pay")
        waiting = pool.submit(after.wait, sent, "pay")
        wait_for(lambda: left[0].hash not in pending(local_anvil))
        local_anvil.mine()

        assert waiting.result(30)[0].hash == sent[0].hash
        assert after.balance("0x" + "77" * 20) == Decimal(2).scaleb(-18)


def test_chain_that_began_anew(tmp_path: Path) -> None:
    """Nonces of a local chain that is gone are not used on the next one of its number."""
    pay = Message("0x" + "77" * 20, value=1, gas=21_000)
    for begun in ("1800000000", "1800000001"):
        with anvil_chain("--timestamp", begun) as chain:
            config = chain.config(nonce_file=str(tmp_path / "nonces.db"))
            with Account(config, rpc=chain.rpc) as account:
                account.transact([pay], "pay")


def test_refused_one_leaves_no_gap(local_anvil: LocalChain) -> None:
    """Where a node refuses one of many, the later ones are mined all the same."""
    pay = Message("0x" + "77" * 20, value=1, gas=21_000)
    far_too_much = Message("0x" + "77" * 20, value=10**30, gas=21_000)
    with Account(local_anvil.config(), rpc=local_anvil.rpc) as account:
        with pytest.raises(InsufficientFundsError):
            account.transact([pay, far_too_much, pay], "pay")
        account.transact([pay], "pay")
        assert account.balance("0x" + "77" * 20) == Decimal(3).scaleb(-18)


def test_key_used_elsewhere_too(local_anvil: LocalChain) -> None:
    """A nonce that somebody else with the key was faster with is replaced by the next."""
    with (
        Account(local_anvil.config(), rpc=local_anvil.rpc) as one,
        Account(local_anvil.config(), rpc=local_anvil.rpc) as other,
    ):
        value = {one: 1, other: 100}
        for each in (one, other, one, other, other, one, one, other):
            pay = Message("0x" + "77" * 20, value=value[each], gas=21_000)
            each.transact([pay, pay], "pay")
        assert one.balance("0x" + "77" * 20) == Decimal(808).scaleb(-18)


def test_processes_that_share_a_key(local_anvil: LocalChain, tmp_path: Path) -> None:
    """With one nonce_file, several clients of one key hand out each nonce once."""
    pay = Message("0x" + "77" * 20, value=1, gas=21_000)
    config = local_anvil.config(nonce_file=str(tmp_path / "nonces.db"))
    clients = [Account(config, rpc=local_anvil.rpc) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: clients[n % 4].transact([pay], "pay"), range(40)))
    assert clients[0].balance("0x" + "77" * 20) == Decimal(40).scaleb(-18)
    for each in clients:
        each.close()


def test_stuck_transaction_is_replaced(local_anvil: LocalChain) -> None:
    """What is not mined in time is offered again for more, under its nonce."""
    local_anvil.automine(on=False)
    config = local_anvil.config(stuck_after=0.1, receipt_timeout=30.0)
    with Account(config, rpc=local_anvil.rpc) as account:
        sent = account.send([Message("0x" + "77" * 20, value=1, gas=21_000)], "pay")
        with pytest.raises(NotMinedError, match="They still may be"):
            account._out()[1].wait(sent, timeout=0.5)
        dearer = local_anvil.rpc.call("eth_getBlockByNumber", "pending", True)["transactions"]
        assert [each["hash"] for each in dearer] != [sent[0].hash]
        assert int(dearer[0]["maxFeePerGas"], 16) >= sent[0].fee.max_fee * 1.125


def test_replacement_is_what_a_receipt_is_of(local_anvil: LocalChain) -> None:
    """Whoever waits for a transaction is given the receipt of its replacement."""
    local_anvil.automine(on=False)
    config = local_anvil.config(stuck_after=0.1)
    with Account(config, rpc=local_anvil.rpc) as account, ThreadPoolExecutor(1) as pool:
        sent = account.send([Message("0x" + "77" * 20, value=1, gas=21_000)], "pay")
        waiting = pool.submit(account.wait, sent, "pay")
        wait_for(lambda: pending(local_anvil) not in ([], [sent[0].hash]))
        local_anvil.mine()
        receipt = waiting.result(30)[0]

        assert receipt.hash != sent[0].hash
        assert account.balance("0x" + "77" * 20) == Decimal(1).scaleb(-18)


def test_receipt_in_a_block_that_was_replaced(local_anvil: LocalChain) -> None:
    """A reorganisation takes a receipt back; the transaction is sent again and counted once."""
    local_anvil.mine(3)
    local_anvil.automine(on=False)
    config = local_anvil.config(confirmations=2, stuck_after=0.1)
    with Account(config, rpc=local_anvil.rpc) as account, ThreadPoolExecutor(1) as pool:
        sent = account.send([Message("0x" + "77" * 20, value=1, gas=21_000)], "pay")
        local_anvil.mine()
        waiting = pool.submit(account.wait, sent, "pay")
        wait_for(lambda: account._out()[1]._entries[0].receipt is not None)
        first = account._out()[1]._entries[0].receipt
        local_anvil.reorg(1)
        assert not waiting.done()
        wait_for(lambda: bool(local_anvil.mine() or waiting.done()))

        assert waiting.result()[0].block_hash != first.block_hash
        assert account.balance("0x" + "77" * 20) == Decimal(1).scaleb(-18)


def test_receipt_in_a_final_block() -> None:
    """With `finalized` a receipt waits until its block is final."""
    with anvil_chain("--slots-in-an-epoch", "2") as chain:
        config = chain.config(confirmations="finalized")
        with Account(config, rpc=chain.rpc) as account, ThreadPoolExecutor(1) as pool:
            sent = account.send([Message("0x" + "77" * 20, value=1, gas=21_000)], "pay")
            waiting = pool.submit(account.wait, sent, "pay")
            wait_for(lambda: account._out()[1]._entries[0].receipt is not None)
            assert not waiting.done()
            chain.mine(8)
            assert waiting.result(30)[0].succeeded


def test_nodes_that_do_not_agree(local_anvil: LocalChain) -> None:
    """A receipt counts when two nodes name its block's hash, and not when one names another."""
    url = str(local_anvil.url)
    honest = [HttpEndpoint(url, timeout=10, max_bytes=10**6) for _ in range(2)]

    class Liar:
        name = "liar"

        def post(self, body: bytes) -> bytes:
            said = honest[1].post(body)
            return re.sub(rb'"hash":"0x....', b'"hash":"0xdead', said)

    config = local_anvil.config(rpc_url=(url, url), agreement=2, stuck_after=0.2)
    pay = Message("0x" + "77" * 20, value=1, gas=21_000)
    with Account(config, rpc=Rpc(honest, 31337)) as account:
        assert account.transact([pay], "pay")[0].succeeded
    with (
        Account(config, rpc=Rpc([honest[0], Liar()], 31337)) as account,
        pytest.raises(DisagreementError, match="by liar"),
    ):
        account.transact([pay], "pay")


def test_user_document(contract: Deployed) -> None:
    """The user's snippet runs as it stands, but for the node, the key and the day of waiting."""
    chain, task_data = contract.chain, {"image": "forest.tif"}

    def process_task(data: dict[str, str]) -> str:
        return create_task_cid(data["image"].upper())

    config = BlockchainConfig(
        rpc_url=chain.url or "http://127.0.0.1:1",
        chain_id=chain.chain_id,
        contract_address=contract.address,
        private_key=chain.keys[0],
    )
    coordinator = EthereumTaskCoordinator(config, rpc=chain.rpc)

    # Register as worker
    coordinator.register_worker(stake_eth=1.0)

    # Submit task with reward
    task_cid = create_task_cid(task_data)
    coordinator.submit_task(task_cid, reward_eth=0.001)

    # Claim and process
    coordinator.claim_task(task_cid)
    result_cid = process_task(task_data)
    coordinator.submit_result(task_cid, result_cid)

    # Wait for challenge period, then verify
    chain.advance(DAY)
    coordinator.verify_task(task_cid)  # Get paid!

    assert coordinator.credits() == Decimal("0.001") + Decimal("0.00002")  # and the owner's fee


# ---- runs


def test_run_with_a_liar_among_the_workers(contract: Deployed, tmp_path: Path) -> None:
    """Results are right; the liar is slashed and unpaid, the honest worker gets every reward."""
    store = FolderStore(tmp_path / "blobs", durable=False)

    class Lies(FolderStore):
        def put(self, data: Any, *, now: float | None = None) -> str:
            return super().put(codec.dumps([(-1,) for _ in codec.loads(bytes(data))]), now=now)

    spec = tube_of("integration", a=node("double", "value=src.index"), out=scalar("a.value"))
    runner = BlockchainTaskRunner(
        load(spec),
        blockchain_config=contract.config(BOSS),
        reward_per_task_eth=0.001,
        budget_eth=1,
        blobs=store,
        sample=1.0,
        rpc=contract.chain.rpc,
        poll_seconds=0.05,
    )
    with ExitStack() as stack:
        workers = {}
        for account, place in ((WORKER, store), (STRANGER, Lies(store.root, durable=False))):
            coordinator = contract.coordinator(account)
            coordinator.register_worker(stake_eth=1)
            queue = TaskQueue(persistent=True, db_path=str(tmp_path / f"{account}.db"))
            workers[account] = ChainWorker(
                coordinator,
                queue,
                place,
                allowed_modules=["noob_cloud_testnodes"],
                isolate=False,
                max_tasks=1,
                poll_seconds=0.05,
                verify_seconds=0.2,
            )
            feed = ChainFeed(contract.chain.rpc, queue, contract.address, poll_seconds=0.05)
            for part in (feed, workers[account]):
                thread = threading.Thread(target=part.run)
                thread.start()
                stack.callback(thread.join)
                stack.callback(part.stop)

        assert asyncio.run(runner.run_with_blockchain(n_epochs=6)) == [0, 2, 4, 6, 8, 10]

        contract.chain.advance(DAY)
        told = {who: each.tasks for who, each in runner.report.workers.items()}
        done = told.get(str(contract.coordinator(WORKER).address).lower(), 0)
        wait_for(lambda: workers[WORKER].payday.verified == done)
    assert runner.purse is not None
    boss = runner.purse.coordinator
    for cid, _, _ in runner.report.challenges:
        boss.resolve_challenge(cid, upheld=True)
    assert runner.settle() == []

    assert done + len(runner.report.challenges) == 6
    assert contract.coordinator(WORKER).credits() == done * Decimal("0.001")
    liar = contract.coordinator(STRANGER)
    assert liar.credits() == 0
    assert (liar.get_worker().stake_eth < 1) == bool(runner.report.challenges)


def test_user_document_runner(
    local_anvil: LocalChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's snippet runs as it stands, but for the number of images: the folder is shared."""
    monkeypatch.chdir(tmp_path)
    contract = Deployed.on(local_anvil, Terms(challenge_period=DAY))
    config = contract.config(BOSS)
    spec = tube_of("images", a=node("double", "value=src.index"), out=scalar("a.value"))
    tube = load(spec)
    contract.coordinator(WORKER).register_worker(stake_eth=1)
    queue = TaskQueue(persistent=True, db_path="events.db")
    worker = ChainWorker(
        contract.coordinator(WORKER),
        queue,
        FolderStore("chain-blobs"),
        allowed_modules=["noob_cloud_testnodes"],
        isolate=False,
        poll_seconds=0.05,
    )
    feed = ChainFeed(local_anvil.rpc, queue, contract.address, poll_seconds=0.05)

    async def as_written() -> list[Any]:
        # Process 10,000 satellite images with blockchain payments
        runner = BlockchainTaskRunner(
            tube,
            blockchain_config=config,
            reward_per_task_eth=0.001
        )  # fmt: skip

        return await runner.run_with_blockchain(n_epochs=3)

    with ExitStack() as stack:
        stack.callback(contract.close)
        for part in (feed, worker):
            thread = threading.Thread(target=part.run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(part.stop)
        assert asyncio.run(as_written()) == [0, 2, 4]
    assert contract.coordinator(WORKER).get_worker().locked_wei == 3 * 10 * 10**15


# ---- helpers


def pending(chain: LocalChain) -> list[str]:
    block = chain.rpc.call("eth_getBlockByNumber", "pending", False)
    return list(block["transactions"])


def wait_for(true: Any, *, seconds: float = 20.0) -> None:
    tick = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if true():
            return
        tick.wait(0.02)
    raise AssertionError("it did not come to be in time")
