"""What the cloud demo shows: steps with their times, how far a run is, and tables at the end."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

console = Console(highlight=False)
POOLS = {"lambda": "Lambda", "fargate": "Fargate", "gpu": "GPU pool"}
_LOOK_SECONDS = 1.0


@contextmanager
def step(title: str, look: Callable[[], str] | None = None) -> Generator[list[str], None, None]:
    """Show a step while it lasts, then a line with its time and what was added to the list.

    Args:
        title: what is done.
        look: says how far it is; it is called from a thread, and may fail.
    """
    said: list[str] = []
    started = time.perf_counter()
    with _spinner() as progress, _looking(progress, progress.add_task(title, now=""), look):
        yield said
    seconds = time.perf_counter() - started
    console.print(f"[green]✓[/] {title} [dim]{seconds:.0f} s[/]")
    for line in said:
        console.print(f"  {line}")


def _spinner() -> Progress:
    words = (TextColumn("{task.description}"), TextColumn("[dim]{task.fields[now]}"))
    columns = (SpinnerColumn(), *words, TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def _looking(
    progress: Progress, task: Any, look: Callable[[], str] | None
) -> Generator[None, None, None]:
    ended = threading.Event()

    def watch() -> None:
        while look is not None and not ended.wait(_LOOK_SECONDS):
            try:
                progress.update(task, now=look())
            except Exception:  # noqa: BLE001 - what is looked at is still being made
                progress.update(task, now="...")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)


@contextmanager
def bar(what: str) -> Generator[Callable[[int, int, Counter[str]], None], None, None]:
    """Show how many tasks are done, and by whom; call it with (done, of how many, by pool)."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(24),
        TextColumn("{task.completed:.0f} of {task.total:.0f} tasks"),
        TextColumn("[dim]{task.fields[pools]}"),
        TimeElapsedColumn(),
    )
    started = time.perf_counter()
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        task = progress.add_task(what, total=1, pools="waiting for the event")

        def show(done: int, total: int, by: Counter[str]) -> None:
            told = by_pool(by) if total else "waiting for the event"
            progress.update(task, completed=done, total=max(1, total), pools=told)

        yield show
    seconds = time.perf_counter() - started
    console.print(f"[green]✓[/] {what} [dim]{seconds:.0f} s[/]")


def pool_of(worker: str) -> str:
    """Return the pool of a worker, by its name."""
    return next((pool for pool in POOLS if pool in worker), "")


def by_pool(counts: Counter[str]) -> str:
    """Say how many tasks each pool has done."""
    return ", ".join(f"{counts[pool]} {name}" for pool, name in POOLS.items() if counts[pool])


def found_table(summaries: Iterable[dict[str, Any]], things: dict[str, str]) -> Table:
    """What was found: a line for each picture."""
    made = Table(box=None, header_style="bold", padding=(0, 3, 0, 0))
    for column in ("picture", "tiles", "found", "median area", "largest"):
        made.add_column(column, justify="left" if column == "picture" else "right")
    for row in summaries:
        name = name_of(row)
        made.add_row(
            name,
            str(row["tiles"]),
            f"[bold]{row['count']}[/] {things[name]}",
            f"{row['median_area']:g} px",
            f"{row['largest_area']} px",
        )
    return made


def worked_table(done: Counter[tuple[str, str]]) -> Table:
    """Which stage ran where: `done` counts tasks by (stage, pool)."""
    made = Table(box=None, header_style="bold", padding=(0, 3, 0, 0))
    made.add_column("stage")
    for name in POOLS.values():
        made.add_column(name, justify="right")
    for stage in dict.fromkeys(stage for stage, _ in done):
        row = [done[stage, pool] for pool in POOLS]
        made.add_row(stage, *(str(count) if count else "[dim]-[/]" for count in row))
    return made


def name_of(summary: dict[str, Any]) -> str:
    """Return the file that a summary is of."""
    return str(summary["picture"]).rpartition("/")[2]
