"""Run a tube on staked workers that nobody knows, for a reward a task.

```python
runner = BlockchainTaskRunner(tube, blockchain_config=config, reward_per_task_eth=0.001)
results = await runner.run_with_blockchain(n_epochs=10_000)
```
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from noob_cloud.blockchain.amounts import to_wei
from noob_cloud.blockchain.ethereum import EthereumTaskCoordinator
from noob_cloud.blockchain.executor import ChainExecutor
from noob_cloud.blockchain.offers import Report
from noob_cloud.blockchain.stores import shared_store
from noob_cloud.exceptions import RunnerError
from noob_cloud.runner.executor import ExecutorRunner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from noob_cloud.blobs import BlobStore
    from noob_cloud.blockchain.amounts import Ether
    from noob_cloud.blockchain.config import BlockchainConfig
    from noob_cloud.blockchain.purse import Purse
    from noob_cloud.blockchain.rpc import Rpc

__all__ = ["BlockchainTaskRunner"]


@dataclass
class BlockchainTaskRunner(ExecutorRunner):
    """Buy each stateless stage of each epoch on the chain, and run the rest here, in order.

    A chain of stateless nodes is one stage, and so one task and one reward an epoch. What keeps
    state (sources, generators, classes) runs here and costs nothing; a tube without a stateless
    stage is refused, since there is nothing to buy. Results are those of `SynchronousRunner`, in
    order.

    A run of the same `run_id` (and tube, code and inputs) finds what was bought before, and pays
    for nothing twice. A task on the chain is the cid of its call; calls, tubes and results are in
    `blobs`, where anybody who reaches the store can read them.

    Args:
        tube: the tube to run; its modules must be installed where workers are.
        blockchain_config: which chain and contract, and the key that pays.
        reward_per_task_eth: what a worker earns for a task; the protocol's fee comes on top.
        blobs: where both sides leave values: see `stores.shared_store`.
        budget_eth: the most that is spent, by all runs of this runner: rewards, fees, bonds and
            gas. Checked before each payment; None: no limit.
        sample: the share of results that is executed again here, from 0 to 1, and at least one of
            each worker each time; 0: none. A wrong one is challenged, and its epoch gets one's own
            result.
        same: whether one's own and a worker's result are equal: see `checking.Checker`.
        untaken_seconds: after how long a task that nobody took is cancelled and its price taken
            back; None: when it expires on the chain.
        run_untaken: execute such a task here; else its epoch raises NoWorkerError.
        run_id: names the run, to resume it.
        poll_seconds: between looks at the chain; None: `poll_interval` of the settings.
        rpc: asks the chain; None: the nodes of the settings.
        rng: draws the sample; None: the system's.

    Raises:
        RunnerError: no settings are given, or a number is out of its range.
        ConfigError: an amount is none.
    """

    blockchain_config: BlockchainConfig | None = None
    reward_per_task_eth: Ether = 0
    blobs: BlobStore | str | Path | None = None
    budget_eth: Ether | None = None
    sample: float = 0.1
    same: Callable[[Any, Any], bool] | None = field(default=None, repr=False)
    untaken_seconds: float | None = None
    run_untaken: bool = False
    run_id: str = field(default_factory=lambda: uuid4().hex)
    window: int = 100
    poll_seconds: float | None = None
    rpc: Rpc | None = field(default=None, repr=False)
    rng: Random | None = field(default=None, repr=False)
    _coordinator: EthereumTaskCoordinator | None = field(default=None, repr=False)
    _bought: ChainExecutor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.blockchain_config is None:
            raise RunnerError(
                "BlockchainTaskRunner needs blockchain_config=BlockchainConfig(...): which chain"
                " and contract, and the key that pays"
            )
        if to_wei(self.reward_per_task_eth, name="reward_per_task_eth") == 0:
            raise RunnerError("reward_per_task_eth is 0; nobody works for nothing")
        if not 0 <= self.sample <= 1:
            raise RunnerError(f"sample is {self.sample}; it is a share, from 0 to 1")
        super().__post_init__()
        if not any(stage.remote for stage in self.engine.plan.stages):
            raise RunnerError(
                f"no stage of the tube {self.tube.tube_id!r} is stateless, so there is nothing that"
                " a stranger could do: "
                + "; ".join(f"{row.node} is {row.why}" for row in self.explain())
            )

    @property
    def report(self) -> Report:
        """What the run did on the chain: tasks, workers, challenges."""
        return Report() if self._bought is None else self._bought.report

    @property
    def purse(self) -> Purse | None:
        """What the run has spent, and on what; None before it began."""
        return None if self._bought is None else self._bought.purse

    async def run_with_blockchain(self, n_epochs: int) -> list[Any]:
        """Run `n_epochs` on the chain's workers; return their results, in order.

        Cancelling it takes back what nobody has claimed.

        Raises:
            BudgetExceededError: the budget does not last; before anything is paid, where that can
                be known.
            NoWorkerError: nobody took a task in time.
            Exception: what a node raised, as every runner raises it.
        """
        from anyio import CancelScope, get_cancelled_exc_class, to_thread  # noqa: PLC0415 - late

        ended = threading.Event()

        def work() -> list[Any]:
            try:
                return self._all(n_epochs)
            finally:
                ended.set()

        try:
            return await to_thread.run_sync(work, abandon_on_cancel=True)
        except get_cancelled_exc_class():
            if self._bought is not None:
                self._bought.stopping.set()
            with CancelScope(shield=True):
                await to_thread.run_sync(ended.wait)
            raise

    def settle(self) -> list[str]:
        """End what can be ended of challenged tasks, and take back what they cost.

        Call it after the run, and again, until it returns nothing: rulings take days.

        Returns:
            cids of tasks that still wait for a ruling, or for the end of its time.
        """
        if self._bought is None:
            return []
        try:
            return self._bought.settle()
        finally:
            if not self.running:
                self._disconnect()

    def _all(self, n_epochs: int) -> list[Any]:
        began = self.running
        self.init()
        try:
            self._check_budget(n_epochs)
            return self.run(n_epochs) or []
        finally:
            if not began:
                self.deinit()

    def _check_budget(self, n_epochs: int) -> None:
        """Refuse what the budget cannot pay before anything is paid."""
        assert self._bought is not None  # noqa: S101 - made by init
        price = to_wei(self._bought.coordinator.cost_of(self.reward_per_task_eth))
        self._bought.purse.check(price * n_epochs, f"{n_epochs} epochs")

    def _open(self) -> ChainExecutor:
        assert self.blockchain_config is not None  # noqa: S101 - checked when it was made
        if self._coordinator is None:
            self._coordinator = EthereumTaskCoordinator(self.blockchain_config, rpc=self.rpc)
        before = self._bought
        poll = self.poll_seconds
        self._bought = ChainExecutor(
            self._coordinator,
            shared_store(self.blobs),
            run_id=self.run_id,
            reward_eth=self.reward_per_task_eth,
            budget_eth=self.budget_eth,
            sample=self.sample,
            same=self.same,
            untaken_seconds=self.untaken_seconds,
            run_untaken=self.run_untaken,
            poll_seconds=self.blockchain_config.poll_interval if poll is None else poll,
            rng=self.rng,
            before=before,
        )
        return self._bought

    def _close(self) -> None:
        try:
            super()._close()
        finally:
            if self._bought is None or not self._bought.report.challenges:
                self._disconnect()

    def _disconnect(self) -> None:
        if self._coordinator is not None:
            self._coordinator.close()
