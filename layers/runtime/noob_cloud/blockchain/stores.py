"""Where a submitter and workers that do not know each other leave calls and results."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from noob_cloud.blobs import open_store

if TYPE_CHECKING:
    from noob_cloud.blobs import BlobStore

__all__ = ["VARIABLE", "shared_store"]

VARIABLE: Final = "NOOB_CLOUD_CHAIN_BLOBS"
"""The store where none is named."""
_FOLDER: Final = "chain-blobs"


def shared_store(where: str | Path | BlobStore | None = None) -> BlobStore:
    """Return a blob store that both sides reach.

    Args:
        where: a store; a folder; `file:///path`; `s3://bucket/prefix`; the URL of a coordinator, or
            the name of a deployed kit as `deployment:NAME`. None: what `NOOB_CLOUD_CHAIN_BLOBS`
            names, or the folder `chain-blobs`, for a worker on the same machine.

    Raises:
        ValueError: it names no store.
    """
    named: Any = os.environ.get(VARIABLE) or _FOLDER if where is None else where
    if not isinstance(named, str | Path):
        store: BlobStore = named
        return store
    text = str(named)
    if text.startswith(("http://", "https://", "deployment:")):
        from noob_cloud.deployment import Deployment  # noqa: PLC0415 - loads the client

        remote: Any = Deployment.of(text.removeprefix("deployment:")).queue().blobs
        found: BlobStore = remote
        return found
    return open_store(named)
