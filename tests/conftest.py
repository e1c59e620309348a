"""Real servers that are started once for the whole session."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from .conformance.servers import worker_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_RECURSION_LIMIT = sys.getrecursionlimit()


def pytest_collection_finish() -> None:
    """Hold the test modules to it: with 100,000, deep documents would end the process."""
    if sys.getrecursionlimit() != _RECURSION_LIMIT:
        raise pytest.UsageError(
            "A test module has changed the recursion limit, as importing eth_account, eth_tester"
            " and web3 does: import them by noob_cloud.blockchain.errors.need"
        )


@pytest.fixture(scope="session")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    """Two worker servers on this machine, as their WorkerConfigs."""
    folder = tmp_path_factory.mktemp("workers")
    with worker_server(folder, "one") as (one, _), worker_server(folder, "two") as (two, _):
        yield [one, two]


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """An S3 on this machine, as a URL."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request says nothing here
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def place(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A bucket of its own for a coordinator's replica."""
    from noob_cloud.coordinator.durability import Place  # noqa: PLC0415 - loads boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    made = Place.parse(f"s3://replica-{uuid4().hex[:12]}/some/prefix?endpoint_url={s3_url}")
    made.client.create_bucket(Bucket=made.bucket)
    return made


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
