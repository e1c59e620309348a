"""`noob-cloud dev`: the stacks that `cdk deploy` puts on AWS, on this machine."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live

from noob_cloud.cli.errors import UsageError
from noob_cloud.cli.screen import screen, table

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from rich.table import Table

_REFRESH_SECONDS = 1.0
_COUNTED = ("invocations", "errors", "throttles")


def dev(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Option(help="Name of the deployment.")] = "noob-cloud",
    project: Annotated[
        Path | None, typer.Option(help="Folder of your own code, with its noob-cloud.toml.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--context", "-c", help="A setting of the deployment, as cdk takes it: k=v."),
    ] = None,
    directory: Annotated[
        Path, typer.Option(help="For its files and its logs; emptied at the start.")
    ] = Path("noob-cloud-dev"),
    port: Annotated[int, typer.Option(help="Of the emulated cloud; 0: any free one.")] = 4566,
    concurrency: Annotated[int, typer.Option(help="Lambda environments at once.")] = 10,
    gpus: Annotated[int, typer.Option(help="GPUs that tasks are told of.")] = 1,
    run: Annotated[
        bool, typer.Option("--exec", help="Run the command after -- against it, and end with it.")
    ] = False,
) -> None:
    """Deploy the stacks onto an emulated cloud on this machine, and run what is deployed.

    No account, no Docker: AWS's API is emulated, Lambda functions and containers are processes.
    Ctrl-C takes everything down.

        noob-cloud dev --exec -- pytest tests/
    """
    command = list(context.args)
    if run != bool(command):
        raise UsageError("--exec and a command belong together: noob-cloud dev --exec -- pytest")
    local = local_cloud()
    settings = dict(_setting(each) for each in setting or [])
    settings["name"] = name
    if project is not None:
        settings["project"] = str(project.resolve())
    signal.signal(signal.SIGTERM, _end)
    cloud = local.LocalCloud(directory, port=port, concurrency=concurrency, gpus=gpus)
    try:
        with cloud:
            _say(f"The emulated cloud answers at {cloud.url}; deploying {name}: half a minute.")
            cloud.deploy(context=settings)
            url = cloud.wait_for_coordinator(name)
            screen.out.print(_status(cloud))
            _say(f"The coordinator answers at {url}; logs are in {cloud.logs}.")
            environment = {**cloud.environment, "NOOB_CLOUD_DEPLOYMENT": name}
            if run:
                raise typer.Exit(_exec(command, environment))
            for key, value in environment.items():
                screen.out.print(f"export {key}={value}", markup=False)
            _say("Ctrl-C takes everything down.")
            _watch(lambda: _status(cloud))
    except KeyboardInterrupt:
        if run:
            raise
        _say("Everything is down.")


def local_cloud() -> Any:
    """Return `localdev.local` of the checkout that this package is installed from."""
    root = Path(__file__).resolve().parents[4]
    if not (root / "localdev" / "local.py").exists():
        raise UsageError(
            "noob-cloud dev deploys the stacks of a checkout of noob-cloud, and this is an"
            " installed package: clone the repository and run `make dev` there."
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module("localdev.local")


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--context {text!r} is no setting: KEY=VALUE")
    return key, value


def _exec(command: list[str], environment: dict[str, str]) -> int:
    before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the command first
    try:
        done = subprocess.run(command, env={**os.environ, **environment}, check=False)  # noqa: S603 - the user's own
    except FileNotFoundError as error:
        raise UsageError(f"{command[0]}: there is no such program") from error
    finally:
        signal.signal(signal.SIGINT, before)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def _watch(status: Callable[[], Table]) -> None:
    """Show how things are until interrupted."""
    if not screen.out.is_terminal:
        while True:
            time.sleep(_REFRESH_SECONDS)
    with Live(status(), console=screen.out, auto_refresh=False) as live:
        while True:
            time.sleep(_REFRESH_SECONDS)
            live.update(status(), refresh=True)


def _status(cloud: Any) -> Table:
    """Return a line for each function, queue and service."""
    told = cloud.status()
    rows = []
    for each in told["functions"]:
        counts = [f"{each[key]} {key}" for key in _COUNTED if each.get(key)]
        rows.append(("function", each["name"], ", ".join([f"{each['running']} running", *counts])))
    rows += [("queue", each["queue"], f"calls {each['function']}") for each in told["sources"]]
    for each in told["services"]:
        where = ["at " + ", ".join(task["address"] for task in each["tasks"])]
        state = f"{each['running']} of {each['desired']} running"
        rows.append(("service", each["name"], " ".join([state, *(where if each["tasks"] else [])])))
    return table("", ("kind", "name", "state"), rows)


def _say(text: str) -> None:
    screen.err.print(text, markup=False, soft_wrap=True)


def _end(number: int, _frame: FrameType | None) -> None:
    """Take everything down when this process is told to end."""
    raise SystemExit(128 + number)
