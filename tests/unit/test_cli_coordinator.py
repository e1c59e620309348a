"""The commands that speak to a coordinator, or are one, in this process and against fakes."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import pytest

import noob_cloud.cli
import noob_cloud.coordinator
import noob_cloud.runner.worker_server
import noob_cloud.worker.pull
from noob_cloud.cli import run as run_module
from noob_cloud.cli.app import run_app
from noob_cloud.cli.runners import Settings, open_runner
from noob_cloud.cli.screen import Screen
from noob_cloud.cli.tube import import_from_here
from noob_cloud.coordinator.client import RunState
from noob_cloud.queue import TaskQueue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TUBE = """\
noob_id: cli-test
noob_model: noob.tube.TubeSpecification
noob_version: 1003.0.2
nodes:
  source:
    type: noob_cloud_testnodes.counter
  return:
    type: return
    depends: source.index
"""


def state(**changes: Any) -> RunState:
    """A run, as a coordinator describes it."""
    known: dict[str, Any] = {
        "run_id": "run-1",
        "tube": "bafk",
        "n": 2,
        "total": 2,
        "task_id": 1,
        "created_at": 10.0,
        "created_by": "owner",
        "status": "completed",
        "finished_at": 12.0,
        "error": None,
        "traceback": None,
        "done": 2,
        "worker_id": "w1",
    }
    return RunState(**known | changes)


class FakeClient:
    """A coordinator that knows one run."""

    def __init__(self, *, transport: Any, blobs: Any = None) -> None:
        FakeClient.made = self  # type: ignore[attr-defined]
        self.url, self.patience = transport.url, transport._patience
        self.token = transport._headers["Authorization"].removeprefix("Bearer ")
        self.queue = TaskQueue()
        self.submitted: list[dict[str, Any]] = []

    final = state()

    def submit_run(self, tube: Any, **options: Any) -> str:
        self.submitted.append({"modules": tube.modules, **options})
        return "run-1"

    def run(self, run_id: str) -> RunState:
        return self.final

    def runs(self) -> list[RunState]:
        return [self.final, state(run_id="run-2", status="waiting", total=None, finished_at=None)]

    def watch_run(self, run_id: str) -> Iterator[RunState]:
        yield state(status="running", done=1)
        yield self.final

    def run_results(self, run_id: str) -> list[Any]:
        return [{"x": 1}, None][: self.final.done]

    def cancel_run(self, run_id: str) -> bool:
        return True

    def workers(self) -> list[dict[str, Any]]:
        row = {"worker_id": "w1", "tags": ["gpu"], "running": 1, "completed": 2, "failed": 0}
        return [row | {"last_seen": 10.0, "lost": lost} for lost in (False, True)]

    def capacity(self) -> dict[str, Any]:
        place = {"name": "lambda-1024", "alive": 3, "most": 200, "busy": 2, "starting": 1}
        place |= {"wanted": 7, "failed_starts": 4, "blocked": True, "price_hour": 0.06}
        money = {"currency": "USD", "day": "2026-01-01", "spent": 1.5, "reserved": 0.5}
        return {"places": [place | {"spent_today": 1.5}], "money": money | {"per_day": 20.0}}

    def close(self) -> None:
        self.queue.close()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[FakeClient]:
    """A folder with a tube, and a coordinator in the environment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tube.yaml").write_text(TUBE)
    monkeypatch.setenv("NOOB_CLOUD_COORDINATOR", "http://somewhere:8080")
    monkeypatch.setenv("NOOB_CLOUD_TOKEN", "a-token-for-tests")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(noob_cloud.coordinator, "CoordinatorClient", FakeClient, raising=False)
    monkeypatch.setattr(FakeClient, "final", state())
    return FakeClient


def test_submit_sends_the_tube_with_its_placement(fake, tmp_path: Path, capsys):
    """What is sent: the tube, the epochs, what stands beside it. The coordinator loads nothing."""
    (tmp_path / "tube.cloud.yaml").write_text("nodes: {source: {timeout: 5}}")

    assert run_app(["submit", "tube.yaml", "-n", "2"]) == 0

    sent = fake.made.submitted[0]
    assert sent["n"] == 2
    assert sent["inputs"] is None
    assert sent["placement"] == {"source": {"timeout": 5.0}}
    assert sent["modules"] == ("noob_cloud_testnodes",)
    assert (fake.made.url, fake.made.token) == ("http://somewhere:8080", "a-token-for-tests")
    assert "noob-cloud results run-1 --wait" in capsys.readouterr().err


def test_submit_feeds_inputs(fake, tmp_path: Path, capsys):
    """`--feed` is an epoch for each line, so it excludes `-n`."""
    (tmp_path / "in.jsonl").write_text('{"x": 1}\n')

    assert run_app(["submit", "tube.yaml", "--feed", "in.jsonl"]) == 0
    assert fake.made.submitted[0]["inputs"] == [{"x": 1}]
    assert run_app(["submit", "tube.yaml", "--feed", "in.jsonl", "-n", "1"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_results_of_a_run(fake, capsys):
    """Waited for, and shown; who waits is patient with a coordinator that restarts."""
    assert run_app(["submit", "tube.yaml", "--wait"]) == 0
    assert fake.made.patience > 100
    out, err = capsys.readouterr()
    assert "{'x': 1}" in out or "{x: 1}" in out
    assert "run run-1 completed: 2 results" in err
    assert run_app(["results", "run-1", "-o", "r.jsonl"]) == 0
    assert fake.made.patience < 10


def test_many_results_of_a_run_are_not_all_shown(fake, monkeypatch: pytest.MonkeyPatch, capsys):
    """A screen gets the first ones and how many more there are; a program gets them all."""
    monkeypatch.setattr(FakeClient, "run_results", lambda *_: list(range(100, 3100)))

    assert run_app(["results", "run-1"]) == 0
    out, err = capsys.readouterr()
    assert "119" in out
    assert "120" not in out
    assert "... and 2,980 more; --output FILE or --json has them all" in err
    assert "3,000 results" in err
    assert run_app(["results", "run-1", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["results"]) == 3000


def test_results_of_a_failed_run(fake, monkeypatch: pytest.MonkeyPatch, capsys):
    """Exit code 1, the results so far, the error and its traceback; one document with --json."""
    failed = state(status="failed", done=1, error="ValueError: no", traceback="Traceback: far away")
    monkeypatch.setattr(FakeClient, "final", failed)

    assert run_app(["results", "run-1"]) == 1
    out, err = capsys.readouterr()
    assert "1" in out
    assert "far away" in err
    assert "ValueError: no" in err
    assert run_app(["results", "run-1", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["error"] == "RunFailedError"
    assert found["results"] == [{"x": 1}]


def test_status_shows_runs_and_workers(fake, capsys):
    """Runs with what they have and by whom, workers with their tags and when they were heard."""
    assert run_app(["status"]) == 0

    out = capsys.readouterr().out
    for word in ("run-1", "2 of 2", "run-2", "2 of ?", "w1", "gpu", "lost"):
        assert word in out


def test_status_shows_the_capacity(fake, capsys):
    """Where workers are had, how many there are and are wanted, and the money."""
    assert run_app(["status"]) == 0

    out = capsys.readouterr().out
    for word in ("lambda-1024", "3 of 200", "4, cooling", "1.5000 of 20.00 USD", "0.5000 more"):
        assert word in out


def test_status_watches(fake, monkeypatch: pytest.MonkeyPatch, capsys):
    """`--watch` looks again and again, until Ctrl-C, which is no error."""
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("noob_cloud.cli.status.time.sleep", sleep)

    assert run_app(["status", "--watch", "--interval", "0.5"]) == 0
    assert looks == [0.5, 0.5]
    assert "run-1" in capsys.readouterr().out


def test_cancel_tells_what_was_cancelled(fake, capsys):
    """Runs by name and tasks by number."""
    assert run_app(["submit", "--task", "x"]) == 0
    assert run_app(["cancel", "run-1"]) == 0
    assert "run-1: cancelled" in capsys.readouterr().err


def test_coordinator_starts_with_what_it_is_told(fake, monkeypatch: pytest.MonkeyPatch, capsys):
    """Options become settings, and it says where it is."""
    seen: list[Any] = []

    def serve(settings: Any, *, on_start: Any) -> None:
        seen.append(settings)
        on_start("http://127.0.0.1:1234")

    monkeypatch.setattr(noob_cloud.coordinator, "serve", serve, raising=False)
    monkeypatch.delenv("NOOB_CLOUD_TOKEN")

    assert run_app(["coordinator", "--port", "0", "--queue", "q.db", "--durable"]) == 0
    assert (seen[0].port, str(seen[0].db_path), seen[0].synchronous) == (0, "q.db", "FULL")
    err = capsys.readouterr().err
    assert "http://127.0.0.1:1234" in err
    assert "NOOB_CLOUD_TOKEN=" in err


def test_coordinator_is_told_of_its_pools(
    fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    """`--pools FILE` has them; one that is missing, or not well formed, is named."""
    seen: list[Any] = []
    monkeypatch.setattr(
        noob_cloud.coordinator, "serve", lambda settings, on_start: seen.append(settings)
    )
    (tmp_path / "pools.toml").write_text('[[pools]]\nname = "mine"\nkind = "own"\n')
    assert run_app(["coordinator", "--pools", "pools.toml"]) == 0
    assert [pool.name for pool in seen[0].pools.pools] == ["mine"]

    assert run_app(["coordinator", "--pools", "none.toml"]) == 2
    assert "none.toml cannot be read" in capsys.readouterr().err
    (tmp_path / "bad.toml").write_text('[[pools]]\nname = "mine"\nkind = "lambda"\n')
    assert run_app(["coordinator", "--pools", "bad.toml"]) == 2
    assert "needs sizes" in capsys.readouterr().err


def test_coordinator_is_not_exposed_without_a_token(fake, monkeypatch: pytest.MonkeyPatch, capsys):
    """Beyond this machine it wants a token that somebody chose."""
    monkeypatch.delenv("NOOB_CLOUD_TOKEN")

    assert run_app(["coordinator", "--host", "0.0.0.0"]) == 2
    assert "NOOB_CLOUD_TOKEN" in capsys.readouterr().err


def test_coordinator_says_that_its_port_is_taken(fake, monkeypatch: pytest.MonkeyPatch, capsys):
    """A port in use is a usage error."""

    def serve(settings: Any, *, on_start: Any) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(noob_cloud.coordinator, "serve", serve, raising=False)

    assert run_app(["coordinator", "--port", "9"]) == 2
    assert "Cannot listen on 127.0.0.1:9" in capsys.readouterr().err


def test_worker_becomes_a_worker_server(fake, monkeypatch: pytest.MonkeyPatch):
    """With a coordinator it is the worker server, which pulls."""
    seen: list[list[str]] = []
    monkeypatch.setattr(
        noob_cloud.runner.worker_server, "main", lambda words: seen.append(words) or 0
    )

    words = ["--tags", "gpu", "--tagged-only", "--threads", "--allow-module", "a"]
    assert run_app(["worker", *words, "--max-tasks", "3", "--worker-id", "w"]) == 0
    assert seen[0][:2] == ["--coordinator", "http://somewhere:8080"]
    for word in (*words, "--max-tasks", "3", "--worker-id", "w"):
        assert word in seen[0]


@pytest.mark.parametrize("where", [[], ["--queue", "q.db"]])
def test_worker_imports_from_the_current_directory(
    fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: list[str]
):
    """As every command does: nodes lie beside the tube, and the command's script elsewhere."""
    seen: list[list[str]] = []
    monkeypatch.setattr(sys, "path", [x for x in sys.path if x not in ("", str(tmp_path))])
    monkeypatch.setattr(
        noob_cloud.runner.worker_server, "main", lambda _: seen.append([*sys.path]) or 0
    )
    monkeypatch.setattr(
        noob_cloud.worker.pull, "pull", lambda *_, **__: seen.append([*sys.path]) or {}
    )

    assert run_app(["worker", "--allow-module", "my_nodes", *where]) == 0
    assert str(tmp_path) in seen[0]


def test_src_is_imported_from_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A project whose modules are in src/ is imported as it is deployed."""
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    import_from_here()

    assert sys.path.index(str(tmp_path / "src")) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [("http://0.0.0.0:80", "http://127.0.0.1:80"), ("http://[::]:80", "http://[::1]:80")],
)
def test_coordinator_says_where_its_page_is(
    fake, monkeypatch: pytest.MonkeyPatch, capsys, url: str, shown: str
):
    """An address that a browser can open, also where it listens on all of them."""
    monkeypatch.setattr(
        noob_cloud.coordinator, "serve", lambda _, on_start: on_start(url), raising=False
    )

    assert run_app(["coordinator"]) == 0
    assert f"{shown}/dashboard" in capsys.readouterr().err


def test_worker_pulls_from_a_file(fake, monkeypatch: pytest.MonkeyPatch, capsys):
    """With a file it pulls from that, and sums up at the end."""
    seen: dict[str, Any] = {}

    def pull(queue: Any, **options: Any) -> dict[str, int]:
        seen.update(options)
        return {"completed": 3}

    monkeypatch.setattr(noob_cloud.worker.pull, "pull", pull)

    assert run_app(["worker", "--queue", "q.db", "--tags", "a,b", "--tube", "tube.yaml"]) == 0
    assert seen["tags"] == ["a", "b"]
    assert seen["allowed_modules"] is None
    assert seen["tube"].modules == ("noob_cloud_testnodes",)
    assert "3 completed" in capsys.readouterr().err


def test_worker_needs_to_know_where_tasks_come_from(fake, monkeypatch: pytest.MonkeyPatch, capsys):
    """Neither a coordinator nor a file is a usage error."""
    monkeypatch.delenv("NOOB_CLOUD_COORDINATOR")

    assert run_app(["worker"]) == 2
    assert "Say where tasks come from" in capsys.readouterr().err


def test_an_unexpected_interrupt_is_exit_code_130(fake, monkeypatch: pytest.MonkeyPatch, capsys):
    """Ctrl-C anywhere ends without a traceback."""
    monkeypatch.setattr(
        FakeClient, "cancel_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )

    assert run_app(["cancel", "run-1"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_an_interrupted_run_says_so(fake, monkeypatch: pytest.MonkeyPatch, capsys):
    """A runner answers Ctrl-C with the results so far; the command shows them and exits 130."""

    def results(*_: Any) -> list[int]:
        interrupt.seen = True
        return [1, 2]

    interrupt = run_module._Interrupt()
    monkeypatch.setattr(run_module, "_Interrupt", lambda: interrupt)
    monkeypatch.setattr(run_module, "_results", results)

    assert run_app(["run", "tube.yaml", "-n", "9"]) == 130
    assert "results so far" in capsys.readouterr().err


def test_a_module_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys):
    """Without the `cli` extra the command says what to install."""
    for name in [x for x in sys.modules if x.startswith("noob_cloud.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "typer", None)

    with pytest.raises(SystemExit) as ended:
        noob_cloud.cli.main()

    assert ended.value.code == 2
    assert "pip install 'noob-cloud[cli]'" in capsys.readouterr().err


def test_screen_shows_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch):
    """Bars are for terminals, and not for programs."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Screen().progress("counting", 3) as bar:
        bar.advance()
        bar.set(2, total=4, what="still counting")
        task = bar.progress.tasks[0]
        assert (task.completed, task.total, task.description) == (2, 4, "still counting")
    with Screen(json=True).progress("counting") as bar:
        assert bar.progress.disable


def test_each_runner_is_opened_with_its_settings(fake, monkeypatch: pytest.MonkeyPatch):
    """Names, workers and queues of the command line become the runner's arguments."""
    made: list[tuple[str, dict[str, Any]]] = []

    class Opened:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            made.append(("closed", {}))

    def of(name: str) -> Any:
        def make(_tube: Any, **options: Any) -> Opened:
            made.append((name, options))
            return Opened()

        return make

    runners = noob_cloud.runner
    for name in ("MultiProcessRunner", "DistributedRunner", "QueuedRunner"):
        monkeypatch.setattr(runners, name, of(name), raising=False)
    tube = SimpleNamespace()
    asked = [
        Settings("multiprocess", workers="3"),
        Settings("distributed", workers="a:1+gpu", token="a-token-for-tests"),
        Settings("queued", queue="q.db", coordinator="http://c:1", workers="2"),
        Settings("queued", coordinator="http://c:1", token="a-token-for-tests"),
    ]
    for settings in asked:
        with open_runner(tube, "tube.yaml", settings):
            pass

    opened = [options for name, options in made if name != "closed"]
    assert opened[0]["max_workers"] == 3
    assert opened[1]["workers"][0].tags == {"gpu"}
    assert opened[2]["workers"] == 2
    assert str(opened[2]["queue"].path).endswith("q.db")
    assert opened[3]["queue"] == "http://c:1"
    assert opened[3]["token"] == "a-token-for-tests"
    assert [name for name, _ in made].count("closed") == 4
