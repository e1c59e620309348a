"""All cores of this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass

from noob_cloud.executors.process import ProcessExecutor
from noob_cloud.runner.executor import ExecutorRunner


@dataclass
class MultiProcessRunner(ExecutorRunner):
    """Run the stateless stages of a tube in worker processes on this machine.

    Workers start with the first epoch and stop with `deinit`, the end of `iter`, the end of the
    `with` block, or of the program. Small calls travel in batches sized by their measured cost,
    large arrays through shared memory. A worker that dies is replaced and its call run again.

    Args:
        tube: the tube to run.
        max_workers: processes; by default one for each core this process may use.
        max_retries: further attempts for a call whose process died.
    """

    max_workers: int | None = None
    max_retries: int = 2

    def _open(self) -> ProcessExecutor:
        workers = self.max_workers or len(os.sched_getaffinity(0))
        return ProcessExecutor(
            max_workers=workers, max_retries=self.max_retries, cancel_running=True
        )
