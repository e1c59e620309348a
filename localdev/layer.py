"""The layers for this machine: its Python and its architecture, from what is installed or cached.

`layers/build.py` builds them for AWS; another Python or an older system library than Lambda's would
not load them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from noob_cloud.exceptions import NoobCloudError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ARCHITECTURE", "PYTHON", "LayerError", "prepare"]

ROOT: Final = Path(__file__).resolve().parent.parent
ARCHITECTURE: Final = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_LIBRARY: Final = ROOT / "layers" / "runtime" / "noob_cloud"
_REQUIREMENTS: Final = ROOT / "requirements" / "layer.txt"


class LayerError(NoobCloudError, RuntimeError):
    """What functions need cannot be installed; the message is the installer's."""


def prepare(folder: Path) -> Path:
    """Build the layers where they differ from their sources; return the folder that has `layers/`.

    Args:
        folder: kept from run to run: what is installed is installed once.

    Raises:
        LayerError: something cannot be installed.
    """
    layers = folder / "layers"
    layers.mkdir(parents=True, exist_ok=True)
    installed = _install(folder)
    _pack(layers / f"runtime-{ARCHITECTURE}.zip", [installed, _LIBRARY.parent])
    native = layers / f"native-{ARCHITECTURE}.zip"
    core = importlib.util.find_spec("noob_cloud_core")
    if core is None or core.origin is None:
        native.unlink(missing_ok=True)
    else:
        _pack(native, [Path(core.origin).parent], inside="python/noob_cloud_core")
    return folder


def _install(folder: Path) -> Path:
    wanted = hashlib.sha256(_REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    target = folder / f"packages-{wanted}"
    if target.exists():
        return target
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise LayerError("uv installs what functions need: pip install uv")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        begun = Path(scratch) / "packages"
        words = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--link-mode=copy",
        ]
        words += ["--python", sys.executable, "--target", str(begun), "-r", str(_REQUIREMENTS)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - ours
        if done.returncode:
            raise LayerError(f"uv pip install failed:\n{done.stderr.strip()}")
        begun.rename(target)
    return target


def _pack(path: Path, sources: list[Path], *, inside: str = "python") -> None:
    """Write an archive; the same files give the same bytes, so that nothing is deployed again."""
    written = path.with_suffix(".part")
    with ZipFile(written, "w", ZIP_STORED) as archive:
        for name, file in sorted(_files(sources)):
            entry = ZipInfo(f"{inside}/{name}", _EPOCH)
            mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
            entry.external_attr = (0o100000 | mode) << 16
            archive.writestr(entry, file.read_bytes())
    written.replace(path)


def _files(sources: list[Path]) -> Iterator[tuple[str, Path]]:
    seen: set[str] = set()
    for source in sources:
        for file in source.rglob("*"):
            name = file.relative_to(source).as_posix()
            kept = file.is_file() and file.suffix != ".pyc" and "__pycache__" not in file.parts
            if kept and not name.startswith(("bin/python", ".lock")) and name not in seen:
                seen.add(name)
                yield name, file
