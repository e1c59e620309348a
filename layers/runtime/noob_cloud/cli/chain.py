"""`noob-cloud chain`: put the contract on a chain, stake, look, work, be paid."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from noob_cloud.cli import options  # noqa: TC001 - Typer reads annotations
from noob_cloud.cli.chain_listen import listen
from noob_cloud.cli.chain_work import work
from noob_cloud.cli.errors import UsageError, reason
from noob_cloud.cli.screen import screen, table

if TYPE_CHECKING:
    from collections.abc import Generator

    from noob_cloud.blockchain.config import BlockchainConfig
    from noob_cloud.blockchain.ethereum import EthereumTaskCoordinator
    from noob_cloud.blockchain.receipts import Receipt

chain = typer.Typer(
    name="chain",
    help=(
        "Use the task coordinator on an Ethereum chain.\n\n"
        "Each option is also read from the environment: NOOB_CLOUD_CHAIN_RPC_URL,"
        " NOOB_CLOUD_CHAIN_CONTRACT_ADDRESS and so on. The key is read from there alone"
        " (NOOB_CLOUD_CHAIN_PRIVATE_KEY, or KEYSTORE with KEYSTORE_PASSWORD, KMS_KEY_ID,"
        " SECRET_ID): a command line can be read by other users."
    ),
    no_args_is_help=True,
)

Network = Annotated[
    str | None, typer.Option(help="Name of a network: see `noob-cloud chain networks`.")
]
ChainId = Annotated[int | None, typer.Option(help="The chain's number, in place of --network.")]
RpcUrl = Annotated[
    list[str] | None, typer.Option(metavar="URL", help="Address of a node. Repeatable.")
]
Contract = Annotated[
    str | None, typer.Option("--contract", metavar="ADDRESS", help="The contract's address.")
]


def settings(
    network: str | None,
    chain_id: int | None,
    rpc_url: list[str] | None,
    contract: str | None = None,
) -> BlockchainConfig:
    """Return the settings of the environment and the options, which go first.

    Raises:
        UsageError: a setting is wrong or missing.
    """
    from noob_cloud.blockchain.config import BlockchainConfig  # noqa: PLC0415 - when it is used

    given: dict[str, Any] = {
        "network": network,
        "chain_id": chain_id,
        "rpc_url": rpc_url or None,
        "contract_address": contract,
    }
    if chain_id is not None:
        given["network"] = network or ""
    elif network is not None:
        given["chain_id"] = 0
    try:
        config = BlockchainConfig(**{k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        raise UsageError(reason(error)) from error
    if not config.rpc_url:
        raise UsageError("No node is named: say --rpc-url, or set NOOB_CLOUD_CHAIN_RPC_URL.")
    return config


@contextmanager
def opened(config: BlockchainConfig) -> Generator[EthereumTaskCoordinator, None, None]:
    """Return the coordinator of the settings."""
    from noob_cloud.blockchain.ethereum import EthereumTaskCoordinator  # noqa: PLC0415 - see above

    with EthereumTaskCoordinator(config) as coordinator:
        yield coordinator


@chain.command()
def networks(
    *,
    json: options.Json = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """List the networks that are known, and what became of those that were shut down."""
    from noob_cloud.blockchain.networks import NETWORKS  # noqa: PLC0415 - when it is used

    rows = [
        {
            "name": each.name,
            "chain_id": each.chain_id,
            "title": each.title,
            "currency": each.currency,
            "test": each.test,
            "retired": each.retired,
            "successor": each.successor,
            "explorer": each.explorer,
        }
        for each in NETWORKS.values()
    ]
    shown = [
        (
            row["name"],
            str(row["chain_id"]),
            row["title"],
            row["currency"],
            f"shut down in {row['retired']}: use {row['successor']}"
            if row["retired"]
            else ("test network" if row["test"] else ""),
        )
        for row in rows
    ]
    screen.show(rows, table("Networks", ("name", "chain id", "network", "pays in", ""), shown))


@chain.command()
def deploy(
    *,
    network: Network = None,
    chain_id: ChainId = None,
    rpc_url: RpcUrl = None,
    treasury: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Who is paid the fees; you by default.")
    ] = None,
    arbitrator: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Who rules; you by default.")
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Who may pause it, set the fee; you by default."),
    ] = None,
    min_stake_eth: Annotated[str, typer.Option(help="Least stake of a worker.")] = "0.01",
    min_reward_eth: Annotated[str, typer.Option(help="Least reward of a task.")] = "0.000001",
    min_bond_eth: Annotated[str, typer.Option(help="Least bond of a challenge.")] = "0.01",
    claim_seconds: Annotated[int, typer.Option(help="Time for a result.")] = 3_600,
    challenge_seconds: Annotated[int, typer.Option(help="Time for challenges.")] = 86_400,
    ruling_seconds: Annotated[int, typer.Option(help="Time for a ruling.")] = 259_200,
    unbonding_seconds: Annotated[int, typer.Option(help="Time until stake is free.")] = 604_800,
    json: options.Json = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Put a task coordinator on the chain; what it says then is its address.

    Times and least amounts cannot be changed afterwards.
    """
    from noob_cloud.blockchain.amounts import to_wei  # noqa: PLC0415 - when it is used
    from noob_cloud.blockchain.ethereum import Terms  # noqa: PLC0415 - see above
    from noob_cloud.blockchain.ethereum import deploy as put  # noqa: PLC0415 - see above

    config = settings(network, chain_id, rpc_url)
    terms = Terms(
        min_stake=to_wei(min_stake_eth, name="--min-stake-eth"),
        min_reward=to_wei(min_reward_eth, name="--min-reward-eth"),
        min_bond=to_wei(min_bond_eth, name="--min-bond-eth"),
        claim_period=claim_seconds,
        challenge_period=challenge_seconds,
        ruling_period=ruling_seconds,
        unbonding_period=unbonding_seconds,
    )
    address, receipt = put(
        config, terms=terms, owner=owner, treasury=treasury, arbitrator=arbitrator
    )
    screen.say(f"It cost {receipt.fee_eth:f} {config.known.currency}.")
    screen.show({"contract_address": address, "chain_id": config.chain_id, **_of(receipt)}, address)


@chain.command()
def register(
    *,
    stake_eth: Annotated[str, typer.Option(help="The stake: a wrong result costs half of it.")],
    network: Network = None,
    chain_id: ChainId = None,
    rpc_url: RpcUrl = None,
    contract: Contract = None,
    json: options.Json = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Register as a worker; again: add to the stake."""
    with opened(settings(network, chain_id, rpc_url, contract)) as coordinator:
        known = coordinator.get_worker().registered
        receipt = (coordinator.top_up_stake if known else coordinator.register_worker)(stake_eth)
        worker = coordinator.get_worker()
        said = f"{worker.address} has {worker.stake_eth:f} ether at stake."
        screen.show(
            {"worker": worker.address, "stake_eth": f"{worker.stake_eth:f}", **_of(receipt)}, said
        )


@chain.command()
def status(
    *,
    task: Annotated[
        list[str] | None, typer.Option(metavar="CID", help="A task to look at. Repeatable.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A worker; you by default.")
    ] = None,
    network: Network = None,
    chain_id: ChainId = None,
    rpc_url: RpcUrl = None,
    contract: Contract = None,
    json: options.Json = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Show the contract, a worker's stake, credit and reputation, and tasks."""
    from rich.console import Group  # noqa: PLC0415 - when it is used

    with opened(settings(network, chain_id, rpc_url, contract)) as coordinator:
        found = _look(coordinator, address, task or [])
    parts = [
        table(
            name.capitalize(), ("", ""), [(key, str(value)) for key, value in found[name].items()]
        )
        for name in ("contract", "worker")
        if name in found
    ]
    if found["tasks"]:
        columns = ("cid", "state", "reward_eth", "worker", "deadline", "result_cid")
        rows_of = [[str(each[name] or "") for name in columns] for each in found["tasks"]]
        parts.append(table("Tasks", columns, rows_of))
    screen.show(found, Group(*parts))


@chain.command()
def withdraw(
    *,
    to: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where it goes; to you by default.")
    ] = None,
    network: Network = None,
    chain_id: ChainId = None,
    rpc_url: RpcUrl = None,
    contract: Contract = None,
    json: options.Json = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Take all that the contract owes you."""
    with opened(settings(network, chain_id, rpc_url, contract)) as coordinator:
        owed = coordinator.credits()
        if not owed:
            screen.show({"withdrawn_eth": "0"}, f"Nothing is owed to {coordinator.address}.")
            return
        receipt = coordinator.withdraw(to)
        screen.show(
            {"withdrawn_eth": f"{owed:f}", "to": to or coordinator.address, **_of(receipt)},
            f"{owed:f} ether went to {to or coordinator.address}.",
        )


chain.command()(work)
chain.command()(listen)


def _look(
    coordinator: EthereumTaskCoordinator, address: str | None, tasks: list[str]
) -> dict[str, Any]:
    from dataclasses import asdict  # noqa: PLC0415 - when it is used

    found: dict[str, Any] = {
        "contract": {
            "address": coordinator.contract_address,
            "chain_id": coordinator.rpc.chain_id,
            **asdict(coordinator.terms()),
        }
    }
    who = address or coordinator.address
    if who is not None:
        worker = coordinator.get_worker(who)
        found["worker"] = {
            **asdict(worker),
            "credit_eth": f"{coordinator.credits(who):f}",
            "balance_eth": f"{coordinator.balance(who):f}",
        }
    found["tasks"] = [
        {**asdict(one), "reward_eth": f"{one.reward_eth:f}"}
        for one in map(coordinator.get_task, tasks)
    ]
    return found


def _of(receipt: Receipt) -> dict[str, Any]:
    return {
        "transaction": receipt.hash,
        "block": receipt.block_number,
        "gas_used": receipt.gas_used,
        "cost_eth": f"{receipt.fee_eth:f}",
    }
