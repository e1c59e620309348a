"""The local cloud with small stacks: functions, queues, URLs, services, events."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from botocore.config import Config

pytest.importorskip("moto.server")
pytest.importorskip("awslambdaric")

from localdev.local import LocalCloud, LocalCloudError

from .localdev_stacks import bucket, deploy, destroy, functions, messages, service, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    folder = tmp_path_factory.mktemp("localdev")
    with LocalCloud(folder / "cloud", concurrency=3, gpus=2, cache=folder / "cache") as cloud:
        yield cloud


@pytest.fixture
def painter(cloud: LocalCloud) -> Iterator[Any]:
    """What calls the deployed function, and returns its answer and its error."""
    deploy(cloud, "functions", functions())
    client = cloud.client("lambda")

    def call(qualifier: str = "live", **event: Any) -> tuple[Any, str | None]:
        answer = client.invoke(
            FunctionName="painter", Qualifier=qualifier, Payload=json.dumps(event)
        )
        return json.loads(answer["Payload"].read()), answer.get("FunctionError")

    yield call
    destroy(cloud, "functions")


def test_function_kept_between_calls(painter: Any) -> None:
    """A function runs with its variables under its alias, and its environment is used again."""
    first, _ = painter()
    second, _ = painter()

    assert first["color"] == "red"
    assert first["arn"].endswith(":function:painter:live")
    assert second["pid"] == first["pid"]


def test_function_error(painter: Any) -> None:
    """What a function raises is its answer, marked as an error; its environment lives on."""
    before, _ = painter()

    told, failed = painter(do="raise")

    assert (told["errorType"], told["errorMessage"]) == ("ValueError", "no such colour")
    assert failed == "Unhandled"
    assert painter()[0]["pid"] == before["pid"]


@pytest.mark.parametrize(
    ("event", "kind", "message"),
    [
        ({"do": "crash"}, "Runtime.ExitError", "exit status 3"),
        ({"do": "sleep", "seconds": 30}, "Sandbox.Timedout", "timed out after 1.00 seconds"),
        ({"do": "eat", "mib": 300}, "Runtime.ExitError", "signal: killed"),
    ],
)
def test_function_that_dies(painter: Any, event: dict[str, Any], kind: str, message: str) -> None:
    """A crash, a timeout and too much memory are told as AWS tells them; the next call works."""
    told, failed = painter(**event)

    assert failed == "Unhandled"
    assert told["errorType"] == kind
    assert message in told["errorMessage"]
    assert painter()[1] is None


def test_function_throttled(cloud: LocalCloud, painter: Any) -> None:
    """More calls at once than there may be environments are refused."""
    once = Config(retries={"total_max_attempts": 1})
    client = cloud._session().client("lambda", endpoint_url=cloud.url, config=once)
    told = {"FunctionName": "painter", "Payload": json.dumps({"do": "sleep", "seconds": 0.9})}
    with ThreadPoolExecutor(6) as threads:
        calls = [threads.submit(client.invoke, **told) for _ in range(6)]
        refused = [call for call in calls if call.exception() is not None]

    assert len(refused) == 3
    assert {type(call.exception()).__name__ for call in refused} == {"TooManyRequestsException"}


def test_function_called_later_once(cloud: LocalCloud, painter: Any, tmp_path: Path) -> None:
    """A call that nobody waits for is answered at once and runs; a failed one is not repeated."""
    path = tmp_path / "calls"
    client = cloud.client("lambda")
    for event in ({"do": "write", "path": str(path)}, {"do": "crash"}):
        answer = client.invoke(
            FunctionName="painter:live", InvocationType="Event", Payload=json.dumps(event)
        )
        assert answer["StatusCode"] == 202

    until(lambda: path.exists() and "is given up" in cloud.log("agent"))
    assert path.read_text() == "x"


def test_function_missing(cloud: LocalCloud) -> None:
    """A function that is not deployed is not found."""
    client = cloud.client("lambda")

    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke(FunctionName="nobody")


def test_function_updated(cloud: LocalCloud, painter: Any) -> None:
    """New code is a new version that the alias names; the old version stays as it was."""
    before, _ = painter()

    deploy(cloud, "functions", functions(color="blue"))

    after, _ = painter()
    assert (before["color"], after["color"]) == ("red", "blue")
    assert after["pid"] != before["pid"]


def test_function_url(cloud: LocalCloud, painter: Any) -> None:
    """A request to a function's URL is its event, as AWS writes it."""
    url = cloud.client("lambda").get_function_url_config(FunctionName="painter")["FunctionUrl"]

    answer = until(lambda: (a := httpx.post(f"{url}a/b?c=1", json={"d": 2})).is_success and a)

    told = answer.json()
    assert told["path"] == "/a/b"
    assert json.loads(told["body"]) == {"d": 2}
    assert told["arn"].endswith(":live")


def test_poisoned_message(cloud: LocalCloud, painter: Any) -> None:
    """Of a batch only the message that fails comes again, and ends among the dead letters."""
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="orders")["QueueUrl"]
    bodies = ["good", "bad", "good"]
    sqs.send_message_batch(
        QueueUrl=url,
        Entries=[{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)],
    )

    assert [each["Body"] for each in messages(cloud, "dead", 1)] == ["bad"]
    left = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert left["ApproximateNumberOfMessages"] == "0"
    assert left["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_object_becomes_message(cloud: LocalCloud) -> None:
    """A new object below the prefix of a rule is a message with an id of its own."""
    deploy(cloud, "bucket", bucket())
    s3 = cloud.client("s3")
    for key in ("inbox/a.png", "elsewhere/b.png", "inbox/c d.png"):
        s3.put_object(Bucket="pictures", Key=key, Body=b"x")

    events = [json.loads(message["Body"]) for message in messages(cloud, "events", 2)]

    assert [event["detail"]["object"]["key"] for event in events] == [
        "inbox/a.png",
        "inbox/c d.png",
    ]
    assert len({event["id"] for event in events}) == 2
    cloud.fire("hourly")
    assert [json.loads(m["Body"]) for m in messages(cloud, "events", 1)] == [{"tick": True}]


def test_service_scaled(cloud: LocalCloud) -> None:
    """Tasks are started and stopped as their count says: with SIGTERM, and time to end."""
    deploy(cloud, "service", service(desired=1))
    cloud.wait_for_service("crane", running=1)
    ecs = cloud.client("ecs")

    ecs.update_service(cluster="yard", service="yard-crane", desiredCount=2)
    cloud.wait_for_service("crane", running=2)
    addresses = {task["address"] for task in cloud.service("crane")["tasks"]}
    until(lambda: cloud.log("yard-crane").count("token swordfish") == 2)
    ecs.update_service(cluster="yard", service="yard-crane", desiredCount=0)
    cloud.wait_for_service("crane", running=0)

    log = cloud.log("yard-crane")
    assert log.count("stopped") == 2
    assert "SIGKILL" not in log
    assert all(f"--host={address}" in log for address in addresses)
    until(lambda: _running(ecs) == 0)
    destroy(cloud, "service")


def _running(ecs: Any) -> int:
    found = ecs.describe_services(cluster="yard", services=["yard-crane"])["services"]
    return int(found[0]["runningCount"])


def test_service_killed(cloud: LocalCloud) -> None:
    """A service that loses its machine comes back, on an empty disk."""
    deploy(cloud, "service", service(desired=1))
    cloud.wait_for_service("crane", running=1)
    first = cloud.service("crane")["tasks"][0]
    disk = cloud.directory / "tasks" / first["id"] / "disk"
    until(disk.exists)

    assert cloud.kill_service("crane") == 1

    assert not disk.exists()
    second = until(lambda: cloud.service("crane")["tasks"])[0]
    assert second["id"] != first["id"]
    destroy(cloud, "service")
    until(lambda: not cloud.status()["services"])


def test_service_protected(cloud: LocalCloud) -> None:
    """A task that asked not to be stopped outlives a lower count, until it asks no more."""
    deploy(cloud, "service", service(desired=1))
    cloud.wait_for_service("crane", running=1)
    task = cloud.service("crane")["tasks"][0]
    state = f"{cloud.agent_url}/ecs/{task['id']}/task-protection/v1/state"
    httpx.put(state, json={"ProtectionEnabled": True, "ExpiresInMinutes": 5}).raise_for_status()

    ecs = cloud.client("ecs")
    ecs.update_service(cluster="yard", service="yard-crane", desiredCount=0)
    until(lambda: cloud.service("crane")["desired"] == 0)
    assert cloud.service("crane")["running"] == 1

    httpx.put(state, json={"ProtectionEnabled": False}).raise_for_status()
    cloud.wait_for_service("crane", running=0)
    destroy(cloud, "service")


def test_service_shares_gpus(cloud: LocalCloud) -> None:
    """Tasks that need a GPU get one each; those for which none is left wait."""
    deploy(cloud, "service", service(desired=3, gpus=1))
    cloud.wait_for_service("crane", running=2)

    tasks = cloud.service("crane")["tasks"]
    assert sorted(task["gpus"] for task in tasks) == [[0], [1]]
    destroy(cloud, "service")
    until(lambda: not cloud.status()["services"])


def test_stack_that_cannot_be_made(cloud: LocalCloud) -> None:
    """A stack whose resource cannot be created says which one and why, and leaves nothing."""
    broken = service()
    broken["Service"]["Properties"]["TaskDefinition"] = "nobody:7"
    client = cloud.client("cloudformation")

    with pytest.raises(client.exceptions.ClientError, match="AWS::ECS::Service Service cannot be"):
        deploy(cloud, "broken", broken)

    assert "broken" not in [stack["StackName"] for stack in client.describe_stacks()["Stacks"]]
    assert not cloud.client("secretsmanager").list_secrets()["SecretList"]


def test_directory_of_others(tmp_path: Path) -> None:
    """A directory that holds something else is not emptied."""
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(LocalCloudError, match="holds something else"):
        LocalCloud(tmp_path).start()

    assert (tmp_path / "thesis.txt").exists()


def test_nothing_left_when_killed(tmp_path: Path) -> None:
    """Everything that the local cloud started dies with it, also by kill -9."""
    program = f"""
        import sys, time
        from pathlib import Path
        from localdev.local import LocalCloud
        from tests.flow.localdev_stacks import deploy, service
        with LocalCloud(Path({str(tmp_path / "cloud")!r})) as cloud:
            deploy(cloud, "service", service())
            cloud.wait_for_service("crane", running=1)
            print("ready", flush=True)
            time.sleep(60)
    """
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        places = [tmp_path, (tmp_path / "cloud" / "tasks").readlink()]
        assert len(_processes(places)) >= 3
        process.send_signal(signal.SIGKILL)

    until(lambda: not _processes(places), seconds=10)
    shutil.rmtree(places[1], ignore_errors=True)  # a kill -9 leaves it


def _processes(folders: list[Path]) -> list[str]:
    """Return the processes that name one of the folders or work in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
                place = str((entry / "cwd").readlink())
            except OSError:
                continue
            if any(str(each) in words or place.startswith(str(each)) for each in folders):
                found.append(words)
    return found


def test_an_environment_that_waits_at_the_end_is_no_error() -> None:
    """Where the agents end while a function asks for work, nothing is logged."""
    script = """
import asyncio
from localdev.runtime import RuntimeApi

async def main():
    host, _, port = (await RuntimeApi("arn").start()).partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
    await writer.drain()
    await asyncio.sleep(0.1)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
