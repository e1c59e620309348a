"""The demo's cluster is ready once each of its workers has asked for tasks."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from examples import cluster as module
from examples.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

BOTH_WITH_THEIR_DRIVERS = (
    b'{"workers": [{"worker_id": "worker-1"}, {"worker_id": "worker-1/driver"},'
    b' {"worker_id": "worker-2"}, {"worker_id": "worker-2/driver"}]}'
)
ONE_WITH_ITS_DRIVER = b'{"workers": [{"worker_id": "worker-1"}, {"worker_id": "worker-1/driver"}]}'


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Generator[Cluster, None, None]:
    """Two workers of a coordinator that lists what the test says."""

    class Coordinator(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(request.param)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    cluster = Cluster(tmp_path, workers=2, tube="a tube")
    with ThreadingHTTPServer(("127.0.0.1", 0), Coordinator) as server:
        cluster.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield cluster
        server.shutdown()


@pytest.mark.parametrize("cluster", [BOTH_WITH_THEIR_DRIVERS], indirect=True)
def test_workers_that_all_came_at_once_are_ready(cluster: Cluster):
    """Each worker is listed twice, and the first look may already find all four."""
    cluster._wait_for_workers()


@pytest.mark.parametrize("cluster", [ONE_WITH_ITS_DRIVER], indirect=True)
def test_one_worker_and_its_driver_are_not_two(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    """The second worker is still waited for."""
    monkeypatch.setattr(module, "START_SECONDS", 0.2)
    with pytest.raises(RuntimeError, match="until the workers ask for tasks"):
        cluster._wait_for_workers()
