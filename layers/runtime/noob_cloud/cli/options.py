"""Options that several commands share."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Annotated

import typer

from noob_cloud.cli.errors import UsageError
from noob_cloud.cli.screen import screen


def _json(value: bool) -> bool:  # noqa: FBT001 - Typer's callback
    if value:
        screen.keep_stdout_clean()
    return value


Json = Annotated[
    bool,
    typer.Option(
        "--json",
        metavar="",
        help="Print one JSON document on standard output, and nothing else there.",
        callback=_json,
        is_eager=True,
    ),
]


def _tubes(incomplete: str) -> list[str]:
    """Paths that a shell may complete to: folders, and YAML that is no placement."""
    folder, _, start = incomplete.rpartition("/")
    found = sorted(Path(folder or ".").glob(f"{glob.escape(start)}*"))
    before = f"{folder}/" if "/" in incomplete else ""
    return [
        f"{before}{path.name}{'/' if path.is_dir() else ''}"
        for path in found
        if (path.is_dir() and not path.name.startswith("."))
        or (path.suffix in (".yaml", ".yml") and not path.stem.endswith(".cloud"))
    ]


TubeArgument = Annotated[
    str,
    typer.Argument(
        metavar="TUBE",
        help="Path of the tube's YAML, or its noob_id.",
        autocompletion=_tubes,
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="KEY=VALUE",
        help="An input of the tube: key=value (JSON or text), or one JSON object. Repeatable.",
    ),
]


def _rival(context: typer.Context, param: typer.CallbackParam, value: str | None) -> str | None:
    """One of two options that say where: the one on the command line goes before a variable.

    Options are processed with those on the command line first.

    Raises:
        UsageError: both stand on the command line.
    """

    def typed(option: str) -> bool:
        source = context.get_parameter_source(option)
        return source is not None and source.name == "COMMANDLINE"

    if value is None or not typed("coordinator" if param.name == "deployment" else "deployment"):
        return value
    if typed(param.name or ""):
        raise UsageError("--deployment and --coordinator exclude each other: say one")
    return None


Coordinator = Annotated[
    str | None,
    typer.Option(
        "--coordinator",
        metavar="URL",
        envvar="NOOB_CLOUD_COORDINATOR",
        help="URL of a coordinator.",
        callback=_rival,
    ),
]
Deployment = Annotated[
    str | None,
    typer.Option(
        "--deployment",
        metavar="NAME",
        envvar="NOOB_CLOUD_DEPLOYMENT",
        help="Name of a deployed kit, in place of a coordinator's URL.",
        callback=_rival,
    ),
]
QueueFile = Annotated[
    str | None,
    typer.Option("--queue", metavar="FILE", help="A queue file of your own (SQLite)."),
]
Token = Annotated[
    str | None,
    typer.Option(
        metavar="TOKEN",
        envvar="NOOB_CLOUD_TOKEN",
        show_envvar=True,
        help="Bearer token. Prefer the environment: other users can read a command line.",
    ),
]
Tags = Annotated[str | None, typer.Option("--tags", metavar="A,B", help="Tags, by comma.")]
