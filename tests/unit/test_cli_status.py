"""What `noob-cloud status` shows on a terminal."""

from __future__ import annotations

import io

from rich.console import Console, Group

from noob_cloud.cli.status import _capacity


def test_a_place_is_one_line_of_80_columns() -> None:
    """No name and no number is broken where a terminal has its usual width."""
    place = {
        "name": "lambda-10240",
        "alive": 100,
        "most": 100,
        "busy": 100,
        "starting": 100,
        "wanted": 100,
        "failed_starts": 12,
        "blocked": True,
        "price_hour": 12.3456,
        "spent_today": 123.4567,
    }
    money = {"currency": "USD", "per_day": 5.0, "day": "2026-11-24", "spent": 1.0, "reserved": 0.1}
    told = {"places": [place], "money": money}
    file = io.StringIO()
    console = Console(width=80, file=file)

    console.print(Group(*_capacity(told)))

    title, columns, row, *_ = file.getvalue().splitlines()
    assert title.strip() == "Capacity"
    assert "USD today" in columns
    assert "lambda-10240" in row
    assert "12, cooling" in row
    assert "123.4567" in row
