"""A user's project as one archive."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from noob_cloud.exceptions import PackError
from noob_cloud.serverless import package
from noob_cloud.serverless.package import pack

LAYER = Path(__file__).parents[2] / "requirements" / "layer.txt"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    package = folder / "pictures"
    (package / "parts").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / ".secret").mkdir()
    (package / "__init__.py").write_text("")
    (package / "nodes.py").write_text("def double(value):\n    return value * 2\n")
    (package / "parts" / "table.csv").write_text("1,2\n")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "nodes.cpython-311.pyc").write_bytes(b"x")
    (folder / "tests" / "test_nodes.py").write_text("")
    (folder / ".secret" / "key.py").write_text("")
    (folder / "single.py").write_text("")
    (folder / "tube.yaml").write_text("{}")
    (folder / "README.md").write_text("")
    return folder


def names(path: Path) -> list[str]:
    with ZipFile(path) as archive:
        return archive.namelist()


def test_what_is_packed(project: Path, tmp_path: Path) -> None:
    """Packages, modules and tubes are packed; tests, caches and hidden files are not."""
    packed = pack(project, tmp_path / "out", arch="x86_64")

    assert names(packed.path) == [
        "noob-cloud-code.json",
        "pictures/__init__.py",
        "pictures/nodes.py",
        "pictures/parts/table.csv",
        "single.py",
        "tube.yaml",
    ]
    assert packed.modules == ("pictures", "single")


def test_same_project_same_bytes(project: Path, tmp_path: Path) -> None:
    """The archive does not depend on times, and its cid not on the architecture."""
    one = pack(project, tmp_path / "one", arch="x86_64")
    os.utime(project / "single.py", (1, 1))
    two = pack(project, tmp_path / "two", arch="x86_64")
    arm = pack(project, tmp_path / "arm", arch="arm64")

    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.cid == two.cid == arm.cid


def test_other_code_other_cid(project: Path, tmp_path: Path) -> None:
    """A change in any file that is packed changes the cid; one in others does not."""
    before = pack(project, tmp_path / "out", arch="arm64").cid
    (project / "README.md").write_text("more")
    assert pack(project, tmp_path / "out", arch="arm64").cid == before

    (project / "pictures" / "parts" / "table.csv").write_text("1,3\n")
    assert pack(project, tmp_path / "out", arch="arm64").cid != before


def test_further_modules_are_allowed(project: Path, tmp_path: Path) -> None:
    """`[tool.noob-cloud] modules` names further modules that tubes may use."""
    (project / "pyproject.toml").write_text('[tool.noob-cloud]\nmodules = ["json"]\n')
    (project / "requirements.txt").write_text("# nothing\n")

    packed = pack(project, tmp_path / "out", arch="x86_64")

    with ZipFile(packed.path) as archive:
        told = json.loads(archive.read("noob-cloud-code.json"))
    assert told == {
        "cid": packed.cid,
        "modules": ["pictures", "single", "json"],
        "requirements": [],
    }


def test_src_layout(project: Path, tmp_path: Path) -> None:
    """Of a project with `src/` only what is in there is packed."""
    (project / "src" / "inner").mkdir(parents=True)
    (project / "src" / "inner" / "__init__.py").write_text("")

    assert pack(project, tmp_path / "out", arch="x86_64").modules == ("inner",)


def test_nothing_to_pack(tmp_path: Path) -> None:
    """A folder without code, and one that is not there, are said to be so."""
    with pytest.raises(PackError, match="has no Python code"):
        pack(tmp_path, tmp_path / "out", arch="x86_64")
    with pytest.raises(PackError, match="There is no folder"):
        pack(tmp_path / "absent", tmp_path / "out", arch="x86_64")
    with pytest.raises(PackError, match="'mips' is no architecture"):
        pack(tmp_path, tmp_path / "out", arch="mips")


def test_links_stay_in_the_project(project: Path, tmp_path: Path) -> None:
    """What lies elsewhere on this machine is not packed, nor a folder within itself."""
    link = project / "pictures" / "link"
    (tmp_path / "elsewhere.txt").write_text("of no project")
    for target, said in {
        tmp_path / "elsewhere.txt": "only files of the project",
        tmp_path: "only files of the project",
        Path("nowhere"): "only files of the project",
        Path(): "in which it lies itself",
    }.items():
        link.symlink_to(target)
        with pytest.raises(PackError, match=said):
            pack(project, tmp_path / "out", arch="x86_64")
        link.unlink()
    link.symlink_to("parts")

    assert "pictures/link/table.csv" in names(pack(project, tmp_path / "out", arch="x86_64").path)


def test_what_is_no_file_is_not_packed(project: Path, tmp_path: Path) -> None:
    """A pipe would be read for ever."""
    os.mkfifo(project / "pictures" / "pipe")

    assert "pictures/pipe" not in names(pack(project, tmp_path / "out", arch="x86_64").path)


def test_a_name_that_is_no_text(project: Path, tmp_path: Path) -> None:
    (project / "pictures" / "\udcff.txt").write_text("")

    with pytest.raises(PackError, match="a name that no archive holds"):
        pack(project, tmp_path / "out", arch="x86_64")


def test_what_is_too_large_is_not_read(project: Path, tmp_path: Path) -> None:
    with (project / "pictures" / "film.bin").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(PackError, match="Lambda takes 250 MB"):
        pack(project, tmp_path / "out", arch="x86_64")


def test_a_file_that_changes_while_it_is_packed(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cid would not be that of what is in the archive."""
    write = package._write

    def late(*words: Any) -> Any:
        (project / "single.py").write_text("changed = True")
        return write(*words)

    monkeypatch.setattr(package, "_write", late)
    with pytest.raises(PackError, match=r"single\.py changed while it was packed"):
        pack(project, tmp_path / "out", arch="x86_64")
    assert not (tmp_path / "out" / "code-x86_64.zip").exists()


def test_modules_of_the_worker_are_not_hidden(project: Path, tmp_path: Path) -> None:
    (project / "handler.py").write_text("")

    with pytest.raises(PackError, match="a module handler, as the worker itself has"):
        pack(project, tmp_path / "out", arch="x86_64")


@pytest.mark.parametrize("table", ['noob-cloud = "x"', 'noob-cloud.modules = "json"'])
def test_further_modules_are_a_list(project: Path, tmp_path: Path, table: str) -> None:
    (project / "pyproject.toml").write_text(f"[tool]\n{table}\n")

    with pytest.raises(PackError, match="modules is a list of names"):
        pack(project, tmp_path / "out", arch="x86_64")


def wheel_of(folder: Path, name: str) -> Path:
    """A wheel of one module."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def test_wheels_by_their_url(project: Path, tmp_path: Path) -> None:
    """A requirement may be the URL of a wheel; its bytes say what it is."""
    wheel = wheel_of(tmp_path / "wheels", "linked")
    (project / "requirements.txt").write_text(f"linked @ {wheel.as_uri()}\n")

    packed = pack(project, tmp_path / "out", arch="x86_64")

    made = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert packed.requirements == (f"linked @ sha256:{made}",)
    assert "linked.py" in names(packed.path)


def test_wheels_of_an_index_of_ones_own(project: Path, tmp_path: Path) -> None:
    """Where the requirements say that releases are is where they are installed from."""
    wheel_of(tmp_path / "wheels", "indexed")
    (project / "requirements.txt").write_text(
        f"--no-index\n--find-links {tmp_path / 'wheels'}\nindexed\n"
    )

    packed = pack(project, tmp_path / "out", arch="x86_64")

    assert packed.requirements == ("indexed==1.0",)
    assert "indexed.py" in names(packed.path)


@pytest.mark.parametrize("how", ["", "-e "])
def test_folders_are_no_requirements(project: Path, tmp_path: Path, how: str) -> None:
    """What is not packed is said, and does not fail in the cloud."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "pyproject.toml").write_text('[project]\nname = "library"\nversion = "1"\n')
    (project / "requirements.txt").write_text(f"{how}{library}\n")

    with pytest.raises(PackError, match="neither a release nor a wheel"):
        pack(project, tmp_path / "out", arch="x86_64")


@pytest.mark.slow
def test_requirements_for_another_platform(project: Path, tmp_path: Path) -> None:
    """What the layer lacks is packed in the platform's wheels; the rest is not."""
    (project / "requirements.txt").write_text("noob-cloud\nhumanize==4.12.1\nnumpy\npillow\n")

    packed = pack(project, tmp_path / "out", arch="arm64", python="3.13", layer=LAYER)

    assert [pin.partition("==")[0] for pin in packed.requirements] == ["humanize", "pillow"]
    found = names(packed.path)
    assert "humanize/__init__.py" in found
    assert any(name.endswith("313-aarch64-linux-gnu.so") for name in found)
    assert not any(name.startswith(("numpy/", "noob_cloud/")) for name in found)


@pytest.mark.slow
def test_requirement_that_is_not_there(project: Path, tmp_path: Path) -> None:
    """What cannot be resolved is said in the installer's words."""
    (project / "requirements.txt").write_text("numpy==0.0.1\n")

    with pytest.raises(PackError, match="What the project needs cannot be had"):
        pack(project, tmp_path / "out", arch="x86_64", layer=LAYER)
