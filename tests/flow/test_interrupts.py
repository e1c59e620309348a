"""Ctrl-C, as a terminal sends it: to every process of the group, at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

from noob_cloud.interrupts import held_back
from noob_cloud.runner import TaskQueue

NODES = Path(__file__).parent.parent / "tubes"

SCRIPT = """
import sys
from noob import Tube
from noob_cloud.runner import MultiProcessRunner, QueuedRunner, TaskQueue

folder, kind, style = sys.argv[1:]
SPEC = {
    "noob_id": "testing-interrupts",
    "nodes": {
        "src": {"type": "noob_cloud_testnodes.counter"},
        "note": {
            "type": "noob_cloud_testnodes.note",
            "depends": [{"value": "src.index"}],
            "params": {"folder": folder + "/began"},
        },
        "long": {
            "type": "noob_cloud_testnodes.linger",
            "depends": [{"value": "note.value"}],
            "params": {"seconds": 600},
        },
        "out": {"type": "return", "depends": "long.value"},
    },
}

if __name__ == "__main__":
    tube = Tube.from_specification(SPEC)
    if kind == "processes":
        runner = MultiProcessRunner(tube, max_workers=2)
    else:
        runner = QueuedRunner(tube, queue=TaskQueue(db_path=folder + "/queue.db"), workers=2)
    if style == "with":
        with runner:
            runner.run(100)
    elif style == "iter":
        for _ in runner.iter(100):
            print("a result")
    else:
        runner.run(100)
"""


def _marked(mark: str) -> list[str]:
    """The processes that were started, directly or not, with this word in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
        except OSError:
            continue
    return found


def _eventually(condition, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.parametrize("style", ["with", "iter", "bare"])
@pytest.mark.parametrize("kind", ["processes", "queue"])
def test_interrupt_in_a_long_node(tmp_path: Path, kind: str, style: str) -> None:
    """The runner does not wait for the node, and leaves neither a process nor a task behind."""
    (tmp_path / "run.py").write_text(SCRIPT)
    (tmp_path / "began").mkdir()
    mark = uuid4().hex
    with subprocess.Popen(
        [sys.executable, tmp_path / "run.py", tmp_path, kind, style],
        env={**os.environ, "PYTHONPATH": str(NODES), "MARK": mark},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as runner:
        try:
            _eventually(lambda: list((tmp_path / "began").iterdir()), "no node has begun")
            os.killpg(runner.pid, signal.SIGINT)
            _, said = runner.communicate(timeout=60)
        finally:
            if runner.poll() is None:
                os.killpg(runner.pid, signal.SIGKILL)

    _eventually(lambda: not _marked(mark), "processes are left")
    assert said.count("Traceback") <= 1, said
    if kind == "queue":
        assert TaskQueue(db_path=tmp_path / "queue.db").stats().live == 0


def test_interrupt_while_a_child_boots() -> None:
    """A child that has not begun to ignore Ctrl-C does not die of it."""
    script = (
        "import sys; sys.stdin.read(); "
        "from noob_cloud.interrupts import leave_to_parent; leave_to_parent(); print('alive')"
    )
    with held_back():
        started = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    started.send_signal(signal.SIGINT)
    said, _ = started.communicate(timeout=60)
    assert said == "alive\n"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
