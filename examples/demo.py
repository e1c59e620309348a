"""`noob-cloud demo`: a coordinator, two workers, real pictures, a contact sheet of the finds."""

import argparse
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from noob import Tube
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.cluster import Cluster
from examples.tiles.sheet import draw
from noob_cloud import Placement, TubeSource
from noob_cloud.coordinator import CoordinatorClient
from noob_cloud.runner import SynchronousRunner

TUBE = "examples/tiles/tiles.yaml"
WORKERS = 2
PICTURES = 4

console = Console()


def main(out: Path) -> int:
    """Run the demo; 0 if the cluster's result equals the SynchronousRunner's."""
    try:
        return show(out)
    except KeyboardInterrupt:
        console.print("\nInterrupted. Every process has ended.")
        return 130


def show(out: Path) -> int:
    """Find things with a coordinator and workers; compare, and draw."""
    started = time.perf_counter()
    with ExitStack() as stack:
        with console.status(f"Starting a coordinator and {WORKERS} workers"):
            cluster = stack.enter_context(Cluster(out / "demo", workers=WORKERS, tube=TUBE))
        console.print(f"A coordinator at {cluster.url}, and {WORKERS} workers that pull from it.")
        summaries, seconds = run_on(cluster)
    console.print(table(summaries))
    alone, alone_seconds = run_here()
    if summaries != alone:
        console.print("[bold red]The results differ from the SynchronousRunner's.[/]")
        return 1
    console.print(
        "[green]Equal to the SynchronousRunner's result.[/] It took "
        f"{alone_seconds:.1f} s on one core, the workers {seconds:.1f} s."
    )
    sheet = out / "contact-sheet.png"
    subtitle = f"1 coordinator, {WORKERS} workers, {seconds:.1f} s: equal to SynchronousRunner"
    with console.status("Drawing the contact sheet"):
        draw(summaries, sheet, subtitle=subtitle)
    total = time.perf_counter() - started
    console.print(f"Contact sheet: [bold]{os.path.relpath(sheet)}[/]  ({total:.0f} s in all)")
    console.print(NEXT)
    return 0


def run_on(cluster: Cluster) -> tuple[list[dict[str, Any]], float]:
    """Submit a run, follow it, and fetch its results."""
    with CoordinatorClient(cluster.url, token=cluster.token) as client, bar() as progress:
        task = progress.add_task("Finding things", total=PICTURES, tasks=0)
        started = time.perf_counter()
        run_id = client.submit_run(
            TubeSource.of(TUBE), n=PICTURES, placement=Placement.beside(TUBE).document()
        )
        while not (state := client.run(run_id)).ended:
            cluster.check()
            done = client.queue.stats().completed
            progress.update(task, completed=state.done, tasks=done)
            time.sleep(0.2)
        seconds = time.perf_counter() - started
        progress.update(task, completed=state.done, tasks=client.queue.stats().completed)
        if state.error is not None:
            raise RuntimeError(f"The run failed: {state.error}\n{state.traceback}")
        return list(client.run_results(run_id)), seconds


def run_here() -> tuple[list[dict[str, Any]], float]:
    """Run the same tube in this process."""
    with console.status("The same, in one process, to compare"):
        started = time.perf_counter()
        with SynchronousRunner(Tube.from_specification(TUBE)) as runner:
            results = list(runner.run(n=PICTURES) or [])
        return results, time.perf_counter() - started


def bar() -> Progress:
    """A progress bar of pictures."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} pictures, {task.fields[tasks]} tasks"),
        TimeElapsedColumn(),
        console=console,
    )


def table(summaries: list[dict[str, Any]]) -> Table:
    """What was found, a line for each picture, and the sum."""
    made = Table(box=None, header_style="bold", title_justify="left")
    for column in ("picture", "tiles", "found", "median area", "largest", "brightness"):
        made.add_column(column, justify="left" if column == "picture" else "right")
    for row in summaries:
        made.add_row(
            row["picture"],
            str(row["tiles"]),
            f"{row['count']} {row['what']}",
            f"{row['median_area']:g} px",
            f"{row['largest_area']} px",
            f"{row['brightness']:g}",
        )
    made.add_section()
    total = [str(sum(row[key] for row in summaries)) for key in ("tiles", "count")]
    made.add_row("in all", total[0], f"{total[1]} things", style="bold")
    return made


NEXT = f"""
What to type next (in this folder, after [bold]source .venv/bin/activate[/]):
  noob-cloud explain {TUBE}
  noob-cloud run {TUBE} -n 4 --runner multiprocess
  noob-cloud run {TUBE} -n 1 --input 'names=["coins"]' --json
  noob-cloud status --queue out/demo/queue.db
  noob-cloud --help"""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"), help="where to write")
    sys.exit(main(parser.parse_args().out))
