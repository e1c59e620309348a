"""The submit function against a real coordinator: events become runs, once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from noob_cloud_testtubes.case import chain, node, result
from tests.flow.coordinator_processes import OWNER, Coordinator, coordinator

from noob_cloud.serverless.submit import SubmitFunction, events_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from noob_cloud.coordinator.client import CoordinatorClient

MAPPING = """
[[on]]
s3 = "inbox/"
tube = "tubes/double.yaml"
inputs = { start = "{size}" }

[[on]]
schedule = "rate(1 hour)"
tube = "tubes/double.yaml"
n = 3

[[on]]
queue = "go"
tube = "tubes/double.yaml"
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    with coordinator(tmp_path_factory.mktemp("coordinator")) as running:
        yield running


@pytest.fixture
def function(tmp_path: Path, served: Coordinator) -> SubmitFunction:
    (tmp_path / "events.toml").write_text(MAPPING)
    (tmp_path / "tubes").mkdir()
    spec = chain("events", a=node("double", "value=src.index"), out=result("a=a.value"))
    (tmp_path / "tubes" / "double.yaml").write_text(json.dumps(spec))
    environ = {"NOOB_CLOUD_COORDINATOR": served.url, "NOOB_CLOUD_TOKEN": OWNER}
    return SubmitFunction(tmp_path, environ)


@pytest.fixture
def client(served: Coordinator) -> Iterator[CoordinatorClient]:
    with served.client() as made:
        yield made


def record(body: Any, number: str = "m1") -> dict[str, Any]:
    text = body if isinstance(body, str) else json.dumps(body)
    return {"messageId": number, "body": text, "eventSource": "aws:sqs"}


def put(key: str, sequencer: str = "0A") -> dict[str, Any]:
    told = {"bucket": {"name": "b"}, "object": {"key": key, "size": 5, "sequencer": sequencer}}
    return {
        "id": f"event-of-{key}",
        "source": "aws.s3",
        "detail-type": "Object Created",
        "time": "2026-01-01T00:00:00Z",
        "detail": told,
    }


def schedule(number: str) -> dict[str, Any]:
    return {"on": "schedule", "schedule": "rate(1 hour)", "id": number, "time": "t"}


def test_batch_with_bad_messages(function: SubmitFunction, client: CoordinatorClient) -> None:
    """Good messages start runs; each bad one is given back alone."""
    before = {run.run_id for run in client.runs()}

    answer = function.handle(
        {
            "Records": [
                record(schedule("s-1"), "good-1"),
                record("no json", "bad-1"),
                record({"on": "stop"}, "bad-2"),
                record(put("outside/x"), "bad-3"),
                record({"on": "go", "id": "g-1"}, "good-2"),
            ]
        }
    )

    failed = [each["itemIdentifier"] for each in answer["batchItemFailures"]]
    assert failed == ["bad-1", "bad-2", "bad-3"]
    new = [run for run in client.runs() if run.run_id not in before]
    assert sorted(run.total or 0 for run in new) == [1, 3]


@pytest.mark.parametrize(
    "poison",
    [
        "[" * 100_000,
        {"source": "aws.s3", "detail-type": 5},
        {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "detail": {"bucket": {"name": "b"}, "object": {"key": 5}},
        },
        {"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": 5}}}]},
    ],
)
def test_no_message_holds_up_the_others(poison: Any, function: SubmitFunction) -> None:
    answer = function.handle({"Records": [record(poison, "bad"), record({"on": "go"}, "good")]})

    assert answer == {"batchItemFailures": [{"itemIdentifier": "bad"}]}


def test_event_that_comes_twice_starts_one_run(
    function: SubmitFunction, client: CoordinatorClient
) -> None:
    """An event is one run, in one message or several, from S3 itself or through EventBridge."""
    before = {run.run_id for run in client.runs()}
    event = put("inbox/a b.png")
    direct = {"Records": [{"s3": {**event["detail"], "object": dict(event["detail"]["object"])}}]}
    direct["Records"][0]["s3"]["object"]["key"] = "inbox/a+b.png"

    for body in (event, event, direct):
        assert function.handle({"Records": [record(body)]}) == {"batchItemFailures": []}
    assert len({run.run_id for run in client.runs()} - before) == 1

    function.handle({"Records": [record(put("inbox/a b.png", "0B"))]})
    assert len({run.run_id for run in client.runs()} - before) == 2


def test_coordinator_away_gives_every_message_back(tmp_path: Path) -> None:
    """While the coordinator does not answer nothing is lost: SQS keeps the messages."""
    (tmp_path / "events.toml").write_text(
        MAPPING.replace("tubes/double.yaml", "bafkr4i" + "a" * 52)
    )
    environ = {"NOOB_CLOUD_COORDINATOR": "http://127.0.0.1:1", "NOOB_CLOUD_TOKEN": OWNER}
    function = SubmitFunction(tmp_path, environ, patience=0.1)

    answer = function.handle({"Records": [record(schedule(str(n)), f"m{n}") for n in range(3)]})

    assert [each["itemIdentifier"] for each in answer["batchItemFailures"]] == ["m0", "m1", "m2"]


def test_an_object_that_is_deleted_is_no_new_one(
    function: SubmitFunction, client: CoordinatorClient
) -> None:
    """Who asks for other events of S3 gets them, and no run of an object that is gone."""
    before = {run.run_id for run in client.runs()}
    event = put("inbox/gone.png") | {"detail-type": "Object Deleted"}
    direct = {"Records": [{"eventName": "ObjectRemoved:Delete", "s3": event["detail"]}]}

    answer = function.handle({"Records": [record(event, "m1"), record(direct, "m2")]})

    assert [each["itemIdentifier"] for each in answer["batchItemFailures"]] == ["m1", "m2"]
    assert {run.run_id for run in client.runs()} == before


def test_a_pattern_may_be_of_s3(
    function: SubmitFunction, client: CoordinatorClient, tmp_path: Path
) -> None:
    """Uploads to another bucket, and deletions, start what names them."""
    (tmp_path / "events.toml").write_text(
        MAPPING
        + """
[[on]]
event = { source = ["aws.s3"], detail = { bucket = { name = ["elsewhere"] } } }
tube = "tubes/double.yaml"
inputs = { start = "{detail.object.size}" }
"""
    )
    before = {run.run_id for run in client.runs()}
    created = put("photos/a.png")
    created["detail"]["bucket"]["name"] = "elsewhere"
    deleted = created | {"detail-type": "Object Deleted", "id": "another"}

    answer = function.handle({"Records": [record(created, "m1"), record(deleted, "m2")]})

    assert answer == {"batchItemFailures": []}
    assert len({run.run_id for run in client.runs()} - before) == 2


def test_test_event_of_s3_is_nothing() -> None:
    """What S3 sends when notifications are set up starts nothing, and is no error."""
    assert list(events_of(record({"Event": "s3:TestEvent", "Bucket": "b"}))) == []
