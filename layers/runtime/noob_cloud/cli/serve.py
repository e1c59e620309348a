"""`noob-cloud coordinator` and `noob-cloud worker`: the processes that stay."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from noob_cloud.cli import options, values
from noob_cloud.cli.errors import UsageError, reason
from noob_cloud.cli.replica import tell
from noob_cloud.cli.screen import screen
from noob_cloud.cli.tube import describe, import_from_here
from noob_cloud.exceptions import NoobCloudError


class Ack(StrEnum):
    """When a coordinator with a replica answers."""

    REPLICATED = "replicated"
    LOCAL = "local"


def coordinator(
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine it needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any free one.")] = 8080,
    queue: Annotated[
        Path, typer.Option("--queue", metavar="FILE", help="The queue's file (SQLite).")
    ] = Path("noob-cloud.db"),
    token: options.Token = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Scoped tokens: submit, work, admin (TOML).")
    ] = None,
    durable: Annotated[
        bool,
        typer.Option(
            "--durable", metavar="", help="A commit survives the loss of power; much slower."
        ),
    ] = False,
    lease_seconds: Annotated[
        float, typer.Option(min=1, help="How long a worker may be silent before it loses a task.")
    ] = 60.0,
    replica: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="NOOB_CLOUD_REPLICA",
            help="s3://bucket/prefix[?endpoint_url=http://...]: keep the queue there too, and "
            "begin with what is there.",
        ),
    ] = None,
    ack: Annotated[
        Ack | None,
        typer.Option(
            metavar="replicated|local",
            envvar="NOOB_CLOUD_ACK",
            help="With --replica, answer when it is in S3 (the default), or when it is in FILE.",
        ),
    ] = None,
    pools: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="NOOB_CLOUD_POOLS_FILE",
            help="Where workers can be had, and for how much (TOML or JSON): they are started and "
            "stopped as work comes and goes.",
        ),
    ] = None,
) -> None:
    """Serve a queue over HTTP, for clients that submit and workers that pull."""
    from noob_cloud.coordinator import (  # noqa: PLC0415 - loads FastAPI
        CoordinatorSettings,
        serve,
    )

    if ack is not None and replica is None:
        raise UsageError("--ack is for a coordinator with --replica URL; this one has none")
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "db_path": queue,
        "token": token,
        "token_file": token_file,
        "synchronous": "FULL" if durable else "NORMAL",
        "lease_seconds": lease_seconds,
        "replica": replica,
        "ack": None if ack is None else ack.value,
        "pools_file": pools,
    }
    try:
        settings = CoordinatorSettings(**{k: v for k, v in given.items() if v is not None})
        settings.check_exposed()
    except OSError as error:
        raise UsageError(f"{token_file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(reason(error)) from error
    generated = settings.tokens.generated

    def say(url: str) -> None:
        where = f"the queue {queue}" if replica is None else f"the queue of {settings.replica}"
        screen.say(f"[green]noob-cloud coordinator[/] at {url}, with {escape(where)}")
        here = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        screen.say(
            f"Its page: {here}/dashboard    Its routes, for those who send the token: {here}/docs"
        )
        if generated is not None:
            screen.say(f"No token was given. For today, shown once: NOOB_CLOUD_TOKEN={generated}")

    try:
        with tell(replica, settings.ack, queue):
            serve(settings, on_start=say)
    except OSError as error:
        if isinstance(error, NoobCloudError):
            raise
        raise UsageError(f"Cannot listen on {host}:{port}: {error.strerror or error}") from error


def worker(
    *,
    coordinator: options.Coordinator = None,
    queue: options.QueueFile = None,
    worker_id: Annotated[
        str | None, typer.Option(help="Its name; by default this machine's, and a number.")
    ] = None,
    tags: Annotated[
        str | None, typer.Option(metavar="A,B", help="What it offers: gpu,cuda.")
    ] = None,
    tagged_only: Annotated[
        bool, typer.Option("--tagged-only", metavar="", help="Take no task that has no tags.")
    ] = False,
    max_tasks: Annotated[
        int | None, typer.Option(min=1, help="Tasks at once; by default one for each core.")
    ] = None,
    allow_module: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="A module that tubes may import. Repeatable."),
    ] = None,
    tube: Annotated[
        str | None, typer.Option(help="A tube to load at once; its modules are allowed.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address of its own routes.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of its own routes; 0: any free one.")
    ] = 0,
    threads: Annotated[
        bool,
        typer.Option("--threads", metavar="", help="Run nodes in threads instead of processes."),
    ] = False,
    token: options.Token = None,
) -> None:
    """Execute tasks, pulled from --coordinator URL or --queue FILE, until Ctrl-C."""
    import_from_here()
    if queue is not None:
        from noob_cloud.worker.pull import default_worker_id  # noqa: PLC0415 - loads the worker

        name = worker_id or default_worker_id()
        loaded = None if tube is None else describe(tube)
        if not Path(queue).exists():
            screen.say(f"There was no queue file {escape(queue)}: an empty one is made.")
        screen.say(
            f"[green]noob-cloud worker {escape(name)}[/] pulls from {escape(queue)}; Ctrl-C ends it"
        )
        counts = _pull(
            queue,
            worker_id=name,
            tags=values.tags(tags),
            accept_untagged=not tagged_only,
            max_tasks=max_tasks or os.cpu_count() or 1,
            allowed_modules=allow_module or None,
            isolate=not threads,
            tube=loaded,
        )
        done = ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "none came"
        screen.say(f"Ended. Tasks: {done}")
        return
    if coordinator is None:
        raise UsageError("Say where tasks come from: --coordinator URL, or --queue FILE")
    from noob_cloud.runner.worker_server import main as serve_worker  # noqa: PLC0415 - see there

    words = ["--coordinator", coordinator, "--host", host, "--port", str(port)]
    for option, value in (
        ("--worker-id", worker_id),
        ("--tags", tags),
        ("--max-tasks", max_tasks),
        ("--tube", tube),
        ("--token", token),
    ):
        words += [] if value is None else [option, str(value)]
    for module in allow_module or ():
        words += ["--allow-module", module]
    words += ["--tagged-only"] if tagged_only else []
    words += ["--threads"] if threads else []
    raise typer.Exit(serve_worker(words))


def _pull(queue: str, **options: Any) -> dict[str, int]:
    """Pull from a queue's file until a signal; what became of the tasks, by kind."""
    from noob_cloud.queue import TaskQueue  # noqa: PLC0415 - opens SQLite
    from noob_cloud.worker.pull import pull  # noqa: PLC0415 - loads the worker

    with TaskQueue(persistent=True, db_path=queue) as opened:
        return dict(pull(opened, documents=opened.blobs.get, **options))
