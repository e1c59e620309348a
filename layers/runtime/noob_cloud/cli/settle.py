"""`noob-cloud cancel` and `noob-cloud redrive`: stop what is not wanted, bring back what died."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from noob_cloud.cli import options  # noqa: TC001 - Typer reads the annotations
from noob_cloud.cli.errors import UsageError
from noob_cloud.cli.screen import screen
from noob_cloud.cli.target import open_target, task_ids
from noob_cloud.cli.values import counted


def cancel(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of tasks or runs.")],
    *,
    queue: options.QueueFile = None,
    coordinator: options.Coordinator = None,
    deployment: options.Deployment = None,
    token: options.Token = None,
    json: options.Json = False,
) -> None:
    """Cancel tasks (numbers) and runs; a node that is running is stopped."""
    with open_target(coordinator, queue, token, deployment) as target:
        done = {}
        for id_ in ids:
            if id_.isdecimal():
                done[id_] = target.queue.cancel_task(int(id_))
            else:
                done[id_] = target.runs(f"Cancelling run {id_}").cancel_run(id_)
    if json:
        screen.emit({"cancelled": done})
        return
    for id_, cancelled in done.items():
        screen.say(f"{escape(id_)}: {'cancelled' if cancelled else 'had ended before'}")


def redrive(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Dead tasks.")] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", metavar="", help="Every task in the dead-letter list.")
    ] = False,
    queue: options.QueueFile = None,
    coordinator: options.Coordinator = None,
    deployment: options.Deployment = None,
    token: options.Token = None,
    json: options.Json = False,
) -> None:
    """Bring tasks back from the dead-letter list, with a full set of attempts."""
    if bool(ids) == everything:
        raise UsageError("Say which: the ids of dead tasks, or --all")
    with open_target(coordinator, queue, token, deployment) as target:
        brought = target.queue.redrive(None if everything else task_ids(ids or []))
    if json:
        screen.emit({"redriven": brought})
        return
    be = "is" if len(brought) == 1 else "are"
    which = f": {', '.join(map(str, brought))}" if ids and brought else ""
    screen.say(f"[green]{counted(len(brought), 'task')}[/] {be} ready again{which}")
