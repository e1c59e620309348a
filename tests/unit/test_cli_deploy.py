"""`noob-cloud deploy`: which command of the CDK it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from noob_cloud.cli.app import run_app

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the CDK's place that writes down what it was asked, and fails if told to."""
    path = tmp_path / "cdk"
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$PWD" "$@" >{tmp_path}/asked\nexit ${{FAIL:-0}}\n')
    path.chmod(0o755)
    monkeypatch.setenv("NOOB_CLOUD_CDK", str(path))
    return path


def asked(cdk: Path) -> list[str]:
    return cdk.with_name("asked").read_text().splitlines()


def test_project_and_settings_are_context(cdk: Path, tmp_path: Path) -> None:
    """The project's full path and each setting reach the CDK, which runs where the stacks are."""
    folder = tmp_path / "mine"
    folder.mkdir()

    status = run_app(
        ["deploy", "--project", str(folder), "--name", "a", "-c", "python=3.12", "--yes"]
    )

    assert status == 0
    assert asked(cdk) == [
        str(ROOT),
        "deploy",
        "--all",
        *("-c", f"project={folder}"),
        *("-c", "name=a"),
        *("-c", "python=3.12"),
        "--require-approval=never",
    ]


def test_failure_of_the_cdk_is_ours(cdk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the CDK could not do is exit code 1; named stacks are deployed alone."""
    monkeypatch.setenv("FAIL", "7")

    assert run_app(["deploy", "a-storage"]) == 1
    assert asked(cdk)[1:] == ["deploy", "a-storage"]


def test_dry_run_runs_nothing(cdk: Path) -> None:
    """With --dry-run the command is only said."""
    assert run_app(["deploy", "--dry-run"]) == 0
    assert not cdk.with_name("asked").exists()


@pytest.mark.parametrize("words", [["--project", "absent"], ["-c", "python"]])
def test_wrong_arguments(cdk: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is not there and a setting without a value are refused with their names."""
    assert run_app(["deploy", *words]) == 2
    assert words[-1] in capsys.readouterr().err


def test_missing_cdk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the CDK's command line it says how to install it."""
    monkeypatch.setenv("NOOB_CLOUD_CDK", "/absent/cdk")

    assert run_app(["deploy"]) == 2
    assert "npm ci" in " ".join(capsys.readouterr().err.split())
