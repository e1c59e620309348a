"""`noob-cloud dev`: the stacks that `cdk deploy` puts on AWS, on this machine."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live

from noob_cloud.cli.errors import UsageError
from noob_cloud.cli.screen import screen, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

    from rich.table import Table

_REFRESH_SECONDS = 1.0
_COUNTED = ("invocations", "errors", "throttles")


class Kind(StrEnum):
    """What stands in for AWS."""

    EMULATED = "emulated"
    LOCALSTACK = "localstack"


_TOLD = {
    Kind.EMULATED: ("The emulated cloud", "half a minute"),
    Kind.LOCALSTACK: ("LocalStack", "a minute or two"),
}


def dev(
    context: typer.Context,
    *,
    name: Annotated[
        str | None, typer.Option(help="Of the deployment; by default as noob-cloud.toml says it.")
    ] = None,
    project: Annotated[
        Path | None, typer.Option(help="Folder of your own code, with its noob-cloud.toml.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--context", "-c", help="A setting of the deployment, as cdk takes it: k=v."),
    ] = None,
    cloud: Annotated[
        Kind,
        typer.Option(
            help="What stands in for AWS: our own emulation of all that the stacks have, or"
            " LocalStack, which is installed into an environment of its own at first."
        ),
    ] = Kind.EMULATED,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Of a LocalStack that runs already: deploy to that."),
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            help="Of this machine, where the functions of that LocalStack find the coordinator if"
            " they run in containers."
        ),
    ] = "",
    directory: Annotated[
        Path, typer.Option(help="For its files and its logs; emptied at the start.")
    ] = Path("noob-cloud-dev"),
    port: Annotated[
        int, typer.Option(help="Of the cloud that is started here; 0: any free one.")
    ] = 4566,
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
    options: dict[str, Any] = {"port": port, "concurrency": concurrency, "gpus": gpus}
    kind = _kind(context, cloud, endpoint, address)
    if kind is Kind.LOCALSTACK:
        options |= {"endpoint": endpoint, "address": address, "say": _say}
    settings = _settings(setting or [], name, project)
    signal.signal(signal.SIGTERM, _end)
    try:
        with _started(kind, directory, options) as started:
            deployment, (what, needed) = settings["name"], _TOLD[kind]
            _say(f"{what} answers at {started.url}; deploying {deployment}: {needed}.")
            started.deploy(context=settings)
            url = started.wait_for_coordinator(deployment)
            screen.out.print(_status(started))
            _say(f"The coordinator answers at {url}; logs are in {started.logs}.")
            environment = {**started.environment, "NOOB_CLOUD_DEPLOYMENT": deployment}
            if run:
                raise typer.Exit(_exec(command, environment))
            for key, value in environment.items():
                screen.out.print(f"export {key}={value}", markup=False)
            _say("Ctrl-C takes everything down.")
            _watch(started)
    except KeyboardInterrupt:
        if run:
            raise
        _say("Everything is down.")
    if endpoint is not None:
        _say(f"The stacks stay in the LocalStack at {endpoint}.")


def local_cloud() -> Any:
    """Return `localdev.local` of the checkout that this package is installed from."""
    return _of_checkout("localdev.local")


def deployment_name(settings: Mapping[str, str]) -> str:
    """Return the name that these settings give a deployment, with the project's file, if any.

    Raises:
        UsageError: the settings are wrong.
    """
    try:
        read = _of_checkout("infra.settings").read(settings, folder=_root())
    except ValueError as error:  # each of them is a sentence
        raise UsageError(str(error)) from error
    return str(read.name)


def _root() -> Path:
    root = Path(__file__).resolve().parents[4]
    if not (root / "localdev" / "local.py").exists():
        raise UsageError(
            "noob-cloud dev deploys the stacks of a checkout of noob-cloud, and this is an"
            " installed package: clone the repository and run `make dev` there."
        )
    return root


def _of_checkout(module: str) -> Any:
    root = str(_root())
    if root not in sys.path:
        sys.path.insert(0, root)
    return importlib.import_module(module)


def _kind(context: typer.Context, cloud: Kind, endpoint: str | None, address: str) -> Kind:
    """Return what was asked for: an endpoint is a LocalStack's, unless the other one was named."""
    if endpoint is None:
        if address:
            raise UsageError(
                "--address is for the LocalStack that --endpoint names: add --endpoint"
            )
        return cloud
    source = context.get_parameter_source("cloud")
    if cloud is Kind.EMULATED and source is not None and source.name == "COMMANDLINE":
        raise UsageError("--endpoint names a LocalStack: leave --cloud out, or say localstack")
    return Kind.LOCALSTACK


def _settings(given: list[str], name: str | None, project: Path | None) -> dict[str, str]:
    settings = dict(_setting(each) for each in given)
    settings |= {} if name is None else {"name": name}
    if project is not None:
        if not project.is_dir():
            raise UsageError(
                f"There is no folder {project}: --project names the folder of your code."
            )
        settings["project"] = str(project.resolve())
    return {**settings, "name": deployment_name(settings)}


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--context {text!r} is no setting: KEY=VALUE")
    return key, value


@contextmanager
def _started(kind: Kind, directory: Path, options: dict[str, Any]) -> Iterator[Any]:
    """Start the cloud, and take it down at the end; an error is a sentence after its details."""
    local = local_cloud()
    try:
        _of_checkout("localdev.cdk").program()  # before anything is installed or started
        if kind is Kind.LOCALSTACK:
            chosen = _of_checkout("localdev.localstack.cloud").LocalStackCloud
        else:
            chosen = local.LocalCloud
        with chosen(directory, **options) as started:
            yield started
    except local.RefusedError as error:
        raise UsageError(str(error)) from error
    except local.LocalCloudError as error:
        said, _, details = str(error).partition("\n")
        if details:
            _say(details)
        raise local.LocalCloudError(said.rstrip(":")) from error


def _exec(command: list[str], environment: dict[str, str]) -> int:
    before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the command first
    try:
        done = subprocess.run(command, env={**os.environ, **environment}, check=False)  # noqa: S603 - the user's own
    except FileNotFoundError as error:
        raise UsageError(f"{command[0]}: there is no such program") from error
    finally:
        signal.signal(signal.SIGINT, before)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def _watch(cloud: Any) -> None:
    """Show how things are until interrupted, or until something ends by itself."""
    if not screen.out.is_terminal:
        while True:
            time.sleep(_REFRESH_SECONDS)
            cloud.check()
    with Live(_status(cloud), console=screen.out, auto_refresh=False) as live:
        while True:
            time.sleep(_REFRESH_SECONDS)
            cloud.check()
            live.update(_status(cloud), refresh=True)


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
