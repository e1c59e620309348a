"""Teach the moto server the CloudFormation types that it does not know, or knows in part.

moto creates what its models can create and skips the rest with a warning: a reference to a skipped
resource breaks a stack, or silently wires nothing. Here each type is a `Resource`; what no class of
ours or moto's knows becomes a `Recorded`: it has a name, an ARN and its properties, and does
nothing. `RECORDED` says which those were.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, ClassVar, Final

from moto.cloudformation import parsing
from moto.cloudformation.parsing import ResourceMap

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RECORDED", "TYPES", "Recorded", "Resource", "install"]

TYPES: Final[dict[str, type[Resource]]] = {}
"""The types that we know, by their names."""
RECORDED: Final[set[str]] = set()
"""The types that were deployed and are only written down."""
_SEPARATOR: Final = re.compile(r"(?<!^)(?=[A-Z])")
_log: Final = logging.getLogger("localdev")


class Resource:
    """A deployed resource; a subclass creates, updates and deletes the real thing.

    Attributes:
        name: what it is called where the template does not say.
        properties: of its type, references resolved.
        id: what `Ref` gives.
        attributes: what `Fn::GetAtt` gives.
    """

    type: ClassVar[str] = ""
    named_by: ClassVar[str] = ""
    """The property that holds its name."""
    cf_resource_type: str
    logical_resource_id: str

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.type:
            TYPES[cls.type] = cls

    def __init__(self, name: str, properties: dict[str, Any], account: str, region: str) -> None:
        self.name = name
        self.properties = properties
        self.account = account
        self.region = region
        self.id = name
        self.attributes: dict[str, Any] = {}

    def create(self) -> None:
        """Create it, and set `id` and `attributes`."""

    def update(self) -> None:
        """Change what there is to its new properties; where that cannot be, make another."""
        self.create()

    def remove(self) -> None:
        """Delete it; that it is gone already is no error."""

    # what moto's engine asks of a resource

    @property
    def physical_resource_id(self) -> str:
        """What `Ref` gives."""
        return self.id

    def is_created(self) -> bool:
        """Whether it is done: ours are at once."""
        return True

    def get_cfn_attribute(self, name: str) -> Any:
        """Return what `Fn::GetAtt` gives."""
        if name not in self.attributes:
            _log.warning("%s %s has no attribute %s here", self.cf_resource_type, self.id, name)
        return self.attributes.get(name, f"{self.id}.{name}")

    def delete(self, account_id: str, region_name: str) -> None:  # noqa: ARG002 - moto's signature
        """Delete it."""
        try:
            self.remove()
        except (TypeError, AttributeError) as error:  # moto takes these for "no such method"
            raise RuntimeError(f"{self.cf_resource_type} {self.id}: {error}") from error

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:  # noqa: ARG003 - moto's signature
        """Say whether a template may ask for an attribute."""
        return True

    @classmethod
    def cloudformation_name_type(cls) -> str:
        """Return the property that holds its name."""
        return cls.named_by

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: dict[str, Any],
        account_id: str,
        region_name: str,
        **kwargs: Any,
    ) -> Resource:
        """Create a resource of a template."""
        properties = cloudformation_json.get("Properties", {})
        made = cls(resource_name, properties, account_id, region_name)
        made.cf_resource_type = kwargs.get("ResourceType", cloudformation_json["Type"])
        made.logical_resource_id = kwargs.get("LogicalId", "")
        made.create()
        return made

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Resource,
        new_resource_name: str,
        cloudformation_json: dict[str, Any],
        account_id: str,  # noqa: ARG003 - moto's signature
        region_name: str,  # noqa: ARG003
    ) -> Resource:
        """Change a resource as its template has changed."""
        properties = cloudformation_json.get("Properties", {})
        if cls.named_by in properties and original_resource.name != new_resource_name:
            made = cls.create_from_cloudformation_json(
                new_resource_name,
                cloudformation_json,
                original_resource.account,
                original_resource.region,
            )
            original_resource.remove()
            return made
        if properties != original_resource.properties:
            original_resource.properties = properties
            original_resource.update()
        return original_resource


class Recorded(Resource):
    """A resource that is only written down: nothing here does what it does on AWS."""

    def create(self) -> None:
        """Write it down."""
        RECORDED.add(self.cf_resource_type)
        _, service, kind = [*self.cf_resource_type.split("::"), "", ""][:3]
        dashed = _SEPARATOR.sub("-", kind).lower()
        arn = f"arn:aws:{service.lower()}:{self.region}:{self.account}:{dashed}/{self.name}"
        self.attributes = {"Arn": arn, "Id": self.name, "Name": self.name}


def install() -> None:
    """Put our types in front of moto's."""
    moto_class = parsing.resource_class_from_type
    moto_name = parsing.resource_name_property_from_type
    moto_update = parsing.parse_and_update_resource
    moto_diff = ResourceMap.build_resource_diff

    def resource_class(resource_type: str) -> Any:
        if resource_type in TYPES:
            return TYPES[resource_type]
        known = resource_type in parsing.get_model_map()
        return moto_class(resource_type) if known or _runs(resource_type) else Recorded

    def resource_name(resource_type: str) -> str | None:
        if resource_type in TYPES:
            return TYPES[resource_type].named_by or None
        return moto_name(resource_type) if resource_type in parsing.get_model_map() else None

    def update(
        logical_id: str, resource_json: Any, resources_map: Any, account_id: str, region_name: str
    ) -> Any:
        """Keep a resource that moto has no way to change, instead of forgetting it."""
        before = resources_map[logical_id]
        changed = moto_update(logical_id, resource_json, resources_map, account_id, region_name)
        return before if changed is None else changed

    def diff(
        self: Any, other_template: dict[str, Any], parameters: dict[str, Any] | None = None
    ) -> dict[str, list[str]]:
        """Look also at what depends on a change: a new layer's version has a new ARN."""
        actions: dict[str, list[str]] = moto_diff(self, other_template, parameters)
        resources = other_template["Resources"]
        touched = {*actions["Modify"], *actions["Add"]}
        order = list(_in_order(resources))
        for logical_id in order:
            if touched.intersection(_references(resources[logical_id])):
                touched.add(logical_id)
        old = set(resources) - set(actions["Add"])
        actions["Modify"] = [name for name in order if name in touched and name in old]
        actions["Add"] = [name for name in order if name in actions["Add"]]
        return actions

    parsing.resource_class_from_type = resource_class
    parsing.resource_name_property_from_type = resource_name
    parsing.parse_and_update_resource = update
    ResourceMap.build_resource_diff = diff  # type: ignore[method-assign]


def _runs(resource_type: str) -> bool:
    """Return whether a custom resource is made by its function, which runs here as any other."""
    return resource_type.startswith("Custom::")


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "Ref" and isinstance(inner, str):
                yield inner
            elif key == "Fn::GetAtt" and isinstance(inner, list):
                yield inner[0]
            elif key == "Fn::Sub":
                text = inner if isinstance(inner, str) else inner[0]
                yield from (name.split(".")[0] for name in re.findall(r"\$\{([^!}][^}]*)\}", text))
                yield from _references(inner)
            elif key == "DependsOn":
                yield from [inner] if isinstance(inner, str) else inner
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _in_order(resources: dict[str, Any]) -> Iterator[str]:
    """Yield the resources of a template, each after those that it refers to."""
    seen: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        if name in seen or name not in resources:
            return
        seen.add(name)
        for other in _references(resources[name]):
            yield from visit(other)
        yield name

    for name in resources:
        yield from visit(name)
