"""`noob-cloud explain`: the plan of a tube, node by node. `noob-cloud schema`: for editors."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from noob_cloud.cli import options, tube
from noob_cloud.cli.screen import screen
from noob_cloud.cli.values import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLOURS = {"remote": "green", "pinned": "yellow", "off": "dim"}


def explain(
    tube_source: options.TubeArgument,
    *,
    inputs: options.Inputs = None,
    placement: Annotated[
        Path | None,
        typer.Option(help="Placement file; by default NAME.cloud.yaml beside the tube."),
    ] = None,
    json: options.Json = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Say of each node of TUBE how it runs, where it may run, with what it is fused, and why."""
    from noob_cloud.plan import Plan  # noqa: PLC0415 - loads upstream

    loaded = tube.load(tube_source, inputs)
    rows = Plan(loaded, tube.placement_of(tube_source, placement)).explain()
    if screen.json:
        screen.emit(rows)
        return
    screen.out.print(_table(tube_source, rows))
    remote = sum(row.where == "remote" for row in rows)
    stages = len({row.stage for row in rows if row.where == "remote"})
    screen.say(
        f"[green]{remote} of {counted(len(rows), 'node')}[/] may run elsewhere, in "
        f"{counted(stages, 'stage')}; the others run where the runner runs."
    )
    screen.say(_native())


def _native() -> str:
    """Say which parts are Rust here."""
    from noob_cloud import native  # noqa: PLC0415 - looks for the core

    if native.core is None:
        return f"Native parts: none, the Rust core is {native.reason}. Everything runs in Python."
    return f"Native parts ({native.reason}): {', '.join(native.PARTS)}. The rest runs in Python."


def schema(
    what: Annotated[str, typer.Argument(help="placement")] = "placement",
    *,
    json: options.Json = False,  # noqa: ARG001 - a schema is JSON anyway
) -> None:
    """Print a JSON schema for editors: `placement` is that of NAME.cloud.yaml."""
    from noob_cloud.placement import schema as placement_schema  # noqa: PLC0415 - loads pydantic

    if what != "placement":
        raise typer.BadParameter(f"there is no schema of {what!r}; there is one of placement")
    screen.emit(placement_schema())


def _table(title: str, rows: Sequence[Any]) -> Table:
    tagged = any(row.affinity or row.required for row in rows)
    made = Table(
        title=Text(f"Plan of {title}"), title_justify="left", header_style="bold", box=None
    )
    for column in ("node", "kind", "how", "where", "stage", *(["tags"] if tagged else []), "why"):
        made.add_column(column, overflow="fold", no_wrap=column not in ("why", "tags"))
    for row in rows:
        stage = "" if row.stage is None else f"{row.stage}{' fused' if row.fused else ''}"
        tags = [*row.affinity, *(f"{tag} (required)" for tag in row.required)]
        cells = [row.node, row.kind, row.how, row.where, stage]
        style = _COLOURS.get(row.where, "")
        made.add_row(
            *(Text(cell, style=style if index == 3 else "") for index, cell in enumerate(cells)),  # noqa: PLR2004 where
            *([Text(", ".join(tags))] if tagged else []),
            Text(row.why.removeprefix(f"{row.where}: ")),
        )
    return made
