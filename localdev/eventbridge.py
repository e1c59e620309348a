"""EventBridge as far as moto leaves it out: S3's events with ids of their own, targets with input.

moto gives every event of S3 the same id, so whoever keeps each event once would keep one; it
ignores what a target says of its input, and cannot call functions.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from moto.events.models import Rule, events_backends
from moto.s3 import notifications
from moto.sqs.models import sqs_backends

from localdev import invoking

__all__ = ["deliver", "install"]

_log: Final = logging.getLogger("localdev")
_PLACE: Final = re.compile(r"<([A-Za-z0-9_.-]+)>")


def install() -> None:
    """Put our ways in place of moto's."""
    notifications._send_event_bridge_message = _of_s3  # noqa: SLF001 - there is no other way in
    Rule.send_to_targets = _send  # type: ignore[method-assign]


def _of_s3(account_id: str, bucket: Any, event_name: str, key: Any) -> None:
    event = {
        "version": "0",
        "id": str(uuid4()),
        "detail-type": notifications._detail_type(event_name),  # noqa: SLF001 - as above
        "source": "aws.s3",
        "account": account_id,
        "time": _now(),
        "region": bucket.region_name,
        "resources": [bucket.arn],
        "detail": {
            "version": "0",
            "bucket": {"name": bucket.name},
            "object": {
                "key": key.name,
                "size": key.size,
                "etag": key.etag.replace('"', ""),
                "version-id": str(key.version_id),
                "sequencer": f"{uuid4().int & 0xFFFFFFFFFFFFFFFF:016X}",
            },
            "request-id": uuid4().hex[:16].upper(),
            "requester": account_id,
            "source-ip-address": "127.0.0.1",
            "reason": event_name.split(":")[1],
        },
    }
    for bus in events_backends[account_id][bucket.region_name].event_buses.values():
        for rule in bus.rules.values():
            rule.send_to_targets(event)  # type: ignore[arg-type]


def _send(self: Rule, original_event: Any, transform_input: bool = True) -> None:  # noqa: ARG001, FBT001, FBT002 - moto's signature
    timed = self.scheduled_expression and not self.event_pattern.get_pattern()
    if self.state == "ENABLED" and not timed and self.event_pattern.matches_event(original_event):
        event = dict(original_event)
        if not isinstance(event.get("time"), str):
            event["time"] = _now()
        for target in self.targets:
            deliver(target, event, account=self.account_id)


def deliver(target: dict[str, Any], event: dict[str, Any], *, account: str) -> None:
    """Send an event to a target of a rule or a schedule, as the target wants it.

    What cannot be delivered goes to the target's dead letters, if it has a queue for them.
    """
    arn = target["Arn"]
    body = _input(target, event)
    _, _, service, region, _, resource = arn.split(":", 5)
    try:
        if service == "sqs":
            group = target.get("SqsParameters", {}).get("MessageGroupId")
            sqs_backends[account][region].send_message(resource, body, group_id=group)
        elif service == "lambda":
            invoking.forward(resource.removeprefix("function:"), body.encode(), kind="Event")
        else:
            raise LookupError(f"nothing here delivers to {service}")  # noqa: TRY301 - told below
    except Exception as error:  # noqa: BLE001 - whoever caused the event goes on
        _log.warning("an event for %s was not delivered: %s", arn, error)
        dead = target.get("DeadLetterConfig", {}).get("Arn")
        if dead is not None:
            sqs_backends[account][region].send_message(dead.split(":")[-1], json.dumps(event))


def _input(target: dict[str, Any], event: dict[str, Any]) -> str:
    if "Input" in target:
        return str(target["Input"])
    if "InputPath" in target:
        return json.dumps(_at(event, target["InputPath"]))
    how = target.get("InputTransformer")
    if how is None:
        return json.dumps(event)
    found = {key: _at(event, path) for key, path in how.get("InputPathsMap", {}).items()}
    found["aws.events.event.json"] = event
    template: str = how["InputTemplate"]

    def place(match: re.Match[str]) -> str:
        value = found.get(match[1])
        quoted = template[: match.start()].count('"') % 2 == 1
        if quoted:
            return json.dumps(value if isinstance(value, str) else json.dumps(value))[1:-1]
        return json.dumps(value)

    return _PLACE.sub(place, template)


def _at(event: Any, path: str) -> Any:
    for name in path.removeprefix("$").strip(".").split("."):
        if name:
            event = event.get(name) if isinstance(event, dict) else None
    return event


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
