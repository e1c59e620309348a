"""Content-addressed values: stored once, named by their cid, verified when read.

store = open_store("file:///var/lib/noob/blobs")
name = store.put(b"large")
assert store.get(name) == b"large"
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from noob_cloud.blobs.collect import Collected, collect
from noob_cloud.blobs.folder import FolderStore
from noob_cloud.blobs.interface import BlobInfo, BlobStore
from noob_cloud.blobs.memory import MemoryStore

__all__ = [
    "BlobInfo",
    "BlobStore",
    "Collected",
    "FolderStore",
    "MemoryStore",
    "collect",
    "open_store",
]


def open_store(url: str | Path) -> BlobStore:
    """Return the store that a URL names.

    `memory:` for one process, `file:///path` (or a plain path) for a folder, and
    `s3://bucket/prefix` for S3, with `?endpoint_url=http://...` for another server of its kind.

    Raises:
        ValueError: The URL is of another kind.
    """
    text = str(url)
    parts = urlsplit(text)
    if text == "memory:":
        return MemoryStore()
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return FolderStore(unquote(parts.path))
    if parts.scheme == "s3" and parts.netloc:
        from noob_cloud.blobs.s3 import S3Store  # noqa: PLC0415 - boto3 is heavy and optional

        endpoint = parse_qs(parts.query).get("endpoint_url", [None])[0]
        return S3Store(parts.netloc, prefix=parts.path.strip("/"), endpoint_url=endpoint)
    if isinstance(url, Path) or (not parts.scheme and text):
        return FolderStore(text)
    raise ValueError(
        f"{text!r} names no blob store: use memory:, file:///path, or s3://bucket/prefix."
    )
