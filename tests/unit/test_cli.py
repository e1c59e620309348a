"""The command line in this process: what it prints and how it ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from noob_cloud import native
from noob_cloud.cli import options
from noob_cloud.cli.app import run_app
from noob_cloud.queue import TaskQueue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TUBE = """\
noob_id: cli-test
noob_model: noob.tube.TubeSpecification
noob_version: 1003.0.2
input:
  start:
    type: int
    default: 0
nodes:
  source:
    type: noob_cloud_testnodes.counter
    params: {start: input.start, limit: 30}
  twice:
    type: noob_cloud_testnodes.double
    depends:
      - value: source.index
  return:
    type: return
    depends: twice.value
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory with a tube in it, and nothing of the environment's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("NOOB_CLOUD_COORDINATOR", "NOOB_CLOUD_TOKEN", "NOOB_CLOUD_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "tube.yaml").write_text(TUBE)
    return tmp_path


@pytest.fixture
def cli(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command: its exit code, standard output and standard error."""

    def run(*args: str) -> tuple[int, str, str]:
        code = run_app(list(args))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def ask(cli: Callable[..., tuple[int, str, str]]) -> Callable[..., Any]:
    """Run a command with `--json`: its document, after checking the exit code."""

    def run(*args: str, code: int = 0) -> Any:
        ended, out, err = cli(*args, "--json")
        assert ended == code, (out, err)
        return json.loads(out)

    return run


def test_help_names_the_commands_and_exit_codes(cli):
    """`--help` is enough to find one's way."""
    code, out, _ = cli("--help")

    assert code == 0
    assert "Exit codes" in out
    for name in ("run", "explain", "coordinator", "worker", "submit", "status", "redrive"):
        assert name in out


@pytest.mark.parametrize("command", ["status", "submit", "redrive", "coordinator", "worker", "run"])
def test_a_flag_takes_no_value_and_says_none(cli, command: str):
    """`--json <bool>` would be typed as it is read."""
    said = cli(command, "--help")[1]

    flags = [line for line in said.splitlines() if "<bool>" in line]
    assert [line.split()[1] for line in flags] in ([], ["--help"])


def test_version(cli):
    """`--version` says it and ends."""
    assert cli("--version")[:2] == (0, "noob-cloud 0.1.0\n")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["fly"], "No such command"),
        (["run", "none.yaml"], "There is no file none.yaml"),
        (["run", "no-such-id"], "no-such-id cannot be loaded"),
        (["run", "tube.yaml", "--runner", "magic"], "magic"),
        (["run", "tube.yaml", "-i", "start"], "not key=value"),
        (["run", "tube.yaml", "--workers", "2"], "--workers wants another --runner"),
        (["run", "tube.yaml", "-r", "distributed"], "needs --workers HOST:PORT"),
        (["run", "tube.yaml", "-r", "distributed", "-w", "3"], "needs --workers HOST:PORT"),
        (["run", "tube.yaml", "-r", "multiprocess", "-w", "a:1"], "--runner distributed"),
        (["run", "tube.yaml", "--run-id", "mine"], "--run-id is for --runner queued"),
        (["run", "tube.yaml", "-r", "queued"], "needs --queue FILE or --coordinator"),
        (["run", "tube.yaml", "--placement", "no.yaml"], "no placement file no.yaml"),
        (["explain", "tube.yaml", "--placement", "no.yaml"], "no placement file no.yaml"),
        (["status"], "--coordinator URL"),
        (["status", "--queue", "none.db"], "no queue file none.db"),
        (["submit"], "a TUBE to run, or --task NODE"),
        (["submit", "tube.yaml", "--queue", "new.db"], "needs a coordinator"),
        (["redrive", "--queue", "none.db"], "ids of dead tasks, or --all"),
        (["schema", "song"], "song"),
    ],
)
def test_wrong_use_is_said_in_a_sentence(cli, args: list[str], said: str):
    """Exit code 2, a sentence on standard error, nothing on standard output, no traceback."""
    code, out, err = cli(*args)

    assert code == 2
    assert said in " ".join(err.split())
    assert not out
    assert "Traceback" not in err


def test_debug_shows_the_traceback(cli):
    """`--debug` is for whoever mends it."""
    _, _, err = cli("--debug", "run", "none.yaml")

    assert "Traceback (most recent call last)" in err


def test_json_errors_are_one_object(ask):
    """A program gets the class and the sentence of an error."""
    assert ask("run", "none.yaml", code=2)["error"] == "UsageError"


def test_explain_says_why(cli, ask):
    """Each node has its place and the reason, for people and for programs."""
    code, out, err = cli("explain", "tube.yaml")
    rows = {row["node"]: row for row in ask("explain", "tube.yaml")}

    assert code == 0
    assert "epoch order" in out
    assert "1 of 3 nodes" in err
    assert rows["source"]["where"] == "pinned"
    assert rows["twice"]["where"] == "remote"
    assert all(row["why"] for row in rows.values())


def test_explain_says_which_parts_are_native(cli, monkeypatch: pytest.MonkeyPatch):
    """And why none are, where the core is left aside."""
    monkeypatch.setattr(native, "core", object())
    monkeypatch.setattr(native, "reason", "noob_cloud_core 0.1.0")
    _, _, err = cli("explain", "tube.yaml")
    assert "Native parts (noob_cloud_core 0.1.0): values on the wire" in " ".join(err.split())
    monkeypatch.setattr(native, "core", None)
    monkeypatch.setattr(native, "reason", "left aside: NOOB_CLOUD_NATIVE=0")
    _, _, err = cli("explain", "tube.yaml")
    assert "Native parts: none, the Rust core is left aside" in " ".join(err.split())


def test_explain_reads_the_placement_beside_the_tube(ask, here: Path):
    """NAME.cloud.yaml beside NAME.yaml holds; another one if it is given."""
    (here / "tube.cloud.yaml").write_text("nodes: {twice: {affinity: [gpu]}}")
    (here / "other.yaml").write_text("nodes: {twice: {required: [big]}}")

    beside = {row["node"]: row for row in ask("explain", "tube.yaml")}
    other = {row["node"]: row for row in ask("explain", "tube.yaml", "--placement", "other.yaml")}

    assert beside["twice"]["affinity"] == ["gpu"]
    assert (other["twice"]["affinity"], other["twice"]["required"]) == ([], ["big"])


def test_explain_names_a_wrong_placement(cli, here: Path):
    """A placement for a node that does not exist is an error that names it."""
    (here / "tube.cloud.yaml").write_text("nodes: {thrice: {affinity: [gpu]}}")

    code, _, err = cli("explain", "tube.yaml")

    assert code == 2
    assert "thrice" in err


def test_schema_of_a_placement(cli):
    """The schema is JSON with or without `--json`."""
    code, out, _ = cli("schema", "placement")

    assert code == 0
    assert json.loads(out)["properties"]["nodes"]


def test_run_gives_results_in_order(ask):
    """`-n` epochs, their results, and how long it took."""
    report = ask("run", "tube.yaml", "-n", "4", "-i", "start=10")

    assert report["results"] == [20, 22, 24, 26]
    assert report["count"] == 4
    assert report["runner"] == "SynchronousRunner"
    assert report["interrupted"] is False


def test_run_without_n_ends_with_its_sources(ask):
    """Without `-n` a run goes on until nothing is left."""
    assert ask("run", "tube.yaml", "-i", "start=5")["results"][-1] == 68


def test_run_shows_a_table(cli):
    """People see the first results, and how many more there are."""
    code, out, err = cli("run", "tube.yaml", "-n", "25")

    assert code == 0
    assert "38" in out
    assert "40" not in out
    assert "5 more" in err
    assert "25 results" in err


def test_one_is_not_many(cli):
    """What is counted is named as one says it."""
    assert "1 result in" in cli("run", "tube.yaml", "-n", "1")[2]
    assert "1 of 3 nodes may run elsewhere, in 1 stage;" in cli("explain", "tube.yaml")[2]
    assert (
        "0 tasks are ready again"
        in cli("submit", "--task", "x", "--queue", "q.db")[2]
        + cli("redrive", "--all", "--queue", "q.db")[2]
    )


def test_names_are_shown_as_they_are(cli, here: Path):
    """A bracket in a path or a name is no markup of the screen's."""
    tube, queue = "[b]odd/tube.yaml", "[b]q.db"
    (here / tube).parent.mkdir()
    (here / "tube.yaml").rename(here / tube)

    for words in (["run", tube, "-n", "1", "-o", "[i]r.json"], ["explain", tube]):
        code, out, err = cli(*words)
        assert code == 0, err
        assert "-> [i]r.json" in err or f"Plan of {tube}" in out
    assert cli("submit", "--task", "[red]x", "--queue", queue)[0] == 0
    code, out, _ = cli("status", "--queue", queue)
    assert (code, queue in out) == (0, True)


def test_run_writes_results_to_a_file(cli, ask, here: Path):
    """`--output` takes the results; standard output does not repeat them."""
    code, out, _ = cli("run", "tube.yaml", "-n", "3", "-o", "r.jsonl")
    report = ask("run", "tube.yaml", "-n", "3", "-o", "r.json")

    assert (code, out) == (0, "")
    assert (here / "r.jsonl").read_text() == "0\n2\n4\n"
    assert json.loads((here / "r.json").read_text()) == [0, 2, 4]
    assert "results" not in report


def test_run_feeds_inputs_of_each_epoch(ask, here: Path):
    """`--feed` gives process-scoped inputs, an epoch for each line."""
    (here / "tube.yaml").write_text(
        TUBE.replace("type: int", "type: int\n    scope: process")
        .replace("params: {start: input.start, limit: 30}", "")
        .replace("value: source.index", "value: input.start")
    )
    (here / "epochs.jsonl").write_text('{"start": 4}\n{"start": 6}\n')

    assert ask("run", "tube.yaml", "--feed", "epochs.jsonl")["results"] == [8, 12]


def test_run_reports_what_a_node_raised(cli, here: Path):
    """A node's exception is exit code 1, with its type and its node."""
    (here / "tube.yaml").write_text(TUBE.replace("{start: input.start", "{start: nonsense"))

    code, out, err = cli("run", "tube.yaml", "-n", "1")

    assert code == 1
    assert "TypeError" in err or "ValueError" in err
    assert "Traceback" not in err
    assert not out


def test_a_task_from_submission_to_result(ask, cli):
    """A task submitted by hand is seen waiting, running and done."""
    where = ("--queue", "q.db")
    made = ask("submit", "--task", "resize", "--epoch", "3", "--data", '{"w": 8}', *where)
    again = ask("submit", "--task", "other", "--unique", "one", "--tags", "gpu", *where)
    same = ask("submit", "--task", "other", "--unique", "one", "--tags", "gpu", *where)
    assert again["task_id"] == same["task_id"]
    assert ask("status", *where)["tasks"]["ready"] == 2

    with TaskQueue(persistent=True, db_path="q.db") as queue:
        task = queue.claim_task("w1")
        assert task is not None
        assert (task.node_id, task.payload) == ("resize", {"w": 8})
        queue.start_task(task)
        assert ask("status", *where)["running"][0]["worker"] == "w1"
        queue.complete_task(task, {"done": True})

    assert ask("results", str(made["task_id"]), *where)["result"] == {"done": True}
    code, out, _ = cli("status", *where)
    assert code == 0
    assert "gpu" in out
    assert "Waiting for tags" in out


def test_a_dead_task_comes_back_and_is_cancelled(ask, cli):
    """Dead letters are shown with their error, redriven, and cancelled; each exits as it should."""
    where = ("--queue", "q.db")
    id_ = str(ask("submit", "--task", "x", "--retries", "0", *where)["task_id"])
    with TaskQueue(persistent=True, db_path="q.db") as queue:
        task = queue.claim_task("w1")
        assert task is not None
        queue.start_task(task)
        queue.fail_task(task, "no paper", "Traceback: line 1")

    code, out, err = cli("results", id_, *where)
    assert code == 1
    assert "no paper" in out
    assert "line 1" in err
    assert "no paper" in cli("status", *where)[1]

    assert f"1 task is ready again: {id_}" in cli("redrive", id_, *where)[2]
    with TaskQueue(persistent=True, db_path="q.db") as queue:
        task = queue.claim_task("w1")
        assert task is not None
        queue.fail_task(task, "no paper")
    assert ask("redrive", "--all", *where) == {"redriven": [int(id_)]}
    assert ask("cancel", id_, *where) == {"cancelled": {id_: True}}
    assert ask("cancel", id_, *where) == {"cancelled": {id_: False}}
    assert cli("results", id_, *where)[0] == 1
    assert cli("results", "999", *where)[0] == 2
    assert cli("results", "run-1", *where)[0] == 2
    assert cli("redrive", "word", *where)[0] == 2


def test_a_shell_completes_tubes(here: Path):
    """Folders and tubes are offered, placements and other files are not."""
    (here / "tube.cloud.yaml").touch()
    (here / "tubes").mkdir()
    (here / "tubes" / "two.yml").touch()
    (here / "notes.txt").touch()

    assert options._tubes("t") == ["tube.yaml", "tubes/"]
    assert options._tubes("tubes/") == ["tubes/two.yml"]
