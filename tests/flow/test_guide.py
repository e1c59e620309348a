"""The user guide, followed word by word: its files are written and its blocks typed in, in order.

Replaced are only ports, the id of a run, and commands that stay are put into the background.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.conformance.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

GUIDE = (Path(__file__).parents[2] / "docs" / "DISTRIBUTED_EXECUTION.md").read_text("utf-8")
STAYS = re.compile(
    r"^(?:noob-cloud (?:coordinator|worker)|python -m noob_cloud\.runner\.worker_server)"
)


def section(title: str) -> list[tuple[str, str]]:
    """The blocks of a section: language and text."""
    start = GUIDE.index(f"\n## {title}\n")
    end = GUIDE.find("\n## ", start + 5)
    found = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE[start:end], re.MULTILINE | re.DOTALL)
    assert found, title
    return found


def only(title: str, language: str, number: int = 0) -> str:
    return [text for kind, text in section(title) if kind == language][number]


class Newcomer:
    """One shell in an empty folder, into which the guide is typed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"8000": str(free_port()), "8080": str(free_port())}
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NOOB_CLOUD_")}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "160",
        }
        self.shell = subprocess.Popen(
            ["bash", "-e", "-o", "pipefail"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def type_in(self, text: str) -> str:
        """Type shell lines in; what they said."""
        text = text.replace("\\\n", " ")
        for port, free in self.ports.items():
            text = text.replace(port, free)
        lines = [f"{line} &" if STAYS.match(line) else line for line in text.splitlines()]
        assert self.shell.stdin is not None
        assert self.shell.stdout is not None
        self.shell.stdin.write("\n".join([*lines, "echo; echo --done--", ""]))
        self.shell.stdin.flush()
        said = []
        for line in self.shell.stdout:
            if line == "--done--\n":
                return "".join(said)
            said.append(line)
        raise AssertionError(f"the shell ended in\n{text}\nafter saying\n{''.join(said)}")

    def program(self, text: str) -> str:
        """Save a program to a file and run it, as somebody who follows a guide does."""
        for port, free in self.ports.items():
            text = text.replace(f"port={port}", f"port={free}")
        self.write("program.py", text)
        return self.type_in("python program.py")

    def wait_for(self, port: str) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"http://127.0.0.1:{self.ports[port]}/health").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"nothing answers on port {port}")

    def end(self) -> None:
        """End the shell and what it started: asked first, then not."""
        os.killpg(self.shell.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.shell.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self.shell.pid, signal.SIGKILL)
        self.shell.communicate()


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    """With the guide's tube in the folder."""
    made = Newcomer(tmp_path)
    title = "A tube to follow with"
    made.write("my_nodes.py", only(title, "python"))
    made.write("pipeline.yaml", only(title, "yaml"))
    yield made
    made.end()


def test_on_one_machine(newcomer: Newcomer):
    """The tube runs, on all cores, and through a queue in a file."""
    said = newcomer.type_in(only("A tube to follow with", "sh"))
    assert "5 results" in said, said
    shown = "\nprint(len(results), sum(results))\n"
    cores = newcomer.program(only("All cores: MultiProcessRunner", "python") + shown)
    assert re.search(r"^100 \d+$", cores, re.MULTILINE), cores
    queue = "A queue: QueuedRunner and TaskQueue"
    said = newcomer.program(only(queue, "python") + shown)
    assert re.search(r"^1000 \d+$", said, re.MULTILINE), said
    newcomer.program(only(queue, "python", 1))


@pytest.mark.timeout(300)
def test_on_several_machines(newcomer: Newcomer):
    """A list of workers; then a coordinator and a worker, driven from here and from there."""
    workers = "A list of workers: DistributedRunner"
    token = newcomer.type_in(only(workers, "sh")).strip()
    assert len(token) == 64
    newcomer.type_in(only(workers, "sh", 1))
    newcomer.wait_for("8000")
    said = newcomer.program(only(workers, "python") + "\nprint(len(results))\n")
    assert "\n1000\n" in f"\n{said}", said

    blocks = [text for kind, text in section("A coordinator: several machines, one queue") if kind]
    serve, work, drive, hand_over = blocks
    newcomer.type_in(serve)
    newcomer.wait_for("8080")
    newcomer.type_in(work)
    assert "1,000 results" in newcomer.type_in(drive)
    submit, watch, results = hand_over.splitlines()
    said = newcomer.type_in(submit)
    run_id = re.search(r"Submitted run (\S+);", said)
    assert run_id is not None, said
    looked = newcomer.type_in(watch.partition("#")[0].replace("--watch", ""))  # one look ends
    assert run_id[1] in looked, looked
    said = newcomer.type_in(results.replace("RUN", run_id[1]))
    assert "completed: 1,000 results" in said, said
    assert len((newcomer.folder / "results.jsonl").read_text().splitlines()) == 1000


def test_placement(newcomer: Newcomer):
    """The file beside the tube is read by itself, and there is a schema of it."""
    newcomer.write("pipeline.cloud.yaml", only("Placement: which node may run where", "yaml"))

    said = newcomer.type_in("noob-cloud explain pipeline.yaml --json 2>/dev/null")
    (detect,) = [row for row in json.loads(said) if row["node"] == "detect"]
    assert (detect["affinity"], detect["required"]) == (["gpu"], ["cuda12"])
    assert "properties" in json.loads(newcomer.type_in("noob-cloud schema placement"))


def test_links_lead_somewhere():
    """Within the guide and to the pages beside it."""
    headings = re.findall(r"^#+ (.+)$", GUIDE, re.MULTILINE)
    known = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}
    for target in re.findall(r"\]\(([^)]+)\)", GUIDE):
        page, _, anchor = target.partition("#")
        if page:
            assert (Path(__file__).parents[2] / "docs" / page).exists(), target
        else:
            assert anchor in known, target
