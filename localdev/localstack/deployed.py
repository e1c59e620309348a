"""ECS services, read from the templates of the stacks that were deployed.

LocalStack has no ECS: it takes such resources and makes nothing of them. What they say is in the
templates, with references to what it did make.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Stack", "services"]

_UNKNOWN: Final = "unknown"
"""What LocalStack calls a resource of a type that it does not know."""
_NAMES: Final = {"AWS::ECS::Cluster": "ClusterName", "AWS::ECS::Service": "ServiceName"}
_VARIABLE: Final = re.compile(r"\$\{([^}]+)\}")
_log: Final = logging.getLogger("localdev")


@dataclass(frozen=True)
class Stack:
    """A deployed stack."""

    name: str
    template: Mapping[str, Any]
    made: Mapping[str, str] = field(default_factory=dict)
    """What each logical id became."""

    @property
    def resources(self) -> Mapping[str, Any]:
        """Its resources, by their logical ids."""
        found: Mapping[str, Any] = self.template.get("Resources") or {}
        return found


def services(
    stacks: Iterable[Stack],
    *,
    account: str,
    region: str,
    exports: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return the services of deployed stacks, as `localdev.services` runs them.

    Args:
        stacks: all of them, since they refer to each other.
        account: of everything.
        region: of everything.
        exports: what the stacks export.
    """
    every = list(stacks)
    resolver = _Resolver(every, account=account, region=region, exports=exports or {})
    return [
        _service(stack, resource["Properties"], resolver)
        for stack in every
        for resource in stack.resources.values()
        if resource["Type"] == "AWS::ECS::Service"
    ]


def _service(stack: Stack, properties: Mapping[str, Any], resolver: _Resolver) -> dict[str, Any]:
    given = resolver.resolve(properties, stack)
    definition = stack.resources[properties["TaskDefinition"]["Ref"]]
    task = resolver.resolve(definition["Properties"], stack)
    digest = hashlib.sha256(json.dumps(task, sort_keys=True).encode()).hexdigest()
    revision = int(digest[:8], 16)
    family = task.get("Family") or given["ServiceName"]
    deployment = given.get("DeploymentConfiguration") or {}
    head = f"arn:aws:ecs:{resolver.region}:{resolver.account}"
    return {
        "key": f"{given['Cluster']}:{given['ServiceName']}",
        "cluster": given["Cluster"],
        "name": given["ServiceName"],
        "desired": int(given.get("DesiredCount") or 0),
        "definition": f"{head}:task-definition/{family}:{revision}",
        "deployment": "",
        "containers": [_as_api(each) for each in task["ContainerDefinitions"]],
        "maximum_percent": int(deployment.get("MaximumPercent") or 200),
        "memory": task.get("Memory"),
        "cpu": task.get("Cpu"),
    }


class _Resolver:
    """Replaces the functions of a template by what they stand for."""

    def __init__(
        self, stacks: list[Stack], *, account: str, region: str, exports: Mapping[str, str]
    ) -> None:
        self.account, self.region = account, region
        self._exports = exports
        self._exported = {
            name: (stack, output["Value"])
            for stack in stacks
            for output in (stack.template.get("Outputs") or {}).values()
            if isinstance(name := (output.get("Export") or {}).get("Name"), str)
        }
        self._pseudo = {
            "AWS::AccountId": account,
            "AWS::Partition": "aws",
            "AWS::Region": region,
            "AWS::URLSuffix": "amazonaws.com",
        }

    def resolve(self, value: Any, stack: Stack) -> Any:
        """Return a value of a stack's template as it is once deployed."""
        if isinstance(value, list):
            found = [self.resolve(each, stack) for each in value]
            return [each for each in found if each is not None]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, given),) = value.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self._call(name, given, stack)
        return {key: self.resolve(each, stack) for key, each in value.items()}

    def _call(self, name: str, given: Any, stack: Stack) -> Any:
        match name:
            case "Ref":
                return self._ref(given, stack)
            case "Fn::GetAtt":
                parts = given.split(".") if isinstance(given, str) else given
                return self._attribute(parts[0], ".".join(parts[1:]), stack)
            case "Fn::ImportValue":
                return self._import(self.resolve(given, stack))
            case "Fn::Join":
                return given[0].join(map(str, self.resolve(given[1], stack)))
            case "Fn::Sub":
                return self._substitute(given, stack)
            case _:
                _log.warning("%s in the stack %s is not read here", name, stack.name)
                return _UNKNOWN

    def _ref(self, name: str, stack: Stack) -> Any:
        if name == "AWS::NoValue":
            return None
        if name in self._pseudo:
            return self._pseudo[name]
        if name in {"AWS::StackName", "AWS::StackId"}:
            return stack.name
        resource = stack.resources.get(name)
        if resource is None:
            return (stack.template.get("Parameters") or {}).get(name, {}).get("Default", _UNKNOWN)
        named = (resource.get("Properties") or {}).get(_NAMES.get(resource["Type"], ""))
        return stack.made.get(name, _UNKNOWN) if named is None else self.resolve(named, stack)

    def _attribute(self, name: str, attribute: str, stack: Stack) -> str:
        made, kind = stack.made.get(name, _UNKNOWN), stack.resources[name]["Type"]
        if attribute == "Arn":
            if made.startswith("arn:"):
                return made
            if kind == "AWS::S3::Bucket":
                return f"arn:aws:s3:::{made}"
            if kind == "AWS::IAM::Role":
                return f"arn:aws:iam::{self.account}:role/{made}"
        return _UNKNOWN

    def _import(self, name: str) -> Any:
        told = self._exports.get(name, _UNKNOWN)
        if told != _UNKNOWN or name not in self._exported:
            return told
        stack, value = self._exported[name]
        return self.resolve(value, stack)

    def _substitute(self, given: Any, stack: Stack) -> str:
        text, own = (given, {}) if isinstance(given, str) else given

        def found(match: re.Match[str]) -> str:
            name = match[1]
            if name.startswith("!"):
                return f"${{{name[1:]}}}"
            if name in own:
                return str(self.resolve(own[name], stack))
            if "." in name:
                return str(self._call("Fn::GetAtt", name, stack))
            return str(self._ref(name, stack))

        return _VARIABLE.sub(found, text)


def _as_api(value: Any) -> Any:
    """Return a template's properties with the names that the API has for them."""
    if isinstance(value, list):
        return [_as_api(each) for each in value]
    if isinstance(value, dict):
        return {key[:1].lower() + key[1:]: _as_api(each) for key, each in value.items()}
    return value
