"""A pytest fixture: all stacks of noob-cloud on an emulated cloud, for a session's tests.

    pytest_plugins = ["noob_cloud.testing.stack"]       # in conftest.py

    def test_run(noob_cloud_stack):
        with ServerlessExecutor(noob_cloud_stack.name) as executor:
            ...

Where the tests run in `noob-cloud dev --exec -- pytest`, it is that cloud; else it is started for
them, once, which takes half a minute.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Stack", "noob_cloud_stack"]


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployment on an emulated cloud; the environment of the tests names it."""

    name: str
    """What it was deployed as: `Deployment.find(stack.name)`, `ServerlessExecutor(stack.name)`."""
    url: str
    """Of the emulated cloud: `AWS_ENDPOINT_URL`."""
    cloud: Any = None
    """The `localdev.LocalCloud`, to break things with; None where `noob-cloud dev` started it."""


@pytest.fixture(scope="session")
def noob_cloud_stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """All stacks, deployed; with the code of the project in which the tests lie, if it is one."""
    name, url = os.environ.get("NOOB_CLOUD_DEPLOYMENT"), os.environ.get("AWS_ENDPOINT_URL")
    if name and url:
        yield Stack(name, url)
        return
    from noob_cloud.cli.dev import deployment_name, local_cloud  # noqa: PLC0415 - only here

    root = request.config.rootpath
    settings = {"project": str(root)} if (root / "noob-cloud.toml").exists() else {}
    name = deployment_name(settings)
    folder = tmp_path_factory.mktemp("noob-cloud") / "cloud"
    with local_cloud().LocalCloud(folder) as cloud, pytest.MonkeyPatch.context() as patch:
        cloud.deploy(context={**settings, "name": name})
        cloud.wait_for_coordinator(name)
        for key, value in cloud.environment.items():
            patch.setenv(key, value)
        patch.setenv("NOOB_CLOUD_DEPLOYMENT", name)
        yield Stack(name, cloud.url, cloud)
