"""The snippets of the user's document run under our names, as they stand there.

Only what no test machine has is replaced: host names, the number of cores, and the values that a
snippet takes for granted (`tube`, `workers`, `process_task`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from noob import SynchronousRunner as UpstreamRunner
from noob import Tube
from tests.conformance.servers import TOKEN, free_port, process, wait_for_health

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("here")

PIPELINE = """\
noob_id: pipeline
noob_model: noob.tube.TubeSpecification
noob_version: 1003.0.2
nodes:
  frame:
    type: noob_cloud_testnodes.counter
  scaled:
    type: noob_cloud_testnodes.double
    depends:
      - value: frame.index
  total:
    type: noob_cloud_testnodes.Accumulator
    depends:
      - value: scaled.value
  out:
    type: return
    depends:
      - scaled: scaled.value
      - total: total.total
"""

NAMES = (
    ("from noob.runner import", "from noob_cloud.runner import"),
    ("from noob import SynchronousRunner", "from noob_cloud.runner import SynchronousRunner"),
    ("python -m noob.runner.worker_server", "python -m noob_cloud.runner.worker_server"),
)


def play(snippet: str, *replaced: tuple[str, str], **given: Any) -> dict[str, Any]:
    """Run a snippet of the document under our names; give what it defines."""
    for theirs, ours in (*NAMES, *replaced):
        snippet = snippet.replace(theirs, ours)
    exec(compile(snippet, "user document", "exec"), given)
    return given


@pytest.fixture
def tube(here: Path) -> Tube:
    (here / "pipeline.yaml").write_text(PIPELINE)
    return Tube.from_specification("pipeline.yaml")


def expected(n: int) -> list[Any]:
    return UpstreamRunner(Tube.from_specification("pipeline.yaml")).run(n)


def close(defined: dict[str, Any]) -> None:
    """End what a snippet leaves open: the document never does."""
    defined["runner"].deinit()
    if "queue" in defined:
        defined["queue"].close()


# ---- section 1, the runners


def test_synchronous_runner(tube: Tube) -> None:
    done = play(
        """
from noob import SynchronousRunner
runner = SynchronousRunner(tube)
results = runner.run(n=100)
""",
        tube=tube,
    )
    assert done["results"] == expected(100)
    close(done)


def test_upstreams_own_import_still_works(tube: Tube) -> None:
    """`from noob import SynchronousRunner` stays upstream's."""
    given: dict[str, Any] = {"tube": tube}
    exec(
        "from noob import Tube, SynchronousRunner\nresults = SynchronousRunner(tube).run(n=5)",
        given,
    )
    assert given["results"] == expected(5)


def test_multi_process_runner(tube: Tube) -> None:
    done = play(
        """
from noob.runner import MultiProcessRunner
runner = MultiProcessRunner(tube, max_workers=16)
results = runner.run(n=1000)
""",
        ("max_workers=16", "max_workers=2"),
        tube=tube,
    )
    assert done["results"] == expected(1000)
    close(done)


def test_distributed_runner(tube: Tube, workers: list[Any]) -> None:
    done = play(
        """
from noob.runner import DistributedRunner, LoadBalancingStrategy
runner = DistributedRunner(
    tube,
    workers=workers,
    load_balancing=LoadBalancingStrategy.LEAST_LOADED,
    circuit_breaker_threshold=5
)
""",
        tube=tube,
        workers=workers,
    )
    assert done["runner"].run(n=20) == expected(20)
    close(done)


def test_queued_runner(tube: Tube, workers: list[Any]) -> None:
    done = play(
        """
from noob.runner import QueuedRunner, TaskQueue
queue = TaskQueue(persistent=True, db_path="./queue.db")
runner = QueuedRunner(tube, queue=queue, workers=workers)
""",
        tube=tube,
        workers=workers,
    )
    assert done["runner"].run(n=20) == expected(20)
    close(done)


# ---- section 2, the queue


def test_task_queue(here: Path) -> None:
    done = play(
        """
from noob.runner import TaskQueue, TaskPriority

queue = TaskQueue(persistent=True, db_path="./tasks.db")

task_id = queue.submit_task(
    node_id="gpu_process",
    epoch=1,
    priority=TaskPriority.CRITICAL,
    affinity_tags=["gpu", "cuda"],
    timeout_seconds=300,
    max_retries=3
)

# Worker claims task
task = queue.claim_task(worker_id="gpu-worker-1", affinity_tags=["gpu"])

# Process and complete
queue.start_task(task.task_id)
result = process_task(task)
queue.complete_task(task.task_id, result)
""",
        process_task=lambda task: {"node": task.node_id, "epoch": task.epoch},
    )
    queue, task_id = done["queue"], done["task_id"]
    assert done["task"].task_id == task_id
    assert queue.get_task(task_id).result == {"node": "gpu_process", "epoch": 1}
    assert queue.stats().completed == 1
    assert (here / "tasks.db").exists()
    queue.close()


# ---- section 3, the worker server


def test_worker_server(tube: Tube, here: Path) -> None:
    """Every flag of the document, and every route of its table."""
    command = r"""
python -m noob.runner.worker_server \
    --host 0.0.0.0 \
    --port 8000 \
    --tube pipeline.yaml \
    --max-tasks 20 \
    --worker-id gpu-worker-1 \
    --tags gpu,cuda
"""
    port = free_port()
    for theirs, ours in (*NAMES, ("0.0.0.0", "127.0.0.1"), ("8000", str(port)), ("\\\n", "")):
        command = command.replace(theirs, ours)
    url = f"http://127.0.0.1:{port}"
    log = here / "worker.log"
    with process(*command.split()[1:], log=log) as started:
        wait_for_health(url, started, log)
        with httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30
        ) as client:
            health = client.get("/health")
            assert health.status_code == 200
            assert "gpu-worker-1" in client.get("/metrics").text + health.text
            assert client.get("/tasks").status_code == 200

            done = client.post(
                "/execute", json={"node_id": "scaled", "epoch": 3, "inputs": {"value": 21}}
            )
            assert done.status_code == 200, done.text
            assert "42" in done.text

            assert client.post("/load_tube", content=b"no frame").status_code in {400, 415, 422}
            assert client.post("/cancel/12345").status_code == 404
            assert client.post("/shutdown").is_success
        assert started.wait(20) == 0, log.read_text()


# ---- quick start


def test_quick_start_local_parallel(tube: Tube) -> None:
    done = play(
        """
from noob import Tube
from noob.runner import MultiProcessRunner

tube = Tube.from_specification("pipeline.yaml")
runner = MultiProcessRunner(tube, max_workers=8)
results = runner.run(n=100)
""",
        ("max_workers=8", "max_workers=2"),
    )
    assert done["results"] == expected(100)
    close(done)


def test_quick_start_cluster(tube: Tube, workers: list[Any]) -> None:
    done = play(
        """
from noob.runner import DistributedRunner, WorkerConfig

workers = [WorkerConfig(host=f"worker{i}", port=8000) for i in range(4)]
runner = DistributedRunner(tube, workers=workers)
results = runner.run(n=1000)
""",
        ('host=f"worker{i}"', 'host="127.0.0.1", token=token'),
        ("port=8000", "port=ports[i % 2]"),
        tube=tube,
        token=TOKEN,
        ports=[worker.port for worker in workers],
    )
    assert done["results"] == expected(1000)
    close(done)


def test_quick_start_persistent_queue(tube: Tube, workers: list[Any], here: Path) -> None:
    done = play(
        """
from noob.runner import QueuedRunner, TaskQueue

queue = TaskQueue(persistent=True, db_path="./queue.db")
runner = QueuedRunner(tube, queue=queue, workers=workers)
results = runner.run(n=10000)
""",
        # A task for every epoch, so that a run can be resumed: ten thousand take a while.
        ("n=10000", "n=300"),
        tube=tube,
        workers=workers,
    )
    assert done["results"] == expected(300)
    assert (here / "queue.db").exists()
    close(done)
