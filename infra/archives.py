"""What is put on the machines: the layers, our functions, and the user's own code, as archives."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).resolve().parent.parent
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The first time that an archive can say: the same files give the same bytes."""
_NO_FILES: Final[Mapping[str, Path]] = MappingProxyType({})
_SKIPPED: Final = frozenset(("__pycache__", ".DS_Store"))


def image(python: str) -> str:
    """Return the image that containers start from, pinned by its digest.

    Raises:
        ValueError: `images.toml` has none for this Python.
    """
    table = tomllib.loads((ROOT / "infra" / "images.toml").read_text(encoding="utf-8"))
    digests = table["digests"]
    if python not in digests:
        raise ValueError(f"infra/images.toml has no image of Python {python}, only {[*digests]}.")
    return f"{table['repository']}@{digests[python]}"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack(
    name: str, parts: tuple[Path, ...], folder: Path, *, files: Mapping[str, Path] = _NO_FILES
) -> Path:
    """Pack folders into one archive, the same bytes for the same files, and return its path.

    Args:
        name: of the archive, without its ending.
        parts: folders whose contents lie at its root, and archives whose contents do; of two files
            with one name the first is taken.
        folder: where the archive is written.
        files: single files, by their path in the archive.
    """
    found = {path: (0o644, file.read_bytes()) for path, file in files.items()}
    for part in parts:
        for path, mode, data in _of_archive(part) if part.is_file() else _of_folder(part):
            found.setdefault(path, (mode, data))
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{name}.zip"
    written = archive.with_suffix(".part")
    with ZipFile(written, "w", ZIP_DEFLATED) as out:
        for path, (mode, data) in sorted(found.items()):
            entry = ZipInfo(path, _EPOCH)
            entry.external_attr = (0o100755 if mode & 0o111 else 0o100644) << 16
            entry.compress_type = ZIP_DEFLATED
            out.writestr(entry, data)
    return written.replace(archive)


def _of_folder(folder: Path) -> Iterator[tuple[str, int, bytes]]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and _SKIPPED.isdisjoint(inside.parts):
            yield inside.as_posix(), path.stat().st_mode, path.read_bytes()


def _of_archive(path: Path) -> Iterator[tuple[str, int, bytes]]:
    with ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.is_dir():
                yield entry.filename, entry.external_attr >> 16, archive.read(entry)
