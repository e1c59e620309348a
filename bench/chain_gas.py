"""What a task costs on chain over its life, by step and by network: python -m bench.chain_gas.

The gas is forge's, from contracts/snapshots, which the tests compare: the same on every machine.
The gas prices are assumptions, stated in the table; multiply for another day's.
"""

from __future__ import annotations

import json
from pathlib import Path

SNAPSHOT = Path(__file__).resolve().parent.parent / "contracts/snapshots/GasTest.json"
LIFE = (
    ("submit", "submitTask", "submitTasks"),
    ("claim", "claimTask", "claimTasks"),
    ("result", "submitResult", "submitResults"),
    ("verify", "verifyTask", "verifyTasks"),
    ("withdraw", "withdraw", "withdraw"),
)
BATCH = 50
GWEI = (
    ("Ethereum mainnet", 1, 2.0, "ETH"),
    ("Polygon", 137, 30.0, "POL"),
    ("Arbitrum One", 42161, 0.01, "ETH"),
    ("Optimism", 10, 0.001, "ETH"),
    ("Base", 8453, 0.005, "ETH"),
    ("Sepolia, Hoodi, Amoy, local", 0, 0.0, "free coins"),
)
"""Name, chain id, assumed price of a unit of gas in gwei, coin."""


def life() -> list[tuple[str, int, float]]:
    """Each step's gas for one task: called alone, and as a fiftieth of a batch."""
    gas = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    return [
        (step, int(gas[f"life, single: {one}"]), int(gas[f"life, {BATCH}: {many}"]) / BATCH)
        for step, one, many in LIFE
    ]


def saved() -> float:
    """The share of the gas that a batch of fifty saves, between 0 and 1."""
    steps = life()
    return 1 - sum(many for _, _, many in steps) / sum(one for _, one, _ in steps)


def gas_table() -> str:
    """Gas for one task by step, as Markdown."""
    steps = life()
    one_total = sum(one for _, one, _ in steps)
    many_total = sum(many for _, _, many in steps)
    lines = [
        f"| step | alone | share | in a batch of {BATCH} | share |",
        "|---|---:|---:|---:|---:|",
    ]
    for step, one, many in steps:
        lines.append(
            f"| {step} | {one:,} | {one / one_total:.0%} | {many:,.0f} | {many / many_total:.0%} |"
        )
    lines.append(f"| **all** | **{one_total:,}** | | **{many_total:,.0f}** | {saved():.0%} less |")
    return "\n".join(lines)


def price_table() -> str:
    """What one task costs in gas on each network, as Markdown."""
    steps = life()
    one_total = sum(one for _, one, _ in steps)
    many_total = sum(many for _, _, many in steps)
    lines = [
        f"| network | assumed gas price | a task alone | a task in a batch of {BATCH} |",
        "|---|---:|---:|---:|",
    ]
    for name, _, gwei, coin in GWEI:
        if not gwei:
            lines.append(f"| {name} | | {coin} | {coin} |")
            continue
        one, many = one_total * gwei * 1e-9, many_total * gwei * 1e-9
        lines.append(f"| {name} | {gwei:g} gwei | {one:.7f} {coin} | {many:.7f} {coin} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(gas_table(), price_table(), sep="\n\n")
