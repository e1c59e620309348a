"""`noob-cloud submit` and `noob-cloud results`: hand work over, and fetch what became of it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path  # noqa: TC003 - Typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from noob_cloud.cli import options, tube, values
from noob_cloud.cli.errors import FAILED, UsageError
from noob_cloud.cli.feed import read_feed, write_results
from noob_cloud.cli.screen import results as show_results
from noob_cloud.cli.screen import screen, table
from noob_cloud.cli.target import Target, open_target
from noob_cloud.task import Task, TaskPriority, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Sequence


class Priority(StrEnum):
    """Priorities by their names."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


def submit(
    tube_source: Annotated[
        str | None,
        typer.Argument(metavar="[TUBE]", help="The tube to run: a path, or a noob_id."),
    ] = None,
    *,
    n: Annotated[int | None, typer.Option("-n", min=1, help="Epochs of the run.")] = None,
    inputs: options.Inputs = None,
    feed: Annotated[
        Path | None,
        typer.Option(
            help="JSON lines, one epoch each: its process-scoped inputs. - reads standard input."
        ),
    ] = None,
    placement: Annotated[
        Path | None,
        typer.Option(help="Placement file; by default NAME.cloud.yaml beside the tube."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="NODE", help="Submit one task for this node instead.")
    ] = None,
    epoch: Annotated[int, typer.Option(help="Epoch of the task.")] = 0,
    data: Annotated[
        str | None, typer.Option(metavar="JSON", help="What the task's worker is given.")
    ] = None,
    priority: Annotated[Priority, typer.Option(case_sensitive=False)] = Priority.NORMAL,
    tags: Annotated[
        str | None, typer.Option(metavar="A,B", help="A worker with any of these may claim it.")
    ] = None,
    required_tags: Annotated[
        str | None, typer.Option(metavar="A,B", help="A worker must have all of these.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that one attempt may run.")] = 300.0,
    retries: Annotated[int, typer.Option(help="Further attempts after the first.")] = 3,
    delay: Annotated[float, typer.Option(help="Seconds before it may be claimed.")] = 0.0,
    unique: Annotated[
        str | None, typer.Option(metavar="KEY", help="Submit only if no task has this key yet.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", metavar="", help="Wait for the end, and say it.")
    ] = False,
    queue: options.QueueFile = None,
    coordinator: options.Coordinator = None,
    deployment: options.Deployment = None,
    token: options.Token = None,
    json: options.Json = False,
) -> None:
    """Submit a run of TUBE to a coordinator, or one task (--task) to a coordinator or queue."""
    if (tube_source is None) == (task is None):
        raise UsageError("Say what: a TUBE to run, or --task NODE")
    if n is not None and feed is not None:
        raise UsageError("-n and --feed exclude each other: a feed has an epoch for each line")
    with open_target(coordinator, queue, token, deployment, create=True, patient=wait) as target:
        if task is not None:
            made = target.queue.submit_task(
                task,
                epoch,
                TaskPriority[priority.name],
                values.tags(tags),
                timeout,
                retries,
                required_tags=values.tags(required_tags),
                data=None if data is None else values.guess(data),
                delay=delay,
                idempotency_key=unique,
            )
            _say_submitted("task_id", made, target, json=json and not wait)
            if wait:
                _end_of_task(target, target.queue.wait_settled([made])[0], None)
            return
        assert tube_source is not None  # noqa: S101 - one of the two is given
        client = target.runs("Running a tube without a client")
        run_id = client.submit_run(
            tube.describe(tube_source, inputs),
            n=n,
            inputs=None if feed is None else list(read_feed(feed)),
            placement=tube.placement_document(tube_source, placement),
        )
        _say_submitted("run_id", run_id, target, json=json and not wait)
        if wait:
            follow(target, run_id)
            _end_of_run(target, run_id, None)


def results(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of a run, or of a task.")],
    *,
    wait: Annotated[
        bool, typer.Option("--wait", metavar="", help="Wait until it has ended.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write them there: .json, or .jsonl by line."),
    ] = None,
    queue: options.QueueFile = None,
    coordinator: options.Coordinator = None,
    deployment: options.Deployment = None,
    token: options.Token = None,
    json: options.Json = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Print what became of a run or a task. Exit code 1 if it failed."""
    with open_target(coordinator, queue, token, deployment, patient=wait) as target:
        if id_.isdecimal():
            task = target.queue.get_task(int(id_))
            if wait and not task.status.settled:
                task = target.queue.wait_settled([task.task_id])[0]
            _end_of_task(target, task, output)
            return
        if wait:
            follow(target, id_)
        _end_of_run(target, id_, output)


def follow(target: Target, run_id: str) -> None:
    """Wait until the run has ended, with a progress bar."""
    with screen.progress(f"run {run_id}") as bar:
        for state in target.runs("A run").watch_run(run_id):
            bar.set(state.done, total=state.total, what=f"run {run_id} ({state.status})")


def _say_submitted(name: str, made: int | str, target: Target, *, json: bool) -> None:
    if json:
        screen.emit({name: made, "where": target.name})
    else:
        what = name.removesuffix("_id")
        shown = escape(str(made))
        screen.say(f"[green]Submitted {what} {shown}[/]; noob-cloud results {shown} --wait")


def _end_of_task(target: Target, task: Task, output: Path | None) -> None:
    del target
    if output is not None:
        write_results(output, [task.result])
    seconds = (task.finished_at or 0) - (task.started_at or task.finished_at or 0)
    rows = [
        ("status", task.status),
        ("node", task.node_id),
        ("epoch", task.epoch),
        ("attempts", task.attempt),
        ("worker", task.worker_id),
        ("seconds", f"{seconds:.3f}" if task.finished_at else None),
        ("result", values.short(task.result)),
        ("error", task.error),
    ]
    screen.show(task, table(f"Task {task.task_id}", ("", ""), rows))
    if task.traceback and not screen.json:
        screen.err.print(task.traceback, markup=False)
    if task.status in (TaskStatus.DEAD, TaskStatus.CANCELLED):
        raise typer.Exit(FAILED)


def _end_of_run(target: Target, run_id: str, output: Path | None) -> None:
    client = target.runs("A run")
    state = client.run(run_id)
    found: Sequence[Any] = list(client.run_results(run_id))
    if output is not None:
        write_results(output, found)
    if screen.json:
        told = {"run": state, **({"output": output} if output else {"results": found})}
        screen.emit(told | _error_of(state))
    else:
        if output is None:
            show_results(found)
        if state.traceback:
            screen.err.print(state.traceback, markup=False)
        count = values.counted(len(found), "result")
        screen.say(f"run {escape(run_id)} {state.status}: {count}")
        if state.error:
            screen.err.print(f"[bold red]Error:[/] {escape(state.error)}", soft_wrap=True)
    if state.status in ("failed", "cancelled"):
        raise typer.Exit(FAILED)


def _error_of(state: Any) -> dict[str, str]:
    if not state.error:
        return {}
    return {"error": "RunFailedError", "message": f"run {state.run_id} failed: {state.error}"}
