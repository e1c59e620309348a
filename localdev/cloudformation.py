"""Teach the moto server the CloudFormation types that it does not know, or knows in part.

moto creates what its models can create and skips the rest with a warning: a reference to a skipped
resource breaks a stack, or silently wires nothing. Here each type is a `Resource`; what no class of
ours or moto's knows becomes a `Recorded`: it has a name, an ARN and its properties, and does
nothing. `RECORDED` says which those were.
"""

from __future__ import annotations

import logging
import re
from typing import Any, ClassVar, Final

from moto.cloudformation import parsing

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

    def resource_class(resource_type: str) -> Any:
        if resource_type in TYPES:
            return TYPES[resource_type]
        known = resource_type in parsing.get_model_map() or resource_type.startswith("Custom::")
        return moto_class(resource_type) if known else Recorded

    def resource_name(resource_type: str) -> str | None:
        if resource_type in TYPES:
            return TYPES[resource_type].named_by or None
        return moto_name(resource_type) if resource_type in parsing.get_model_map() else None

    parsing.resource_class_from_type = resource_class
    parsing.resource_name_property_from_type = resource_name
