"""Every command and program of the README's quick start runs as it stands there."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PORTS = ("8471", "8472")


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks, each with its language."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def free_ports(count: int) -> list[str]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [str(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@pytest.fixture
def shell(tmp_path: Path) -> Generator[subprocess.Popen[str], None, None]:
    """One shell in a folder like the project's; what it started ends with it."""
    here = tmp_path / "noob-cloud"
    here.mkdir()
    (here / "examples").symlink_to(ROOT / "examples")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "160",
    }
    process = subprocess.Popen(
        ["bash", "-e"],
        cwd=here,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "errors").open("w"),
        text=True,
        start_new_session=True,
    )
    yield process
    os.killpg(process.pid, signal.SIGTERM)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def type_in(shell: subprocess.Popen[str], text: str) -> str:
    """Type something in, and read what comes until it is done."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdin.write(f"{text}\necho --done--\n")
    shell.stdin.flush()
    said = []
    for line in shell.stdout:
        if line == "--done--\n":
            return "".join(said)
        said.append(line)
    raise AssertionError(f"the shell ended in\n{text}\nafter saying\n{''.join(said)}")


def wait_for(port: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"nothing answers on port {port}")


@pytest.mark.timeout(400)  # it finds everything in four pictures four times
def test_the_quick_start_runs(shell: subprocess.Popen[str], tmp_path: Path):
    """Explain, run, all cores, a cluster, a queue: each gives the same counts."""
    start = README.index("## Quick start")
    text = README[start : README.index("\n## ", start + 5)]
    ports = free_ports(len(PORTS))
    for ours, free in zip(PORTS, ports, strict=True):
        text = text.replace(ours, free)
    counts = []
    for language, block in blocks(text):
        if language == "sh":
            said = type_in(shell, block.replace("source .venv/bin/activate\n", ""))
            if "worker_server" in block:
                for port in ports:
                    wait_for(port)
            if "status" in block:
                assert "completed" in said
        elif language == "python":
            program = tmp_path / "program.py"
            program.write_text(block)
            counts.append(type_in(shell, f"python - < {program}"))

    counts = [said.splitlines()[-1] for said in counts]  # the servers may speak before
    assert len(counts) == 3
    assert set(counts) == {counts[0]}
    assert "(24, 'coins')" in counts[0]


def test_the_map_names_what_is_there():
    """Each folder and page that the README names exists."""
    for path in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / path).exists(), path
    for folder in re.findall(r"^\| `(\w[\w/]*/)`", README, re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder
