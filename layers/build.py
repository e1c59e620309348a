"""Build the archives that are put on a machine before a task arrives, without Docker.

    python layers/build.py [--arch x86_64] [--python 3.13] [--out dist/layers]

`runtime` is noob_cloud with what requirements/layer.txt pins, `native` the Rust core; `chain`, of
deployments that listen to one, is what requirements/layer-chain.txt pins. They have their contents
under `python/`, where Lambda looks; containers unpack the same archives. boto3 is
in `runtime` although Lambda brings one: containers have none, and a pinned one is the same
everywhere. Where a Python of the layers' version is installed they hold what it compiles too, so
that a cold start need not; its byte code is never held against its source, as hashes and times are
fixed. The same sources, and the same Python, give the same bytes.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["LIMIT", "BuildError", "Layer", "build", "build_chain"]

ROOT: Final = Path(__file__).resolve().parent.parent
LIMIT: Final = 250 << 20
"""Bytes of a function and its layers, unpacked, that Lambda takes."""
PYTHON: Final = "3.13"
_ARCHES: Final = {"x86_64": "x86_64", "arm64": "aarch64"}
"""Our name, which is AWS's, and Rust's and Python's."""
_GLIBC: Final = {"3.11": "2_17"}
"""Lambda's older runtimes stand on Amazon Linux 2."""
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_MIB: Final = 1 << 20
_VARYING: Final = frozenset(("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"))
_COMPILE: Final = """
import py_compile, sys
how = py_compile.PycInvalidationMode.UNCHECKED_HASH
for line in sys.stdin:
    inside = line.rstrip()
    try:
        py_compile.compile(inside, dfile="/opt/" + inside, doraise=True, invalidation_mode=how)
    except py_compile.PyCompileError:
        continue  # as pip does: a package may hold what another version of Python reads
"""
"""One process, in order: what it writes depends on the sources alone."""
_PROGRAMS: Final = frozenset(("litestream",))
"""Of what is installed in bin/; the others name this machine's Python in their first line."""


class BuildError(RuntimeError):
    """A layer cannot be built."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A built archive."""

    name: str
    path: Path
    unpacked: int
    """Bytes of its files."""

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.unpacked / _MIB:.1f} MB unpacked of {LIMIT // _MIB} MB,"
            f" {self.path.stat().st_size / _MIB:.1f} MB packed"
        )


def build(arch: str, *, python: str = PYTHON, out: Path | None = None) -> list[Path]:
    """Build both layers for an architecture; return their archives, `runtime` first.

    `native` is left out, with a line that says why, where Rust, zig or the target is missing.

    Args:
        arch: x86_64 or arm64.
        python: of the functions and containers, such as 3.13.
        out: where the archives are written; by default `dist/layers`.

    Raises:
        BuildError: something cannot be installed, or Lambda would refuse the size.
    """
    if arch not in _ARCHES:
        raise BuildError(f"{arch!r} is no architecture of Lambda: {' or '.join(_ARCHES)}")
    folder = ROOT / "dist" / "layers" if out is None else out
    layers: list[Layer] = []
    with tempfile.TemporaryDirectory() as scratch:
        runtime = _install_runtime(Path(scratch) / "runtime", arch, python)
        layers.append(_pack(f"runtime-{arch}", runtime, folder))
        native, why = _install_native(Path(scratch) / "native", arch)
        if native is None:
            (folder / f"native-{arch}.zip").unlink(missing_ok=True)
            _say(f"native-{arch} is left out: {why}. Everything runs without it, slower.")
        else:
            layers.append(_pack(f"native-{arch}", native, folder))
    for layer in layers:
        _say(str(layer))
    total = sum(layer.unpacked for layer in layers)
    if total > LIMIT:
        raise BuildError(
            f"The layers for {arch} hold {total / _MIB:.1f} MB; Lambda takes {LIMIT // _MIB} MB of"
            " code and layers. Leave something out of requirements/layer.txt."
        )
    return [layer.path for layer in layers]


def build_chain(arch: str, *, python: str = PYTHON, out: Path | None = None) -> Path:
    """Build what the chain's listener needs beside `runtime`; return its archive.

    Args:
        arch: x86_64 or arm64.
        python: of the functions, such as 3.13.
        out: where the archive is written; by default `dist/layers`.

    Raises:
        BuildError: something cannot be installed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _install(folder / "python", arch, python, "layer-chain.txt")
        _compile(folder, python)
        made = _pack(f"chain-{arch}", folder, ROOT / "dist" / "layers" if out is None else out)
    _say(str(made))
    return made.path


def _install_runtime(folder: Path, arch: str, python: str) -> Path:
    target = folder / "python"
    _install(target, arch, python, "layer.txt")
    source = ROOT / "layers" / "runtime" / "noob_cloud"
    shutil.copytree(source, target / "noob_cloud", ignore=shutil.ignore_patterns("__pycache__"))
    _compile(folder, python)
    return folder


def _install(target: Path, arch: str, python: str, lock: str) -> None:
    glibc = _GLIBC.get(python, "2_28")
    _run(
        [
            *_uv(), "pip", "install", "--quiet", "--require-hashes", "--no-deps",
            "--only-binary", ":all:", "--python", sys.executable, "--python-version", python,
            "--python-platform", f"{_ARCHES[arch]}-manylinux_{glibc}", "--link-mode", "copy",
            "--target", str(target), "--requirements", str(ROOT / "requirements" / lock),
        ]
    )  # fmt: skip


def _compile(folder: Path, python: str) -> None:
    """Compile every module beside itself, if a Python of the version is installed here."""
    found = subprocess.run(  # noqa: PLW1510, S603 - its status is looked at
        [*_uv(), "python", "find", "--no-python-downloads", "--no-project", "--system", python],
        capture_output=True, text=True,
    )  # fmt: skip
    if found.returncode:
        _say(f"byte code is left out: it needs a Python {python} here. Cold starts are slower.")
        return
    _run(
        [found.stdout.strip(), "-S", "-c", _COMPILE],
        cwd=folder,
        env={"PATH": os.defpath, "PYTHONHASHSEED": "0"},  # sets are written in one order
        input="".join(
            f"{inside}\n" for inside, file in sorted(_files(folder)) if file.suffix == ".py"
        ),
    )


def _install_native(folder: Path, arch: str) -> tuple[Path | None, str]:
    """Return the folder with the core, or None and why there is none."""
    triple = f"{_ARCHES[arch]}-unknown-linux-gnu"
    maturin = _tool("maturin")
    if maturin is None or shutil.which("cargo") is None:
        return None, "it needs Rust and maturin"
    if subprocess.run([sys.executable, "-m", "ziglang", "version"], capture_output=True).returncode:  # noqa: PLW1510 - its status is the answer
        return None, "it needs zig (pip install ziglang)"
    libraries = subprocess.run(  # noqa: PLW1510, S603 - its status is looked at
        [shutil.which("rustc") or "rustc", "--print", "target-libdir", "--target", triple],
        capture_output=True, text=True, cwd=ROOT / "native",
    )  # fmt: skip
    if libraries.returncode or not Path(libraries.stdout.strip()).is_dir():
        return None, f"it needs `rustup target add {triple}`"
    wheels = folder.with_name("wheels")
    _run(
        [
            maturin, "build", "--quiet", "--release", "--locked", "--zig",
            "--compatibility", "manylinux2014", "--target", triple, "--out", str(wheels),
        ],
        cwd=ROOT / "native" / "python",
        env={
            **os.environ,
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            # where the sources lie is not to be in the library
            "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(
                (
                    f"--remap-path-prefix={ROOT}=/noob-cloud",
                    f"--remap-path-prefix={Path.home()}=/home",
                )
            ),
        },
    )  # fmt: skip
    (wheel,) = wheels.glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(folder / "python")
    return folder, ""


def _pack(name: str, folder: Path, out: Path) -> Layer:
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.zip"
    written = path.with_suffix(".part")
    unpacked = 0
    with ZipFile(written, "w", ZIP_DEFLATED) as archive:
        for inside, file in sorted(_files(folder)):
            data = file.read_bytes()
            unpacked += len(data)
            entry = ZipInfo(inside, _EPOCH)
            entry.create_system = 3  # Unix, wherever it is built: the modes are Unix's
            entry.external_attr = (0o100755 if os.access(file, os.X_OK) else 0o100644) << 16
            entry.compress_type = ZIP_DEFLATED
            archive.writestr(entry, data)
    return Layer(name, written.replace(path), unpacked)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield what belongs into the archive: no tests, stubs, or notes of an installer."""
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        package = inside.parts[1:-1]
        if not path.is_file() or path.suffix in {".pyi", ".lock"}:
            continue
        if {"tests", "sboms"} & set(package):  # a bill of materials is dated
            continue
        if package[:1] == ("bin",) and path.name not in _PROGRAMS:
            continue
        if package[:1] and package[0].endswith(".dist-info") and path.name in _VARYING:
            continue
        yield inside.as_posix(), path


# ---- programs


def _uv() -> list[str]:
    found = _tool("uv")
    if found is None:
        raise BuildError("uv installs what layers hold: pip install uv")
    return [found]


def _tool(name: str) -> str | None:
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def _run(words: Sequence[str], **options: object) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload] # noqa: S603 - words of our own
    if done.returncode:
        raise BuildError(f"{' '.join(words[:3])} failed:\n{done.stderr.strip()}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Build what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description="Build the layers of Lambda and of containers.")
    here = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"
    parser.add_argument("--arch", choices=[*_ARCHES], action="append", help="default: both")
    parser.add_argument("--python", default=PYTHON, help="default %(default)s")
    parser.add_argument("--out", type=Path, help="default: dist/layers")
    options = parser.parse_args(argv)
    try:
        for arch in options.arch or sorted(_ARCHES, key=lambda each: each != here):
            build(arch, python=options.python, out=options.out)
    except BuildError as error:
        _say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
