"""The command line as processes: clean output, Ctrl-C, and a run from submission to results."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance.servers import coordinator, environment, process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHATTY = """\
import sys, time
from collections.abc import Generator
from typing import Annotated
from noob import Name

def count() -> Generator[Annotated[int, Name("index")]]:
    index = 0
    while True:
        print("node says", index)
        yield index
        index += 1

def slow(value: int, seconds: float = 0.05) -> int:
    print("and from a worker", value, flush=True)
    time.sleep(seconds)
    if value == 40:
        raise ValueError("forty is too many")
    return value * 2
"""
TUBE = """\
noob_id: chatty
noob_model: noob.tube.TubeSpecification
noob_version: 1003.0.2
nodes:
  count:
    type: chatty.count
  slow:
    type: chatty.slow
    depends:
      - value: count.index
  return:
    type: return
    depends: slow.value
"""
COMMAND = [sys.executable, "-m", "noob_cloud.cli"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tube whose nodes print, and a module that only this folder has."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chatty.py").write_text(CHATTY)
    (tmp_path / "chatty.yaml").write_text(TUBE)
    return tmp_path


def run(*args: str, code: int = 0, **env: str) -> Any:
    """Run a command with `--json` to its end; its document."""
    done = subprocess.run(
        [*COMMAND, *args, "--json"],
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("runner", ["sync", "multiprocess"])
def test_json_is_all_of_standard_output(here: Path, runner: str):
    """What nodes print, here and in worker processes, goes to standard error."""
    done = subprocess.run(
        [*COMMAND, "run", "chatty.yaml", "-n", "3", "--runner", runner, "--json"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert json.loads(done.stdout)["results"] == [0, 2, 4]
    assert "node says 2" in done.stderr
    assert "and from a worker 2" in done.stderr


def test_a_remote_exception_is_named_with_its_node(here: Path):
    """Exit code 1, the exception's type and message, and the node, from a worker process."""
    error = run("run", "chatty.yaml", "-n", "45", "-r", "multiprocess", "-w", "2", code=1)

    assert error["error"] == "ValueError"
    assert "forty is too many" in error["message"]
    assert "slow" in error["message"]


@pytest.mark.parametrize("runner", ["sync", "multiprocess"])
def test_ctrl_c_gives_the_results_so_far(here: Path, runner: str):
    """Exit code 130, and what had been computed."""
    started = subprocess.Popen(
        [*COMMAND, "run", "chatty.yaml", "-r", runner, "--json"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stderr is not None
    for line in started.stderr:
        if "from a worker 3" in line:
            break
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=30)

    assert started.returncode == 130, err
    report = json.loads(out)
    assert report["interrupted"] is True
    assert report["results"] == [2 * i for i in range(report["count"])]
    assert "Traceback" not in err


@pytest.fixture
def served(here: Path) -> Iterator[dict[str, str]]:
    """A coordinator and a worker that pulls from it; the environment to reach them."""
    with coordinator(here) as (url, _):
        words = ["worker", "--coordinator", url, "--allow-module", "chatty", "--max-tasks", "2"]
        with process(*COMMAND[1:], *words, log=here / "worker.log"):
            yield {"NOOB_CLOUD_COORDINATOR": url}


def test_a_run_is_submitted_watched_and_fetched(here: Path, served: dict[str, str]):
    """A run needs no client: it is submitted, seen, and its results are had by its id."""
    run_id = run("submit", "chatty.yaml", "-n", "5", **served)["run_id"]
    report = run("results", run_id, "--wait", **served)
    status = run("status", **served)

    assert report["run"]["status"] == "completed"
    assert report["results"] == [0, 2, 4, 6, 8]
    assert [found["run_id"] for found in status["runs"]] == [run_id]
    assert status["workers"]
    run("results", run_id, "--output", "r.jsonl", **served)
    assert (here / "r.jsonl").read_text() == "0\n2\n4\n6\n8\n"


def test_a_run_that_fails_says_why(served: dict[str, str]):
    """`--wait` ends with exit code 1 and the node's exception."""
    error = run("submit", "chatty.yaml", "-n", "45", "--wait", code=1, **served)

    assert "forty is too many" in error["message"]


def test_a_run_is_cancelled(served: dict[str, str]):
    """A run without an end is cancelled, and cancelled only once."""
    run_id = run("submit", "chatty.yaml", "-n", "100000", **served)["run_id"]

    assert run("cancel", run_id, **served) == {"cancelled": {run_id: True}}
    assert run("cancel", run_id, **served) == {"cancelled": {run_id: False}}
    runs = run("status", **served)["runs"]
    assert [found["status"] for found in runs] == ["cancelled"]


def test_a_runner_here_uses_workers_there(served: dict[str, str]):
    """`run --runner queued --coordinator` drives here and executes there."""
    report = run("run", "chatty.yaml", "-n", "4", "--runner", "queued", **served)

    assert report["results"] == [0, 2, 4, 6]
    assert report["runner"] == "QueuedRunner"


def test_a_worker_pulls_from_a_file(here: Path):
    """`worker --queue FILE` does what a runner in another process submits to the file."""
    words = ["worker", "--queue", "q.db", "--allow-module", "chatty"]
    with process(*COMMAND[1:], *words, log=here / "worker.log"):
        report = run("run", "chatty.yaml", "-n", "4", "--runner", "queued", "--queue", "q.db")

    assert report["results"] == [0, 2, 4, 6]


def test_a_named_run_is_not_computed_twice(here: Path):
    """A run with the same --run-id takes what is in the file: no worker is needed any more."""
    words = ["run", "chatty.yaml", "-n", "3", "-r", "queued", "--queue", "q.db", "--run-id", "mine"]

    assert run(*words, "--workers", "1")["results"] == [0, 2, 4]
    assert run(*words)["results"] == [0, 2, 4]


def test_status_watches_until_interrupted(here: Path):
    """`--watch --json` says how it stands, line by line, until Ctrl-C, which is no error."""
    run("submit", "--task", "x", "--queue", "q.db")
    started = subprocess.Popen(
        [*COMMAND, "status", "--queue", "q.db", "--watch", "--interval", "0.1", "--json"],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    first, second = json.loads(started.stdout.readline()), json.loads(started.stdout.readline())
    started.send_signal(signal.SIGINT)

    assert started.wait(timeout=10) == 0
    assert first["tasks"]["ready"] == second["tasks"]["ready"] == 1


def test_nothing_to_reach_is_exit_code_three():
    """A coordinator that is not there is said so within seconds."""
    before = time.monotonic()
    error = run("status", "--coordinator", "http://127.0.0.1:9", code=3)

    assert error["error"] == "UnavailableError"
    assert time.monotonic() - before < 30
