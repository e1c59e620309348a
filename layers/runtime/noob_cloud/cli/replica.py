"""A coordinator's replica on the command line: what it says while it begins, and `restore`."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - Typer reads the annotation
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from noob_cloud.cli import options  # noqa: TC001 - Typer reads the annotations
from noob_cloud.cli.errors import UsageError
from noob_cloud.cli.screen import screen

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from noob_cloud.coordinator.durability import Place

_LOGGER = "noob_cloud.coordinator.durability"


class _Teller(logging.Handler):
    """Shows a coordinator's steps on the screen, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        text = record.getMessage()
        line = escape(f"{text[0].upper()}{text[1:]}.".replace("..", "."))
        screen.say(line if record.levelno < logging.WARNING else f"[yellow]{line}[/]")


@contextmanager
def tell(replica: str | None, ack: str, queue: Path) -> Generator[None, None, None]:
    """Say on the screen what a coordinator with a replica waits for, restores and serves.

    Args:
        replica: its place, or None.
        ack: when it answers.
        queue: the file that it would serve without a replica.
    """
    if replica is None:
        yield
        return
    logger, teller = logging.getLogger(_LOGGER), _Teller()
    before, propagated = logger.level, logger.propagate
    logger.addHandler(teller)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    screen.say(
        f"Replica {escape(replica)}: an answer leaves when its commit is "
        + ("in S3." if ack == "replicated" else "in the local file, which S3 follows.")
    )
    if queue.exists():
        screen.say(
            f"[yellow]The file {escape(str(queue))} is not read: the queue is what the replica"
            " holds.[/]"
        )
    try:
        yield
    finally:
        logger.removeHandler(teller)
        logger.setLevel(before)
        logger.propagate = propagated


def restore(
    *,
    replica: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="NOOB_CLOUD_REPLICA",
            help="s3://bucket/prefix[?endpoint_url=http://...], as the coordinator was given.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="A file that does not exist yet."),
    ],
    epoch: Annotated[
        int | None,
        typer.Option(min=1, help="Of this coordinator; by default the newest, or that of --at."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="The queue as it was then, like 2026-11-23T14:05:00Z (RFC 3339)."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Write the queue of a replica to FILE, every page checked; a coordinator may be serving it."""
    from noob_cloud.coordinator.durability import (  # noqa: PLC0415 - loads boto3 and FastAPI
        Place,
        restore,
    )

    if output.exists():
        raise UsageError(f"{output} exists; a restore never overwrites a file. Name another one")
    moment = None if at is None else _moment(at)
    try:
        place = Place.parse(replica)
    except ValueError as error:
        raise UsageError(str(error)) from error
    chosen = _choose(place, place.marked(), epoch, moment)
    stamp = None if moment is None else moment.isoformat().replace("+00:00", "Z")
    restore(place, chosen, output, timestamp=stamp)
    if json:
        told = {"replica": str(place), "epoch": chosen, "at": stamp, "output": output}
        screen.emit(told | {"bytes": output.stat().st_size})
        return
    when = "" if stamp is None else f" at {stamp}"
    to = escape(str(output))
    screen.say(f"[green]Restored epoch {chosen}[/] of {escape(str(place))}{when} to {to}")
    screen.say(f"noob-cloud status --queue {to}")


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"--at {text!r} is not a time like 2026-11-23T14:05:00Z (RFC 3339)"
        ) from error
    if found.tzinfo is None:
        raise UsageError(f"--at {text} has no time zone; end it with Z for UTC, or like +01:00")
    return found.astimezone(UTC)


def _choose(
    place: Place, marked: Mapping[int, float], epoch: int | None, moment: datetime | None
) -> int:
    """The epoch asked for, or the newest that had begun."""
    if not marked:
        raise UsageError(f"{place} holds no replica; is the prefix right?")
    if epoch is not None:
        if epoch not in marked:
            known = ", ".join(map(str, marked))
            raise UsageError(f"{place} has no epoch {epoch}; it has {known}")
        return epoch
    begun = [n for n, since in marked.items() if moment is None or since <= moment.timestamp()]
    if not begun:
        first = datetime.fromtimestamp(min(marked.values()), UTC).isoformat(timespec="seconds")
        raise UsageError(f"{place} goes back to {first.replace('+00:00', 'Z')}, not further")
    return begun[-1]
