"""Medians and worst cases of what took how long, as a table or as JSON."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def show(found: Mapping[str, Sequence[float]], *, as_json: bool, digits: int = 0) -> None:
    """Print seconds by name as milliseconds, with so many digits behind the point."""
    table = {
        name: {
            "p50_ms": round(1000 * statistics.median(values), digits or None),
            "max_ms": round(1000 * max(values), digits or None),
        }
        for name, values in found.items()
    }
    if as_json:
        print(json.dumps(table))
        return
    for name, row in table.items():
        p50, most = (f"{row[key]:9.{digits}f}" for key in ("p50_ms", "max_ms"))
        print(f"{name:14} {p50} ms  at most {most} ms")
