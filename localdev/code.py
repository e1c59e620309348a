"""The code of deployed functions, unpacked once for each content."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CodeFolder"]

_RUNTIME: Final = (
    "awslambdaric",
    "boto3",
    "botocore",
    "dateutil",
    "jmespath",
    "runtime_client",
    "s3transfer",
    "simplejson",
    "six",
    "snapshot_restore_py",
    "urllib3",
)
"""What a managed Python runtime brings: everything else comes with the code or a layer."""
_MAX_UNPACKED: Final = 250 << 20
"""AWS's limit of a function with its layers, in bytes."""


class CodeFolder:
    """Unpacks archives into a folder, which it owns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._runtime: Path | None = None

    def known(self, sha256: str) -> Path | None:
        """Return the folder with the contents of an archive that was unpacked before."""
        found = self.folder / sha256[:24]
        return found if found.exists() else None

    def unpack(self, archive: bytes) -> Path:
        """Return the folder with the contents of a zip archive; the same bytes, the same folder.

        Raises:
            ValueError: the archive is over AWS's limit.
        """
        target = self.folder / hashlib.sha256(archive).hexdigest()[:24]
        if target.exists():
            return target
        begun = target.with_name(f"{target.name}.{uuid4().hex[:8]}")
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
            if size > _MAX_UNPACKED:
                raise ValueError(
                    f"The archive holds {size >> 20} MB unpacked; Lambda takes 250 MB of code and"
                    " layers."
                )
            packed.extractall(begun)
            for entry in packed.infolist():
                if mode := entry.external_attr >> 16 & 0o777:
                    (begun / entry.filename).chmod(mode | 0o600)
        try:
            begun.rename(target)
        except OSError:  # another one was first
            shutil.rmtree(begun)
        return target

    def runtime(self) -> Path:
        """Return a folder with what the managed runtime brings, and nothing else."""
        if self._runtime is None:
            self._runtime = self.folder / "runtime"
            self._runtime.mkdir(exist_ok=True)
            for path in _locations(_RUNTIME):
                link = self._runtime / path.name
                if not link.exists():
                    link.symlink_to(path)
        return self._runtime


def _locations(names: Iterable[str]) -> Iterable[Path]:
    for name in names:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            raise ModuleNotFoundError(
                f"Functions run locally with {name}, which is not installed: make dev"
            )
        origin = Path(found.origin)
        yield origin.parent if found.submodule_search_locations else origin
