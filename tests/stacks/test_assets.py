"""Layers are built when they are missing, and again when they are old."""

from __future__ import annotations

from types import SimpleNamespace
from zipfile import ZipFile

import pytest

from infra import assets as module
from infra.assets import Assets, AssetsError
from infra.settings import read


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A kit of a few files, and how often its layers were built."""
    (tmp_path / "layers").mkdir()
    (tmp_path / "layers" / "source.py").write_text("1")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    built = []

    def build(architecture, *, python, out):
        built.append((architecture, python))
        out.mkdir(parents=True, exist_ok=True)
        (out / f"runtime-{architecture}.zip").write_bytes(b"")

    def layers(**told):
        found = Assets(read(told, folder=tmp_path), tmp_path)
        found.__dict__["_builder"] = SimpleNamespace(build=build, BuildError=RuntimeError)
        return found.layers("arm64")

    return SimpleNamespace(folder=tmp_path, built=built, layers=layers)


def test_layers_are_built_once(made):
    """What is there is used again."""
    assert [*made.layers()] == [*made.layers()] == ["runtime"]
    assert made.built == [("arm64", "3.13")]


def test_layers_of_other_sources_are_built_again(made):
    """New sources, or another Python, are never deployed as the old archive."""
    made.layers()
    (made.folder / "layers" / "source.py").write_text("2")
    made.layers()
    made.layers(python="3.12")

    assert [python for _, python in made.built] == ["3.13", "3.13", "3.12"]


def test_layers_of_somebody_else_are_taken(made):
    """An archive that was put there is not replaced."""
    folder = made.folder / "dist" / "layers"
    folder.mkdir(parents=True)
    for kind in ("runtime", "native"):
        (folder / f"{kind}-arm64.zip").write_bytes(b"")

    assert [*made.layers()] == ["runtime", "native"]
    assert made.built == []


def test_what_cannot_be_built_is_said(tmp_path):
    """The builder's own sentence reaches who deploys."""

    def build(*_, **__):
        raise RuntimeError("uv installs what layers hold: pip install uv")

    found = Assets(read({"assets_dir": str(tmp_path)}, folder=tmp_path), tmp_path)
    found.__dict__["_builder"] = SimpleNamespace(build=build, BuildError=RuntimeError)

    with pytest.raises(AssetsError, match="pip install uv"):
        found.layers("arm64")


def test_the_builder_is_found(tmp_path):
    """The program that builds layers is loaded from its file, since `layers` is no package."""
    with pytest.raises(AssetsError, match="no architecture of Lambda"):
        Assets(read({"assets_dir": str(tmp_path)}, folder=tmp_path), tmp_path).layers("m68k")


def test_the_users_code_goes_with_the_worker(tmp_path):
    """The project lies beside our handler."""
    project = tmp_path / "mine"
    project.mkdir()
    (project / "mine.py").write_text("def f(): ...")
    found = Assets(read({"project": "mine"}, folder=tmp_path), tmp_path / "out")

    code = found.code("arm64")

    assert code is not None
    assert found.code_environment == {"NOOB_CLOUD_CODE": code.cid}
    with ZipFile(found.worker("arm64")) as archive:
        assert {"mine.py", "handler.py"} <= set(archive.namelist())


def test_a_project_cannot_replace_our_handler(tmp_path):
    """A module of the project that is called as ours is refused by its name."""
    project = tmp_path / "mine"
    project.mkdir()
    (project / "handler.py").write_text("raise SystemExit")
    found = Assets(read({"project": "mine"}, folder=tmp_path), tmp_path / "out")

    with pytest.raises(AssetsError, match="has a module handler"):
        found.code("arm64")


def test_the_layer_of_the_chain_is_taken_as_it_is(tmp_path):
    """A layer that somebody else put there is not built again."""
    (tmp_path / "layers").mkdir()
    made = tmp_path / "layers" / "chain-arm64.zip"
    made.write_bytes(b"theirs")
    found = Assets(read({"assets_dir": str(tmp_path)}, folder=tmp_path), tmp_path / "out")

    assert found.chain_layer("arm64") == made
    assert made.read_bytes() == b"theirs"


def test_a_project_without_code_is_said(tmp_path):
    """What cannot be packed is one sentence."""
    (tmp_path / "empty").mkdir()
    found = Assets(read({"project": "empty"}, folder=tmp_path), tmp_path / "out")

    with pytest.raises(AssetsError, match="has no Python code"):
        found.code("arm64")
