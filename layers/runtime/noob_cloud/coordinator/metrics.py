"""The coordinator's counters as Prometheus text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

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
