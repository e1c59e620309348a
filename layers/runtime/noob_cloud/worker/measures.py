"""What a worker counts, as Prometheus text and as JSON."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from noob_cloud.worker.service import WorkerService


def summary(service: WorkerService) -> dict[str, Any]:
    """Return the counters as a flat dict."""
    counts = service.counts
    return {
        "worker_id": service.settings.worker_id,
        "tags": sorted(service.settings.tags),
        "uptime_seconds": time() - service.started_at,
        "max_tasks": service.settings.max_tasks,
        "active_tasks": len(service.active),
        "completed_tasks": counts.completed,
        "failed_tasks": counts.failed,
        "refused_tasks": counts.refused,
        "task_seconds": counts.seconds,
        "bytes_in": counts.bytes_in,
        "bytes_out": counts.bytes_out,
        "tubes": len(service.tubes),
        "draining": service.draining,
    }


def prometheus(service: WorkerService) -> bytes:
    """Return the counters in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Collector(service))
    return generate_latest(registry)


class _Collector:
    def __init__(self, service: WorkerService) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        service, counts = self._service, self._service.counts
        tasks = CounterMetricFamily(
            "noob_cloud_worker_tasks", "Tasks by what became of them.", labels=["outcome"]
        )
        tasks.add_metric(["completed"], counts.completed)
        tasks.add_metric(["failed"], counts.failed)
        tasks.add_metric(["refused"], counts.refused)
        yield tasks
        yield CounterMetricFamily(
            "noob_cloud_worker_task_seconds", "Time spent in tasks.", value=counts.seconds
        )
        traffic = CounterMetricFamily(
            "noob_cloud_worker_bytes", "Bytes of frames.", labels=["direction"]
        )
        traffic.add_metric(["in"], counts.bytes_in)
        traffic.add_metric(["out"], counts.bytes_out)
        yield traffic
        yield GaugeMetricFamily(
            "noob_cloud_worker_active_tasks", "Tasks that run now.", value=len(service.active)
        )
        yield GaugeMetricFamily(
            "noob_cloud_worker_max_tasks", "Tasks at once.", value=service.settings.max_tasks
        )
        yield GaugeMetricFamily(
            "noob_cloud_worker_uptime_seconds", "Time since the start.", time() - service.started_at
        )
