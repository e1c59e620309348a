"""Stacks synthesized once a session: jsii is slow."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile, ZipInfo

import pytest

os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1")
os.environ.setdefault("JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION", "1")
pytest.importorskip("aws_cdk")
if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_cdk.assertions import Template

ROOT = Path(__file__).resolve().parents[2]
FULL = {"name": "test", "observe.email": "somebody@example.com"}


@pytest.fixture(scope="session")
def assets_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layers that are there already, and small."""
    folder = tmp_path_factory.mktemp("assets")
    (folder / "layers").mkdir()
    for kind in ("runtime", "native"):
        for architecture in ("arm64", "x86_64"):
            path = folder / "layers" / f"{kind}-{architecture}.zip"
            with ZipFile(path, "w") as archive:
                archive.writestr(ZipInfo(f"python/{kind}.txt"), architecture)
    return folder


@pytest.fixture(scope="session")
def synthesize(assets_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return what composes an app from settings, and returns its stacks by their part."""
    from aws_cdk import App, Stack  # noqa: PLC0415 - loads jsii

    from infra.app import compose  # noqa: PLC0415 - see above
    from infra.settings import read  # noqa: PLC0415 - see above

    context = json.loads((ROOT / "cdk.json").read_text())["context"]

    def synthesize(**told: Any) -> dict[str, Stack]:
        settings = read({"assets_dir": str(assets_dir), **told}, folder=ROOT)
        app = App(context=context, outdir=str(tmp_path_factory.mktemp("cdk")))
        compose(app, settings)
        stacks = [each for each in app.node.children if isinstance(each, Stack)]
        return {each.stack_name.removeprefix(f"{settings.name}-"): each for each in stacks}

    return synthesize


@pytest.fixture(scope="session")
def stacks(synthesize: Callable[..., Any]) -> dict[str, Any]:
    """Every stack of a deployment as it is by default, with a pool of GPUs."""
    return synthesize(**FULL)


@pytest.fixture(scope="session")
def templates(stacks: dict[str, Any]) -> dict[str, Template]:
    """Their templates."""
    from aws_cdk.assertions import Template  # noqa: PLC0415 - loads jsii

    return {part: Template.from_stack(stack) for part, stack in stacks.items()}
