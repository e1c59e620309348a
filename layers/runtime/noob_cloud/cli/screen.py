"""What a command prints: tables and progress for people, or one JSON document for programs.

With `--json` standard output holds that document and nothing else; progress and messages go to
standard error, and only where that is a terminal.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from noob_cloud.cli import errors
from noob_cloud.cli.values import plain, short

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from typing import TextIO


_SHOWN = 20
"""Results that a person is shown."""


@dataclass
class Screen:
    """The command's output; one a process, `screen`."""

    json: bool = False
    debug: bool = False
    _stdout: TextIO | None = None

    def keep_stdout_clean(self) -> None:
        """Keep standard output for `emit`: what nodes and libraries print goes to standard error.

        That holds for child processes too, which is why the descriptors are exchanged.
        """
        self.json = True
        own = sys.__stdout__
        if self._stdout is None and own is not None and sys.stdout is own:
            own.flush()
            self._stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
            os.dup2(2, 1)

    @property
    def out(self) -> Console:
        """Standard output, as it is now."""
        return Console(file=self._stdout or sys.stdout, highlight=False)

    @property
    def err(self) -> Console:
        """Standard error, as it is now."""
        return Console(file=sys.stderr, highlight=False)

    def say(self, message: str) -> None:
        """Tell a person something (markup allowed); a program is not told."""
        if not self.json:
            self.err.print(message, soft_wrap=True)

    def emit(self, value: Any) -> None:
        """Write `value` to standard output as one JSON document."""
        stdout = self._stdout or sys.stdout
        stdout.write(json.dumps(plain(value), ensure_ascii=False) + "\n")
        stdout.flush()

    def show(self, value: Any, renderable: Any) -> None:
        """Show `renderable` to a person, or `value` to a program."""
        if self.json:
            self.emit(value)
        else:
            self.out.print(renderable)

    def fail(self, error: BaseException) -> int:
        """Say what went wrong; return the exit code."""
        code = errors.exit_code(error)
        if self.json:
            self.emit(errors.as_json(error, debug=self.debug))
            return code
        if self.debug:
            self.err.print("".join(traceback.format_exception(error)), markup=False)
        if code == errors.INTERRUPTED:
            self.err.print("Interrupted.")
        else:
            self.err.print(f"[bold red]Error:[/] {escape(errors.sentence(error))}", soft_wrap=True)
        return code

    @contextmanager
    def progress(self, what: str, total: float | None = None) -> Generator[Bar, None, None]:
        """A progress bar on standard error; nothing where that is not a terminal."""
        console = self.err
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        hidden = self.json or not console.is_terminal
        with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
            yield Bar(progress, progress.add_task(what, total=total))


@dataclass
class Bar:
    """One line of a progress display."""

    progress: Progress
    task: Any

    def advance(self, by: float = 1) -> None:
        """Go on by `by`."""
        self.progress.advance(self.task, by)

    def set(self, completed: float, *, total: float | None = None, what: str | None = None) -> None:
        """Be at `completed`, of a new `total` if given."""
        self.progress.update(self.task, completed=completed, total=total, description=what)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table of plain text: what comes from a tube, a task or a path is never read as markup."""
    made = Table(title=escape(title) or None, title_justify="left", header_style="bold", box=None)
    made.min_width = min(len(title), 60)  # a title wider than its table would be broken
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    return made


def results(found: Sequence[Any]) -> None:
    """Show results to a person, the first of many."""
    if found:
        rows = [(index, short(result)) for index, result in enumerate(found[:_SHOWN])]
        screen.out.print(table("", ("#", "result"), rows))
    if len(found) > _SHOWN:
        screen.say(f"... and {len(found) - _SHOWN:,} more; --output FILE or --json has them all")


screen = Screen()
