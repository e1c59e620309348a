"""`noob-cloud chain listen` is killed again and again while a real chain changes under it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from noob_cloud.blockchain.contract import coordinator_abi
from noob_cloud.blockchain.ethereum import Terms, create_task_cid
from noob_cloud.queue import TaskQueue
from noob_cloud.task import TaskStatus
from noob_cloud.testing.chain import Deployed

if TYPE_CHECKING:
    from pathlib import Path

    from noob_cloud.blockchain.localchain import LocalChain

pytestmark = pytest.mark.blockchain
pytest_plugins = ["noob_cloud.testing.chain"]

ROUNDS = 6
Place = tuple[str, int]


def canonical(chain: LocalChain, address: str) -> set[Place]:
    """Block hash and index of every offer on the chain."""
    wanted = {"fromBlock": "0x0", "toBlock": "latest", "address": address}
    return {
        (log["blockHash"], int(log["logIndex"], 16))
        for log in chain.rpc.call("eth_getLogs", wanted)
        if (event := coordinator_abi().event(log)) and event.name == "TaskSubmitted"
    }


def waiting(path: Path) -> list[Place]:
    """Block hash and index of every event whose task waits."""
    queue = TaskQueue(persistent=True, db_path=str(path))
    try:
        tasks = queue.list_tasks(TaskStatus.READY, limit=10_000)
        return [("0x" + each.payload["block_hash"].hex(), each.payload["index"]) for each in tasks]
    finally:
        queue.close()


def test_killed_and_reorganised(local_anvil: LocalChain, tmp_path: Path) -> None:
    """The queue holds exactly the offers of the chain, each once."""
    rng = random.Random(7)
    deployed = Deployed.on(local_anvil, Terms(challenge_period=1))
    file = tmp_path / "queue.db"
    options = ["--queue", str(file), "--rpc-url", str(local_anvil.url), "--contract"]
    options += [deployed.address, "--chain-id", str(local_anvil.chain_id), "--from-block", "0"]
    command = [sys.executable, "-m", "noob_cloud.cli", "chain", "listen", *options]
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "NOOB_CLOUD_CHAIN_POLL_INTERVAL": "0.1",
    }

    def submit(count: int) -> None:
        made = [create_task_cid({"n": rng.random()}) for _ in range(count)]
        boss.submit_tasks(made, reward_eth=0.001)

    boss = deployed.coordinator(0)

    submit(3)
    for round_ in range(ROUNDS):
        with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as listener:
            try:
                begun = time.monotonic()
                while time.monotonic() - begun < 1.0 + rng.random():
                    submit(rng.randrange(1, 4))
                if round_ % 2:
                    local_anvil.reorg(rng.randrange(1, 4), [])
                    boss = deployed.coordinator(0)  # the chain took back its transactions too
            finally:
                listener.kill()
    submit(2)

    last = subprocess.run(
        [*command, "--once", "--json"], env=environ, capture_output=True, check=True, timeout=60
    )
    found = waiting(file)

    assert len(found) == len(set(found))
    assert set(found) == canonical(local_anvil, deployed.address)
    said: dict[str, Any] = json.loads(last.stdout)
    assert said["block"] == int(local_anvil.rpc.call("eth_blockNumber"), 16)
    deployed.close()


def test_finality_is_said_as_it_may_be(tmp_path: Path) -> None:
    """What is no depth and no name is refused with what may be said, and makes no file."""
    file = tmp_path / "q.db"
    command = [sys.executable, "-m", "noob_cloud.cli", "chain", "listen", "--finality", "0"]
    options = [
        "--rpc-url",
        "http://127.0.0.1:1",
        "--contract",
        "0x" + "11" * 20,
        "--queue",
        str(file),
    ]
    found = subprocess.run(
        [*command, *options, "--network", "local"], capture_output=True, text=True, check=False
    )

    assert found.returncode == 2
    assert "1 to 10000, safe, or finalized" in found.stderr
    assert not file.exists()
