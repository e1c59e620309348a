"""The life of a deployment on LocalStack, from its creation to its end: `-m by_command`.

    pytest -m by_command tests/flow/test_localstack.py       # five minutes

The stacks are deployed once, by the CDK's command line. Functions, queues and events are
LocalStack's; its functions are processes of our plugin, and services those of our agent.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("aws_cdk")

from localdev.local import ROOT
from localdev.localstack.cloud import LocalStackCloud

from noob_cloud.deployment import Deployment
from noob_cloud.executors import ServerlessExecutor

from .localdev_stacks import messages, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from noob_cloud.coordinator.client import CoordinatorClient

pytestmark = [
    pytest.mark.slow,
    pytest.mark.by_command,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc"),
    pytest.mark.skipif(shutil.which("node") is None, reason="the CDK needs Node.js"),
    pytest.mark.skipif(
        not (ROOT / "node_modules" / "aws-cdk").exists() and shutil.which("cdk") is None,
        reason="npm ci installs the CDK's command line",
    ),
    pytest.mark.timeout(600),
]
SETTINGS = """
name = "shapes"
target_seconds = 5.0

[events]
mapping = "events.toml"
retries = 2

[[pools]]
kind = "lambda"
tags = ["function"]
sizes = [1024]
max_workers = 2
timeout_seconds = 30

[[pools]]
kind = "fargate"
tags = ["box"]
max_workers = 1
"""
EVENTS = """
[[on]]
s3 = "inbox/"
tube = "areas.yaml"
n = 5

[[on]]
queue = "again"
tube = "areas.yaml"
n = 3
"""
TUBE = """
noob_id: areas
noob_model: noob.tube.TubeSpecification
noob_version: 1003.0.2
nodes:
  src: {type: localstack_shapes.count}
  area: {type: localstack_shapes.area, depends: [width: src.index]}
  out: {type: return, depends: area.value}
"""
MODULE = '''
"""Areas, and functions that go wrong once."""

import os
import signal
import time
from collections.abc import Generator
from pathlib import Path
from typing import Annotated

from noob import Name

VERSION = {version}


def count() -> Generator[Annotated[int, Name("index")]]:
    index = 0
    while True:
        yield index
        index += 1


def area(width: int) -> int:
    return VERSION * 2 * width


def fragile(width: int, fault: str, folder: str) -> int:
    """The third that comes meets the fault."""
    if width == 3:
        try:
            (Path(folder) / fault).touch(exist_ok=False)
        except FileExistsError:
            return area(width)
        if fault == "crash":
            os.kill(os.getppid(), signal.SIGKILL)
        if fault == "timeout":
            os.kill(os.getppid(), signal.SIGSTOP)
        if fault == "memory":
            held = bytearray(1500 << 20)
            held[::4096] = b"x" * len(held[::4096])
        time.sleep(60)
    return area(width)
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "src").mkdir()
    (folder / "noob-cloud.toml").write_text(SETTINGS)
    (folder / "events.toml").write_text(EVENTS)
    (folder / "areas.yaml").write_text(TUBE)
    _write(folder, version=1)
    return folder


def _write(folder: Path, *, version: int) -> None:
    text = textwrap.dedent(MODULE).replace("{version}", str(version))
    (folder / "src" / "localstack_shapes.py").write_text(text)


def _shapes() -> Any:
    sys.modules.pop("localstack_shapes", None)
    importlib.invalidate_caches()
    return importlib.import_module("localstack_shapes")


@pytest.fixture(scope="module")
def cloud(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStackCloud]:
    folder = tmp_path_factory.mktemp("localstack") / "cloud"
    with LocalStackCloud(folder) as cloud, pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        patch.syspath_prepend(str(project / "src"))
        cloud.deploy(context={"project": str(project)})
        cloud.wait_for_coordinator("shapes")
        yield cloud


@pytest.fixture
def client(cloud: LocalStackCloud) -> Iterator[CoordinatorClient]:
    with Deployment.find("shapes").client(patience=120.0) as made:
        yield made


def _executor(*tags: str, max_retries: int = 3) -> ServerlessExecutor:
    return ServerlessExecutor(
        "shapes", required_tags=tags, timeout_seconds=20, max_retries=max_retries
    )


def _runs(client: CoordinatorClient) -> set[str]:
    return {run.run_id for run in client.runs()}


def _finish(client: CoordinatorClient, run_id: str, n: int, *, version: int = 1) -> None:
    *_, last = client.watch_run(run_id, timeout=120)
    assert last.status == "completed", last
    assert list(client.run_results(run_id)) == [version * 2 * i for i in range(n)]


def test_result(cloud: LocalStackCloud) -> None:
    """A user's function runs on Lambda, and where its tag says on Fargate, to its result."""
    shapes = _shapes()
    with _executor("function") as executor:
        assert executor.submit(shapes.area, 3).result(timeout=60) == 6
        assert list(executor.map(shapes.area, range(20), timeout=60)) == [2 * n for n in range(20)]
    counts = {each["name"]: each for each in cloud.status()["functions"]}
    assert counts["shapes-lambda-1024"]["invocations"] >= 1

    with _executor("box") as executor:
        assert executor.submit(shapes.area, 5).result(timeout=90) == 10
        assert cloud.service("shapes-fargate")["desired"] == 1


def test_object_starts_run(cloud: LocalStackCloud, client: CoordinatorClient) -> None:
    """An object that is put where the mapping says starts one run, with the results of its tube."""
    before = _runs(client)
    bucket = cloud.client("ssm").get_parameter(Name="/noob-cloud/shapes/bucket")["Parameter"]
    for key in ("elsewhere/a.png", "inbox/b.png"):
        cloud.client("s3").put_object(Bucket=bucket["Value"], Key=key, Body=b"x")

    (run_id,) = until(lambda: _runs(client) - before, seconds=60)
    _finish(client, run_id, 5)
    assert _runs(client) - before == {run_id}


def test_poisoned_message(cloud: LocalStackCloud, client: CoordinatorClient) -> None:
    """Of a batch the good messages start their runs, and the bad one is a dead letter."""
    before = _runs(client)
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="shapes-events")["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "3"})
    bodies = [{"on": "again"}, {"on": "nobody"}, {"on": "again"}]
    sqs.send_message_batch(
        QueueUrl=url,
        Entries=[{"Id": str(n), "MessageBody": json.dumps(body)} for n, body in enumerate(bodies)],
    )

    (dead,) = messages(cloud, "shapes-events-dead", 1)
    assert json.loads(dead["Body"]) == {"on": "nobody"}
    begun = until(lambda: len(_runs(client) - before) == 2 and _runs(client) - before)
    for run_id in begun:
        _finish(client, run_id, 3)


@pytest.mark.parametrize("fault", ["crash", "timeout", "memory"])
def test_function_that_dies_at_work(cloud: LocalStackCloud, tmp_path: Path, fault: str) -> None:
    """Its process is killed, is frozen until its time is over, or is full: results are right."""
    fragile = _shapes().fragile
    with _executor("function", max_retries=5) as executor:
        futures = [executor.submit(fragile, n, fault, str(tmp_path)) for n in range(8)]
        assert [future.result(timeout=180) for future in futures] == [2 * n for n in range(8)]
    assert (tmp_path / fault).exists(), "the fault did not happen"


def test_coordinator_lost(cloud: LocalStackCloud) -> None:
    """Killed with its disk, the coordinator comes back from the replica; no task is lost."""
    area = _shapes().area
    with _executor() as executor:
        futures = [executor.submit(area, n) for n in range(30)]
        assert cloud.kill_service("shapes-coordinator") == 1
        assert [future.result(timeout=90) for future in futures] == [2 * n for n in range(30)]


def test_update(cloud: LocalStackCloud, project: Path) -> None:
    """Deployed again with other code, the alias names a new version, and results are its own."""
    client = cloud.client("lambda")

    def live() -> str:
        found = client.get_alias(FunctionName="shapes-lambda-1024", Name="live")
        return str(found["FunctionVersion"])

    before = live()
    _write(project, version=10)
    cloud.deploy(context={"project": str(project)})

    assert live() != before
    cloud.wait_for_coordinator("shapes")
    for tag in ("function", "box"):
        with _executor(tag) as executor:
            found = list(executor.map(_shapes().area, range(4), timeout=120))
        assert found == [20 * n for n in range(4)]


def test_destroy(cloud: LocalStackCloud, project: Path) -> None:
    """Nothing of the deployment is left: no stack, function, queue, bucket, process."""
    cloud.destroy(context={"project": str(project), "name": "shapes"})

    until(lambda: not cloud.status()["functions"] and not cloud.status()["services"])
    stacks = cloud.client("cloudformation").describe_stacks()["Stacks"]
    left = [each["StackName"] for each in stacks if each["StackStatus"] != "DELETE_COMPLETE"]
    assert left == ["CDKToolkit"]
    queues = cloud.client("sqs").list_queues().get("QueueUrls", [])
    buckets = [each["Name"] for each in cloud.client("s3").list_buckets()["Buckets"]]
    assert not queues
    assert not [name for name in buckets if not name.startswith("cdk-")]
