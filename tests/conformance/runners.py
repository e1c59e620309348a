"""The runners that the suite runs on: how each is started once, and made for a tube."""

from __future__ import annotations

import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from noob_cloud.deployment import Deployment
from noob_cloud.executors.process import ProcessExecutor
from noob_cloud.runner import (
    DistributedRunner,
    ExecutorRunner,
    LambdaRunner,
    MultiProcessRunner,
    QueuedRunner,
    SynchronousRunner,
    TaskQueue,
)

from .servers import TOKEN, coordinator, queue_worker, worker_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .observe import Factory


@dataclass(frozen=True)
class Kind:
    """One way to run a tube."""

    name: str
    start: Callable[[ExitStack], Factory]
    """Start what is needed, once for the session; give the maker of runners."""
    remote: bool = True
    """Whether stateless nodes run in other processes."""
    examples: int = 10
    """How many generated tubes it is worth."""
    survives: bool = False
    """Whether a worker may die; a ProcessPoolExecutor breaks for good, as documented."""
    thorough: bool = False
    """Whether every check sees every tube; what is left out differs in nothing but the executor."""

    @contextmanager
    def started(self) -> Iterator[Factory]:
        """The maker of runners; all that was started ends afterwards."""
        with ExitStack() as stack:
            yield self.start(stack)


def _sync(stack: ExitStack) -> Factory:
    return SynchronousRunner


def _multiprocess(stack: ExitStack) -> Factory:
    # One pool for the session; that a runner opens and closes its own has tests elsewhere.
    pool = stack.enter_context(ProcessExecutor(max_workers=2))
    return lambda tube: MultiProcessRunner(tube, executor=pool)


def _process_pool(stack: ExitStack) -> Factory:
    context = multiprocessing.get_context("spawn")
    pool = stack.enter_context(ProcessPoolExecutor(2, mp_context=context))
    return lambda tube: ExecutorRunner(tube, executor=pool)


def _dask(stack: ExitStack) -> Factory:
    from distributed import Client, LocalCluster  # noqa: PLC0415 -- takes a second

    cluster = stack.enter_context(
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
        )
    )
    pool = stack.enter_context(stack.enter_context(Client(cluster)).get_executor())
    return lambda tube: ExecutorRunner(tube, executor=pool)


def _distributed(stack: ExitStack) -> Factory:
    folder = Path(stack.enter_context(TemporaryDirectory()))
    workers = [stack.enter_context(worker_server(folder, name))[0] for name in ("w1", "w2")]
    return lambda tube: DistributedRunner(tube, workers=workers)


def _queued(stack: ExitStack) -> Factory:
    path = Path(stack.enter_context(TemporaryDirectory())) / "queue.db"
    queue = TaskQueue(persistent=True, db_path=str(path))
    stack.callback(queue.close)
    for name in ("q1", "q2"):
        stack.enter_context(queue_worker(path, name))
    return lambda tube: QueuedRunner(tube, queue=queue)


def _queued_remote(stack: ExitStack) -> Factory:
    folder = Path(stack.enter_context(TemporaryDirectory()))
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setenv("NOOB_CLOUD_TOKEN", TOKEN)
    url, _ = stack.enter_context(coordinator(folder))
    for name in ("c1", "c2"):
        stack.enter_context(worker_server(folder, name, coordinator=url))
    return lambda tube: QueuedRunner(tube, queue=url)


def _lambda(stack: ExitStack) -> Factory:
    folder = Path(stack.enter_context(TemporaryDirectory()))
    url, _ = stack.enter_context(coordinator(folder))
    for name in ("l1", "l2"):
        stack.enter_context(worker_server(folder, name, coordinator=url))
    return lambda tube: LambdaRunner(tube, deployment=Deployment.at(url, TOKEN))


KINDS: tuple[Kind, ...] = (
    Kind("sync", _sync, remote=False, examples=300, thorough=True),
    Kind("multiprocess", _multiprocess, examples=40, survives=True, thorough=True),
    Kind("process_pool", _process_pool),
    Kind("dask", _dask, survives=True),
    Kind("distributed", _distributed, survives=True),
    Kind("queued", _queued, survives=True),
    Kind("queued_remote", _queued_remote, survives=True),
    Kind("lambda", _lambda, survives=True),
)
"""Every runner of the suite."""
