"""The worker function under AWS's runtime client, with a real coordinator."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from noob_cloud_testtubes.case import chain, node, result
from tests.flow.coordinator_processes import OWNER, Coordinator, coordinator, until
from tests.flow.lambda_environments import Environments

from noob_cloud import codec
from noob_cloud.task import StageCall
from noob_cloud.tubes import TubeSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from noob_cloud.coordinator.client import CoordinatorClient

FRAME = "application/vnd.noob-cloud.frame"
PULL = {"noob_cloud": "pull", "idle_seconds": 1.0}
DOUBLE = TubeSource.of(
    chain("lambda-double", a=node("double", "value=src.index"), out=result("a=a.value"))
)
SLOW = TubeSource.of(
    chain(
        "lambda-slow",
        a=node("linger", "value=src.index", params={"seconds": 0.4}),
        out=result("a=a.value"),
    )
)
ENDLESS = TubeSource.of(
    chain(
        "lambda-endless",
        a=node("linger", "value=src.index", params={"seconds": 600}),
        out=result("a=a.value"),
    )
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    with coordinator(tmp_path_factory.mktemp("coordinator")) as running:
        yield running


@pytest.fixture
def client(served: Coordinator) -> Iterator[CoordinatorClient]:
    with served.client() as made:
        yield made


@pytest.fixture
def function(served: Coordinator, tmp_path: Path) -> Iterator[Environments]:
    made = Environments(
        tmp_path,
        NOOB_CLOUD_COORDINATOR=served.url,
        NOOB_CLOUD_TOKEN=OWNER,
        NOOB_CLOUD_WORKER_LEASE_SECONDS="2",
    )
    yield made
    made.close()


def ask(path: str, body: bytes = b"", **headers: str) -> dict[str, Any]:
    """An event of a function URL, payload 2.0."""
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "host": "x.on.aws",
            "authorization": "AWS4-HMAC",
            **headers,
        },
        "requestContext": {
            "http": {"method": "POST" if body else "GET", "path": path, "sourceIp": "192.0.2.1"}
        },
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def results(client: CoordinatorClient, run_id: str) -> list[Any]:
    assert client.run(run_id).status == "completed"
    return [each["a"] for each in client.run_results(run_id)]


def test_wake_up_drives_a_run_to_its_end(function: Environments, client: CoordinatorClient) -> None:
    """One wake-up drives the run and works on its tasks; a warm one has the same name."""
    first = client.submit_run(DOUBLE, n=5)
    told, failed = function.invoke(PULL)
    assert (told["completed"], failed) == (5, False), function.log.read_text()

    second = client.submit_run(DOUBLE, n=3)
    assert function.invoke(PULL)[0]["completed"] == 3

    assert results(client, first) == [0, 2, 4, 6, 8]
    assert results(client, second) == [0, 2, 4]
    assert len(function.all) == 1


def test_requests_of_the_function_url(function: Environments) -> None:
    """A tube is loaded and a call executed over HTTP; the worker's token is asked for."""
    own = {"noob-token": OWNER, "content-type": FRAME}
    told, _ = function.invoke(ask("/health"))
    assert told["statusCode"] == 200

    assert function.invoke(ask("/execute", b"x", **{"content-type": FRAME}))[0]["statusCode"] == 401
    assert function.invoke(ask("/load_tube", DOUBLE.document, **own))[0]["statusCode"] == 200
    call = StageCall(DOUBLE.cid, ("a",), (0, 1), ((20,), (21,)), function.cid)
    told, failed = function.invoke(ask("/execute", codec.dumps(call), **own))

    assert (told["statusCode"], failed) == (200, False)
    assert codec.loads(base64.b64decode(told["body"])).value == [(40,), (42,)]
    for path in ("/shutdown", "/%73hutdown"):
        assert function.invoke(ask(path, b"x", **own))[0]["statusCode"] == 405


def test_task_for_other_code_is_refused(function: Environments) -> None:
    """A task that was made for another project's code is not run."""
    own = {"noob-token": OWNER, "content-type": FRAME}
    function.invoke(ask("/load_tube", DOUBLE.document, **own))
    call = StageCall(DOUBLE.cid, ("a",), (0,), ((20,),), "bafkr4i-other")

    told, _ = function.invoke(ask("/execute", codec.dumps(call), **own))

    outcome = codec.loads(base64.b64decode(told["body"]))
    assert outcome.error_type.endswith("CodeMismatchError")
    assert function.cid in outcome.message


def test_batch_of_a_queue_with_a_bad_message(
    function: Environments, client: CoordinatorClient
) -> None:
    """A wake-up in a batch is done; only the message that is none is given back."""
    run = client.submit_run(DOUBLE, n=2)
    good = {"messageId": "good", "eventSource": "aws:sqs", "body": json.dumps(PULL)}
    bad = {"messageId": "bad", "eventSource": "aws:sqs", "body": "{"}

    told, failed = function.invoke({"Records": [good, bad]})

    assert not failed
    assert told["batchItemFailures"] == [{"itemIdentifier": "bad"}]
    assert results(client, run) == [0, 2]


def test_event_that_is_none_is_an_error(function: Environments) -> None:
    """What is no event of the worker's is refused with a sentence; the next one is served."""
    told, failed = function.invoke({"detail": 1})
    assert failed
    assert 'takes {"noob_cloud": "pull"}' in told["errorMessage"]

    assert function.invoke(PULL)[1] is False


def test_task_at_the_deadline_is_handed_back(
    function: Environments, client: CoordinatorClient
) -> None:
    """Before its time is over the function hands back what runs, and is not cut off."""
    run = client.submit_run(ENDLESS, n=1)

    told, failed = function.invoke(PULL, timeout=8.0)

    assert (told["released"], failed) == (1, False), function.log.read_text()
    assert client.run(run).status != "failed"
    client.cancel_run(run)


def test_killed_environment_loses_nothing(
    function: Environments, client: CoordinatorClient
) -> None:
    """Tasks of an environment that was killed are run by the next; each result is there once."""
    run = client.submit_run(SLOW, n=5)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(function.invoke, PULL)
        until(lambda: client.run(run).done >= 1)
        function.kill()
        told, failed = call.result()
    assert failed
    assert told["errorType"] == "Runtime.ExitError"

    until(lambda: function.invoke(PULL)[1] is False and client.run(run).status == "completed")

    assert results(client, run) == [0, 1, 2, 3, 4]


def test_two_environments_at_once(function: Environments, client: CoordinatorClient) -> None:
    """A wake-up that is delivered twice does no harm: both work, each result is there once."""
    run = client.submit_run(SLOW, n=6)
    with ThreadPoolExecutor(2) as pool:
        told = [call.result() for call in [pool.submit(function.invoke, PULL) for _ in range(2)]]

    assert len(function.all) == 2
    assert not any(failed for _, failed in told)
    assert sum(counts["completed"] for counts, _ in told) == 6
    assert results(client, run) == [0, 1, 2, 3, 4, 5]
