"""Workers come for what waits and go again: a real coordinator and workers, moto's ECS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from coordinator_processes import OWNER, TUBES, Coordinator, coordinator, log, until

from noob_cloud.exceptions import RoutingError
from noob_cloud.tubes import TubeSource

if TYPE_CHECKING:
    from collections.abc import Iterator

NODES = "noob_cloud_testnodes."
BEARER = {"Authorization": f"Bearer {OWNER}"}
POOLS = [
    {
        "name": name,
        "kind": kind,
        "cluster": "c",
        "service": name,
        "memory": 4096,
        "price": 36.0,
        "max_workers": 2,
        "cooldown_seconds": 2.0,
        **more,
    }
    for name, kind, more in (
        ("fargate", "fargate", {"vcpu": 1}),
        ("gpu", "ec2", {"tags": ["gpu"], "accept_untagged": False}),
    )
]
WORKER = """
import sys
from noob_cloud.coordinator.drivers import Drivers
from noob_cloud.queue.remote import RemoteQueue
from noob_cloud.worker.pull import pull
url, token, name, tag = sys.argv[1:5]
queue = RemoteQueue(url, token)
modules = ["noob_cloud_testnodes"]
drivers = Drivers(queue, token=token, worker_id=name, tags=[tag], allowed_modules=modules,
                  lease_seconds=3.0, poll_seconds=1.0)
drivers.start()
pull(queue, worker_id=name, tags=[tag], max_tasks=1, allowed_modules=modules, isolate=False,
     lease_seconds=3.0, poll_seconds=1.0, documents=queue.blobs.get)
drivers.stop()
drivers.join(5)
"""


class Services:
    """Runs as many workers of each service as ECS was told to have: what AWS does, in processes."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.ecs = boto3.client("ecs")
        self.workers: dict[str, list[subprocess.Popen[bytes]]] = {"fargate": [], "gpu": []}
        self.desired: list[tuple[str, int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._number = 0

    def _run(self) -> None:
        before = dict.fromkeys(self.workers, 0)
        while not self._over.wait(0.05):
            found = self.ecs.describe_services(cluster="c", services=list(self.workers))
            for service in found["services"]:
                name, count = service["serviceName"], service["desiredCount"]
                if count != before[name]:
                    self.desired.append((name, count))
                    before[name] = count
                self._have(name, count)

    def _have(self, name: str, count: int) -> None:
        there = self.workers[name]
        while len(there) < count:
            self._number += 1
            worker = f"{name}-{self._number}"
            words = [sys.executable, "-c", WORKER, self.url, OWNER, worker, f"noob:pool-{name}"]
            there.append(
                subprocess.Popen(
                    words,
                    env={**os.environ, "PYTHONPATH": str(TUBES)},
                    stderr=(self.folder / f"{name}.log").open("ab"),
                )
            )
        while len(there) > count:
            ended = there.pop()
            ended.terminate()
            ended.wait(20)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for name in self.workers:
            self._have(name, 0)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server of moto with a cluster and two services, from zero."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - slow to import

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    httpx.post(f"http://{host}:{port}/moto-api/reset")
    ecs = boto3.client("ecs")
    ecs.create_cluster(clusterName="c")
    container = {"name": "w", "image": "i", "memory": 100}
    ecs.register_task_definition(family="f", containerDefinitions=[container])
    for service in ("fargate", "gpu"):
        ecs.create_service(cluster="c", serviceName=service, taskDefinition="f", desiredCount=0)
    try:
        yield
    finally:
        server.stop()


@contextmanager
def cloud(folder: Path, **budget: float) -> Iterator[tuple[Coordinator, Services]]:
    pools = json.dumps({"pools": POOLS, "budget": budget, "assumed_seconds": 30})
    with coordinator(folder, pools=pools) as made, Services(made.url, folder) as services:
        yield made, services


def tube() -> TubeSource:
    """Count, double on a GPU, then double anywhere."""
    nodes: dict[str, Any] = {
        "src": {"type": f"{NODES}counter", "params": {"start": 0, "limit": 1000}},
        "heavy": {"type": f"{NODES}double", "depends": [{"value": "src.index"}]},
        "light": {"type": f"{NODES}double", "depends": [{"value": "heavy.value"}]},
        "out": {"type": "return", "depends": "light.value"},
    }
    return TubeSource.of({"noob_id": "testing-capacity", "nodes": nodes})


def capacity(made: Coordinator) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{made.url}/capacity", headers=BEARER).json()
    return found


def test_a_run_brings_its_workers_and_they_go(aws: None, tmp_path: Path) -> None:
    """From nothing: a driver and workers for what anybody may do, a GPU for what needs one."""
    with cloud(tmp_path) as (made, services), made.client() as client:
        run_id = client.submit_run(tube(), n=12, placement={"heavy": {"required": ["gpu"]}})
        *_, last = client.watch_run(run_id, timeout=60)
        assert last.status == "completed", (last, log(made, "coordinator"), log(made, "fargate"))
        assert list(client.run_results(run_id)) == [4 * i for i in range(12)]
        for task in client.queue.list_tasks(run_id=run_id, limit=1000, decode=False):
            if task.node_id == "heavy":
                assert (task.worker_id or "").startswith("gpu-")
            else:
                assert (task.worker_id or "").startswith("fargate-")
        until(lambda: services.desired[-1][1] == 0 and not any(services.workers.values()), 30)
        for name in ("fargate", "gpu"):
            counts = [count for service, count in services.desired if service == name]
            assert counts[0] > 0
            assert max(counts) <= 2
            assert counts[-1] == 0
        found = capacity(made)
        assert found["money"]["spent"] > 0
        assert found["money"]["runs"].keys() <= {run_id}
        with pytest.raises(RoutingError, match="No pool offers all of tpu"):
            client.submit_run(tube(), n=1, placement={"heavy": {"required": ["tpu"]}})


def test_a_coordinator_that_was_killed_leaves_the_workers_at_work(
    aws: None, tmp_path: Path
) -> None:
    """Its successor finds the services as they are, and the money that was spent."""
    with cloud(tmp_path) as (made, services), made.client() as client:
        ids = client.queue.submit_many(
            [{"node_id": "x", "epoch": i, "required_tags": ["gpu"], "delay": 3.0} for i in (0, 1)]
        )
        ids += client.queue.submit_many([{"node_id": "x", "epoch": 2, "affinity_tags": ["gpu"]}])
        until(lambda: services.desired == [("gpu", 1)], 20)
        until(lambda: any(x["alive"] for x in capacity(made)["places"]), 20)
        made.kill()
        made.start()
        until(lambda: capacity(made)["places"][1]["desired"] == 1, 20)
        settled = client.queue.wait_settled(ids, timeout=30)
        assert {task.worker_id for task in settled} <= {"gpu-1", "gpu-2"}
        until(lambda: services.desired[-1] == ("gpu", 0), 30)
        assert ("fargate", 1) not in services.desired


def test_without_money_nobody_comes(aws: None, tmp_path: Path) -> None:
    """A start may cost 36 for its hour; with less for the day there is none, and it says so."""
    with cloud(tmp_path, per_day=30.0) as (made, services), made.client() as client:
        client.queue.submit_task("x", 0)
        until(lambda: b"The budget is spent" in (tmp_path / "coordinator.log").read_bytes(), 20)
        time.sleep(0.5)
        assert services.desired == []
        text = httpx.get(f"{made.url}/metrics", headers=BEARER).text
        assert "noob_budget_left 0.0" in text
        assert 'noob_pool_wanted{pool="fargate"} 1.0' in text
