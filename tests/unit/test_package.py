"""A user's project as one archive."""

from __future__ import annotations

import json
import os
from pathlib import Path
from zipfile import ZipFile

import pytest

from noob_cloud.exceptions import PackError
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
