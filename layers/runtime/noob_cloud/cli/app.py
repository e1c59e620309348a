"""The application: its commands, and the one place where an error becomes an exit code."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from noob_cloud import __version__
from noob_cloud.cli.chain import chain
from noob_cloud.cli.dashboard import dashboard
from noob_cloud.cli.demo import demo
from noob_cloud.cli.deploy import deploy
from noob_cloud.cli.dev import dev
from noob_cloud.cli.explain import explain, schema
from noob_cloud.cli.plan import plan
from noob_cloud.cli.replica import restore
from noob_cloud.cli.run import run
from noob_cloud.cli.screen import screen
from noob_cloud.cli.serve import coordinator, worker
from noob_cloud.cli.settle import cancel, redrive
from noob_cloud.cli.status import status
from noob_cloud.cli.submit import results, submit
from noob_cloud.upstream import quieten

app = typer.Typer(
    name="noob-cloud",
    help=(
        "Run a noob tube with the same answer on one core, all cores, a cluster or a queue.\n\n"
        "Exit codes: 0 it worked, 1 a task failed, 2 the command or tube is wrong, "
        "3 nothing could be reached, 130 interrupted."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(explain)
app.command()(plan)
app.command()(coordinator)
app.command()(worker)
app.command()(dashboard)
app.command()(deploy)
app.command()(demo)
app.command(context_settings={"allow_extra_args": True})(dev)
app.command()(submit)
app.command()(status)
app.command()(results)
app.command()(cancel)
app.command()(redrive)
app.command()(restore)
app.command()(schema)
app.add_typer(chain)


def _version(value: bool) -> None:  # noqa: FBT001 - Typer's callback
    if value:
        sys.stdout.write(f"noob-cloud {__version__}\n")
        raise typer.Exit


@app.callback()
def _begin(
    *,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", envvar="NOOB_CLOUD_DEBUG", metavar="", help="Show tracebacks of errors."
        ),
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, metavar="", help="Say the version."
        ),
    ] = False,
) -> None:
    screen.debug = debug


def run_app(args: list[str] | None = None) -> int:
    """Run the command line in `args` (the process's own by default); return the exit code."""
    quieten()
    screen.json = screen.debug = False
    try:
        app(args=args)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except KeyboardInterrupt as error:
        return screen.fail(error)
    except Exception as error:  # noqa: BLE001 - the one place where an error becomes an exit code
        return screen.fail(error)
    return 0
