"""A runner over a queue, killed and resumed as a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest
from noob import Tube

from noob_cloud.exceptions import TaskCancelledError
from noob_cloud.runner import QueuedRunner, TaskQueue
from noob_cloud.task import TaskStatus

NODES = Path(__file__).parent.parent / "tubes"

SPEC = {
    "noob_id": "testing-queued-runner",
    "nodes": {
        "src": {"type": "noob_cloud_testnodes.counter"},
        "a": {"type": "queued_runner_nodes.noted", "depends": [{"value": "src.index"}]},
        "out": {"type": "return", "depends": "a.value"},
    },
}

NOTED = '''
import os, time

def noted(value: int) -> int:
    """Write down that it ran, slowly enough to be killed meanwhile."""
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{value}\\n")
    if os.path.exists(os.environ["NOTES"] + ".broken") and value == 3:
        raise RuntimeError("the disk is full")
    time.sleep(0.05)
    return value * 2
'''

RUN = """
import json, sys
from noob import Tube
from noob_cloud.runner import QueuedRunner, TaskQueue

if __name__ == "__main__":
    tube = Tube.from_specification(json.loads(sys.argv[1]))
    queue = TaskQueue(db_path=sys.argv[2])
    made = {"run_id": "r", "window": 8, "lease_seconds": 2}
    with QueuedRunner(tube, queue=queue, workers=2, **made) as runner:
        for value in runner.iter(40):
            print(value, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the node's module, which every process of the test can import."""
    (tmp_path / "queued_runner_nodes.py").write_text(NOTED)
    (tmp_path / "run.py").write_text(RUN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(NODES)]))
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    yield tmp_path
    sys.modules.pop("queued_runner_nodes", None)


def _started(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(folder / "run.py"), json.dumps(SPEC), str(folder / "queue.db")],
        stdout=subprocess.PIPE,
        text=True,
    )


def _resumed(folder: Path, n: int) -> list[int]:
    queue = TaskQueue(db_path=folder / "queue.db", lease_seconds=1.0)
    tube = Tube.from_specification(SPEC)
    with QueuedRunner(tube, queue=queue, workers=2, run_id="r", window=8) as runner:
        return runner.run(n) or []


def _notes(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "notes").read_text().split()]


def test_killed_runner_is_resumed_by_replaying(folder: Path) -> None:
    """Nothing that was done is done again, and the answer is whole."""
    with _started(folder) as first:
        assert first.stdout is not None
        for _ in range(10):
            first.stdout.readline()
        first.kill()
    done = {
        task.epoch
        for task in TaskQueue(db_path=folder / "queue.db").list_tasks(TaskStatus.COMPLETED)
    }
    assert len(done) >= 10

    assert _resumed(folder, 40) == [2 * i for i in range(40)]

    ran = _notes(folder)
    assert set(ran) == set(range(40))
    assert all(ran.count(epoch) == 1 for epoch in done)


def test_interrupted_runner_is_resumed(folder: Path) -> None:
    """What an interrupt cancelled is run by the runner that resumes."""
    with _started(folder) as first:
        assert first.stdout is not None
        for _ in range(5):
            first.stdout.readline()
        first.send_signal(signal.SIGINT)
        first.wait(timeout=30)
    queue = TaskQueue(db_path=folder / "queue.db")
    assert queue.stats().live == 0, "an interrupted runner cancels what it has not had back"
    assert queue.stats().cancelled > 0

    assert _resumed(folder, 40) == [2 * i for i in range(40)]


def test_failure_is_tried_again_when_the_run_is_resumed(folder: Path) -> None:
    """What a node raised ends the run; resumed, the run tries the node again."""
    broken = folder / "notes.broken"
    broken.touch()
    with pytest.raises(RuntimeError, match="the disk is full") as caught:
        _resumed(folder, 10)
    assert caught.value.node_id == "a"
    broken.unlink()

    assert _resumed(folder, 10) == [2 * i for i in range(10)]


def test_cancelled_task_ends_the_run(folder: Path) -> None:
    """Somebody who cancels a task of a run ends the run, with a word that says so."""
    queue = TaskQueue(db_path=folder / "queue.db")
    tube = Tube.from_specification(SPEC)
    runner = QueuedRunner(tube, queue=queue, run_id="r", window=1)  # and nobody pulls
    runner.init()
    live = runner._live
    assert live is not None

    def cancel() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for task in queue.list_tasks():
                queue.cancel_task(task.task_id)
                return
            time.sleep(0.01)

    thread = Thread(target=cancel)
    thread.start()
    try:
        with pytest.raises(TaskCancelledError, match="was cancelled"):
            runner.process()
    finally:
        thread.join()
        runner.deinit()


def test_failing_init_leaves_nothing_running(folder: Path) -> None:
    """Workers that a runner started are stopped again when a node cannot be initialised."""
    (folder / "broken_nodes.py").write_text(
        "class Broken:\n"
        "    def init(self):\n"
        "        raise OSError('no such camera')\n"
        "    def process(self, value: int) -> int:\n"
        "        return value\n"
    )
    nodes = {
        **SPEC["nodes"],
        "b": {"type": "broken_nodes.Broken", "depends": [{"value": "a.value"}]},
    }
    tube = Tube.from_specification({"noob_id": "testing-failing-init", "nodes": nodes})
    queue = TaskQueue(db_path=folder / "queue.db")
    runner = QueuedRunner(tube, queue=queue, workers=1)

    with pytest.raises(OSError, match="no such camera"):
        runner.init()

    assert runner._loops == []
    assert runner._live is None
