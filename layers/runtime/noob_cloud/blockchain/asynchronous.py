"""The task coordinator's methods, awaitable: each runs in a thread while the loop goes on.

The chain is waited for in seconds, so threads cost nothing that is felt; all methods share one key
and its nonces, whichever way they are called.
"""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Self, TypeVar

from anyio import to_thread

from noob_cloud.blockchain.ethereum import EthereumTaskCoordinator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from noob_cloud.blockchain.config import BlockchainConfig
    from noob_cloud.blockchain.contract import Event
    from noob_cloud.blockchain.keys import Signer
    from noob_cloud.blockchain.receipts import Receipt
    from noob_cloud.blockchain.rpc import Rpc

__all__ = ["AsyncEthereumTaskCoordinator"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _threaded(
    method: Callable[Concatenate[EthereumTaskCoordinator, _P], _R],
) -> Callable[Concatenate[AsyncEthereumTaskCoordinator, _P], Awaitable[_R]]:
    """Return a method that is awaited, and waits in a thread."""

    @wraps(method)
    async def awaited(
        self: AsyncEthereumTaskCoordinator, /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _R:
        return await to_thread.run_sync(partial(method, self.sync, *args, **kwargs))

    return awaited


class AsyncEthereumTaskCoordinator:
    """The task coordinator on a chain, for asyncio and trio.

    It has the methods of `EthereumTaskCoordinator` under their names, each to be awaited.

    ```python
    async with AsyncEthereumTaskCoordinator(config) as coordinator:
        await coordinator.claim_task(task_cid)
    ```

    Args:
        config: which chain, contract and key.
        rpc: asks the chain; None: the nodes of `config`.
        signer: signs; None: the key of `config`.
    """

    def __init__(
        self, config: BlockchainConfig, *, rpc: Rpc | None = None, signer: Signer | None = None
    ) -> None:
        self.sync = EthereumTaskCoordinator(config, rpc=rpc, signer=signer)
        """The same without `await`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await to_thread.run_sync(self.sync.close)

    def __repr__(self) -> str:
        return f"Async{self.sync!r}"

    @property
    def address(self) -> str | None:
        """Whose key signs; None: nobody's."""
        return self.sync.address

    def events(self, receipt: Receipt) -> list[Event]:
        """Return what this contract said in a transaction; cids are text."""
        return self.sync.events(receipt)

    register_worker = _threaded(EthereumTaskCoordinator.register_worker)
    top_up_stake = _threaded(EthereumTaskCoordinator.top_up_stake)
    request_unstake = _threaded(EthereumTaskCoordinator.request_unstake)
    complete_unstake = _threaded(EthereumTaskCoordinator.complete_unstake)
    submit_task = _threaded(EthereumTaskCoordinator.submit_task)
    submit_tasks = _threaded(EthereumTaskCoordinator.submit_tasks)
    claim_task = _threaded(EthereumTaskCoordinator.claim_task)
    claim_tasks = _threaded(EthereumTaskCoordinator.claim_tasks)
    submit_result = _threaded(EthereumTaskCoordinator.submit_result)
    submit_results = _threaded(EthereumTaskCoordinator.submit_results)
    verify_task = _threaded(EthereumTaskCoordinator.verify_task)
    verify_tasks = _threaded(EthereumTaskCoordinator.verify_tasks)
    reclaim_task = _threaded(EthereumTaskCoordinator.reclaim_task)
    reclaim_tasks = _threaded(EthereumTaskCoordinator.reclaim_tasks)
    cancel_task = _threaded(EthereumTaskCoordinator.cancel_task)
    cancel_tasks = _threaded(EthereumTaskCoordinator.cancel_tasks)
    refund = _threaded(EthereumTaskCoordinator.refund)
    challenge_task = _threaded(EthereumTaskCoordinator.challenge_task)
    resolve_challenge = _threaded(EthereumTaskCoordinator.resolve_challenge)
    expire_challenge = _threaded(EthereumTaskCoordinator.expire_challenge)
    withdraw = _threaded(EthereumTaskCoordinator.withdraw)
    credits = _threaded(EthereumTaskCoordinator.credits)
    balance = _threaded(EthereumTaskCoordinator.balance)
    cost_of = _threaded(EthereumTaskCoordinator.cost_of)
    bond_for = _threaded(EthereumTaskCoordinator.bond_for)
    get_task = _threaded(EthereumTaskCoordinator.get_task)
    get_worker = _threaded(EthereumTaskCoordinator.get_worker)
    terms = _threaded(EthereumTaskCoordinator.terms)
