"""Which runner a command line asks for, and what it still needs."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from noob_cloud.cli.errors import UsageError
from noob_cloud.cli.target import locate
from noob_cloud.cli.tube import placement_of

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from noob import Tube


class RunnerName(StrEnum):
    """The runners, by the names that `--runner` takes."""

    SYNC = "sync"
    MULTIPROCESS = "multiprocess"
    DISTRIBUTED = "distributed"
    QUEUED = "queued"
    LAMBDA = "lambda"


_RESUMED = (RunnerName.QUEUED, RunnerName.LAMBDA)


class Balancing(StrEnum):
    """How `--runner distributed` chooses a worker."""

    ROUND_ROBIN = "round-robin"
    LEAST_LOADED = "least-loaded"
    RANDOM = "random"
    FASTEST_RESPONSE = "fastest-response"


@dataclass(frozen=True)
class Settings:
    """What the command line says about the runner."""

    name: RunnerName = RunnerName.SYNC
    workers: str | None = None
    queue: str | None = None
    coordinator: str | None = None
    deployment: str | None = None
    token: str | None = None
    run_id: str | None = None
    placement: Path | None = None
    balancing: Balancing = Balancing.LEAST_LOADED


@contextmanager
def open_runner(tube: Tube, source: str, settings: Settings) -> Generator[Any, None, None]:
    """The runner, deinitialised at the end.

    Raises:
        UsageError: the runner needs something that the command line does not give.
    """
    make = {
        RunnerName.SYNC: _sync,
        RunnerName.MULTIPROCESS: _multiprocess,
        RunnerName.DISTRIBUTED: _distributed,
        RunnerName.QUEUED: _queued,
        RunnerName.LAMBDA: _lambda,
    }[settings.name]
    placed = placement_of(source, settings.placement)
    if settings.run_id is not None and settings.name not in _RESUMED:
        raise UsageError(
            f"--run-id is for --runner {' or '.join(_RESUMED)}; {settings.name} keeps nothing to"
            " resume"
        )
    runner = make(tube, settings, {"placement": placed} if placed else {})
    with runner:
        yield runner


def _sync(tube: Tube, settings: Settings, extra: dict[str, Any]) -> Any:
    if settings.workers:
        raise UsageError("--runner sync runs in this process; --workers wants another --runner")
    from noob_cloud.runner import SynchronousRunner  # noqa: PLC0415 - loads upstream

    return SynchronousRunner(tube, **extra)


def _multiprocess(tube: Tube, settings: Settings, extra: dict[str, Any]) -> Any:
    count = workers_of(settings.workers)
    if isinstance(count, list):
        raise UsageError(
            f"--runner multiprocess runs on this machine; --workers {settings.workers} names "
            "servers: --runner distributed uses those"
        )
    from noob_cloud.runner import MultiProcessRunner  # noqa: PLC0415 - loads upstream

    return MultiProcessRunner(tube, max_workers=count, **extra)


def _distributed(tube: Tube, settings: Settings, extra: dict[str, Any]) -> Any:
    hosts = workers_of(settings.workers)
    if not isinstance(hosts, list):
        raise UsageError(
            "--runner distributed needs --workers HOST:PORT,...; start one with "
            "python -m noob_cloud.runner.worker_server --port 8000"
        )
    from noob_cloud.runner import (  # noqa: PLC0415 - loads upstream
        DistributedRunner,
        LoadBalancingStrategy,
    )

    strategy = LoadBalancingStrategy[settings.balancing.name]
    return DistributedRunner(
        tube, workers=_configs(hosts, settings.token), load_balancing=strategy, **extra
    )


def _queued(tube: Tube, settings: Settings, extra: dict[str, Any]) -> Any:
    if settings.run_id is not None:
        extra["run_id"] = settings.run_id
    found = workers_of(settings.workers)
    workers = _configs(found, settings.token) if isinstance(found, list) else found
    if not settings.queue and not settings.coordinator:
        raise UsageError("--runner queued needs --queue FILE or --coordinator URL")
    from noob_cloud.runner import QueuedRunner, TaskQueue  # noqa: PLC0415 - loads upstream

    if settings.queue:  # before the coordinator, which may come from the environment
        queue = TaskQueue(persistent=True, db_path=settings.queue)
        return QueuedRunner(tube, queue=queue, workers=workers, **extra)
    return QueuedRunner(
        tube, queue=settings.coordinator, token=settings.token, workers=workers, **extra
    )


def _lambda(tube: Tube, settings: Settings, extra: dict[str, Any]) -> Any:
    if settings.workers:
        raise UsageError("--runner lambda runs on the workers of a deployment, without --workers")
    found = locate(settings.coordinator, settings.token, settings.deployment)
    if settings.run_id is not None:
        extra["run_id"] = settings.run_id
    from noob_cloud.runner import LambdaRunner  # noqa: PLC0415 - loads upstream

    return LambdaRunner(tube, deployment=found, **extra)


@dataclass(frozen=True)
class Address:
    """A worker server on the command line: `[https://]host:port[+tag...]`."""

    host: str
    port: int
    tags: tuple[str, ...] = ()
    scheme: str = "http"


def workers_of(text: str | None) -> int | list[Address] | None:
    """`--workers`: a number of processes, or addresses by comma.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    return [_address(item.strip()) for item in text.split(",")]


def _address(text: str) -> Address:
    found = re.fullmatch(r"(?:(https?)://)?([^\s/+]+):(\d{1,5})/?((?:\+[^\s+]+)*)", text)
    if found is None:
        raise UsageError(
            f"--workers {text!r} is neither a number nor host:port (host:port+gpu with a tag)"
        )
    scheme, host, port, tags = found.groups()
    return Address(host, int(port), tuple(tags.split("+")[1:]), scheme or "http")


def _configs(addresses: list[Address], token: str | None) -> list[Any]:
    from noob_cloud.runner import WorkerConfig  # noqa: PLC0415 - loads upstream

    return [
        WorkerConfig(host=a.host, port=a.port, tags=a.tags, scheme=a.scheme, token=token)
        for a in addresses
    ]
