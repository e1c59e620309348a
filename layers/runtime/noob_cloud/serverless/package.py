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
from typing import TYPE_CHECKING, Any, Final
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
_OURS: Final = frozenset(("handler", "noob", "noob_cloud", "noob_cloud_core"))
"""Modules of the worker itself: one of the project's would hide them, or be hidden."""
_NOT_PACKED: Final = frozenset((".pyc", ".pyo"))
_VARYING: Final = frozenset(("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"))
_PIN: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)", re.MULTILINE)
_WHEEL: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*) @ \S+")
_HASH: Final = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
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
        PackError: there is no code, a requirement has no wheel for that platform, a link leads out
            of the project, a file changes meanwhile, or all of it is more than Lambda takes.
    """
    if arch not in _ARCHES:
        raise PackError(f"{arch!r} is no architecture of Lambda: {' or '.join(_ARCHES)}")
    if not project.is_dir():
        raise PackError(f"There is no folder {project} to pack.")
    own = dict(_sources(project))
    modules = _modules(own)
    if not modules:
        raise PackError(f"{project} has no Python code: no package or module in it or in src/.")
    if hidden := _OURS.intersection(modules):
        raise PackError(
            f"{project} has a module {min(hidden)}, as the worker itself has; rename yours."
        )
    _check_size(project, sum(path.stat().st_size for path in own.values()))
    told = _further_modules(project)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "installed"
        pinned = _install(project, Path(scratch), target, arch, python, layer)
        files = {**dict(_installed(target)), **own}
        cids = {name: cid(path.read_bytes()) for name, path in sorted(own.items())}
        code = cid_of({"files": [*map(list, cids.items())], "requirements": list(pinned)})
        allowed = tuple(dict.fromkeys((*modules, *told)))
        manifest = {"cid": code, "modules": allowed, "requirements": pinned}
        path, size = _write(out / f"code-{arch}.zip", files, cids, msgspec.json.encode(manifest))
    _check_size(project, size)
    return Packed(code, path, size, allowed, pinned)


def _check_size(project: Path, size: int) -> None:
    if size > LIMIT:
        raise PackError(
            f"{project} and what it needs hold {size / _MIB:.0f} MB; Lambda takes {LIMIT // _MIB}"
            " MB with its layers. Leave requirements out, or use pools of containers alone."
        )


# ---- the project's own


def _sources(project: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of the project's modules, and the tubes beside them, by their names."""
    root = project / "src" if (project / "src").is_dir() else project
    for entry in sorted(root.iterdir()):
        if entry.name.startswith(".") or entry.name in _NO_CODE:
            continue
        if entry.is_file() and (entry.suffix == ".py" or entry.suffix in {".yaml", ".yml"}):
            yield entry.name, _inside(entry, root)
        elif entry.is_dir() and not (entry / "pyvenv.cfg").exists() and _has_code(entry):
            yield from _below(entry, entry.name, root)


def _has_code(folder: Path) -> bool:
    return any(folder.glob("*.py")) or any(folder.glob("*/__init__.py"))


def _below(folder: Path, name: str, root: Path) -> Iterator[tuple[str, Path]]:
    for entry in sorted(_inside(folder, root).iterdir()):
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        if entry.is_dir():
            yield from _below(entry, f"{name}/{entry.name}", root)
        elif entry.suffix not in _NOT_PACKED and (entry.is_file() or entry.is_symlink()):
            yield f"{name}/{entry.name}", _inside(entry, root)


def _inside(path: Path, root: Path) -> Path:
    """Return the path, if it can be packed.

    Raises:
        PackError: it is a link that leads nowhere, out of the project or in a circle, or has a name
            that no archive holds.
    """
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise PackError(f"{str(path)!r} has a name that no archive holds; rename it.") from None
    if path.is_symlink():
        real, lies = path.resolve(), path.parent.resolve()
        if not real.exists() or root.resolve() not in real.parents:
            raise PackError(
                f"{path} is a link to {real}, which is not packed: only files of the project are."
                " Put a copy there, or name what it is in the requirements."
            )
        if real == lies or real in lies.parents:
            raise PackError(f"{path} is a link to {real}, in which it lies itself; remove it.")
    return path


def _modules(files: Mapping[str, Path]) -> tuple[str, ...]:
    roots = {name.partition("/")[0] for name in files if name.endswith(".py")}
    return tuple(sorted(root.removesuffix(".py") for root in roots if root != "setup.py"))


def _further_modules(project: Path) -> Sequence[str]:
    path = project / "pyproject.toml"
    if not path.is_file():
        return ()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PackError(f"{path} cannot be read: {error}") from error
    told: Any = table.get("tool", {}).get("noob-cloud", {})
    found = told.get("modules", []) if isinstance(told, dict) else told
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise PackError(f"{path}: [tool.noob-cloud] modules is a list of names, not {found!r:.100}")
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
        "--generate-hashes", "--emit-index-url", "--emit-find-links",
        "--override", str(override), "--constraint", str(constraint),
    )  # fmt: skip
    entries = [each for each in re.split(r"\n(?=\S)", locked.strip()) if each]
    places = [each for each in entries if each.startswith("--")]
    told = [(*_pinned(each, source), each) for each in entries if each not in places]
    wanted = [(pin, each) for name, pin, each in told if name not in have]
    if not wanted:
        return ()
    lock = scratch / "lock.txt"
    lock.write_text("".join(f"{each}\n" for each in (*places, *(each for _pin, each in wanted))))
    _uv(
        "pip", "install", *there, "--quiet", "--no-deps", "--require-hashes", "--python",
        sys.executable, "--link-mode", "copy", "--target", str(target), "--requirements",
        str(lock),
    )  # fmt: skip
    return tuple(sorted(pin for pin, _each in wanted))


def _pinned(entry: str, source: Path) -> tuple[str, str]:
    """Return the name in an entry of a lock file, and exactly what it is.

    Raises:
        PackError: it is a folder or a repository: nothing says what will be there tomorrow.
    """
    plain = _PIN.match(entry)
    if plain is not None:
        return plain[1], f"{plain[1]}=={plain[2]}"
    wheel, made = _WHEEL.match(entry), _HASH.search(entry)
    if wheel is None or made is None:
        raise PackError(
            f"{source} wants {entry.partition(' ;')[0]!r}, neither a release nor a wheel: put"
            " its code into the project, or name the URL of a wheel that was built of it."
        )
    return wheel[1], f"{wheel[1]} @ {made[1]}"


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
        if not path.is_file() or path.suffix in {*_NOT_PACKED, ".pyi"} or path.name == ".lock":
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


def _write(
    path: Path, files: Mapping[str, Path], cids: Mapping[str, str], manifest: bytes
) -> tuple[Path, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".part")
    size = 0
    with ZipFile(written, "w", ZIP_DEFLATED) as archive:
        for name in sorted((*files, MANIFEST)):
            data = manifest if name == MANIFEST else files[name].read_bytes()
            if name in cids and cid(data) != cids[name]:
                raise PackError(f"{files[name]} changed while it was packed; pack it once more.")
            run = name != MANIFEST and os.access(files[name], os.X_OK)
            entry = ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, wherever it is packed: the modes are Unix's
            entry.external_attr = (0o100755 if run else 0o100644) << 16
            entry.compress_type = ZIP_DEFLATED
            archive.writestr(entry, data)
            size += len(data)
    return written.replace(path), size
