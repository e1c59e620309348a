"""Blobs in a folder: one file each, written whole or not at all.

blobs/k2/bafkr4ik2...   the blob, in a subfolder by the first characters of its digest
blobs/.new/             files being written, or being removed; what a crash leaves there is never
                        read, and is mended an hour later by whoever lists the blobs
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from time import time
from typing import TYPE_CHECKING
from uuid import uuid4

from noob_cloud.blobs.interface import BlobInfo, check_range, not_found, verify
from noob_cloud.cid import cid as cid_of_bytes
from noob_cloud.cid import is_cid, parse_cid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from noob_cloud.blobs.interface import Data

__all__ = ["FolderStore"]

_NEW = ".new"
_ABANDONED = 3600.0
"""Seconds after which nobody is still writing or removing a file."""
_SHARD = slice(7, 9)
"""The characters of a cid after its constant prefix: 1,024 subfolders."""


class FolderStore:
    """A BlobStore in a folder, which several processes may share.

    Args:
        root: The folder; it is made when first written to.
        durable: Return from `put` once the blob survives a power cut (fsync).
    """

    def __init__(self, root: str | Path, *, durable: bool = True) -> None:
        self.root = Path(root).absolute()
        self.durable = durable

    def put(self, data: Data, *, now: float | None = None) -> str:
        """Store bytes and return their cid; a damaged copy is replaced."""
        parts = [data] if isinstance(data, bytes | bytearray | memoryview) else list(data)
        name = cid_of_bytes(parts)
        path = self._path(name)
        size = sum(memoryview(part).nbytes for part in parts)
        with suppress(FileNotFoundError):
            if path.stat().st_size == size and cid_of_bytes(path.read_bytes()) == name:
                _touch(path, now)
                return name
        self._write(path, parts, now)
        return name

    def get(self, cid: str) -> bytes:
        """Return the blob's bytes, verified."""
        try:
            data = self._path(cid).read_bytes()
        except FileNotFoundError:
            raise not_found(cid, str(self.root)) from None
        return verify(cid, data, str(self.root))

    def get_range(self, cid: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start` on."""
        check_range(start, length)
        try:
            with self._path(cid).open("rb") as file:
                file.seek(start)
                return file.read(length)
        except FileNotFoundError:
            raise not_found(cid, str(self.root)) from None

    def has(self, cid: str) -> bool:
        """Whether the blob is stored here."""
        return self._path(cid).exists()

    def stat(self, cid: str) -> BlobInfo:
        """Return the blob's size and age."""
        try:
            status = self._path(cid).stat()
        except FileNotFoundError:
            raise not_found(cid, str(self.root)) from None
        return BlobInfo(cid, status.st_size, status.st_mtime)

    def list(self) -> Iterator[BlobInfo]:
        """Yield every blob; one that goes meanwhile may be left out."""
        if not self.root.exists():
            return
        self._mend()
        for shard in os.scandir(self.root):
            if not shard.is_dir() or shard.name.startswith("."):
                continue
            for entry in os.scandir(shard.path):
                if is_cid(entry.name):
                    with suppress(FileNotFoundError):
                        status = entry.stat()
                        yield BlobInfo(entry.name, status.st_size, status.st_mtime)

    def delete(self, cid: str, *, stored_before: float | None = None) -> bool:
        """Remove a blob and say whether it was removed."""
        path = self._path(cid)
        if stored_before is None:
            return _unlink(path)
        # moved aside first: a `put` that finds the file gone writes it anew, and one that had just
        # touched it is seen here
        aside = self._new(f"{cid}.")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return False
        if aside.stat().st_mtime < stored_before:
            return _unlink(aside)
        aside.replace(path)
        return False

    def _path(self, name: str) -> Path:
        parse_cid(name)  # also what keeps "../" out
        return self.root / name[_SHARD] / name

    def _new(self, prefix: str = "") -> Path:
        folder = self.root / _NEW
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{prefix}{uuid4().hex}"

    def _mend(self) -> None:
        """Undo what was under way when a process was killed: writes, and half of a removal."""
        before = time() - _ABANDONED
        with suppress(FileNotFoundError):
            for entry in os.scandir(self.root / _NEW):
                with suppress(FileNotFoundError):
                    if entry.stat().st_ctime < before:
                        self._put_back(Path(entry.path))

    def _put_back(self, aside: Path) -> None:
        cid = aside.name.partition(".")[0]
        if is_cid(cid) and not self._path(cid).exists():
            aside.replace(self._path(cid))
        else:
            _unlink(aside)

    def _write(
        self, path: Path, parts: Sequence[bytes | bytearray | memoryview], now: float | None
    ) -> None:
        new = self._new()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with new.open("wb") as file:
                file.writelines(parts)
                if self.durable:
                    file.flush()
                    os.fsync(file.fileno())
            _touch(new, now)
            new.replace(path)
        except BaseException:
            _unlink(new)
            raise
        if self.durable:
            _sync_folder(path.parent)


def _touch(path: Path, now: float | None) -> None:
    os.utime(path, None if now is None else (now, now))


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders have no handle to sync there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
