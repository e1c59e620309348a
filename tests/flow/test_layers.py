"""The archives of the layers: the same bytes each time, and whole."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
ARCH = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ENTRIES = """
import sys
for name in ("noob_cloud.runner.worker_server", "noob_cloud.coordinator.__main__", "noob", "boto3",
             "noob_cloud.serverless.coordinator", "noob_cloud.serverless.submit", "handler",
             "noob_cloud.serverless.web", "noob_cloud.deployment", "noob_cloud.signing"):
    __import__(name)
    path = sys.modules[name].__file__
    assert path.startswith(("FOLDER/python", "FOLDER/task")), path
import handler
handler._worker.prepare()
from noob_cloud import native
print(native.core is not None)
"""


@pytest.fixture(scope="module")
def layers() -> Any:
    """The script, as a module."""
    spec = spec_from_file_location("noob_cloud_layers_build", ROOT / "layers" / "build.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def built(layers: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The layers of this machine's Python and architecture."""
    return layers.build(ARCH, python=PYTHON, out=tmp_path_factory.mktemp("built"))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
def test_import_from_a_bare_folder(built: list[Path], tmp_path: Path) -> None:
    """Everything that functions and containers run is there, with nothing of this machine's."""
    folder = tmp_path / "opt"
    for path in built:
        with ZipFile(path) as archive:
            archive.extractall(folder)
    shutil.copytree(ROOT / "functions" / "worker", folder / "task")
    code = ENTRIES.replace("FOLDER", str(folder))
    start = f"import sys; sys.path[:0] = ['{folder}/task', '{folder}/python']\n"

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", start + code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": os.defpath, "HOME": "/absent", "TMPDIR": str(tmp_path)},
    )

    assert done.returncode == 0, done.stderr
    with_core = any(path.name.startswith("native") for path in built)
    assert done.stdout.split()[-1] == str(with_core)


@pytest.mark.slow
def test_same_sources_same_bytes(layers: Any, built: list[Path], tmp_path: Path) -> None:
    """What is built again has the same bytes: nothing in it depends on when or where."""
    again = layers.build(ARCH, python=PYTHON, out=tmp_path)

    assert [digest(path) for path in again] == [digest(path) for path in built]


@pytest.mark.slow
def test_what_is_inside(layers: Any, built: list[Path]) -> None:
    """All lies under python/, compiled, without tests and notes; modes and times are fixed.

    Byte code is never held against its source: both have the same fixed time wherever they lie.
    """
    unpacked = 0
    for path in built:
        with ZipFile(path) as archive:
            entries = archive.infolist()
        unpacked += sum(entry.file_size for entry in entries)
        names = [entry.filename for entry in entries]
        assert names == sorted(names)
        assert all(name.startswith("python/") for name in names)
        assert not any(name.endswith(("/RECORD", "/INSTALLER")) for name in names)
        compiled = [name for name in names if name.endswith(".pyc")]
        assert compiled or path.name.startswith("native")
        with ZipFile(path) as archive:
            for name in compiled:
                assert archive.read(name)[4:8] == (0b01).to_bytes(4, "little")  # PEP 552
        assert not any("/tests/" in name for name in names)
        assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.external_attr >> 16 for entry in entries} <= {0o100644, 0o100755}
    assert unpacked < layers.LIMIT


def test_unknown_architecture(layers: Any, tmp_path: Path) -> None:
    """Another architecture than Lambda's is refused by its name."""
    with pytest.raises(layers.BuildError, match="'riscv64' is no architecture of Lambda"):
        layers.build("riscv64", out=tmp_path)


@pytest.mark.slow
def test_layers_over_the_limit(
    layers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Layers that Lambda would refuse are an error that says how large they are."""
    monkeypatch.setattr(layers, "LIMIT", 50 << 20)

    with pytest.raises(layers.BuildError, match=r"hold \d+\.\d MB; Lambda takes 50 MB"):
        layers.build(ARCH, python=PYTHON, out=tmp_path)


@pytest.mark.slow
def test_the_listener_runs_on_its_layers(layers: Any, built: list[Path], tmp_path: Path) -> None:
    """What the chain's listener imports, and Keccak, are in `runtime` and `chain`."""
    folder, task = tmp_path / "opt", tmp_path / "task"
    chain = layers.build_chain(ARCH, python=PYTHON, out=tmp_path / "built")
    for archive in (built[0], chain):
        with ZipFile(archive) as opened:
            opened.extractall(folder)
    shutil.copytree(ROOT / "functions" / "chain_listener", task)
    script = (
        "import handler; from noob_cloud.blockchain.contract import coordinator_abi;"
        "print(len(coordinator_abi().events) > 5)"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path[:0] = {[str(task), str(folder / 'python')]!r}; {script}",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.stdout.split() == ["True"], done.stderr
