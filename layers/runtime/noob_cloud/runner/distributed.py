"""A list of worker servers, pushed to over HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from noob_cloud.exceptions import NoWorkerError
from noob_cloud.executors.balance import LoadBalancingStrategy
from noob_cloud.executors.http import HttpExecutor
from noob_cloud.runner.executor import ExecutorRunner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noob_cloud.executors.worker_config import WorkerConfig


@dataclass
class DistributedRunner(ExecutorRunner):
    """Run the stateless stages of a tube on worker servers, each named by host and port.

    A worker that fails `circuit_breaker_threshold` times in a row is left alone for a while and
    then tried with one call; its calls go to another worker meanwhile. A stage with tags goes
    only to workers that have them.

    Args:
        tube: the tube to run.
        workers: at least one; start each with `python -m noob_cloud.runner.worker_server`.
        load_balancing: how a worker is chosen among those that may run a call.
        circuit_breaker_threshold: failures in a row that open a worker's breaker.
    """

    workers: Sequence[WorkerConfig] = field(default_factory=list)
    load_balancing: LoadBalancingStrategy = LoadBalancingStrategy.LEAST_LOADED
    circuit_breaker_threshold: int = 5

    def __post_init__(self) -> None:
        if not self.workers and self.executor is None:
            raise NoWorkerError(
                "DistributedRunner has no workers; pass workers=[WorkerConfig(host=..., port=...)]"
            )
        super().__post_init__()

    def _open(self) -> HttpExecutor:
        return HttpExecutor(
            workers=list(self.workers),
            load_balancing=self.load_balancing,
            circuit_breaker_threshold=self.circuit_breaker_threshold,
        )

    @property
    def metrics(self) -> dict[str, Any]:
        """Calls, failures, retries and response times, for the whole and for each worker."""
        live = self._live or self.executor
        return live.metrics if isinstance(live, HttpExecutor) else {}
