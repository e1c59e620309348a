"""AWS::Lambda: functions with all their properties, layers, versions, aliases, URLs, sources."""

from __future__ import annotations

import base64
import copy
import io
import os
import zipfile
from contextlib import suppress
from typing import Any

from moto.awslambda.exceptions import LambdaClientError
from moto.awslambda.models import FunctionUrlConfig, LambdaBackend, LambdaFunction, lambda_backends
from moto.moto_api._internal import mock_random

from localdev.cloudformation import Resource
from localdev.invoking import AGENT_VARIABLE


class _LambdaResource(Resource):
    @property
    def backend(self) -> LambdaBackend:
        backend: LambdaBackend = lambda_backends[self.account][self.region]
        return backend

    def function(self) -> LambdaFunction:
        """Return the function that it belongs to."""
        named = self.properties.get("TargetFunctionArn") or self.properties["FunctionName"]
        return self.backend.get_function(unqualified(named))


class Function(_LambdaResource):
    """A function; moto's own type leaves out layers, architecture and SnapStart."""

    type = "AWS::Lambda::Function"
    named_by = "FunctionName"

    def create(self) -> None:
        made = self.backend.create_function(self._specification())
        self._expose(made)

    def update(self) -> None:
        specification = self._specification()
        function = self.backend.get_function(self.id)
        function.update_configuration(
            {"Environment": {"Variables": {}}, "Layers": [], **specification}
        )
        function.update_function_code(specification["Code"])
        function.architectures = specification.get("Architectures", ["x86_64"])
        function.reserved_concurrency = specification.get("ReservedConcurrentExecutions")
        function.tags = specification["Tags"]
        function.code_or_config_updated = True
        self._expose(function)

    def remove(self) -> None:
        with suppress(LambdaClientError):
            self.backend.delete_function(self.id)

    def _specification(self) -> dict[str, Any]:
        found = copy.deepcopy(self.properties)
        found["FunctionName"] = self.name
        found["Tags"] = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
        for number in ("MemorySize", "Timeout", "ReservedConcurrentExecutions"):
            if number in found:
                found[number] = int(found[number])
        if "ZipFile" in found["Code"]:
            found["Code"] = {"ZipFile": _zip_of_source(found["Code"]["ZipFile"])}
        return found

    def _expose(self, function: LambdaFunction) -> None:
        function.snap_start = self.properties.get("SnapStart", {})  # type: ignore[attr-defined]
        self.attributes = {
            "Arn": function.function_arn,
            "SnapStartResponse.ApplyOn": self.properties.get("SnapStart", {}).get(
                "ApplyOn", "None"
            ),
        }


class Layer(_LambdaResource):
    """A version of a layer; a change makes the next one."""

    type = "AWS::Lambda::LayerVersion"
    named_by = "LayerName"

    def create(self) -> None:
        made = self.backend.publish_layer_version(
            {**copy.deepcopy(self.properties), "LayerName": self.name}
        )
        self.id = made.arn
        self.attributes = {"LayerVersionArn": made.arn}

    def remove(self) -> None:
        name, version = self.id.rsplit(":", 1)
        with suppress(LambdaClientError):
            self.backend.delete_layer_version(name.rsplit(":", 1)[1], version)


class Version(_LambdaResource):
    """A published version: the function as it was."""

    type = "AWS::Lambda::Version"

    def create(self) -> None:
        made = self.backend.publish_version(
            self.function().function_name, self.properties.get("Description", "")
        )
        if made is None:
            raise LookupError(f"{self.properties['FunctionName']} has nothing to publish")
        self.id = f"{unqualified(made.function_arn)}:{made.version}"
        self.attributes = {"Version": str(made.version), "FunctionArn": self.id}

    def update(self) -> None:
        """Keep it: a version never changes; a template that wants another names another."""


class Alias(_LambdaResource):
    """A name for a version."""

    type = "AWS::Lambda::Alias"
    named_by = "Name"

    def create(self) -> None:
        function = self.function().function_name
        given = self.properties
        with suppress(LambdaClientError):
            self.backend.delete_alias(given["Name"], function)
        made = self.backend.create_alias(
            given["Name"],
            function,
            str(given["FunctionVersion"]),
            given.get("Description", ""),
            given.get("RoutingConfig") or "",
        )
        self.id = made.arn
        self.attributes = {"AliasArn": made.arn}

    def remove(self) -> None:
        with suppress(LambdaClientError):
            self.backend.delete_alias(self.properties["Name"], self.function().function_name)


class Url(_LambdaResource):
    """A function URL: the agent serves it, below its own address."""

    type = "AWS::Lambda::Url"

    def create(self) -> None:
        function = self.function()
        config = FunctionUrlConfig(function, dict(self.properties))
        config.url = f"{os.environ[AGENT_VARIABLE]}/function-url/{mock_random.uuid4().hex[:16]}/"
        function.url_config = config
        self.id = self.properties["TargetFunctionArn"]
        self.attributes = {"FunctionUrl": config.url, "FunctionArn": function.function_arn}

    def update(self) -> None:
        function = self.function()
        if function.url_config is None:
            return self.create()
        function.url_config.config = dict(self.properties)
        return None

    def remove(self) -> None:
        with suppress(LambdaClientError):
            self.function().url_config = None


class Permission(_LambdaResource):
    """Who may call a function; nothing is refused here, it can be read back."""

    type = "AWS::Lambda::Permission"

    def create(self) -> None:
        function = self.function()
        function.policy.statements[:] = [
            each for each in function.policy.statements if each.get("Sid") != self.name
        ]
        function.policy.statements.append(
            {
                "Sid": self.name,
                "Effect": "Allow",
                "Principal": self.properties["Principal"],
                "Action": self.properties["Action"],
                "Resource": self.properties["FunctionName"],
            }
        )

    def remove(self) -> None:
        with suppress(LambdaClientError):
            policy = self.function().policy
            policy.statements[:] = [s for s in policy.statements if s.get("Sid") != self.name]


class EventInvokeConfig(_LambdaResource):
    """What becomes of an asynchronous call that fails."""

    type = "AWS::Lambda::EventInvokeConfig"

    def create(self) -> None:
        given = {key: value for key, value in self.properties.items() if key != "FunctionName"}
        for number in ("MaximumRetryAttempts", "MaximumEventAgeInSeconds"):
            if number in given:
                given[number] = int(given[number])
        self.function().asynchronous = given  # type: ignore[attr-defined]

    def remove(self) -> None:
        with suppress(LambdaClientError):
            self.function().asynchronous = {}  # type: ignore[attr-defined]


class EventSource(_LambdaResource):
    """A queue whose messages call a function: the agent polls it."""

    type = "AWS::Lambda::EventSourceMapping"

    def create(self) -> None:
        made = self.backend.create_event_source_mapping(copy.deepcopy(self.properties))
        self.id = made.uuid
        self._expose(made)

    def update(self) -> None:
        changed = self.backend.update_event_source_mapping(
            self.id,
            {key: value for key, value in self.properties.items() if key != "EventSourceArn"},
        )
        self._expose(changed)

    def remove(self) -> None:
        self.backend.delete_event_source_mapping(self.id)

    def _expose(self, mapping: Any) -> None:
        given = self.properties
        mapping.target = given["FunctionName"]
        mapping.scaling_config = given.get("ScalingConfig")
        mapping.function_response_types = given.get("FunctionResponseTypes")
        mapping.enabled = str(given.get("Enabled", True)).lower() == "true"
        self.attributes = {"Id": self.id, "EventSourceMappingArn": mapping.arn}


def unqualified(arn: str) -> str:
    """Return a function's name or ARN without its version or alias."""
    if not arn.startswith("arn:"):
        return arn.partition(":")[0]
    return ":".join(arn.split(":")[:7])


def _zip_of_source(source: str) -> str:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("index.py", source)
    return base64.b64encode(packed.getvalue()).decode()
