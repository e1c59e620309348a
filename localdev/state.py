"""What is deployed on the emulated cloud, in one document: what the agent runs."""

from __future__ import annotations

import base64
import json
from typing import Any

from moto.awslambda.models import lambda_backends
from moto.ecs.models import ecs_backends
from moto.events.models import events_backends
from moto.scheduler.models import scheduler_backends

__all__ = ["archive", "describe", "report", "schedules"]


def describe(account: str, region: str) -> bytes:
    """Return the state of everything that the agent looks after, as JSON."""
    return json.dumps(
        {
            "functions": _functions(account, region),
            "sources": _sources(account, region),
            "services": _services(account, region),
        },
        sort_keys=True,
        default=str,
    ).encode()


def archive(account: str, region: str, sha256: str) -> bytes | None:
    """Return the archive of a function's code or of a layer, by the SHA-256 of its bytes."""
    backend = lambda_backends[account][region]
    functions = [each for group in _groups(backend) for each in group]
    layers = [
        version
        for layer in backend._layers._layers.values()  # noqa: SLF001 - no list has their bytes
        for version in layer.layer_versions.values()
    ]
    for each in [*functions, *layers]:
        if _hex(each.code_sha_256) == sha256:
            found: bytes = each.code_bytes
            return found
    return None


def report(account: str, region: str, counts: dict[str, dict[str, Any]]) -> None:
    """Take down how many tasks of each service run."""
    services = ecs_backends[account][region].services
    for key, told in counts.items():
        service = services.get(key)
        if service is None:
            continue
        service.running_count = told["running"]
        service.pending_count = told["pending"]
        for deployment in service.deployments[:1]:
            deployment["runningCount"] = told["running"]
            deployment["pendingCount"] = told["pending"]
            deployment["desiredCount"] = service.desired_count
            done = told["running"] == service.desired_count
            deployment["rolloutState"] = "COMPLETED" if done else "IN_PROGRESS"


def _groups(backend: Any) -> list[list[Any]]:
    groups = backend._lambdas._functions.values()  # noqa: SLF001 - no list has their code
    return [[group["latest"], *group["versions"]] for group in groups if group["latest"]]


def _functions(account: str, region: str) -> list[dict[str, Any]]:
    backend = lambda_backends[account][region]
    found = []
    for latest, *versions in _groups(backend):
        aliases = backend.list_aliases(latest.function_name)
        url = latest.url_config
        found.append(
            {
                "name": latest.function_name,
                "arn": latest.function_arn,
                "reserved": _number(latest.reserved_concurrency),
                "asynchronous": getattr(latest, "asynchronous", {}),
                "aliases": {alias.name: str(alias.function_version) for alias in aliases},
                "url": None
                if url is None
                else {"url": url.url, "qualifier": url.config.get("Qualifier", "")},
                "versions": {
                    str(each.version): _version(backend, each) for each in [latest, *versions]
                },
            }
        )
    return found


def _version(backend: Any, function: Any) -> dict[str, Any]:
    layers = [backend.layers_versions_by_arn(layer["Arn"]) for layer in function.layers]
    snap = getattr(function, "snap_start", {}).get("ApplyOn") == "PublishedVersions"
    return {
        "handler": function.handler,
        "runtime": function.run_time,
        "timeout": int(function.timeout),
        "memory": int(function.memory_size),
        "environment": function.environment_vars,
        "code": _hex(function.code_sha_256),
        "layers": [_hex(layer.code_sha_256) for layer in layers if layer is not None],
        "snapstart": snap and str(function.version) != "$LATEST",
    }


def _sources(account: str, region: str) -> list[dict[str, Any]]:
    backend = lambda_backends[account][region]
    return [
        {
            "id": each.uuid,
            "queue": each.event_source_arn,
            "function": getattr(each, "target", each.function_arn).split(":function:")[-1],
            "batch": int(each.batch_size),
            "window": float(each.max_batch_window or 0),
            "partial": "ReportBatchItemFailures" in (each.function_response_types or []),
            "concurrency": _number((each.scaling_config or {}).get("MaximumConcurrency")),
        }
        for each in backend._event_source_mappings.values()  # noqa: SLF001 - the list filters
        if each.enabled
    ]


def _services(account: str, region: str) -> list[dict[str, Any]]:
    backend = ecs_backends[account][region]
    found = []
    for key, service in backend.services.items():
        if service.status != "ACTIVE" or service.task_definition is None:
            continue
        definition = backend.describe_task_definition(service.task_definition)
        found.append(
            {
                "key": key,
                "cluster": service.cluster_name,
                "name": service.name,
                "desired": int(service.desired_count),
                "definition": definition.arn,
                "deployment": service.deployments[0]["id"] if service.deployments else "",
                "containers": definition.container_definitions,
                "maximum_percent": getattr(service, "maximum_percent", 200),
                "memory": definition.memory,
                "cpu": definition.cpu,
            }
        )
    return found


def schedules(account: str, region: str) -> list[dict[str, Any]]:
    """Return the rules and schedules that have their times."""
    found = [
        {"name": rule.name, "expression": rule.scheduled_expression, "arn": rule.arn,
         "targets": rule.targets}
        for bus in events_backends[account][region].event_buses.values()
        for rule in bus.rules.values()
        if rule.scheduled_expression and rule.state == "ENABLED"
    ]  # fmt: skip
    for group in scheduler_backends[account][region].schedule_groups.values():
        found += [
            {"name": each.name, "expression": each.schedule_expression, "arn": each.arn,
             "targets": [each.target]}
            for each in group.schedules.values()
            if each.state == "ENABLED"
        ]  # fmt: skip
    return found


def _hex(base64_digest: str) -> str:
    return base64.b64decode(base64_digest).hex() if base64_digest else ""


def _number(value: Any) -> int | None:
    return None if value is None else int(value)
