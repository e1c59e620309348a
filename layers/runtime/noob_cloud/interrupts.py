"""Ctrl-C reaches every process of a terminal: those started here leave it to their parent."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["held_back", "leave_to_parent"]


@contextmanager
def held_back() -> Iterator[None]:
    """Start processes that no Ctrl-C reaches before they call `leave_to_parent`.

    A new interpreter would else die of it, noisily, while it still imports what it needs.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_parent() -> None:
    """Ignore Ctrl-C in this process, also one that came while it was held back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
