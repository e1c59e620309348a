"""`noob-cloud chain listen`: feed a queue with what a contract offers."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from noob_cloud.cli import options  # noqa: TC001 - Typer reads annotations
from noob_cloud.cli.errors import UsageError
from noob_cloud.cli.screen import screen
from noob_cloud.cli.target import open_target

if TYPE_CHECKING:
    from collections.abc import Generator

    from noob_cloud.blockchain.feed import ChainFeed


def listen(
    *,
    coordinator: options.Coordinator = None,
    deployment: options.Deployment = None,
    queue: options.QueueFile = None,
    token: options.Token = None,
    from_block: Annotated[
        int | None,
        typer.Option(min=0, help="Where to begin the first time; by default 10,000 blocks back."),
    ] = None,
    finality: Annotated[
        str,
        typer.Option(
            metavar="N",
            help="Blocks that a block needs before it is read, itself included; or safe, or"
            " finalized. What a reorganisation takes back is cancelled.",
        ),
    ] = "1",
    once: Annotated[
        bool, typer.Option("--once", metavar="", help="End when all there is has been read.")
    ] = False,
    no_blooms: Annotated[
        bool,
        typer.Option(
            "--no-blooms",
            metavar="",
            help="Do not look for events that a node leaves out: on chains without blooms, or to"
            " ask for fewer headers.",
        ),
    ] = False,
    network: Annotated[str | None, typer.Option(help="Name of a network.")] = None,
    chain_id: Annotated[int | None, typer.Option(help="The chain's number.")] = None,
    rpc_url: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Address of a node. Repeatable.")
    ] = None,
    contract: Annotated[
        str | None, typer.Option("--contract", metavar="ADDRESS", help="The contract's address.")
    ] = None,
    json: options.Json = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Submit a task for each task that the contract offers, once each, until Ctrl-C.

    How far it has come stands in the queue, in one commit with the tasks: killed at any moment it
    goes on there, and any number of listeners may run. `noob-cloud chain work` takes the tasks.
    """
    from noob_cloud.blockchain.feed import (  # noqa: PLC0415 - when it is used
        ChainFeed,
        finality_of,
    )
    from noob_cloud.blockchain.rpc import Rpc  # noqa: PLC0415 - see above
    from noob_cloud.cli.chain import settings  # noqa: PLC0415 - it registers this command

    config = settings(network, chain_id, rpc_url, contract)
    if not config.contract_address:
        raise UsageError("Say --contract ADDRESS, or set NOOB_CLOUD_CHAIN_CONTRACT_ADDRESS.")
    try:
        depth = finality_of(finality)
    except ValueError as error:
        raise UsageError(f"--finality: {error}") from error
    with ExitStack() as stack:
        target = stack.enter_context(
            open_target(coordinator, queue, token, deployment, create=True, patient=True)
        )
        rpc = stack.enter_context(Rpc.of(config))
        feed = ChainFeed(
            rpc,
            target.queue,
            config.contract_address,
            start=from_block,
            finality=depth,
            poll_seconds=max(config.poll_interval, 0.1),
            check="none" if no_blooms else "bloom",
        )
        screen.say(
            f"[green]noob-cloud chain listener[/] of the contract {config.contract_address},"
            f" into {target.name}"
        )
        with _until_signalled(feed), _shown(feed):
            feed.run(until="read" if once else "stopped")
        said = {"block": feed.block, "submitted": feed.submitted, "left_out": feed.left_out}
        if screen.json:
            screen.emit(said)
        screen.say(f"{feed.submitted} events submitted, up to block {feed.block}.")


@contextmanager
def _until_signalled(feed: ChainFeed) -> Generator[None, None, None]:
    def stop(*_: object) -> None:
        feed.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _shown(feed: ChainFeed) -> Generator[None, None, None]:
    """Say how far it is, on a line that changes, where standard error is a terminal."""
    console = screen.err
    if screen.json or not console.is_terminal:
        yield
        return
    over = threading.Event()
    with console.status("reading") as status:

        def follow() -> None:
            while not over.wait(0.5):
                status.update(f"block {feed.block}, {feed.submitted} events submitted")

        thread = threading.Thread(target=follow, name="noob-cloud-status", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
