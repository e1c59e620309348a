"""Lambda's way from a contract's events to tasks."""

from __future__ import annotations

from typing import Any

from noob_cloud.serverless.chain import ChainFunction

_chain = ChainFunction()


def handler(_event: Any, context: Any) -> dict[str, Any]:
    """Read on, until there is nothing new or the time is nearly up."""
    return _chain.handle(context.get_remaining_time_in_millis() / 1000)
