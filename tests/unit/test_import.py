"""What importing noob-cloud loads, and what it leaves for later."""

from __future__ import annotations

import subprocess
import sys

import pytest

import noob_cloud
from noob_cloud import runner

HEAVY = ("fastapi", "httpx", "boto3", "numpy", "distributed", "typer", "rich", "uvicorn", "web3")


@pytest.mark.parametrize(
    ("imported", "left_out"),
    [
        ("noob_cloud", (*HEAVY, "noob", "pydantic", "sqlite3", "msgspec")),
        ("noob_cloud.task, noob_cloud.exceptions, noob_cloud.cid", (*HEAVY, "noob", "pydantic")),
        ("noob_cloud.codec, noob_cloud.blobs, noob_cloud.identity", (*HEAVY, "noob", "pydantic")),
        ("noob_cloud.queue", (*HEAVY, "noob", "pydantic")),
        ("noob_cloud.runner, noob_cloud.executors, noob_cloud.tubes", HEAVY),
        ("noob_cloud.worker.claim, noob_cloud.worker.slots", (*HEAVY, "structlog", "pygments")),
    ],
)
def test_import_leaves_out_what_is_not_used(imported: str, left_out: tuple[str, ...]) -> None:
    """A module costs what it needs, and no more."""
    script = f"import {imported}, sys; print(*[m for m in {left_out!r} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == []


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that the package does not have is refused as Python does it."""
    for module in (noob_cloud, runner):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            module.nothing  # noqa: B018 - asking is the test


@pytest.mark.parametrize("name", ["noob_cloud", "noob_cloud.runner", "noob_cloud.executors"])
def test_every_public_name_can_be_had(name: str) -> None:
    """What `__all__` promises is there."""
    script = f"import {name} as m; [getattr(m, n) for n in m.__all__]"
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)
