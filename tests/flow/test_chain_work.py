"""A chain worker is killed at every stage of one task, and is paid for it once all the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from noob_cloud_testtubes.case import chain as tube_of
from noob_cloud_testtubes.case import node, scalar

from noob_cloud import codec
from noob_cloud.blobs import FolderStore
from noob_cloud.blockchain.call import frame_of
from noob_cloud.blockchain.contract import coordinator_abi
from noob_cloud.blockchain.ethereum import Terms
from noob_cloud.task import StageCall
from noob_cloud.testing.chain import Deployed
from noob_cloud.tubes import TubeSource

if TYPE_CHECKING:
    from noob_cloud.blockchain.localchain import LocalChain

pytestmark = pytest.mark.blockchain
pytest_plugins = ["noob_cloud.testing.chain"]

PROCESS = Path(__file__).with_name("chain_worker_process.py")
STAGES = ("claim", "claimed", "stored", "submitted")


def test_killed_at_every_stage(local_anvil: LocalChain, tmp_path: Path) -> None:
    """Four processes die, the fifth is paid: one claim, one result, one payment."""
    deployed = Deployed.on(local_anvil, Terms(challenge_period=1))
    boss, worker = deployed.coordinator(0), deployed.coordinator(1)
    worker.register_worker(stake_eth=1)
    store = FolderStore(tmp_path / "blobs", durable=False)
    spec = tube_of("killed", a=node("double", "value=src.index"), out=scalar("a.value"))
    tube = TubeSource.of(spec)
    store.put(tube.document)
    cid = store.put(frame_of(StageCall(tube.cid, ("a",), (0,), ((21,),)), run="r"))
    boss.submit_task(cid, reward_eth=0.001)
    before = worker.balance()

    def work(stage: str) -> subprocess.CompletedProcess[str]:
        given: dict[str, Any] = {
            "stage": stage,
            "queue": str(tmp_path / "worker.db"),
            "blobs": str(tmp_path / "blobs"),
            "config": {
                "chain_id": local_anvil.chain_id,
                "rpc_url": local_anvil.url,
                "private_key": local_anvil.keys[1],
                "contract_address": deployed.address,
                "poll_interval": 0.05,
                "nonce_file": str(tmp_path / "nonces.db"),
            },
        }
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.run(
            [sys.executable, str(PROCESS), json.dumps(given)],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    for stage in STAGES:
        assert work(stage).returncode == -signal.SIGKILL, stage
    last = work("")
    assert last.returncode == 0, last.stderr

    found = boss.get_task(cid)
    assert found.state == "verified"
    assert codec.loads(store.get(str(found.result_cid))) == [(42,)]
    logs = local_anvil.rpc.call(
        "eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": deployed.address}
    )
    said = Counter(event.name for log in logs if (event := coordinator_abi().event(log)))
    names = ("TaskClaimed", "ResultSubmitted", "TaskVerified", "Withdrawn")
    assert [said[name] for name in names] == [1, 1, 1, 1]
    assert worker.balance() > before, "the reward is more than the gas"
    deployed.close()
