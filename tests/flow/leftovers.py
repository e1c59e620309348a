"""Whatever a program under test started and left: the orphans too, which are handed to us."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PR_SET_CHILD_SUBREAPER = 36


@contextmanager
def adopted() -> Iterator[Callable[[], list[str]]]:
    """Yield what names every descendant that still runs, and did not before."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    before = {child.pid for child in psutil.Process().children(recursive=True)}

    def find() -> list[str]:
        running = (
            child
            for child in psutil.Process().children(recursive=True)
            if child.pid not in before and child.status() != psutil.STATUS_ZOMBIE
        )
        return [" ".join(child.cmdline()) for child in running]

    yield find
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0)
