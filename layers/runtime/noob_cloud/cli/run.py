"""`noob-cloud run`: run a tube here, on all cores, on workers, or through a queue."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - Typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from rich.markup import escape

from noob_cloud.cli import options, tube, values
from noob_cloud.cli.errors import INTERRUPTED
from noob_cloud.cli.feed import read_feed, write_results
from noob_cloud.cli.runners import Balancing, RunnerName, Settings, open_runner
from noob_cloud.cli.screen import results as show_results
from noob_cloud.cli.screen import screen

if TYPE_CHECKING:
    from types import FrameType

    from noob_cloud.cli.screen import Bar


def run(
    tube_source: options.TubeArgument,
    *,
    n: Annotated[
        int | None,
        typer.Option("-n", min=1, help="Epochs; without it, until the sources are exhausted."),
    ] = None,
    runner: Annotated[
        RunnerName, typer.Option("--runner", "-r", help="Where the nodes run.")
    ] = RunnerName.SYNC,
    workers: Annotated[
        str | None,
        typer.Option(
            "--workers",
            "-w",
            metavar="N|HOST:PORT[+TAG],...",
            help="How many worker processes, or where worker servers listen.",
        ),
    ] = None,
    queue: options.QueueFile = None,
    coordinator: options.Coordinator = None,
    deployment: options.Deployment = None,
    token: options.Token = None,
    run_id: Annotated[
        str | None,
        typer.Option(
            help="With --runner queued or lambda: names the run, to resume it after a crash."
        ),
    ] = None,
    placement: Annotated[
        Path | None,
        typer.Option(help="Placement file; by default NAME.cloud.yaml beside the tube."),
    ] = None,
    balancing: Annotated[
        Balancing, typer.Option("--load-balancing", help="How a worker server is chosen.")
    ] = Balancing.LEAST_LOADED,
    inputs: options.Inputs = None,
    feed: Annotated[
        Path | None,
        typer.Option(
            help="JSON lines, one epoch each: its process-scoped inputs. - reads standard input.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the results there: .json, or .jsonl by line."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Run TUBE and print what its epochs return, in their order."""
    settings = Settings(
        name=runner,
        workers=workers,
        queue=queue,
        coordinator=coordinator,
        deployment=deployment,
        token=token,
        run_id=run_id,
        placement=placement,
        balancing=balancing,
    )
    loaded = tube.load(tube_source, inputs)
    started = time.perf_counter()
    with open_runner(loaded, tube_source, settings) as made:
        name = type(made).__name__
        epochs = None if feed is None else list(read_feed(feed))
        total = n if epochs is None else len(epochs)
        with screen.progress(f"{tube_source} ({name})", total) as bar, _Interrupt() as interrupt:
            results = _results(made, n, epochs, bar)
    seconds = time.perf_counter() - started
    if output is not None:
        write_results(output, results)
    if json:
        report = {"tube": tube_source, "runner": name, "seconds": round(seconds, 3)}
        report |= {"interrupted": interrupt.seen, "count": len(results)}
        screen.emit(report | ({"output": output} if output else {"results": results}))
    else:
        if output is None:
            show_results(results)
        where = f" -> {escape(str(output))}" if output else ""
        count = values.counted(len(results), "result")
        screen.say(f"[green]{count}[/] in {seconds:.1f} s by {name}{where}")
    if interrupt.seen:
        screen.say("Interrupted: these are the results so far.")
        raise typer.Exit(INTERRUPTED)


def _results(
    runner: Any, n: int | None, epochs: list[dict[str, Any]] | None, bar: Bar
) -> list[Any]:
    if epochs is not None:
        found = []
        for epoch in epochs:
            found.append(runner.process(**epoch))
            bar.advance()
        return found
    if not bar.progress.disable:
        runner.add_callback(_epoch_counter(bar))
    return list(runner.run(n) or ())


def _epoch_counter(bar: Bar) -> Any:
    """A callback for the runner that moves the bar when a root epoch ends."""
    from noob.event import MetaEventType  # noqa: PLC0415 - loads upstream

    def count(event: Any) -> None:
        ended = event["signal"] == MetaEventType.EpochEnded
        if ended and len(event["epoch"]) == 1:
            bar.advance()

    return count


@dataclass
class _Interrupt:
    """Notices Ctrl-C, which a runner's `run` answers by returning the results so far."""

    seen: bool = False
    _before: Any = field(default=None, repr=False)

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _notice(self, signum: int, frame: FrameType | None) -> None:
        self.seen = True
        signal.default_int_handler(signum, frame)
