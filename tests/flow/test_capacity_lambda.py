"""Lambdas come for what waits, climb when they are killed, and end, on the emulated cloud."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from coordinator_processes import OWNER, TUBES, coordinator, log, until
from localdev.local import LocalCloud

from noob_cloud.tubes import TubeSource

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
NODES = "noob_cloud_testnodes."
BEARER = {"Authorization": f"Bearer {OWNER}"}
NEEDS = """
def fill(value: int, mib: int) -> int:
    held = bytearray(mib << 20)
    held[:: 4096] = b"x" * len(held[:: 4096])
    return value
"""


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    with LocalCloud(tmp_path / "cloud", concurrency=4) as started:
        for name, value in started.environment.items():
            monkeypatch.setenv(name, value)
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}}
        document = {"Version": "2012-10-17", "Statement": [{**trust, "Action": "sts:AssumeRole"}]}
        boto3.client("iam").create_role(
            RoleName="any", AssumeRolePolicyDocument=json.dumps(document)
        )
        yield started


def function(name: str, memory: int, environment: dict[str, str]) -> None:
    """Deploy the worker function, with this checkout in place of the layers."""
    paths = [str(ROOT / "layers" / "runtime"), *(x for x in sys.path if "site-packages" in x)]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        shim = f"import sys\nsys.path[1:1] = {paths!r}\nfrom handler import handler\n"
        archive.writestr("shim.py", shim)
        archive.writestr("noob_cloud_needs.py", NEEDS)
        for path in (
            ROOT / "functions" / "worker" / "handler.py",
            TUBES / "noob_cloud_testnodes.py",
        ):
            archive.write(path, path.name)
    boto3.client("lambda").create_function(
        FunctionName=name,
        Runtime=f"python3.{sys.version_info.minor}",
        Role="arn:aws:iam::123456789012:role/any",
        Handler="shim.handler",
        Code={"ZipFile": code.getvalue()},
        MemorySize=memory,
        Timeout=60,
        Environment={"Variables": environment},
    )


def test_a_run_on_lambdas_alone(cloud: LocalCloud, tmp_path: Path) -> None:
    """One drives, others work; a node that is killed for memory goes on in the larger function."""
    sizes = {"512": "small", "3008": "large"}
    pool = {"name": "lambda", "kind": "lambda", "sizes": sizes, "max_seconds": 60, "max_workers": 4}
    folder = tmp_path / "coordinator"
    folder.mkdir()
    with coordinator(folder, pools=json.dumps([pool]), lease_seconds=3) as made:
        for memory, name in ((512, "small"), (3008, "large")):
            said = {
                "NOOB_CLOUD_COORDINATOR": made.url,
                "NOOB_CLOUD_TOKEN": OWNER,
                "NOOB_CLOUD_TAGS": f"noob:pool-lambda-{memory}",
                "NOOB_CLOUD_MODULES": "noob_cloud_testnodes,noob_cloud_needs",
            }
            function(name, memory, said)
        nodes: dict[str, Any] = {
            "src": {"type": f"{NODES}counter", "params": {"start": 0, "limit": 100}},
            "light": {"type": f"{NODES}double", "depends": [{"value": "src.index"}]},
            "heavy": {
                "type": "noob_cloud_needs.fill",
                "depends": [{"value": "light.value"}],
                "params": {"mib": 700},
            },
            "out": {"type": "return", "depends": "heavy.value"},
        }
        tube = TubeSource.of({"noob_id": "testing-lambdas", "nodes": nodes})
        with made.client() as client:
            run_id = client.submit_run(
                tube,
                n=4,
                placement={"light": {"timeout": 20}, "heavy": {"timeout": 20, "retries": 5}},
            )
            *_, last = client.watch_run(run_id, timeout=90)
            told = (last, log(made, "coordinator"), cloud.log("small"), cloud.log("large"))
            assert last.status == "completed", told
            assert list(client.run_results(run_id)) == [0, 2, 4, 6]
            tasks = client.queue.list_tasks(run_id=run_id, limit=100, decode=False)
            heavy = [task for task in tasks if "heavy" in task.node_id]
            assert all((task.worker_id or "").startswith("large") for task in heavy)
        found = httpx.get(f"{made.url}/capacity", headers=BEARER).json()
        assert [x["memory"] for x in found["learned"]] == [512.0]
        assert found["money"]["spent"] > 0

        def gone() -> bool:
            now = httpx.get(f"{made.url}/capacity", headers=BEARER).json()["places"]
            return not any(place["alive"] + place["starting"] for place in now)

        until(gone, 40)
