"""Pack a user's project for the machines that will run it: its modules, and what they need.

The same project gives the same bytes. Its cid names its files and the versions of what it needs,
not the platform: one deployment may have workers of two architectures with the same code.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import msgspec

from noob_cloud.cid import cid
from noob_cloud.codec import cid_of
from noob_cloud.exceptions import PackError
from noob_cloud.serverless.code import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["LIMIT", "Packed", "pack"]

LIMIT: Final = 250 << 20
"""Bytes of a function and its layers, unpacked, that Lambda takes."""
_ARCHES: Final = {"x86_64": "x86_64", "arm64": "aarch64"}
_GLIBC: Final = {"3.11": "2_17"}
"""Lambda's older runtimes stand on Amazon Linux 2."""
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_MIB: Final = 1 << 20
_NO_CODE: Final = frozenset(
    ("__pycache__", "build", "cdk.out", "dist", "docs", "node_modules", "tests", "venv")
)
"""Folders beside the code that are none."""
_NOT_PACKED: Final = frozenset((".pyc", ".pyo"))
_VARYING: Final = frozenset(("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"))
_PIN: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)", re.MULTILINE)
_HERE: Final = "noob-cloud ; python_version < '0'\n"
"""What every worker has already, and no index does."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A user's code as one archive."""

    cid: str
    """What its tasks carry, and its workers' `NOOB_CLOUD_CODE`."""
    path: Path
    size: int
    """Bytes of its files, unpacked."""
    modules: tuple[str, ...]
    """The project's own modules, which tubes may name."""
    requirements: tuple[str, ...]
    """What was installed beside them, pinned."""


def pack(
    project: Path,
    out: Path,
    *,
    arch: str,
    python: str = "3.13",
    layer: Path | None = None,
) -> Packed:
    """Pack a project's modules and requirements into `out/code-ARCH.zip`.

    Its modules are the packages and modules in `src/`, or else in the project's folder. What they
    need stands in `requirements.txt`, or else in the dependencies of `pyproject.toml`;
    `[tool.noob-cloud] modules` there names further modules that tubes may use.

    Args:
        project: the folder.
        out: where the archive is written.
        arch: of the workers: x86_64 or arm64.
        python: of the workers.
        layer: lock file of what the workers have already: not packed again, and not in another
            version.

    Raises:
        PackError: there is no code, a requirement has no wheel for that platform, or all of it is
            more than Lambda takes.
    """
    if arch not in _ARCHES:
        raise PackError(f"{arch!r} is no architecture of Lambda: {' or '.join(_ARCHES)}")
    if not project.is_dir():
        raise PackError(f"There is no folder {project} to pack.")
    own = dict(_sources(project))
    modules = _modules(own)
    if not modules:
        raise PackError(f"{project} has no Python code: no package or module in it or in src/.")
    told = _tool_table(project)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "installed"
        pinned = _install(project, Path(scratch), target, arch, python, layer)
        files = {**dict(_installed(target)), **own}
        code = cid_of(
            {
                "files": [[name, cid(path.read_bytes())] for name, path in sorted(own.items())],
                "requirements": list(pinned),
            }
        )
        allowed = tuple(dict.fromkeys((*modules, *told.get("modules", ()))))
        manifest = {"cid": code, "modules": allowed, "requirements": pinned}
        path, size = _write(out / f"code-{arch}.zip", files, msgspec.json.encode(manifest))
    if size > LIMIT:
        raise PackError(
            f"{project} and what it needs hold {size / _MIB:.0f} MB; Lambda takes {LIMIT // _MIB}"
            " MB with its layers. Leave requirements out, or use pools of containers alone."
        )
    return Packed(code, path, size, allowed, pinned)


# ---- the project's own


def _sources(project: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of the project's modules, and the tubes beside them, by their names."""
    root = project / "src" if (project / "src").is_dir() else project
    for entry in sorted(root.iterdir()):
        if entry.name.startswith(".") or entry.name in _NO_CODE:
            continue
        if entry.is_file() and (entry.suffix == ".py" or entry.suffix in {".yaml", ".yml"}):
            yield entry.name, entry
        elif entry.is_dir() and not (entry / "pyvenv.cfg").exists() and _has_code(entry):
            yield from _below(entry, entry.name)


def _has_code(folder: Path) -> bool:
    return any(folder.glob("*.py")) or any(folder.glob("*/__init__.py"))


def _below(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        if entry.is_dir():
            yield from _below(entry, f"{name}/{entry.name}")
        elif entry.suffix not in _NOT_PACKED:
            yield f"{name}/{entry.name}", entry


def _modules(files: Mapping[str, Path]) -> tuple[str, ...]:
    roots = {name.partition("/")[0] for name in files if name.endswith(".py")}
    return tuple(sorted(root.removesuffix(".py") for root in roots if root != "setup.py"))


def _tool_table(project: Path) -> dict[str, Sequence[str]]:
    path = project / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PackError(f"{path} cannot be read: {error}") from error
    found: dict[str, Sequence[str]] = table.get("tool", {}).get("noob-cloud", {})
    return found


# ---- what it needs


def _install(
    project: Path, scratch: Path, target: Path, arch: str, python: str, layer: Path | None
) -> tuple[str, ...]:
    """Install what the project needs and the layer lacks; return it, pinned."""
    source = next(
        (
            path
            for path in (project / "requirements.txt", project / "pyproject.toml")
            if path.is_file()
        ),
        None,
    )
    if source is None:
        return ()
    override = scratch / "override.txt"
    override.write_text(_HERE)
    have = {} if layer is None else dict(_PIN.findall(layer.read_text(encoding="utf-8")))
    constraint = scratch / "constraint.txt"
    constraint.write_text("".join(_lines_of(layer)))
    platform = f"{_ARCHES[arch]}-manylinux_{_GLIBC.get(python, '2_28')}"
    there = ["--python-version", python, "--python-platform", platform, "--only-binary", ":all:"]
    locked = _uv(
        "pip", "compile", str(source), *there, "--quiet", "--no-header", "--no-annotate",
        "--generate-hashes", "--override", str(override), "--constraint", str(constraint),
    )  # fmt: skip
    wanted = {name: version for name, version in _PIN.findall(locked) if name not in have}
    if not wanted:
        return ()
    lock = scratch / "lock.txt"
    entries = re.split(r"\n(?=\S)", locked.strip())
    lock.write_text("\n".join(each for each in entries if each.split("==")[0] in wanted) + "\n")
    _uv(
        "pip", "install", *there, "--quiet", "--no-deps", "--require-hashes", "--python",
        sys.executable, "--link-mode", "copy", "--target", str(target), "--requirements",
        str(lock),
    )  # fmt: skip
    return tuple(f"{name}=={version}" for name, version in sorted(wanted.items()))


def _lines_of(layer: Path | None) -> Iterator[str]:
    """Yield the pins of a lock file without their hashes, with their markers."""
    if layer is None:
        return
    for line in layer.read_text(encoding="utf-8").splitlines():
        if _PIN.match(line):
            yield line.rstrip(" \\") + "\n"


def _installed(target: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(target.rglob("*")) if target.is_dir() else ():
        inside = path.relative_to(target)
        if not path.is_file() or path.suffix in {*_NOT_PACKED, ".pyi", ".lock"}:
            continue
        if inside.parts[0] == "bin" or {"__pycache__", "tests"} & set(inside.parts[:-1]):
            continue
        if inside.parts[0].endswith(".dist-info") and path.name in _VARYING:
            continue
        yield inside.as_posix(), path


def _uv(*words: str) -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise PackError("uv installs what a project needs: pip install 'noob-cloud[deploy]'")
    done = subprocess.run([found, *words], capture_output=True, text=True, check=False)  # noqa: S603 - words of our own
    if done.returncode:
        raise PackError(f"What the project needs cannot be had:\n{done.stderr.strip()}")
    return done.stdout


def _write(path: Path, files: Mapping[str, Path], manifest: bytes) -> tuple[Path, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".part")
    size = 0
    with ZipFile(written, "w", ZIP_DEFLATED) as archive:
        for name in sorted((*files, MANIFEST)):
            data = manifest if name == MANIFEST else files[name].read_bytes()
            run = name != MANIFEST and os.access(files[name], os.X_OK)
            entry = ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, wherever it is packed: the modes are Unix's
            entry.external_attr = (0o100755 if run else 0o100644) << 16
            entry.compress_type = ZIP_DEFLATED
            archive.writestr(entry, data)
            size += len(data)
    return written.replace(path), size
