"""`python -m localdev.localstack.agent`: runs what LocalStack does not, the services of ECS.

It reads them from the deployed templates, and answers the two calls of ECS's API by which the
coordinator scales them. Functions and their queues are LocalStack's own business.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from typing import Any, Final

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from localdev.agent import Agent, main
from localdev.http import Door, Response
from localdev.localstack.deployed import Stack, services
from localdev.services import Services

__all__ = ["ADDRESS_VARIABLE", "StackAgent", "StackServices"]

ADDRESS_VARIABLE: Final = "LOCALDEV_ADDRESS"
"""Address of this machine for services that listen, where others than it must reach them."""
COUNTS_PATH: Final = "/_localdev/functions"
_LOOK_SECONDS: Final = 1.0
_SETTLED: Final = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}
_ECS: Final = "AmazonEC2ContainerServiceV20141113."
_AMZ_JSON: Final = [("content-type", "application/x-amz-json-1.1")]
_COUNTED: Final = ("running", "invocations", "errors", "throttles", "cold starts")
_log: Final = logging.getLogger("localdev")


class StackServices(Services):
    """Services whose ports may have to be reached from containers of the user's LocalStack."""

    def address(self, service: dict[str, Any]) -> str:
        """Return the address that was chosen for what listens, or one on the loopback."""
        chosen = os.environ.get(ADDRESS_VARIABLE, "")
        listens = any(each.get("portMappings") for each in service["containers"])
        return chosen if chosen and listens else super().address(service)


class StackAgent(Agent):
    """Follows the deployed stacks; its arguments are `Agent`'s."""

    kind_of_services = StackServices

    def __init__(self, cloud: str, **options: Any) -> None:
        super().__init__(cloud, **options)
        self._region = options["region"]
        self._cloud = cloud
        config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30)
        session = boto3.Session(region_name=self._region)
        self._clients = {
            name: session.client(name, endpoint_url=cloud, config=config)
            for name in ("cloudformation", "lambda", "sts")
        }
        self._account = ""
        self._read: dict[str, Stack] = {}
        self._looked = 0.0
        self._told: dict[str, int] = {}
        self._desired: dict[str, int] = {}
        """What the API was told, by service."""
        self._functions: list[dict[str, Any]] = []
        self._mappings: list[dict[str, Any]] = []

    @staticmethod
    def told(url: str) -> dict[str, str]:
        """Return where ECS's API is."""
        return {"AWS_ENDPOINT_URL_ECS": url}

    def door(self) -> Door:
        """Return what answers requests."""
        return _Door(self)

    async def refresh(self) -> None:
        """Read the templates of the stacks that have changed."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            found = await asyncio.to_thread(self._look)
        except (ClientError, BotoCoreError) as error:
            raise httpx.TransportError(str(error)) from error
        for service in found:
            key, desired = service["key"], service["desired"]
            if self._told.get(key) != desired:  # the template has another number than before
                self._told[key] = self._desired[key] = desired
            service["desired"] = self._desired[key]
        for key in set(self._told).difference(service["key"] for service in found):
            del self._told[key], self._desired[key]
        self._services = found

    def _look(self) -> list[dict[str, Any]]:
        cloud = self._clients["cloudformation"]
        self._account = self._account or self._clients["sts"].get_caller_identity()["Account"]
        pages = cloud.get_paginator("describe_stacks").paginate()
        known = {stack["StackName"]: stack for page in pages for stack in page["Stacks"]}
        changed = False
        for name, told in known.items():
            if told["StackStatus"] not in _SETTLED:
                continue
            template = self._template(name)  # LocalStack does not say when a stack was updated
            if name not in self._read or self._read[name].template != template:
                self._read[name] = self._stack(name, template)
                changed = True
        for name in list(self._read):
            if name not in known or known[name]["StackStatus"].startswith("DELETE"):
                del self._read[name]
                changed = True
        self._functions = self._look_at_functions()
        if not changed:
            return [dict(service) for service in self._services]
        exports = {
            each["Name"]: each["Value"]
            for page in cloud.get_paginator("list_exports").paginate()
            for each in page["Exports"]
        }
        every = list(self._read.values())
        return services(every, account=self._account, region=self._region, exports=exports)

    def _template(self, name: str) -> dict[str, Any]:
        cloud = self._clients["cloudformation"]
        found = cloud.get_template(StackName=name, TemplateStage="Processed")["TemplateBody"]
        if isinstance(found, str):  # one in YAML is not the CDK's
            found = json.loads(found) if found.lstrip().startswith("{") else {}
        return dict(found)

    def _stack(self, name: str, template: dict[str, Any]) -> Stack:
        cloud = self._clients["cloudformation"]
        made = cloud.describe_stack_resources(StackName=name)["StackResources"]
        return Stack(
            name,
            template,
            {each["LogicalResourceId"]: each.get("PhysicalResourceId", "") for each in made},
        )

    def _look_at_functions(self) -> list[dict[str, Any]]:
        client = self._clients["lambda"]
        names = [
            function["FunctionName"]
            for page in client.get_paginator("list_functions").paginate()
            for function in page["Functions"]
        ]
        self._mappings = [
            {"queue": each["EventSourceArn"].split(":")[-1],
             "function": each["FunctionArn"].split(":function:")[-1]}
            for page in client.get_paginator("list_event_source_mappings").paginate()
            for each in page["EventSourceMappings"]
        ]  # fmt: skip
        answer = httpx.get(f"{self._cloud}{COUNTS_PATH}", timeout=30, trust_env=False)
        counts = answer.json() if answer.is_success else {}  # a LocalStack without our plugin
        return [
            {"name": name, **{key: counts.get(name, {}).get(key, 0) for key in _COUNTED}}
            for name in sorted(names)
        ]

    def status(self) -> dict[str, Any]:
        """Return a line for everything that is deployed and runs."""
        return {**super().status(), "functions": self._functions, "sources": self._mappings}

    async def _report(self, counts: dict[str, dict[str, int]]) -> None:
        """Say nothing: who asks is told what is counted at that time."""

    def describe(self, name: str) -> dict[str, Any] | None:
        """Return a service as ECS's API does, by its name or ARN."""
        name = name.rsplit("/", 1)[-1]
        for service in self._services:
            if service["name"] == name:
                running = len(self.services.running(service["key"]))
                head = f"arn:aws:ecs:{self._region}:{self._account}"
                return {
                    "serviceArn": f"{head}:service/{service['cluster']}/{name}",
                    "serviceName": name,
                    "clusterArn": f"{head}:cluster/{service['cluster']}",
                    "status": "ACTIVE",
                    "desiredCount": service["desired"],
                    "runningCount": running,
                    "pendingCount": max(0, service["desired"] - running),
                    "taskDefinition": service["definition"],
                }
        return None

    def scale(self, name: str, desired: int) -> None:
        """Take how many tasks a service is to have."""
        for service in self._services:
            if service["name"] == name.rsplit("/", 1)[-1]:
                service["desired"] = self._desired[service["key"]] = desired


class _Door(Door):
    """Answers what the coordinator asks of ECS too."""

    def __init__(self, agent: StackAgent) -> None:
        super().__init__(agent)
        self._stacks = agent

    async def answer(self, scope: dict[str, Any], body: bytes) -> Response:
        """Return what a request is answered."""
        target = dict(scope["headers"]).get(b"x-amz-target", b"").decode("latin-1")
        if not target.startswith(_ECS):
            return await super().answer(scope, body)
        given = json.loads(body)
        match target.removeprefix(_ECS):
            case "DescribeServices":
                found = {name: self._stacks.describe(name) for name in given["services"]}
                failures = [
                    {"arn": name, "reason": "MISSING"} for name, each in found.items() if not each
                ]
                listed = [each for each in found.values() if each]
                return _amz(200, {"services": listed, "failures": failures})
            case "UpdateService":
                if self._stacks.describe(given["service"]) is None:
                    return _refused("ServiceNotFoundException", "Service not found.")
                if "desiredCount" in given:
                    self._stacks.scale(given["service"], int(given["desiredCount"]))
                return _amz(200, {"service": self._stacks.describe(given["service"])})
            case other:
                return _refused("InvalidParameterException", f"{other} is not answered here.")


def _amz(status: int, told: dict[str, Any]) -> Response:
    return status, _AMZ_JSON, json.dumps(told).encode()


def _refused(kind: str, message: str) -> Response:
    return _amz(400, {"__type": kind, "message": message})


if __name__ == "__main__":
    sys.exit(main(kind=StackAgent))
