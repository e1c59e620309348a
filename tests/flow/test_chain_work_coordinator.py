"""A chain worker takes events from a coordinator, and leaves results in its blob store."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from noob_cloud_testtubes.case import chain as tube_of
from noob_cloud_testtubes.case import load, node, scalar
from tests.flow.coordinator_processes import coordinator

from noob_cloud.blockchain.ethereum import Terms
from noob_cloud.blockchain.feed import ChainFeed
from noob_cloud.blockchain.runner import BlockchainTaskRunner
from noob_cloud.blockchain.worker import ChainWorker
from noob_cloud.queue import TaskQueue
from noob_cloud.testing.chain import Deployed

if TYPE_CHECKING:
    from pathlib import Path

    from noob_cloud.blockchain.localchain import LocalChain

pytestmark = pytest.mark.blockchain
pytest_plugins = ["noob_cloud.testing.chain"]


def test_events_and_blobs_of_a_coordinator(local_chain: LocalChain, tmp_path: Path) -> None:
    """Results come home by the coordinator's store, and the worker is paid."""
    deployed = Deployed.on(local_chain, Terms(challenge_period=3600))
    spec = tube_of("by_coordinator", a=node("double", "value=src.index"), out=scalar("a.value"))
    with ExitStack() as stack:
        made = stack.enter_context(coordinator(tmp_path))
        client = made.client()
        stack.callback(client.close)
        account = deployed.coordinator(1)
        account.register_worker(stake_eth=1)
        with pytest.raises(TypeError, match="ledger=TaskQueue"):
            ChainWorker(account, client.queue, client.queue.blobs, allowed_modules=[])
        ledger = stack.enter_context(TaskQueue(persistent=True, db_path=str(tmp_path / "due.db")))
        worker = ChainWorker(
            account,
            client.queue,
            client.queue.blobs,
            allowed_modules=["noob_cloud_testnodes"],
            isolate=False,
            poll_seconds=0.2,
            verify_seconds=0.2,
            ledger=ledger,
        )
        feed = ChainFeed(local_chain.rpc, client.queue, deployed.address, poll_seconds=0.05)
        for run, stop in ((feed.run, feed.stop), (worker.run, worker.stop)):
            thread = threading.Thread(target=run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(stop)
        runner = BlockchainTaskRunner(
            load(spec),
            blockchain_config=deployed.config(0),
            reward_per_task_eth=0.001,
            blobs=client.queue.blobs,
            rpc=local_chain.rpc,
            poll_seconds=0.05,
        )

        assert asyncio.run(runner.run_with_blockchain(n_epochs=3)) == [0, 2, 4]

        local_chain.advance(3600)
        for _ in range(500):
            if worker.payday.verified == 3:
                break
            time.sleep(0.02)
        assert worker.payday.verified == 3
    deployed.close()
