"""The capacity and the queue as CloudWatch reads them from a log: the embedded metric format.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from noob_cloud.coordinator.capacity_loop import CapacityLoop
    from noob_cloud.queue import QueueStats

NAMESPACE: Final = "noob-cloud"
_UNITS: Final = {
    "OldestReadySeconds": "Seconds",
    "ReplicationSeconds": "Seconds",
    "SpentToday": "None",
    "BudgetLeft": "None",
}


def lines(
    loop: CapacityLoop, stats: QueueStats, deployment: str, now: float
) -> Iterator[dict[str, Any]]:
    """Yield one object for the deployment, and one for each place."""
    left = loop.fleet.left(loop.decision, now)
    health = loop.health
    whole: dict[str, float] = {
        "ReadyTasks": stats.ready,
        "DeadTasks": stats.dead,
        "OldestReadySeconds": round(max((x.age for x in loop.demands), default=0.0), 3),
        "SpentToday": round(loop.fleet.spent_today, 6),
        "ApiErrors": health.take_errors(),
    }
    if health.barrier is not None:
        whole["ReplicationSeconds"] = round(health.barrier.worst_lag(), 6)
    if left is not None:
        whole["BudgetLeft"] = round(left, 6)
    yield _line({"Deployment": deployment}, whole, now)
    for name, crew in loop.fleet.crews.items():
        each: dict[str, float] = {
            "Workers": len(crew.seen.workers),
            "WantedWorkers": loop.decision.wanted.get(name, 0),
            "SpentToday": round(loop.fleet.spent[name], 6),
            "FailedStarts": crew.failed,
        }
        yield _line({"Deployment": deployment, "Pool": name}, each, now)


def _line(dimensions: Mapping[str, str], values: Mapping[str, float], now: float) -> dict[str, Any]:
    metrics = [{"Name": name, "Unit": _UNITS.get(name, "Count")} for name in values]
    directive = {"Namespace": NAMESPACE, "Dimensions": [list(dimensions)], "Metrics": metrics}
    head = {"Timestamp": int(now * 1000), "CloudWatchMetrics": [directive]}
    return {"_aws": head, **dimensions, **values}
