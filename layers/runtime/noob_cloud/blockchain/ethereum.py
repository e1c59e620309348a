"""Submit, claim, do and be paid for tasks by a contract on an Ethereum chain.

```python
config = BlockchainConfig(rpc_url=..., chain_id=137, contract_address="0x...", private_key="0x...")
coordinator = EthereumTaskCoordinator(config)
coordinator.register_worker(stake_eth=1.0)
task_cid = create_task_cid(task_data)
coordinator.submit_task(task_cid, reward_eth=0.001)
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from noob_cloud.blockchain.account import Account
from noob_cloud.blockchain.amounts import to_eth, to_wei
from noob_cloud.blockchain.artifact import task_coordinator
from noob_cloud.blockchain.config import BlockchainConfig
from noob_cloud.blockchain.contract import Event, coordinator_abi
from noob_cloud.blockchain.errors import ChainError, ConfigError, need
from noob_cloud.blockchain.transactions import Message
from noob_cloud.blockchain.views import ChainTask, ChainWorker, Terms, to_digest
from noob_cloud.cid import cid
from noob_cloud.codec import cid_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from noob_cloud.blockchain.amounts import Ether
    from noob_cloud.blockchain.asynchronous import AsyncEthereumTaskCoordinator
    from noob_cloud.blockchain.keys import Signer
    from noob_cloud.blockchain.receipts import Receipt
    from noob_cloud.blockchain.rpc import Rpc

__all__ = [
    "AsyncEthereumTaskCoordinator",
    "BlockchainConfig",
    "ChainTask",
    "ChainWorker",
    "EthereumTaskCoordinator",
    "Terms",
    "create_task_cid",
    "deploy",
]

Cid = str | bytes
"""A cid as text, its digest as 0x hex, or the digest."""
_CHUNK: Final = 50
"""Tasks of one transaction: about 5 million gas at most."""


def __getattr__(name: str) -> Any:
    """Load the awaitable coordinator when it is asked for: it is made of the one below."""
    if name == "AsyncEthereumTaskCoordinator":
        from noob_cloud.blockchain import asynchronous  # noqa: PLC0415 - see above

        return asynchronous.AsyncEthereumTaskCoordinator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def create_task_cid(task_data: Any) -> str:
    """Return the cid of a task: of bytes their own, of any other value that of its canonical form.

    Raises:
        EncodeError: a value of this type has no canonical form.
    """
    if isinstance(task_data, bytes | bytearray | memoryview):
        return cid(task_data)
    return cid_of(task_data)


def deploy(
    config: BlockchainConfig,
    *,
    terms: Terms | None = None,
    owner: str | None = None,
    treasury: str | None = None,
    arbitrator: str | None = None,
    rpc: Rpc | None = None,
    signer: Signer | None = None,
) -> tuple[str, Receipt]:
    """Put a task coordinator on the chain; return its address and the receipt.

    Args:
        config: which chain, and who pays.
        terms: what is fixed for as long as it lives.
        owner: who may pause it and set the fee; oneself by default. So for the next two.
        treasury: who is paid the fees.
        arbitrator: who rules on challenges.
        rpc: asks the chain.
        signer: signs.

    Raises:
        TransactionRevertedError: a term is refused: which one, it says.
    """
    with Account(config, rpc=rpc, signer=signer) as account:
        own = account.own_address()
        arguments = (
            owner or own,
            treasury or own,
            arbitrator or own,
            (terms or Terms()).values(),
        )
        code = bytes.fromhex(task_coordinator().bytecode[2:])
        message = Message(None, code + coordinator_abi().constructor.encode(arguments))
        receipt = account.transact([message], "Deploy the contract")[0]
    if receipt.contract_address is None:
        raise ChainError(f"The node names no contract that {receipt.hash} made.")
    return str(need("eth_utils").to_checksum_address(receipt.contract_address)), receipt


class EthereumTaskCoordinator:
    """The task coordinator on a chain. Threads may share it.

    What changes something returns the transaction's `Receipt` once it is confirmed (see
    `BlockchainConfig.confirmations`); what the contract refuses raises an error of
    `noob_cloud.blockchain.reverts` before anything is paid. Without a key everything can be read.

    Args:
        config: which chain, contract and key.
        rpc: asks the chain; None: the nodes of `config`.
        signer: signs; None: the key of `config`.

    Raises:
        ConfigError: no node or no contract is named.
        ExtraMissingError: what the chain needs is not installed.
    """

    def __init__(
        self, config: BlockchainConfig, *, rpc: Rpc | None = None, signer: Signer | None = None
    ) -> None:
        if config.contract_address is None:
            raise ConfigError(
                "No contract is named: set contract_address, or deploy one with"
                " `noob-cloud chain deploy`."
            )
        self.config = config
        self.contract_address = config.contract_address
        self.account = Account(config, rpc=rpc, signer=signer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"EthereumTaskCoordinator({self.contract_address}, {self.account!r})"

    def close(self) -> None:
        """Close connections and the nonces' file."""
        self.account.close()

    @property
    def rpc(self) -> Rpc:
        """Asks the chain."""
        return self.account.rpc

    @property
    def address(self) -> str | None:
        """Whose key signs; None: nobody's."""
        return self.account.address

    @property
    def web3(self) -> Any:
        """A `web3.Web3` on the same nodes, for what is not here; it takes blocks of POA chains."""
        from noob_cloud.blockchain.web3 import web3_of  # noqa: PLC0415 - costs a second

        return web3_of(self.rpc)

    # ---- workers

    def register_worker(self, stake_eth: Ether) -> Receipt:
        """Register as a worker with a stake: a wrong result costs half of it."""
        return self._do("registerWorker", value=to_wei(stake_eth, name="stake_eth"))

    def top_up_stake(self, amount_eth: Ether) -> Receipt:
        """Add to one's stake."""
        return self._do("topUpStake", value=to_wei(amount_eth, name="amount_eth"))

    def request_unstake(self, amount_eth: Ether) -> Receipt:
        """Ask free stake back: it stays liable until the unbonding period is over."""
        return self._do("requestUnstake", to_wei(amount_eth, name="amount_eth"))

    def complete_unstake(self) -> Receipt:
        """Turn stake whose unbonding period is over into credit."""
        return self._do("completeUnstake")

    # ---- tasks

    def submit_task(self, task_cid: Cid, reward_eth: Ether) -> Receipt:
        """Offer a reward for a task; the protocol's fee is paid on top of it."""
        reward = to_wei(reward_eth, name="reward_eth")
        cost = self._read("costOf", reward)
        return self._do("submitTask", to_digest(task_cid), reward, value=cost)

    def submit_tasks(self, task_cids: Sequence[Cid], reward_eth: Ether) -> list[Receipt]:
        """Offer the same reward for each of many tasks."""
        reward = to_wei(reward_eth, name="reward_eth")
        cost = self._read("costOf", reward)
        chunks = self._chunks([to_digest(each) for each in task_cids])
        return self._all("submitTasks", [(part, reward) for part in chunks], cost=cost)

    def claim_task(self, task_cid: Cid, *, min_reward_eth: Ether | None = None) -> Receipt:
        """Become the one worker of a task, until the deadline; this locks stake.

        Args:
            task_cid: of the task.
            min_reward_eth: refuse if the reward has fallen below it.
        """
        digest = to_digest(task_cid)
        if min_reward_eth is None:
            return self._do("claimTask", digest)
        least = to_wei(min_reward_eth, name="min_reward_eth")
        return self._do("claimTaskFor", digest, least)

    def claim_tasks(self, task_cids: Sequence[Cid]) -> list[str]:
        """Claim those of many tasks that can be; return their cids."""
        done = self._batch("claimTasks", task_cids)
        return [each.values["taskCID"] for each in done if each.name == "TaskClaimed"]

    def submit_result(self, task_cid: Cid, result_cid: Cid) -> Receipt:
        """Submit the cid of the result of a task that one holds."""
        return self._do("submitResult", to_digest(task_cid), to_digest(result_cid))

    def submit_results(self, results: Sequence[tuple[Cid, Cid]]) -> list[str]:
        """Submit results of many tasks; return the cids of those that were still one's own."""
        pairs = self._chunks([(to_digest(task), to_digest(result)) for task, result in results])
        calls = [([a for a, _ in part], [b for _, b in part]) for part in pairs]
        done = self._events(self._all("submitResults", calls))
        return [each.values["taskCID"] for each in done if each.name == "ResultSubmitted"]

    def verify_task(self, task_cid: Cid) -> Receipt:
        """Pay the worker of a result that nobody has challenged in time."""
        return self._do("verifyTask", to_digest(task_cid))

    def verify_tasks(self, task_cids: Sequence[Cid]) -> list[str]:
        """Verify those of many tasks that can be; return their cids."""
        done = self._batch("verifyTasks", task_cids)
        return [each.values["taskCID"] for each in done if each.name == "TaskVerified"]

    def reclaim_task(self, task_cid: Cid) -> Receipt:
        """Free a task whose worker has let the deadline pass."""
        return self._do("reclaimTask", to_digest(task_cid))

    def reclaim_tasks(self, task_cids: Sequence[Cid]) -> list[str]:
        """Free those of many tasks that can be; return their cids."""
        done = self._batch("reclaimTasks", task_cids)
        return [each.values["taskCID"] for each in done if each.name == "ClaimExpired"]

    def cancel_task(self, task_cid: Cid) -> Receipt:
        """Take back one's share of a task that nobody holds."""
        return self._do("cancelTask", to_digest(task_cid))

    def cancel_tasks(self, task_cids: Sequence[Cid]) -> list[str]:
        """Take back one's shares of those of many tasks that nobody holds; return their cids."""
        done = self._batch("cancelTasks", task_cids)
        return [each.values["taskCID"] for each in done if each.name == "ShareRefunded"]

    def refund(self, task_cid: Cid, generation: int) -> Receipt:
        """Take back one's share of an earlier purchase of a cid that expired unpaid."""
        return self._do("refund", to_digest(task_cid), generation)

    # ---- challenges

    def challenge_task(
        self, task_cid: Cid, reason: str, *, bond_eth: Ether | None = None
    ) -> Receipt:
        """Stake a bond on a result being wrong.

        Args:
            task_cid: of the task.
            reason: for whoever rules.
            bond_eth: what is sent; what the contract asks by default.
        """
        digest = to_digest(task_cid)
        if bond_eth is None:
            bond = self._read("bondFor", self.get_task(digest).reward_wei)
        else:
            bond = to_wei(bond_eth, name="bond_eth")
        return self._do("challengeTask", digest, reason, value=bond)

    def resolve_challenge(self, task_cid: Cid, *, upheld: bool | None) -> Receipt:
        """Rule on a challenge, as the arbitrator.

        Args:
            task_cid: of the task.
            upheld: True: the result is wrong, its worker is slashed; False: it stands; None: the
                arbitrator does not rule.
        """
        digest = to_digest(task_cid)
        ruling = 0 if upheld is None else 1 + upheld
        return self._do("resolveChallenge", digest, self.get_task(digest).dispute_id, ruling)

    def expire_challenge(self, task_cid: Cid) -> Receipt:
        """End a challenge that was not ruled on in time."""
        return self._do("expireChallenge", to_digest(task_cid))

    # ---- money

    def withdraw(self, to: str | None = None) -> Receipt:
        """Take all one's credit, to another address if one says so."""
        return self._do("withdraw") if to is None else self._do("withdrawTo", to)

    def credits(self, address: str | None = None) -> Decimal:
        """Return what an account may withdraw, in ether; one's own by default."""
        return to_eth(self._read("credits", address or self.account.own_address()))

    def balance(self, address: str | None = None) -> Decimal:
        """Return the ether of an account outside the contract; one's own by default."""
        return self.account.balance(address)

    def cost_of(self, reward_eth: Ether) -> Decimal:
        """Return what a submission costs with the fee, in ether."""
        return to_eth(self._read("costOf", to_wei(reward_eth, name="reward_eth")))

    def bond_for(self, reward_eth: Ether) -> Decimal:
        """Return what a challenge of a task with this reward stakes, in ether."""
        return to_eth(self._read("bondFor", to_wei(reward_eth, name="reward_eth")))

    # ---- reading

    def get_task(self, task_cid: Cid, *, generation: int | None = None) -> ChainTask:
        """Return a task; its latest purchase, or a given one."""
        digest = to_digest(task_cid)
        if generation is None:
            return ChainTask.read(digest, self._read("getTask", digest))
        return ChainTask.read(digest, self._read("getTaskAt", digest, generation))

    def get_worker(self, address: str | None = None) -> ChainWorker:
        """Return a worker; oneself by default."""
        who = address or self.account.own_address()
        found = self._read("getWorker", who)
        return ChainWorker(
            address=who,
            stake_wei=found["stake"],
            locked_wei=found["locked"],
            unbonding_wei=found["unbonding"],
            unbonding_ends=found["unbondingEnds"],
            reputation=found["reputation"],
        )

    def terms(self) -> Terms:
        """Return what the contract's maker has fixed."""
        return Terms(*self._read("settings").values())

    def events(self, receipt: Receipt) -> list[Event]:
        """Return what this contract said in a transaction; cids are text."""
        return self._events([receipt])

    # ---- how

    def _read(self, name: str, *arguments: Any) -> Any:
        function = coordinator_abi().functions[name]
        data = self.account.read(self.contract_address, function.encode(arguments), name)
        if not data:
            raise ConfigError(
                f"There is no contract at {self.contract_address} on chain {self.rpc.chain_id}."
            )
        return function.decode(data)

    def message(self, name: str, *arguments: Any, value: int = 0, gas: int = 0) -> Message:
        """Return a transaction that calls a function of the contract, for `account.send`.

        Args:
            name: the function's, as in the contract.
            arguments: the function's.
            value: wei that go with it.
            gas: the most that it may use; 0: what trying it says.
        """
        data = coordinator_abi().functions[name].encode(arguments)
        return Message(self.contract_address, data, value, gas)

    def _do(self, name: str, *arguments: Any, value: int = 0) -> Receipt:
        message = self.message(name, *arguments, value=value)
        return self.account.transact([message], name)[0]

    def _all(self, name: str, calls: list[tuple[Any, ...]], *, cost: int = 0) -> list[Receipt]:
        messages = [self.message(name, *call, value=cost * len(call[0])) for call in calls]
        return self.account.transact(messages, name) if messages else []

    def _batch(self, name: str, task_cids: Sequence[Cid]) -> list[Event]:
        chunks = self._chunks([to_digest(each) for each in task_cids])
        return self._events(self._all(name, [(part,) for part in chunks]))

    def _chunks(self, items: list[Any]) -> list[list[Any]]:
        return [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]

    def _events(self, receipts: Sequence[Receipt]) -> list[Event]:
        return [
            event
            for receipt in receipts
            for log in receipt.logs
            if str(log["address"]).lower() == self.contract_address.lower()
            and (event := coordinator_abi().event(log)) is not None
        ]
