"""Lambda's way from events to runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noob_cloud.serverless.submit import SubmitFunction

_submit = SubmitFunction(Path(__file__).parent)


def handler(event: Any, _context: object) -> dict[str, Any]:
    """Submit a batch of SQS; return the messages that failed."""
    return _submit.handle(event)
