"""Events reach a coordinator once, by the function on AWS too, and across its death."""

from __future__ import annotations

import json
import random
import threading
import time
from typing import TYPE_CHECKING

import pytest
from tests.flow.coordinator_processes import OWNER, coordinator

from noob_cloud.blockchain.ethereum import Terms, create_task_cid
from noob_cloud.blockchain.feed import ChainFeed
from noob_cloud.serverless.chain import ChainFunction
from noob_cloud.task import TaskStatus
from noob_cloud.testing.chain import Deployed

if TYPE_CHECKING:
    from pathlib import Path

    from noob_cloud.blockchain.localchain import LocalChain
    from noob_cloud.queue import Queue

pytestmark = pytest.mark.blockchain
pytest_plugins = ["noob_cloud.testing.chain"]


def events(queue: Queue) -> list[tuple[bytes, int]]:
    tasks = queue.list_tasks(TaskStatus.READY, limit=10_000)
    return [(task.payload["block_hash"], task.payload["index"]) for task in tasks]


def submitted(deployed: Deployed, count: int) -> None:
    rng = random.Random(time.monotonic_ns())
    made = [create_task_cid({"n": rng.random()}) for _ in range(count)]
    deployed.coordinator(0).submit_tasks(made, reward_eth=0.001)


def test_the_function_reads_on(
    local_anvil: LocalChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each call reads what is new, says how far it came, and shows no address of a node."""
    deployed = Deployed.on(local_anvil, Terms(challenge_period=1))
    with coordinator(tmp_path) as made, made.client() as client:
        function = ChainFunction(
            {
                "NOOB_CLOUD_COORDINATOR": made.url,
                "NOOB_CLOUD_TOKEN": OWNER,
                "NOOB_CLOUD_DEPLOYMENT": "test",
                "NOOB_CLOUD_CHAIN_CHAIN_ID": str(local_anvil.chain_id),
                "NOOB_CLOUD_CHAIN_RPC_URL": str(local_anvil.url),
                "NOOB_CLOUD_CHAIN_CONTRACT_ADDRESS": deployed.address,
                "NOOB_CLOUD_CHAIN_FINALITY": "1",
                "NOOB_CLOUD_CHAIN_FROM_BLOCK": "0",
            }
        )
        submitted(deployed, 3)
        assert function.handle(60.0)["submitted"] == 3
        submitted(deployed, 2)
        told = function.handle(60.0)
        assert (told["submitted"], told["behind"]) == (2, False)
        assert function.handle(60.0)["submitted"] == 0
        found = client.queue.list_tasks(TaskStatus.READY)
    assert len(found) == 5
    assert {tuple(task.required_tags) for task in found} == {("chain",)}
    line = json.loads(capsys.readouterr().out.splitlines()[0])
    assert line["Deployment"] == "test"
    assert line["ChainEvents"] == 3
    assert line["ChainBlock"] == told["block"] - 1
    assert 0 <= line["ChainAgeSeconds"] < 3600, "of the block, not of the call"
    deployed.close()


def test_a_coordinator_that_is_killed(local_anvil: LocalChain, tmp_path: Path) -> None:
    """Killed between commit and answer, at random, it has each event once."""
    rng = random.Random(3)
    deployed = Deployed.on(local_anvil, Terms(challenge_period=1))
    with coordinator(tmp_path) as made, made.client() as client:
        feed = ChainFeed(
            local_anvil.rpc, client.queue, deployed.address, start=0, poll_seconds=0.02
        )
        thread = threading.Thread(target=feed.run)
        thread.start()
        try:
            for _ in range(5):
                for _ in range(rng.randrange(2, 6)):
                    submitted(deployed, 4)
                    time.sleep(rng.uniform(0.0, 0.05))
                made.kill()
                made.start()
            submitted(deployed, 1)
            newest = int(local_anvil.rpc.call("eth_blockNumber"), 16)
            deadline = time.monotonic() + 60
            while feed.block != newest and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            feed.stop()
            thread.join(60)
        found = events(client.queue)
        logs = local_anvil.rpc.call(
            "eth_getLogs",
            {"fromBlock": "0x0", "toBlock": "latest", "address": deployed.address},
        )
    topics = {listener.topic for listener in feed.listeners}
    wanted = {
        (bytes.fromhex(log["blockHash"][2:]), int(log["logIndex"], 16))
        for log in logs
        if log["topics"][0] in topics
    }
    assert len(found) == len(set(found))
    assert set(found) == wanted
    deployed.close()
