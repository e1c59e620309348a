"""Carry out what the capacity loop decides, on AWS: asynchronous invokes, and desired counts."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from noob_cloud.exceptions import UnavailableError

if TYPE_CHECKING:
    from noob_cloud.coordinator.capacity import Place

_log = logging.getLogger(__name__)
_AT_ONCE: Final = 32
"""Invokes under way: each takes some 20 ms, so about 1,500 are made in a second."""
_ACCEPTED: Final = 202


class AwsProvider:
    """Starts Lambdas and scales services of ECS. Every method blocks.

    Args:
        clients: boto3 clients by their service, instead of new ones: `lambda`, `ecs`.
        at_once: invokes under way.
    """

    def __init__(self, clients: dict[str, Any] | None = None, *, at_once: int = _AT_ONCE) -> None:
        self._clients = dict(clients or {})
        self._at_once = at_once

    def _client(self, name: str) -> Any:
        if name not in self._clients:
            import boto3  # noqa: PLC0415 - only where there are pools
            from botocore.config import Config  # noqa: PLC0415 - as above

            config = Config(
                max_pool_connections=self._at_once,
                connect_timeout=5,
                read_timeout=20,
                retries={"mode": "standard", "total_max_attempts": 2},
            )
            self._clients[name] = boto3.client(name, config=config)
        return self._clients[name]

    def start(self, place: Place, count: int) -> int:
        """Invoke a function so many times, asynchronously; return how many were accepted."""
        client = self._client("lambda")
        function, _, alias = _split(place.target[0])
        event: dict[str, Any] = {"noob_cloud": "pull"}
        if place.limit_seconds is not None:
            event["limit_seconds"] = place.limit_seconds
        asked: dict[str, Any] = {
            "FunctionName": function,
            "InvocationType": "Event",
            "Payload": json.dumps(event).encode(),
        }
        if alias:
            asked["Qualifier"] = alias
        troubles: list[Exception] = []

        def invoke(_number: int) -> bool:
            if troubles:
                return False  # throttled: the rest would be too
            try:
                return bool(client.invoke(**asked)["StatusCode"] == _ACCEPTED)
            except Exception as error:  # noqa: BLE001 - a start that failed, whatever it was
                troubles.append(error)
                return False

        with ThreadPoolExecutor(min(self._at_once, count), "noob-invoke") as threads:
            accepted = sum(threads.map(invoke, range(count)))
        if troubles:
            _log.warning(
                "%d of %d workers of %s were not started: %s",
                count - accepted,
                count,
                place.name,
                troubles[0],
            )
        return accepted

    def desired(self, place: Place) -> int:
        """Return how many workers a service was told to have.

        Raises:
            UnavailableError: there is no such service.
        """
        cluster, service = place.target
        answer = self._client("ecs").describe_services(cluster=cluster, services=[service])
        found = [x for x in answer["services"] if x.get("status") != "INACTIVE"]
        if not found:
            raise UnavailableError(f"ECS has no service {service} in the cluster {cluster}.")
        return int(found[0]["desiredCount"])

    def scale(self, place: Place, workers: int) -> None:
        """Tell a service how many workers to have."""
        cluster, service = place.target
        self._client("ecs").update_service(cluster=cluster, service=service, desiredCount=workers)


def _split(target: str) -> tuple[str, str, str]:
    """Split an alias or version from a function's name or ARN."""
    parts = target.split(":")
    if target.startswith("arn:"):
        named = 7
        return ":".join(parts[:named]), ":", ":".join(parts[named:])
    return target.partition(":")
