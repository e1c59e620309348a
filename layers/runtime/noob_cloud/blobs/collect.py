"""Remove the blobs that nothing refers to any more."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from noob_cloud.blobs.interface import BlobStore

__all__ = ["Collected", "collect"]


@dataclass(frozen=True, slots=True)
class Collected:
    """What one collection found."""

    removed: int
    removed_bytes: int
    kept: int
    """Blobs still referred to."""
    young: int
    """Blobs that nothing refers to yet, left because they were put within the grace period."""


def collect(
    store: BlobStore,
    reachable: Iterable[str],
    *,
    grace_seconds: float = 3600.0,
    now: float | None = None,
) -> Collected:
    """Remove every blob that is neither reachable nor young.

    A blob is put before what refers to it is written down, so the grace period must be longer than
    any client takes from the one to the other; putting a blob again begins it anew.

    Args:
        store: Where to collect.
        reachable: The cids that live tasks, runs, tubes and unread results refer to.
        grace_seconds: Age from which a blob that nothing refers to may go.
        now: Unix time, in seconds.

    Raises:
        ValueError: The grace period is negative.
    """
    if grace_seconds < 0:
        raise ValueError(f"A grace period is not negative: {grace_seconds}.")
    before = (time.time() if now is None else now) - grace_seconds
    live = frozenset(reachable)
    removed = size = kept = young = 0
    for blob in store.list():
        if blob.cid in live:
            kept += 1
        elif blob.stored_at < before and store.delete(blob.cid, stored_before=before):
            removed += 1
            size += blob.size
        else:
            young += 1
    return Collected(removed=removed, removed_bytes=size, kept=kept, young=young)
