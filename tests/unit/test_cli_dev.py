"""`noob-cloud dev`: what it asks for, and what it says where it cannot start."""

from __future__ import annotations

import shutil
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("boto3")
pytest.importorskip("uvicorn")

from localdev import cdk
from localdev.directory import Directory
from localdev.errors import RefusedError

from noob_cloud.cli.app import run_app
from noob_cloud.cli.dev import deployment_name
from noob_cloud.cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it locks files as Unix does")


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """The command ends by SIGTERM in its own way."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout without the CDK, and a PATH with node alone."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "node").write_text("#!/bin/sh\n")
    (programs / "node").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(cdk, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def ready(checkout: Path) -> Path:
    """What looks like a checkout with the CDK."""
    own = checkout / "node_modules" / "aws-cdk" / "bin" / "cdk"
    own.parent.mkdir(parents=True)
    own.touch()
    return checkout


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return what the command says, which it does not begin to do."""
    assert run_app(["dev", *words]) == 2
    return " ".join(capsys.readouterr().err.split())


def test_no_node(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without Node.js it says where to get it, before it starts or installs anything."""
    (checkout / "bin" / "node").unlink()

    said = refused(capsys, "--cloud", "localstack", "--directory", str(checkout / "cloud"))

    assert "https://nodejs.org" in said
    assert not (checkout / "cloud").exists()


def test_no_cdk(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the CDK it says what installs it."""
    said = refused(capsys, "--directory", str(checkout / "cloud"))

    assert f"`npm ci` in {checkout}" in said


def test_port_taken(ready: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A port that is taken is named, with both ways out."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused(capsys, "--port", str(port), "--directory", str(ready / "cloud"))

    assert f"Port {port} is taken" in said
    assert f"--endpoint http://127.0.0.1:{port}" in said


def test_endpoint_silent(ready: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An endpoint at which nothing answers is named; the command to start a LocalStack, too."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    url = f"http://127.0.0.1:{port}"

    said = refused(capsys, "--endpoint", url, "--directory", str(ready / "cloud"))

    assert f"Nothing answers at {url}" in said
    assert "localstack start" in said


def test_endpoint_of_another_kind(ready: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that is no LocalStack is not deployed to."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        said = refused(capsys, "--endpoint", url, "--directory", str(ready / "cloud"))
        server.shutdown()

    assert f"{url} is no LocalStack" in said


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (["--cloud", "emulated", "--endpoint", "http://127.0.0.1:1"], "leave --cloud out"),
        (["--address", "192.0.2.1"], "add --endpoint"),
        (["--project", "/nowhere/at/all"], "There is no folder /nowhere/at/all"),
        (["-c", "name"], "KEY=VALUE"),
        (["-c", "nam=x"], "nam"),
        (["--exec"], "belong together"),
    ],
)
def test_options_that_contradict(
    capsys: pytest.CaptureFixture[str], words: list[str], way_out: str
) -> None:
    """What cannot be meant is refused, with the way out."""
    assert way_out in refused(capsys, *words)


def test_name_of_the_project(tmp_path: Path) -> None:
    """A deployment is called what the project's file says, unless the command line says more."""
    (tmp_path / "noob-cloud.toml").write_text('name = "pictures"\n')

    assert deployment_name({"project": str(tmp_path)}) == "pictures"
    assert deployment_name({"project": str(tmp_path), "name": "mine"}) == "mine"
    with pytest.raises(UsageError, match="name"):
        deployment_name({"name": "Not A Name"})


def test_directory_of_one_cloud(tmp_path: Path) -> None:
    """A directory in which a cloud runs is not emptied by a second one; afterwards it is."""
    first, second = Directory(tmp_path / "cloud"), Directory(tmp_path / "cloud")
    first.take()
    log = first.logs / "cloud.log"
    log.write_text("here")
    disks = (first.path / "tasks").resolve()

    with pytest.raises(RefusedError, match="Another local cloud runs"):
        second.take()
    assert log.exists()
    assert disks.exists()

    first.leave()
    assert log.exists()
    assert not disks.exists()
    second.take()
    assert not log.exists()
    second.leave()
    shutil.rmtree(tmp_path / "cloud")
