"""The coordinator's counters as Prometheus text."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from noob_cloud.coordinator.capacity_loop import CapacityLoop
    from noob_cloud.coordinator.service import Coordinator
    from noob_cloud.queue import QueueStats

_PLACES = ("ready", "parked", "delayed", "claimed", "running", "completed", "dead", "cancelled")
_MOST_LABELS = 100
"""Values of the label `tags`."""
_OTHERS = "(others)"
_COUNTS = {
    "submitted": "Tasks submitted.",
    "claimed": "Leases granted.",
    "completed": "Tasks completed.",
    "failed": "Attempts that failed.",
    "refused": "Outcomes refused because their lease was lost.",
}


class _Collector:
    def __init__(self, coordinator: Coordinator, stats: QueueStats) -> None:
        self._coordinator = coordinator
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        tasks = GaugeMetricFamily("noob_tasks", "Tasks by where they stand.", labels=["status"])
        for place in _PLACES:
            tasks.add_metric([place], getattr(self._stats, place))
        yield tasks
        waiting = GaugeMetricFamily("noob_waiting_tasks", "Ready tasks by tags.", labels=["tags"])
        for tags, count in _largest(self._stats.ready_by_tags):
            waiting.add_metric([tags], count)
        yield waiting
        for name, text in _COUNTS.items():
            count = getattr(self._coordinator.counts, name)
            yield CounterMetricFamily(f"noob_{name}", text, value=count)
        rows = self._coordinator.workers.rows()
        yield GaugeMetricFamily(
            "noob_workers", "Workers that are alive.", value=sum(not row.lost for row in rows)
        )
        yield GaugeMetricFamily(
            "noob_waiting_claims", "Workers that wait.", value=len(self._coordinator.claims)
        )
        yield GaugeMetricFamily(
            "noob_open_runs", "Runs without outcome.", value=len(self._coordinator.open_runs)
        )
        yield GaugeMetricFamily(
            "noob_writer_backlog", "Jobs before the writer.", value=self._coordinator.writer.waiting
        )
        health = self._coordinator.health
        yield CounterMetricFamily(
            "noob_api_errors", "Requests answered by an error of ours (5xx).", value=health.errors
        )
        if health.barrier is not None:
            yield GaugeMetricFamily(
                "noob_replication_seconds",
                "How long the oldest commit waits for S3, or the newest copy took.",
                value=health.barrier.lag(),
            )
        if self._coordinator.capacity is not None:
            yield from _capacity(self._coordinator.capacity)


def _capacity(loop: CapacityLoop) -> Iterator[Metric]:
    """Yield how many workers are where, are wanted, and what they cost."""
    now = time()
    workers = GaugeMetricFamily(
        "noob_pool_workers", "Workers by pool and state.", labels=["pool", "state"]
    )
    wanted = GaugeMetricFamily(
        "noob_pool_wanted", "Workers that there is work for.", labels=["pool"]
    )
    failed = CounterMetricFamily("noob_pool_failed_starts", "Starts that failed.", labels=["pool"])
    oldest = GaugeMetricFamily(
        "noob_oldest_ready_seconds", "Age of the oldest ready task.", labels=["pool"]
    )
    spent = GaugeMetricFamily("noob_spent_today", "Money spent today, in UTC.", labels=["pool"])
    for name, crew in loop.fleet.crews.items():
        workers.add_metric([name, "alive"], len(crew.seen.workers))
        workers.add_metric([name, "busy"], crew.seen.busy)
        workers.add_metric([name, "starting"], crew.starting(now))
        wanted.add_metric([name], loop.decision.wanted.get(name, 0))
        failed.add_metric([name], crew.failed)
        ages = [x.age for x in loop.demands if name in x.places]
        oldest.add_metric([name], max(ages, default=0.0))
        spent.add_metric([name], loop.fleet.spent[name])
    yield from (workers, wanted, failed, oldest, spent)
    left = loop.fleet.left(loop.decision, now)
    if left is not None:
        yield GaugeMetricFamily(
            "noob_budget_left", "Money left for starts today; 0 once it holds one up.", value=left
        )


def _largest(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Return the largest counts, and the others as one: whoever submits chooses the tags."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) <= _MOST_LABELS:
        return ordered
    rest = sum(count for _, count in ordered[_MOST_LABELS:])
    return [*ordered[:_MOST_LABELS], (_OTHERS, rest)]


def prometheus(coordinator: Coordinator, stats: QueueStats) -> bytes:
    """Return the text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(coordinator, stats))
    return generate_latest(registry)
