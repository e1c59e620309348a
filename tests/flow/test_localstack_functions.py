"""LocalStack with a small stack: our plugin runs its functions, our agent its services.

It is installed at its first use, which this test leaves to `noob-cloud dev --cloud localstack` or
`python -m localdev.localstack.install`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

pytest.importorskip("boto3")
pytest.importorskip("uvicorn")

from localdev.errors import LocalCloudError
from localdev.localstack.cloud import LocalStackCloud
from localdev.localstack.install import missing

from .localdev_stacks import SERVICE, bucket, functions, messages, service, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc"),
    pytest.mark.skipif(
        missing(), reason="LocalStack is not installed: python -m localdev.localstack.install"
    ),
]


def deploy(cloud: LocalStackCloud, name: str, resources: dict[str, Any]) -> None:
    """Create or update a stack, and wait until it is complete."""
    client = cloud.client("cloudformation")
    known = [stack["StackName"] for stack in client.describe_stacks()["Stacks"]]
    operation, waiter = (
        (client.update_stack, "stack_update_complete")
        if name in known
        else (client.create_stack, "stack_create_complete")
    )
    operation(StackName=name, TemplateBody=json.dumps({"Resources": resources}))
    options = {"Delay": 1, "MaxAttempts": 60}
    client.get_waiter(waiter).wait(StackName=name, WaiterConfig=options)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStackCloud]:
    folder = tmp_path_factory.mktemp("localstack")
    with LocalStackCloud(folder / "cloud", concurrency=3, cache=folder / "cache") as cloud:
        deploy(cloud, "small", {**functions(), **bucket(), **service(desired=1)})
        yield cloud


def call(cloud: LocalStackCloud, **event: Any) -> tuple[Any, str | None]:
    """Call the deployed function; return its answer and its error."""
    answer = cloud.client("lambda").invoke(
        FunctionName="painter", Qualifier="live", Payload=json.dumps(event)
    )
    return json.loads(answer["Payload"].read()), answer.get("FunctionError")


def test_function_kept_between_calls(cloud: LocalStackCloud) -> None:
    """A function runs with its variables under its alias; what it raises does not end it."""
    first, _ = call(cloud)
    told, failed = call(cloud, do="raise")
    second, _ = call(cloud)

    assert first["color"] == "red"
    assert first["arn"].endswith(":function:painter:live")
    assert (told["errorType"], failed) == ("ValueError", "Unhandled")
    assert second["pid"] == first["pid"]


@pytest.mark.parametrize(
    ("event", "kind", "message"),
    [
        ({"do": "crash"}, "Runtime.ExitError", "exit status 3"),
        ({"do": "sleep", "seconds": 30}, "Sandbox.Timedout", "timed out after 1.00 seconds"),
        ({"do": "eat", "mib": 300}, "Runtime.ExitError", "signal: killed"),
    ],
)
def test_function_that_dies(
    cloud: LocalStackCloud, event: dict[str, Any], kind: str, message: str
) -> None:
    """A crash, a timeout and too much memory are told as AWS tells them; the next call works."""
    told, failed = call(cloud, **event)

    assert failed == "Unhandled"
    assert told["errorType"] == kind
    assert message in told["errorMessage"]
    assert call(cloud)[1] is None


def test_function_url(cloud: LocalStackCloud) -> None:
    """A request to a function's URL is its event."""
    client = cloud.client("lambda")
    url = client.get_function_url_config(FunctionName="painter", Qualifier="live")["FunctionUrl"]
    host = httpx.URL(url).host

    answer = httpx.post(
        f"{cloud.url}/a/b?c=1", json={"d": 2}, headers={"Host": host}, trust_env=False
    )

    assert answer.json() == {"d": 2}  # of what has a body and no status LocalStack tells the body


def test_poisoned_message(cloud: LocalStackCloud) -> None:
    """Of a batch only the message that fails comes again, and ends among the dead letters."""
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="orders")["QueueUrl"]
    sqs.send_message_batch(
        QueueUrl=url,
        Entries=[
            {"Id": str(n), "MessageBody": body} for n, body in enumerate(["good", "bad", "good"])
        ],
    )

    assert [each["Body"] for each in messages(cloud, "dead", 1)] == ["bad"]
    left = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert left["ApproximateNumberOfMessages"] == "0"
    assert left["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_object_becomes_message(cloud: LocalStackCloud) -> None:
    """A new object below the prefix of a rule is a message; put again, it is another one."""
    s3 = cloud.client("s3")
    for key in ("inbox/a.png", "elsewhere/b.png", "inbox/c d.png", "inbox/a.png"):
        s3.put_object(Bucket="pictures", Key=key, Body=b"x")

    events = [json.loads(message["Body"]) for message in messages(cloud, "events", 3)]

    objects = [event["detail"]["object"] for event in events]
    keys = sorted(each["key"] for each in objects)
    assert keys == ["inbox/a.png", "inbox/a.png", "inbox/c d.png"]
    assert len({each["sequencer"] for each in objects}) == 3


def test_service_scaled(cloud: LocalStackCloud) -> None:
    """A service of the template runs, and its count is what ECS's API is told."""
    cloud.wait_for_service("crane", running=1)
    until(lambda: "token swordfish" in cloud.log("yard-crane"))
    ecs = cloud.client("ecs")

    ecs.update_service(cluster="yard", service="yard-crane", desiredCount=0)
    cloud.wait_for_service("crane", running=0)

    assert "stopped" in cloud.log("yard-crane")


def test_stack_updated(cloud: LocalStackCloud) -> None:
    """A new version is what the alias names; a service has new tasks, as many as it was told."""
    newer = service(desired=1, source=SERVICE.replace('"token"', '"newer"'))
    deploy(cloud, "small", {**functions(color="blue"), **bucket(), **newer})

    assert call(cloud)[0]["color"] == "blue"
    ecs = cloud.client("ecs")
    ecs.update_service(cluster="yard", service="yard-crane", desiredCount=2)
    until(lambda: cloud.log("yard-crane").count("newer swordfish") == 2)
    cloud.wait_for_service("crane", running=2)


def test_localstack_that_runs(cloud: LocalStackCloud, tmp_path: Path) -> None:
    """A LocalStack that runs already is used as it is, and left so."""
    with LocalStackCloud(tmp_path / "cloud", endpoint=f"{cloud.url}/") as second:
        assert second.url == cloud.url
        names = until(lambda: [each["name"] for each in second.status()["functions"]])
        assert names == ["painter"]

    assert call(cloud)[1] is None


def test_localstack_killed(cloud: LocalStackCloud) -> None:
    """By kill -9 of LocalStack its functions end with it, and it is said that it has ended."""
    pid = call(cloud)[0]["pid"]
    assert Path(f"/proc/{pid}").exists()
    ((_, process),) = [each for each in cloud._processes if each[0] == "cloud"]

    process.kill()

    until(lambda: not Path(f"/proc/{pid}").exists())
    process.wait()
    with pytest.raises(LocalCloudError, match="`cloud` ended"):
        cloud.check()
