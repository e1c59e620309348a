"""`noob-cloud coordinator` and `noob-cloud worker`: the processes that stay."""

from __future__ import annotations


def coordinator() -> None:
    """Serve the queue over HTTP."""


def worker() -> None:
    """Run tasks."""
