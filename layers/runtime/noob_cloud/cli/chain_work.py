"""`noob-cloud chain work`: do tasks of the chain for their reward."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noob_cloud.cli import options  # noqa: TC001 - Typer reads annotations
from noob_cloud.cli.errors import UsageError
from noob_cloud.cli.screen import screen
from noob_cloud.cli.target import open_target
from noob_cloud.cli.tube import import_from_here

if TYPE_CHECKING:
    from noob_cloud.blockchain.feed import ChainFeed
    from noob_cloud.blockchain.worker import ChainWorker

_OWN = "chain-worker.db"


def work(
    *,
    allow_module: Annotated[
        list[str],
        typer.Option(metavar="MODULE", help="A module that tubes may import. Repeatable."),
    ],
    blobs: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="NOOB_CLOUD_CHAIN_BLOBS",
            help="Where calls are and results go: a folder, s3://bucket/prefix, or a coordinator's"
            " URL. By default the coordinator's, or the folder chain-blobs.",
        ),
    ] = None,
    listen: Annotated[
        bool,
        typer.Option(
            "--listen",
            metavar="",
            help="Follow the contract itself, rather than take events from a queue.",
        ),
    ] = False,
    from_block: Annotated[
        int | None,
        typer.Option(min=0, help="With --listen, where to begin; by default 10,000 blocks back."),
    ] = None,
    coordinator: options.Coordinator = None,
    deployment: options.Deployment = None,
    queue: options.QueueFile = None,
    token: options.Token = None,
    state: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Remembers what is to be verified, and with --listen the events."
        ),
    ] = Path(_OWN),
    min_reward_eth: Annotated[str, typer.Option(help="Leave tasks that pay less.")] = "0",
    max_tasks: Annotated[
        int, typer.Option(min=1, help="Tasks claimed on the chain at once: each locks stake.")
    ] = 4,
    processes: Annotated[int, typer.Option(min=1, help="Processes that execute.")] = 1,
    withdraw_at_eth: Annotated[
        str | None, typer.Option(help="Withdraw earnings from this much on; else they stay there.")
    ] = None,
    withdraw_to: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where earnings go; to you by default.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Name of a network.")] = None,
    chain_id: Annotated[int | None, typer.Option(help="The chain's number.")] = None,
    rpc_url: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Address of a node. Repeatable.")
    ] = None,
    contract: Annotated[
        str | None, typer.Option("--contract", metavar="ADDRESS", help="The contract's address.")
    ] = None,
) -> None:
    """Claim tasks, execute them, submit results, and be paid, until Ctrl-C.

    The key's account must have registered a stake. Killed at any moment, it goes on where it was
    when it is started again.
    """
    from noob_cloud.blockchain.feed import ChainFeed  # noqa: PLC0415 - when it is used
    from noob_cloud.blockchain.stores import shared_store  # noqa: PLC0415 - see above
    from noob_cloud.blockchain.worker import ChainWorker  # noqa: PLC0415 - see above
    from noob_cloud.cli.chain import opened, settings  # noqa: PLC0415 - it registers this command
    from noob_cloud.queue import TaskQueue  # noqa: PLC0415 - see above

    if listen and (queue or deployment or coordinator):
        raise UsageError(
            "--listen has a queue of its own: leave --queue, --deployment and --coordinator away"
        )
    import_from_here()
    with ExitStack() as stack:
        chain = stack.enter_context(opened(settings(network, chain_id, rpc_url, contract)))
        me = chain.account.own_address()
        worker_of = chain.get_worker()
        if not worker_of.registered:
            raise UsageError(f"{me} has no stake: `noob-cloud chain register --stake-eth 1` first")
        own = TaskQueue(persistent=True, db_path=str(state))
        stack.callback(own.close)
        where: Any = blobs
        feed: ChainFeed | None = None
        source: Any = own
        if listen:
            finality = chain.config.finality
            feed = ChainFeed(
                chain.rpc,
                own,
                chain.contract_address,
                start=from_block,
                finality="finalized" if isinstance(finality, str) else finality,
                poll_seconds=max(chain.config.poll_interval, 0.1),
            )
        else:
            target = stack.enter_context(
                open_target(coordinator, queue, token, deployment, create=True, patient=True)
            )
            source = target.queue
            if where is None and target.client is not None:
                where = target.queue.blobs
        made = ChainWorker(
            chain,
            source,
            shared_store(where),
            allowed_modules=allow_module,
            min_reward_eth=min_reward_eth,
            max_tasks=max_tasks,
            processes=processes,
            withdraw_at_eth=withdraw_at_eth,
            withdraw_to=withdraw_to,
            ledger=own,
            poll_seconds=max(chain.config.poll_interval, 0.1),
        )
        screen.say(
            f"[green]noob-cloud chain worker[/] {me} with {worker_of.stake_eth:f} ether at stake,"
            f" for the contract {chain.contract_address}"
        )
        _run(made, feed)
        screen.say(
            f"{made.counts['completed']} events done, {made.payday.verified} results paid;"
            f" {chain.credits():f} ether to withdraw."
        )


def _run(worker: ChainWorker, feed: ChainFeed | None) -> None:
    """Work until a signal, or until the chain cannot be followed any more."""
    broken: list[Exception] = []

    def stop(*_: object) -> None:
        worker.stop()

    def follow() -> None:
        assert feed is not None  # noqa: S101 - the thread is made where there is one
        try:
            feed.run()
        except Exception as error:  # noqa: BLE001 - raised by whoever waits
            broken.append(error)
            worker.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    follower = threading.Thread(target=follow, name="noob-cloud-feed", daemon=True)
    try:
        if feed is not None:
            follower.start()
        worker.run()
    finally:
        if feed is not None:
            feed.stop()
            follower.join(timeout=30.0)
        for number, handler in before.items():
            signal.signal(number, handler)
    if broken:
        raise broken[0]
