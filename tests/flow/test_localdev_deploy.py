"""All stacks by the CDK's command line on the local cloud: deploy, use, break, update, destroy."""

from __future__ import annotations

import importlib
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("moto.server")
pytest.importorskip("awslambdaric")
pytest.importorskip("aws_cdk")

from localdev.local import ROOT, LocalCloud

from .localdev_stacks import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc"),
    pytest.mark.skipif(shutil.which("node") is None, reason="the CDK needs Node.js"),
    pytest.mark.skipif(
        not (ROOT / "node_modules" / "aws-cdk").exists() and shutil.which("cdk") is None,
        reason="npm ci installs the CDK's command line",
    ),
    pytest.mark.timeout(600),  # it deploys twice
]
SHAPES = '''
"""Shapes, for a test."""

VERSION = {version}


def area(width: int, height: int = 2) -> int:
    return VERSION * width * height
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "src" / "localdev_shapes").mkdir(parents=True)
    (folder / "noob-cloud.toml").write_text(
        textwrap.dedent(
            """
            [[pools]]
            kind = "lambda"
            sizes = [1024]
            max_workers = 2

            [[pools]]
            kind = "fargate"
            max_workers = 1

            [[pools]]
            kind = "ec2"
            max_workers = 1
            """
        )
    )
    _write(folder, version=1)
    return folder


def _write(folder: Path, *, version: int) -> None:
    module = folder / "src" / "localdev_shapes" / "__init__.py"
    module.write_text(SHAPES.format(version=version))


@pytest.fixture(scope="module")
def cloud(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    folder = tmp_path_factory.mktemp("localdev")
    with LocalCloud(folder / "cloud") as cloud, pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        patch.syspath_prepend(str(project / "src"))
        cloud.deploy(context={"project": str(project)})
        cloud.wait_for_coordinator()
        yield cloud


def _shapes() -> Any:
    sys.modules.pop("localdev_shapes", None)
    importlib.invalidate_caches()
    return importlib.import_module("localdev_shapes")


def _live(cloud: LocalCloud) -> str:
    """The version behind the alias that the coordinator wakes."""
    alias = cloud.client("lambda").get_alias(FunctionName="noob-cloud-lambda-1024", Name="live")
    version: str = alias["FunctionVersion"]
    return version


def test_all_stacks(cloud: LocalCloud, project: Path) -> None:
    """Tasks of a user's own code run on what was deployed, through the loss of the coordinator.

    Deployed again with other code, the functions' alias points at it, and results are its own.
    The other stacks can be destroyed, and leave the storage.
    """
    from noob_cloud.executors import ServerlessExecutor  # noqa: PLC0415 - loads much

    shapes = _shapes()
    with ServerlessExecutor("noob-cloud") as executor:
        assert executor.submit(shapes.area, 3).result(timeout=60) == 6
        assert list(executor.map(shapes.area, range(20), timeout=60)) == [2 * n for n in range(20)]
    assert {each["name"] for each in cloud.status()["functions"]} >= {"noob-cloud-lambda-1024"}

    with ServerlessExecutor("noob-cloud", required_tags=["gpu"]) as executor:
        assert executor.submit(shapes.area, 5).result(timeout=90) == 10
        assert cloud.service("gpu")["desired"] == 1

    with ServerlessExecutor("noob-cloud") as executor:
        futures = [executor.submit(shapes.area, n) for n in range(50)]
        assert cloud.kill_service("coordinator") == 1
        assert [future.result(timeout=90) for future in futures] == [2 * n for n in range(50)]

    before = _live(cloud)
    _write(project, version=10)
    cloud.deploy(context={"project": str(project)})
    assert _live(cloud) != before
    cloud.wait_for_coordinator()
    with ServerlessExecutor("noob-cloud") as executor:
        found = list(executor.map(_shapes().area, range(8), timeout=90))
    assert found == [20 * n for n in range(8)]
    with ServerlessExecutor("noob-cloud", required_tags=["gpu"]) as executor:
        assert executor.submit(_shapes().area, 5).result(timeout=90) == 100

    parts = [
        f"noob-cloud-{part}" for part in ("observe", "events", "gpu", "workers", "coordinator")
    ]
    cloud.destroy(parts, context={"project": str(project)})
    until(lambda: not cloud.status()["functions"] and not cloud.status()["services"])
    left = cloud.client("cloudformation").describe_stacks()["Stacks"]
    assert [stack["StackName"] for stack in left] == ["noob-cloud-storage"]
