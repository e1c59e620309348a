"""`noob-cloud status`: what waits, runs and died, once or as it changes."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from noob_cloud.cli import options, values
from noob_cloud.cli.screen import screen, table
from noob_cloud.cli.target import open_target
from noob_cloud.task import Task, TaskStatus

if TYPE_CHECKING:
    from rich.console import RenderableType

    from noob_cloud.cli.target import Target

_COUNTS = ("ready", "delayed", "parked", "claimed", "running", "completed", "dead", "cancelled")
_LISTED = (TaskStatus.RUNNING, TaskStatus.CLAIMED, TaskStatus.DEAD)


def status(
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", metavar="", help="Go on showing it; end with Ctrl-C.")
    ] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 1.0,
    limit: Annotated[int, typer.Option(min=0, help="Most tasks of each kind listed.")] = 10,
    queue: options.QueueFile = None,
    coordinator: options.Coordinator = None,
    deployment: options.Deployment = None,
    token: options.Token = None,
    json: options.Json = False,
) -> None:
    """Show how many tasks are where, which run and which died; of a coordinator its runs too."""
    with open_target(coordinator, queue, token, deployment) as target:
        if not watch:
            found = _look(target, limit)
            screen.show(found, _view(target, found))
            return
        with suppress(KeyboardInterrupt):
            if json:
                while True:
                    screen.emit(_look(target, limit))
                    time.sleep(interval)
            with Live(
                console=screen.out, auto_refresh=False, screen=screen.out.is_terminal
            ) as live:
                while True:
                    live.update(_view(target, _look(target, limit)), refresh=True)
                    time.sleep(interval)


def _look(target: Target, limit: int) -> dict[str, Any]:
    """Everything that is shown, at one moment."""
    stats = target.queue.stats()
    found: dict[str, Any] = {"where": target.name, "tasks": {x: getattr(stats, x) for x in _COUNTS}}
    found["ready_by_tags"] = stats.ready_by_tags
    for kind in _LISTED:
        listed = target.queue.list_tasks(kind, limit=limit, decode=False) if limit else []
        found[str(kind)] = [_brief(task) for task in listed]
    if target.client is not None:
        found["runs"] = [values.plain(run) for run in target.client.runs()]
        found["workers"] = [values.plain(worker) for worker in target.client.workers()]
        found["capacity"] = target.client.capacity()
    return found


def _brief(task: Task) -> dict[str, Any]:
    return {
        "task_id": task.task_id,
        "node": task.node_id,
        "epoch": task.epoch,
        "worker": task.worker_id,
        "attempt": task.attempt,
        "since": task.started_at,
        "error": task.error,
    }


def _view(target: Target, found: dict[str, Any]) -> RenderableType:
    counts = found["tasks"]
    parts: list[RenderableType] = [
        table(f"{target.name}", _COUNTS, [[f"{counts[name]:,}" for name in _COUNTS]])
    ]
    tags = {name or "any worker": n for name, n in found["ready_by_tags"].items() if n}
    if tags and set(tags) != {"any worker"}:
        parts.append(table("Waiting for tags", ("tags", "tasks"), tags.items()))
    if found.get("runs"):
        parts.append(_runs(found["runs"]))
    if found.get("workers"):
        parts.append(_workers(found["workers"]))
    if found.get("capacity", {}).get("places"):
        parts.extend(_capacity(found["capacity"]))
    kinds = [str(kind) for kind in _LISTED if found[str(kind)]]
    parts.extend(_tasks(kind.capitalize(), found[kind]) for kind in kinds)
    if found["dead"]:
        parts.append(Text("noob-cloud redrive --all brings dead tasks back", style="dim"))
    return Group(*parts)


def _tasks(title: str, tasks: list[dict[str, Any]]) -> RenderableType:
    columns = [name for name in tasks[0] if any(task[name] is not None for task in tasks)]
    now = time.time()
    rows = [
        [
            f"{now - task[name]:.0f} s"
            if name == "since" and task[name]
            else values.short("" if task[name] is None else task[name], width=60)
            for name in columns
        ]
        for task in tasks
    ]
    return table(title, columns, rows)


def _runs(runs: list[dict[str, Any]]) -> RenderableType:
    now = time.time()
    rows = [
        (
            run["run_id"],
            run["status"],
            f"{run['done']} of {'?' if run['total'] is None else run['total']}",
            f"{(run['finished_at'] or now) - run['created_at']:.0f} s",
            run["worker_id"],
            values.short(run["error"] or "", width=60),
        )
        for run in runs
    ]
    return table("Runs", ("run", "status", "results", "took", "driven by", "error"), rows)


def _workers(workers: list[dict[str, Any]]) -> RenderableType:
    from noob_cloud.coordinator.routing import RESERVED  # noqa: PLC0415 - where there are workers

    now = time.time()
    rows = [
        (
            row["worker_id"],
            ", ".join(tag for tag in row["tags"] if not tag.startswith(RESERVED)),
            row["running"],
            row["completed"],
            row["failed"],
            "lost" if row["lost"] else f"{max(0.0, now - row['last_seen']):.0f} s ago",
        )
        for row in workers
    ]
    return table("Workers", ("worker", "tags", "running", "completed", "failed", "heard"), rows)


def _capacity(told: dict[str, Any]) -> list[RenderableType]:
    """Where workers are had, and what they cost."""
    money = told["money"]
    currency = "" if money is None else money["currency"]
    rows = [
        (
            place["name"],
            f"{place['alive']} of {place['most']}",
            place["busy"],
            place["starting"],
            place["wanted"],
            f"{place['failed_starts']}{', cooling' if place['blocked'] else ''}",
            f"{place['price_hour']:.4f}",
            f"{place['spent_today']:.4f}",
        )
        for place in told["places"]
    ]
    columns = [
        *("place", "workers", "busy", "start", "want", "failed"),
        *(f"{currency}/h", f"{currency} today"),
    ]
    parts: list[RenderableType] = [table("Capacity", columns, rows)]
    if money is not None:
        limit = "" if money["per_day"] is None else f" of {money['per_day']:.2f}"
        parts.append(
            Text(
                f"Spent on {money['day']}: {money['spent']:.4f}{limit} {currency};"
                f" workers that are there may cost {money['reserved']:.4f} more",
                style="dim",
            )
        )
    return parts
