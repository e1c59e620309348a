"""A chain worker that is killed (SIGKILL) at a stage of its work; run by test_chain_work.py."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any

from noob_cloud.blobs import FolderStore
from noob_cloud.blockchain.config import BlockchainConfig
from noob_cloud.blockchain.ethereum import EthereumTaskCoordinator
from noob_cloud.blockchain.feed import ChainFeed
from noob_cloud.blockchain.worker import ChainWorker
from noob_cloud.queue import TaskQueue

PATIENCE = 60.0


def die(*_: Any) -> None:
    """End as by a power cut."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at(stage: str, coordinator: Any, store: Any) -> None:
    """Put death before or after one of the worker's calls."""
    place, name, when = {
        "claim": (coordinator, "claim_task", "before"),
        "claimed": (coordinator, "claim_task", "after"),
        "stored": (store, "put", "after"),
        "submitted": (coordinator, "submit_result", "after"),
    }[stage]
    method = getattr(place, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            die()
        done = method(*args, **kwargs)
        die()
        return done

    setattr(place, name, call)


def main() -> None:
    """Work until the stage, or until one result is paid."""
    given = json.loads(sys.argv[1])
    config = BlockchainConfig(**given["config"])
    store = FolderStore(given["blobs"], durable=False)
    with (
        EthereumTaskCoordinator(config) as coordinator,
        TaskQueue(persistent=True, db_path=given["queue"]) as queue,
    ):
        if given["stage"]:
            killed_at(given["stage"], coordinator, store)
        worker = ChainWorker(
            coordinator,
            queue,
            store,
            allowed_modules=["noob_cloud_testnodes"],
            isolate=False,
            poll_seconds=0.05,
            verify_seconds=0.2,
            lease_seconds=1.0,
            withdraw_at_eth=0,
        )
        feed = ChainFeed(coordinator.rpc, queue, coordinator.contract_address, start=0)
        threading.Thread(target=feed.run, daemon=True).start()
        threading.Thread(target=worker.run, daemon=True).start()
        ends = time.monotonic() + PATIENCE
        while not worker.payday.verified and time.monotonic() < ends:
            time.sleep(0.05)
        while coordinator.credits() and time.monotonic() < ends:
            time.sleep(0.05)
        sys.stdout.write(json.dumps({"verified": worker.payday.verified}))


if __name__ == "__main__":
    main()
