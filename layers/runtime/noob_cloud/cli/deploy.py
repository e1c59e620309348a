"""`noob-cloud deploy`: the kit, with a project's own code, by the CDK's own command line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Annotated

import typer

import noob_cloud
from noob_cloud.cli.errors import UsageError
from noob_cloud.cli.screen import screen

_APP = "cdk.json"


def deploy(
    stacks: Annotated[
        list[str] | None, typer.Argument(metavar="[STACK]...", help="By default all of them.")
    ] = None,
    *,
    project: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Your code, with requirements.txt or pyproject.toml, and noob-cloud.toml.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the deployment; by default as noob-cloud.toml says it.")
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(
            "--context", "-c", metavar="KEY=VALUE", help="A setting, as in noob-cloud.toml."
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", metavar="", help="Do not ask about changes of rights.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Say the command, and do not run it.")
    ] = False,
) -> None:
    """Deploy to the AWS account of your credentials, with `cdk deploy` and nothing else.

    The account is prepared once for each region, by `npx cdk bootstrap`.
    """
    root = _root()
    words = [str(_cdk(root)), "deploy", *(stacks or ["--all"])]
    if project is not None:
        if not project.is_dir():
            raise UsageError(
                f"There is no folder {project}: --project names the folder of your code."
            )
        words += ["-c", f"project={project.resolve()}"]
    if name is not None:
        words += ["-c", f"name={name}"]
    for setting in context or ():
        if "=" not in setting:
            raise UsageError(f"{setting!r} is no KEY=VALUE: -c architecture=x86_64")
        words += ["-c", setting]
    if yes:
        words.append("--require-approval=never")
    if dry_run:
        screen.say(" ".join(words))
        return
    done = subprocess.run(words, cwd=root, check=False)  # noqa: S603 - the pinned command line
    if done.returncode:
        raise typer.Exit(1 if done.returncode > 0 else 128 - done.returncode)


def _root() -> Path:
    """Return the folder with the kit's stacks: the present one, or that of the installed kit."""
    places = [Path.cwd(), Path(noob_cloud.__file__).resolve().parents[3]]
    for place in places:
        if (place / _APP).is_file() and (place / "stacks").is_dir():
            return place
    raise UsageError(
        "The stacks are not installed with the package: clone the repository, and run"
        " `noob-cloud deploy --project DIR` in it."
    )


def _cdk(root: Path) -> Path:
    given = os.environ.get("NOOB_CLOUD_CDK")
    found = Path(given) if given else root / "node_modules" / ".bin" / "cdk"
    if not found.exists():
        raise UsageError(
            f"The CDK's command line is missing, {found}: run `npm ci` in {root} (Node.js 20 or"
            " newer), which installs the version that is pinned."
        )
    return found
