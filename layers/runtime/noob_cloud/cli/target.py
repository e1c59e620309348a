"""Where a command looks for tasks: a queue file of one's own, or a coordinator."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noob_cloud.cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

    from noob_cloud.deployment import Deployment
    from noob_cloud.queue import Queue


@dataclass
class Target:
    """A queue and, where it is a coordinator's, the client that knows its runs."""

    name: str
    queue: Queue
    client: Any = None

    def runs(self, what: str) -> Any:
        """The coordinator's client.

        Raises:
            UsageError: this is a queue file, which has tasks and no runs.
        """
        if self.client is None:
            raise UsageError(f"{what} needs a coordinator: --coordinator URL, or --deployment NAME")
        return self.client


@contextmanager
def open_target(
    coordinator: str | None,
    queue: str | None,
    token: str | None,
    deployment: str | None = None,
    *,
    create: bool = False,
    patient: bool = False,
) -> Generator[Target, None, None]:
    """Open what the options name: `--queue FILE` first, then `--deployment` or `--coordinator`.

    Args:
        coordinator: URL of a coordinator.
        queue: path of a queue file.
        token: bearer token for the coordinator.
        deployment: name of a deployed kit; before a coordinator that only a variable names.
        create: make the queue file if there is none.
        patient: wait out a coordinator's restart, where the command waits anyway.

    Raises:
        UsageError: neither is given, or there is no such file.
    """
    if queue is not None:
        from noob_cloud.queue import TaskQueue  # noqa: PLC0415 - opens SQLite

        if not create and not Path(queue).exists():
            raise UsageError(f"There is no queue file {queue}")
        opened = TaskQueue(persistent=True, db_path=queue)
        try:
            yield Target(queue, opened)
        finally:
            opened.close()
        return
    found = locate(coordinator, token, deployment)
    client = found.client(patience=180.0 if patient else 3.0)
    try:
        yield Target(found.name or found.url, client.queue, client)
    finally:
        client.close()


def locate(coordinator: str | None, token: str | None, deployment: str | None) -> Deployment:
    """Find the deployed kit, or the coordinator where none is named.

    Raises:
        UsageError: neither is given.
        DeploymentNotFoundError: nothing of this name is deployed.
    """
    if deployment is None and coordinator is None:
        raise UsageError(
            "Say where: --deployment NAME, --coordinator URL (or NOOB_CLOUD_COORDINATOR), or"
            " --queue FILE"
        )
    from noob_cloud.deployment import Deployment  # noqa: PLC0415 - loads the client

    if deployment is None:
        assert coordinator is not None  # noqa: S101 - one of them is given
        return Deployment.at(coordinator, token)
    try:
        found = Deployment.find(deployment)
    except ValueError as error:
        raise UsageError(f"--deployment: {error}") from error
    return replace(found, token=token or found.token)


def task_ids(ids: list[str]) -> list[int]:
    """Ids of tasks.

    Raises:
        UsageError: one is not a number.
    """
    for text in ids:
        if not text.isdecimal():
            raise UsageError(f"{text!r} is not the id of a task, which is a number")
    return [int(text) for text in ids]
