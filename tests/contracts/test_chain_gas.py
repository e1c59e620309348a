"""The gas of a task's life, as the documentation tells it."""

from __future__ import annotations

from pathlib import Path

from bench.chain_gas import gas_table, price_table, saved

MONEY = Path(__file__).parents[2] / "docs/MONEY.md"


def test_batches_save_two_fifths() -> None:
    """A task in a batch of fifty costs at least 40 per cent less gas than one by itself."""
    assert saved() >= 0.4


def test_documentation_has_the_snapshots_figures() -> None:
    """The tables in docs/MONEY.md are what the committed snapshot gives."""
    text = MONEY.read_text(encoding="utf-8")

    assert gas_table() in text, "python -m bench.chain_gas prints the tables"
    assert price_table() in text, "python -m bench.chain_gas prints the tables"
