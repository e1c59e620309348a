"""Stacks synthesized once a session: jsii is slow."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile, ZipInfo

import pytest

os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1")
if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_cdk.assertions import Template

ROOT = Path(__file__).resolve().parents[2]
MAPPING = """
[[on]]
s3 = "inbox/pictures/"
tube = "tiles.yaml"

[[on]]
schedule = "rate(1 hour)"
tube = "tiles.yaml"

[[on]]
event = { source = ["my.app"] }
tube = "tiles.yaml"
"""
POOLS = json.dumps(
    [
        {"kind": "lambda", "sizes": [1024, 4096]},
        {"kind": "fargate", "on_demand_base": 1, "max_workers": 20},
        {"kind": "ec2", "max_workers": 4},
    ]
)

CHAIN = json.dumps(
    {
        "network": "sepolia",
        "contract": "0x" + "ab" * 20,
        "rpc_secret": "chain/sepolia",
        "from_block": 7_000_000,
    }
)


@pytest.fixture(scope="session")
def assets_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layers that are there already, and small."""
    folder = tmp_path_factory.mktemp("assets")
    (folder / "layers").mkdir()
    for kind in ("runtime", "native", "chain"):
        for architecture in ("arm64", "x86_64"):
            path = folder / "layers" / f"{kind}-{architecture}.zip"
            with ZipFile(path, "w") as archive:
                archive.writestr(ZipInfo(f"python/{kind}.txt"), architecture)
    return folder


@pytest.fixture(scope="session")
def synthesize(assets_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return what composes an app from context, and returns its stacks by their part."""
    if shutil.which("node") is None:
        pytest.skip("the CDK needs Node.js")
    cdk = pytest.importorskip("aws_cdk")
    from infra.app import compose  # noqa: PLC0415 - loads jsii
    from infra.settings import read  # noqa: PLC0415 - see above

    context = json.loads((ROOT / "cdk.json").read_text())["context"]

    def synthesize(*, nag: bool = False, **told: str) -> dict[str, Any]:
        named = {key.replace("__", "."): value for key, value in told.items()}
        settings = read({"assets_dir": str(assets_dir), **named}, folder=ROOT)
        app = cdk.App(context=context, outdir=str(tmp_path_factory.mktemp("cdk")))
        compose(app, settings)
        if nag:
            from cdk_nag import AwsSolutionsChecks  # noqa: PLC0415 - loads jsii

            cdk.Aspects.of(app).add(AwsSolutionsChecks())
        stacks = [each for each in app.node.children if isinstance(each, cdk.Stack)]
        return {each.stack_name.removeprefix(f"{settings.name}-"): each for each in stacks}

    return synthesize


@pytest.fixture(scope="session")
def stacks(
    synthesize: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Every stack of a deployment called `test`, looked at by cdk-nag."""
    mapping = tmp_path_factory.mktemp("project") / "events.toml"
    mapping.write_text(MAPPING)
    mapping.with_name("tiles.yaml").write_text("noob_id: tiles")
    return synthesize(
        nag=True,
        name="test",
        pools=POOLS,
        events__mapping=str(mapping),
        observe__email="somebody@example.com",
        chain=CHAIN,
        tags='{"team": "pictures"}',
    )


@pytest.fixture(scope="session")
def templates(stacks: dict[str, Any]) -> dict[str, Template]:
    """Their templates."""
    from aws_cdk.assertions import Template  # noqa: PLC0415 - loads jsii

    return {part: Template.from_stack(stack) for part, stack in stacks.items()}


@pytest.fixture(scope="session")
def documents(templates: dict[str, Template]) -> dict[str, dict[str, Any]]:
    """Their templates as CloudFormation reads them."""
    return {part: template.to_json() for part, template in templates.items()}


@pytest.fixture(scope="session")
def private(synthesize: Callable[..., Any]) -> dict[str, Any]:
    """A deployment in a private network, which is destroyed with all it has, in documents."""
    from aws_cdk.assertions import Template  # noqa: PLC0415 - loads jsii

    image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/python@sha256:" + "0" * 64
    found = synthesize(
        name="private",
        network__mode="private",
        network__flow_logs="true",
        removal_policy="destroy",
        python="3.11",
        storage__inputs_days="30",
        events__concurrency="3",
        worker_policies='["arn:aws:iam::123456789012:policy/pictures"]',
        coordinator__image=image,
        pools=json.dumps(
            [
                {"kind": "lambda", "sizes": [2048], "concurrency": 5},
                {"kind": "fargate", "spot": False, "image": image},
            ]
        ),
    )
    return {part: Template.from_stack(stack).to_json() for part, stack in found.items()}
