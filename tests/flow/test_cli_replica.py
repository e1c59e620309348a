"""A replica from the command line, with the real Litestream: keep it, lose the machine, restore."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from noob_cloud.coordinator.durability import Durability
from noob_cloud.queue import TaskQueue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from noob_cloud.coordinator.durability import Place

TOKEN = "owner-token-0123456789"
COMMAND = [sys.executable, "-m", "noob_cloud.cli"]


def environment(**more: str) -> dict[str, str]:
    found = {k: v for k, v in os.environ.items() if not k.startswith("NOOB_CLOUD_")}
    found |= {"NOOB_CLOUD_TOKEN": TOKEN, "NOOB_CLOUD_REPLICA_LEASE_SECONDS": "2"}
    return found | {"COLUMNS": "200"} | more


def url_of(place: Place) -> str:
    return f"s3://{place.bucket}/{place.prefix}?endpoint_url={place.endpoint_url}"


def command(*args: str, **env: str) -> tuple[int, str, str]:
    """Run a command to its end; its exit code, output and errors."""
    done = subprocess.run(
        [*COMMAND, *args],
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


class Served:
    """`noob-cloud coordinator` as a process, read line by line until it listens."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "coordinator", "--port", "0", *args],
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip())
            if " at http" in line:
                self.url = line.split(" at ")[1].split(",")[0]
                break
        else:
            raise AssertionError("\n".join(self.said))

    def end(self, *signals: int) -> tuple[int, str]:
        """Send signals; its exit code and what it still said."""
        for number in signals:
            self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=40)
        return self.process.returncode, rest


@pytest.fixture
def start() -> Iterator[Any]:
    """Start coordinators; all end at the end."""
    made: list[Served] = []

    def begin(*args: str) -> Served:
        made.append(Served(*args))
        return made[-1]

    yield begin
    for served in made:
        if served.process.poll() is None:
            served.process.kill()
            served.process.communicate()


def test_a_queue_is_restored_while_it_is_served(here: Path, place: Place, start):
    """What was acknowledged is in the restored file at once; the coordinator goes on."""
    one = start("--replica", url_of(place), "--queue", "q.db")
    assert any("empty queue" in line for line in one.said), one.said
    there = {"NOOB_CLOUD_COORDINATOR": one.url}
    assert command("submit", "--task", "blur", **there)[0] == 0

    code, out, err = command("restore", "--replica", url_of(place), "-o", "copy.db", "--json")

    assert code == 0, err
    told = json.loads(out)
    assert (told["epoch"], told["output"]) == (1, "copy.db")
    assert told["bytes"] == (here / "copy.db").stat().st_size
    with TaskQueue(persistent=True, db_path=here / "copy.db") as copy:
        assert [task.node_id for task in copy.list_tasks()] == ["blur"]
    assert command("submit", "--task", "again", **there)[0] == 0
    code, rest = one.end(signal.SIGTERM)
    assert (code, "Error" in rest) == (0, False), rest


def test_a_successor_begins_with_what_was_acknowledged(here: Path, place: Place, start):
    """On another machine (another folder here), after the first was killed; the screen tells."""
    one = start("--replica", url_of(place), "--queue", "one/q.db")
    assert command("submit", "--task", "blur", NOOB_CLOUD_COORDINATOR=one.url)[0] == 0
    one.end(signal.SIGKILL)

    two = start("--replica", url_of(place), "--queue", "two/q.db")

    said = "\n".join(two.said)
    assert "Another coordinator holds the lease" in said
    assert "Restoring epoch 1" in said
    code, out, err = command("status", "--json", NOOB_CLOUD_COORDINATOR=two.url)
    assert code == 0, err
    assert json.loads(out)["tasks"]["ready"] == 1
    assert two.end(signal.SIGINT)[0] == 130


def test_a_point_in_time_and_an_epoch_are_restored(here: Path, place: Place):
    """`--at` finds the epoch of a moment by itself; a moment to come is the newest state."""
    moments = []
    for name in ("early", "late"):
        with (
            Durability(place, here / "served", seconds=5.0) as durable,
            TaskQueue(persistent=True, db_path=durable.path) as queue,
        ):
            queue.submit_task(name, 0)
        time.sleep(1.1)
        moments.append(datetime.now(UTC).isoformat())
        time.sleep(1.1)
    later = datetime.fromtimestamp(time.time() + 3600, UTC).isoformat()
    asked = {
        "at-early.db": (["--at", moments[0]], 1, ["early"]),
        "at-late.db": (["--at", moments[1]], 2, ["early", "late"]),
        "to-come.db": (["--at", later], 2, ["early", "late"]),
        "epoch-1.db": (["--epoch", "1"], 1, ["early"]),
    }
    for name, (words, epoch, tasks) in asked.items():
        code, out, err = command(
            "restore", "--replica", url_of(place), "-o", name, "--json", *words
        )
        assert code == 0, (name, err, out)
        assert json.loads(out)["epoch"] == epoch, name
        with TaskQueue(persistent=True, db_path=here / name) as queue:
            assert sorted(task.node_id for task in queue.list_tasks()) == tasks, name


@pytest.mark.parametrize("replicated", [False, True])
def test_a_second_ctrl_c_changes_nothing(here: Path, place: Place, start, *, replicated: bool):
    """The end is bounded: the file is closed, the lease given away, and no traceback shown."""
    words = ["--replica", url_of(place)] if replicated else []
    one = start("--queue", "q.db", *words)
    polling = subprocess.Popen(
        [*COMMAND, "worker", "--coordinator", one.url, "--allow-module", "json", "--threads"],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert command("submit", "--task", "blur", NOOB_CLOUD_COORDINATOR=one.url)[0] == 0
        code, rest = one.end(signal.SIGINT, signal.SIGINT, signal.SIGINT)
    finally:
        polling.kill()
        polling.wait()

    assert code == 130, rest
    assert "Traceback" not in rest
    assert "ERROR" not in rest
    if replicated:
        again = start("--queue", "q.db", *words)
        assert not any("holds the lease" in line for line in again.said)
    else:
        assert not (here / "q.db-wal").exists()
