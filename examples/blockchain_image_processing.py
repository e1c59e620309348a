"""Find things in images by staked workers that nobody knows, one of whom lies; pay the others.

By default everything is in this process: a chain with the contract, a submitter, two honest workers
and one that saves itself the work. With --chain it is the submitter alone, on the chain that the
environment names; workers are elsewhere (`noob-cloud chain work`).
"""

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noob import Tube
from rich.console import Console
from rich.table import Table

from noob_cloud import codec
from noob_cloud.blobs import FolderStore
from noob_cloud.blockchain.amounts import to_eth
from noob_cloud.blockchain.ethereum import (
    BlockchainConfig,
    EthereumTaskCoordinator,
    Terms,
    deploy,
)
from noob_cloud.blockchain.feed import ChainFeed
from noob_cloud.blockchain.localchain import LocalChain, embedded_chain
from noob_cloud.blockchain.purse import Purse
from noob_cloud.blockchain.runner import BlockchainTaskRunner
from noob_cloud.blockchain.worker import ChainWorker
from noob_cloud.queue import TaskQueue
from noob_cloud.runner import SynchronousRunner

TUBE = "examples/survey.yaml"
MODULES = ["examples.survey", "examples.tiles"]
IMAGES = 24
REWARD = "0.001"
STAKE = "0.2"
BUDGET = "1"
HOUR = 3600
WORKERS = {1: "worker", 2: "worker", 3: "liar"}
"""Accounts of the chain; 0 is the submitter, who here is the treasury and the arbitrator, too."""

console = Console()


class Lies(FolderStore):
    """What the liar uses: it puts an empty report in the place of each result."""

    def put(self, data: Any, *, now: float | None = None) -> str:
        """Keep a result that took no work."""
        rows = codec.loads(bytes(data))
        empty = [({**row[0], "count": 0, "largest": 0},) for row in rows]
        return super().put(codec.dumps(empty), now=now)


@dataclass
class Place:
    """A chain with the contract on it, and a folder that all reach."""

    chain: LocalChain
    address: str
    folder: Path

    def coordinator(self, account: int) -> EthereumTaskCoordinator:
        """The contract as one account sees it."""
        config = self.chain.config(account, contract_address=self.address)
        return EthereumTaskCoordinator(config, rpc=self.chain.rpc)

    def work(self, account: int, stack: ExitStack) -> ChainWorker:
        """Stake, and work until the stack is left."""
        coordinator = stack.enter_context(self.coordinator(account))
        coordinator.register_worker(stake_eth=STAKE)
        queue = TaskQueue(persistent=True, db_path=str(self.folder / f"worker-{account}.db"))
        stack.callback(queue.close)
        kind = Lies if WORKERS[account] == "liar" else FolderStore
        worker = ChainWorker(
            coordinator,
            queue,
            kind(self.folder / "blobs"),
            allowed_modules=MODULES,
            max_tasks=2,
            poll_seconds=0.1,
            verify_seconds=0.2,
        )
        feed = ChainFeed(self.chain.rpc, queue, self.address, start=0, poll_seconds=0.1)
        for part in (feed, worker):
            thread = threading.Thread(target=part.run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(part.stop)
        return worker


def here(images: int) -> int:
    """Run on a chain in this process; 0 if the results are right."""
    started = time.perf_counter()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with console.status("Making a chain, and putting the contract on it"):
            chain = stack.enter_context(embedded_chain())
            terms = Terms(challenge_period=HOUR, claim_period=HOUR)
            address, _ = deploy(chain.config(), terms=terms, rpc=chain.rpc)
            place = Place(chain, address, folder)
        console.print(f"A chain in this process; the contract: {address}\n")
        with ExitStack() as working:
            with console.status("Three workers register their stakes"):
                workers = {account: place.work(account, working) for account in WORKERS}
            runner = BlockchainTaskRunner(
                Tube.from_specification(TUBE),
                blockchain_config=chain.config(0, contract_address=address),
                reward_per_task_eth=REWARD,
                budget_eth=BUDGET,
                blobs=folder / "blobs",
                rpc=chain.rpc,
                poll_seconds=0.1,
            )
            with console.status(f"Three workers, one of whom lies, look at {images} images"):
                results = asyncio.run(runner.run_with_blockchain(n_epochs=images))
            with console.status("An hour passes (here, at once), and nobody has challenged more"):
                chain.advance(HOUR)
                wait_until_paid(runner, place, workers)
        rule(runner)
        console.print(paid(runner, place))
    console.print()
    console.print(costs(runner))
    console.print()
    return compare(results, images, started)


def wait_until_paid(
    runner: BlockchainTaskRunner, place: Place, workers: dict[int, ChainWorker]
) -> None:
    """Wait until each worker has verified what it did right."""
    for account, worker in workers.items():
        address = str(place.coordinator(account).address).lower()
        told = runner.report.workers.get(address)
        while told is not None and worker.payday.verified < told.tasks:
            time.sleep(0.1)


def purse_of(runner: BlockchainTaskRunner) -> Purse:
    """What the run has spent."""
    if runner.purse is None:
        raise RuntimeError("the run has not begun")
    return runner.purse


def rule(runner: BlockchainTaskRunner) -> None:
    """Be the arbitrator, and give the submitter back what the lies had cost."""
    purse = purse_of(runner)
    for cid, _, _ in runner.report.challenges:
        purse.coordinator.resolve_challenge(cid, upheld=True)
    runner.settle()


def paid(runner: BlockchainTaskRunner, place: Place) -> Table:
    """Who was paid what."""
    made = Table(box=None, header_style="bold", title="Workers", title_justify="left")
    for column in ("", "address", "taken", "run again", "wrong", "earned", "stake", "reputation"):
        made.add_column(column, justify="left" if column in ("", "address") else "right")
    for account, name in WORKERS.items():
        coordinator = place.coordinator(account)
        told = runner.report.of(str(coordinator.address))
        worker = coordinator.get_worker()
        made.add_row(
            name,
            f"{str(coordinator.address)[:10]}...",
            str(told.tasks),
            str(told.checked),
            str(told.wrong),
            f"{coordinator.credits():.3f} ETH",
            f"{worker.stake_eth:.3f} ETH",
            str(worker.reputation),
            style="red" if told.wrong else None,
        )
    return made


def costs(runner: BlockchainTaskRunner) -> Table:
    """What the submitter spent, and what came back."""
    names = {
        "submitTasks": "rewards and fees",
        "challengeTask": "bonds of challenges",
        "bonds back": "bonds, given back by the rulings",
        "refunds": "prices of what was done wrong, taken back",
        "gas": "gas",
    }
    purse = purse_of(runner)
    made = Table(box=None, header_style="bold", title="Submitter", title_justify="left")
    made.add_column("")
    made.add_column("ETH", justify="right")
    for item, wei in purse.items.items():
        made.add_row(names.get(item, item), f"{to_eth(wei):.6f}")
    made.add_section()
    made.add_row(f"in all, of a budget of {BUDGET}", f"{purse.spent_eth:.6f}", style="bold")
    return made


def compare(results: list[Any], images: int, started: float) -> int:
    """Compare with one process; 0 if it gives the same."""
    with SynchronousRunner(Tube.from_specification(TUBE)) as runner:
        alone = runner.run(n=images) or []
    if results != alone:
        console.print("[bold red]The results differ from the SynchronousRunner's.[/]")
        return 1
    found = sum(row["count"] for row in results)
    console.print(
        f"{found} things in {len(results)} images: [green]equal to the SynchronousRunner's"
        f" result[/] ({time.perf_counter() - started:.0f} s in all)."
    )
    console.print(NEXT)
    return 0


def elsewhere(images: int) -> int:
    """Submit to the chain of the environment, and wait for its workers."""
    runner = BlockchainTaskRunner(
        Tube.from_specification(TUBE),
        blockchain_config=BlockchainConfig(),
        reward_per_task_eth=REWARD,
        budget_eth=BUDGET,
    )
    started = time.perf_counter()
    with console.status(f"Workers of the chain look at {images} images"):
        results = asyncio.run(runner.run_with_blockchain(n_epochs=images))
    for told in runner.report.workers.values():
        console.print(f"{told.address}: {told.tasks} results for {told.earned_eth:f} ETH")
    console.print(costs(runner))
    return compare(results, images, started)


NEXT = """
What to type next (in this folder, after [bold]source .venv/bin/activate[/]):
  noob-cloud explain examples/survey.yaml
  noob-cloud chain networks
  noob-cloud chain work --help
A worker and a run on a chain that other processes reach: docs/BLOCKCHAIN_DEPLOYMENT_GUIDE.md"""


def main() -> int:
    """Run the example; 0 if the results are right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES, help="how many, up to 45")
    parser.add_argument("--chain", action="store_true", help="use the environment's chain")
    given = parser.parse_args()
    return (elsewhere if given.chain else here)(given.images)


if __name__ == "__main__":
    sys.exit(main())
