"""A whole deployment on the local cloud, and everything that goes wrong on AWS: `-m by_command`.

    pytest -m by_command tests/flow/test_cloud_faults.py            # four minutes
    NOOB_CLOUD_TEST_TASKS=1000 pytest -m by_command -k ten_thousand tests/flow/test_cloud_faults.py

All stacks are deployed once, by the CDK's command line. Every asynchronous call of a function is
delivered twice, and there are fewer environments than the pool may have: calls are throttled.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("moto.server")
pytest.importorskip("awslambdaric")
pytest.importorskip("aws_cdk")

from localdev.local import ROOT, LocalCloud

from noob_cloud.deployment import Deployment
from noob_cloud.tubes import TubeSource

from .localdev_stacks import until

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
TASKS = int(os.environ.get("NOOB_CLOUD_TEST_TASKS", "10000"))
SETTINGS = """
target_seconds = 5.0

[events]
mapping = "events.toml"

[[pools]]
kind = "lambda"
tags = ["function"]
sizes = [1024, 3008]
max_workers = 4
timeout_seconds = 30

[[pools]]
kind = "fargate"
tags = ["box"]
max_workers = 2
"""
EVENTS = """
[[on]]
s3 = "inbox/"
tube = "count.yaml"
n = 5
"""
MODULE = '''
"""Nodes that go wrong, once."""

import os
import signal
import time
from collections.abc import Generator
from pathlib import Path
from typing import Annotated

from noob import Name


def count() -> Generator[Annotated[int, Name("index")]]:
    index = 0
    while True:
        yield index
        index += 1


def double(value: int) -> int:
    return 2 * value


def work(value: int, seconds: float = 0.1, fault: str = "", folder: str = "") -> int:
    """Double; the third that comes meets the fault."""
    time.sleep(seconds)
    if fault and value == 3:
        try:
            (Path(folder) / fault).touch(exist_ok=False)
        except FileExistsError:
            return 2 * value
        if fault == "exit":
            os._exit(9)
        if fault == "crash":
            os.kill(os.getppid(), signal.SIGKILL)
        if fault == "timeout":
            os.kill(os.getppid(), signal.SIGSTOP)
        if fault == "memory":
            held = bytearray(1500 << 20)
            held[:: 4096] = b"x" * len(held[:: 4096])
        time.sleep(60)
    return 2 * value
'''


def tube(**params: Any) -> TubeSource:
    """Count, and double each."""
    nodes = {
        "src": {"type": "noob_cloud_faulty.count"},
        "work": {
            "type": "noob_cloud_faulty.work",
            "depends": [{"value": "src.index"}],
            "params": params,
        },
        "out": {"type": "return", "depends": "work.value"},
    }
    return TubeSource.of({"noob_id": "testing-faults", "nodes": nodes})


def placed(tag: str) -> dict[str, Any]:
    return {"work": {"required": [tag], "timeout": 20, "retries": 5}}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    project = tmp_path_factory.mktemp("project")
    (project / "src").mkdir()
    (project / "src" / "noob_cloud_faulty.py").write_text(MODULE)
    (project / "noob-cloud.toml").write_text(SETTINGS)
    (project / "events.toml").write_text(EVENTS)
    (project / "count.yaml").write_bytes(json.dumps(specification()).encode())
    folder = tmp_path_factory.mktemp("localdev") / "cloud"
    with (
        LocalCloud(folder, concurrency=3, duplicates=True) as started,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in started.environment.items():
            patch.setenv(name, value)
        patch.syspath_prepend(str(project / "src"))
        started.deploy(context={"project": str(project)})
        started.wait_for_coordinator()
        yield started


def specification() -> dict[str, Any]:
    nodes = {
        "src": {"type": "noob_cloud_faulty.count"},
        "work": {"type": "noob_cloud_faulty.double", "depends": [{"value": "src.index"}]},
        "out": {"type": "return", "depends": "work.value"},
    }
    return {
        "noob_id": "count",
        "noob_model": "noob.tube.TubeSpecification",
        "noob_version": "1003.0.2",
        "nodes": nodes,
    }


@pytest.fixture
def client(cloud: LocalCloud) -> Iterator[CoordinatorClient]:
    with Deployment.find("noob-cloud").client(patience=120.0) as made:
        yield made


def finish(cloud: LocalCloud, client: CoordinatorClient, run_id: str, n: int) -> None:
    """Wait for a run, and see that each of its results is there once and in order."""
    *_, last = client.watch_run(run_id, timeout=240)
    logs = {path.name: path.read_text()[-3000:] for path in cloud.logs.glob("*.log")}
    assert last.status == "completed", (last, logs)
    assert list(client.run_results(run_id)) == [2 * i for i in range(n)]


@pytest.mark.parametrize("fault", ["exit", "crash", "timeout", "memory"])
def test_function_that_dies_at_work(
    cloud: LocalCloud, client: CoordinatorClient, tmp_path: Path, fault: str
) -> None:
    """The task's process ends, the environment is killed, freezes until AWS ends it, or is full."""
    run_id = client.submit_run(
        tube(fault=fault, folder=str(tmp_path)), n=12, placement=placed("function")
    )
    finish(cloud, client, run_id, 12)
    assert (tmp_path / fault).exists(), "the fault did not happen"


def test_event_that_comes_three_times(cloud: LocalCloud, client: CoordinatorClient) -> None:
    """An object that was put is one run, however often SQS delivers its event."""
    before = {run.run_id for run in client.runs()}
    told = {"bucket": {"name": "b"}, "object": {"key": "inbox/x", "size": 1, "sequencer": "0A"}}
    event = {"id": "e", "source": "aws.s3", "detail-type": "Object Created", "detail": told}
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="noob-cloud-events")["QueueUrl"]
    for _ in range(3):
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(event))

    def read() -> bool:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        left = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return not any(int(count) for count in left.values())

    until(
        lambda: {run.run_id for run in client.runs()} - before, seconds=300
    )  # a throttled message waits
    until(read, seconds=300)
    (run_id,) = {run.run_id for run in client.runs()} - before
    finish(cloud, client, run_id, 5)


@pytest.mark.parametrize("what", ["spot notice", "scale-in", "redeploy", "loss"])
def test_service_that_goes_during_a_run(
    cloud: LocalCloud, client: CoordinatorClient, what: str
) -> None:
    """A worker has notice or is scaled in; the coordinator is redeployed, or lost with its disk."""
    run_id = client.submit_run(tube(seconds=0.3), n=40, placement=placed("box"))
    until(lambda: client.run(run_id).done >= 3, seconds=90)
    if what == "spot notice":
        assert cloud.reclaim_service("fargate") > 0
    elif what == "scale-in":
        cloud.client("ecs").update_service(
            cluster="noob-cloud", service="noob-cloud-fargate", desiredCount=0
        )
    elif what == "redeploy":
        assert cloud.signal_service("coordinator", signal.SIGTERM) == 1
    else:
        assert cloud.kill_service("coordinator") == 1
    assert client.run(run_id).done < 40, "it was over before anything happened"
    finish(cloud, client, run_id, 40)


@pytest.mark.timeout(1800)
def test_ten_thousand_tasks(cloud: LocalCloud) -> None:
    """Over functions and services, with the loss of the coordinator on the way: each once."""
    from noob_cloud.executors import ServerlessExecutor  # noqa: PLC0415 - loads much

    double = importlib.import_module("noob_cloud_faulty").double
    begun, started = time.monotonic(), time.time()
    with (
        ServerlessExecutor(
            "noob-cloud", required_tags=["function"], timeout_seconds=20
        ) as functions,
        ServerlessExecutor("noob-cloud", required_tags=["box"], timeout_seconds=20) as services,
    ):
        both = (functions, services)
        futures = [both[value % 2].submit(double, value) for value in range(TASKS)]
        submitted = time.monotonic() - begun
        futures[TASKS // 3].result(timeout=1200)
        assert cloud.kill_service("coordinator") == 1
        assert [future.result(timeout=1200) for future in futures] == [2 * i for i in range(TASKS)]
    seconds = time.monotonic() - begun
    with Deployment.find("noob-cloud").client(patience=120.0) as client:
        tasks = client.queue.list_tasks(limit=10 * TASKS, decode=False)
    done = Counter(task.worker_id or "" for task in tasks if task.created_at >= started)
    by_functions = sum(count for name, count in done.items() if "lambda" in name)
    assert by_functions == TASKS // 2
    print(  # noqa: T201 - the figures are what one runs it for
        f"\n{TASKS} tasks: submitted in {submitted:.1f} s, done in {seconds:.1f} s,"
        f" {by_functions} by functions, by {len(done)} workers in all"
    )
