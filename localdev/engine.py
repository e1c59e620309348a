"""Create, change and delete stacks as CloudFormation does, where moto's engine does not.

moto crashes where a resource cannot be made, and leaves half a stack; it makes what is new before
what has changed, though that may refer to this; it changes only what differs in the template, not
what refers to it; it forgets what it cannot change; it deletes in any order; it makes a resource
when somebody looks at it, in a second copy where it is just being made.
"""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend, Stack
from moto.cloudformation.parsing import ResourceMap

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["in_order", "install"]

_PASSES: Final = 3
"""How often what cannot be deleted yet is tried."""
_VARIABLE: Final = re.compile(r"\$\{([^!}][^}]*)\}")
_log: Final = logging.getLogger("localdev")
_moto_create: Final = parsing.parse_and_create_resource
_moto_update: Final = parsing.parse_and_update_resource
_moto_create_stack: Final = CloudFormationBackend.create_stack
_moto_delete_stack: Final = CloudFormationBackend.delete_stack
_moto_diff: Final = ResourceMap.build_resource_diff
_moto_outputs: Final = Stack.outputs
_moto_resources: Final = Stack.stack_resources
_moto_update_stack: Final = Stack.update
_DONE: Final = "_COMPLETE"


def install() -> None:
    """Put our ways in place of moto's."""
    parsing.parse_and_create_resource = _create
    parsing.parse_and_update_resource = _update
    CloudFormationBackend.create_stack = _create_stack  # type: ignore[method-assign]
    CloudFormationBackend.delete_stack = _delete_stack  # type: ignore[method-assign]
    Stack.update = _update_stack  # type: ignore[method-assign]
    Stack.outputs = property(_outputs)  # type: ignore[assignment,method-assign]
    Stack.stack_resources = property(_resources)  # type: ignore[assignment,method-assign]
    ResourceMap.build_resource_diff = _diff  # type: ignore[method-assign]
    ResourceMap.update = _change  # type: ignore[method-assign]
    ResourceMap.delete = _delete  # type: ignore[method-assign]


def in_order(resources: dict[str, Any]) -> Iterator[str]:
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


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for inner in value:
            yield from _references(inner)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if key == "Ref" and isinstance(inner, str):
            yield inner
        elif key == "Fn::GetAtt" and isinstance(inner, list):
            yield inner[0]
        elif key == "DependsOn":
            yield from [inner] if isinstance(inner, str) else inner
        else:
            if key == "Fn::Sub":
                text = inner if isinstance(inner, str) else inner[0]
                yield from (name.split(".")[0] for name in _VARIABLE.findall(text))
            yield from _references(inner)


def _create(
    logical_id: str, resource_json: Any, resources_map: Any, account_id: str, region_name: str
) -> Any:
    """Say which resource cannot be made, and why."""
    with _told("created", logical_id, resource_json):
        return _moto_create(logical_id, resource_json, resources_map, account_id, region_name)


def _update(
    logical_id: str, resource_json: Any, resources_map: Any, account_id: str, region_name: str
) -> Any:
    """Keep a resource that moto has no way to change, instead of forgetting it."""
    before = resources_map[logical_id]
    with _told("updated", logical_id, resource_json):
        changed = _moto_update(logical_id, resource_json, resources_map, account_id, region_name)
    return before if changed is None else changed


@contextmanager
def _told(doing: str, logical_id: str, resource_json: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except ValidationError:
        raise
    except Exception as error:
        kind = resource_json["Type"]
        _log.exception("%s %s cannot be %s", kind, logical_id, doing)
        said = f"{kind} {logical_id} cannot be {doing} here: {type(error).__name__}: {error}"
        raise ValidationError(logical_id, said) from error


def _change(self: Any, template: dict[str, Any], parameters: dict[str, Any] | None = None) -> None:
    """Make and change what a new template says, in its order; then delete what it leaves out."""
    before, made = self._resource_json_map, self._parsed_resources
    actions = self.build_resource_diff(template, parameters)
    self._template, self._resource_json_map = template, template["Resources"]
    if parameters:
        self.input_parameters = parameters
    self.load_mapping()
    self.load_parameters()
    self.load_conditions()
    for name in in_order(template["Resources"]):
        if name in actions["Add"]:
            _ = self[name]  # moto's way to make one
        elif name in actions["Modify"]:
            made[name] = parsing.parse_and_update_resource(
                name, template["Resources"][name], self, self._account_id, self._region_name
            )
    for name in reversed(list(in_order(before))):
        if name in actions["Remove"] and made.get(name) is not None:
            if before[name].get("DeletionPolicy") != "Retain":
                self._delete_resource(made[name], before[name])
            del made[name]


def _diff(
    self: Any, other_template: dict[str, Any], parameters: dict[str, Any] | None = None
) -> dict[str, list[str]]:
    """Look also at what depends on a change: a new layer's version has a new ARN."""
    actions: dict[str, list[str]] = _moto_diff(self, other_template, parameters)
    resources = other_template["Resources"]
    touched = {*actions["Modify"], *actions["Add"]}
    order = list(in_order(resources))
    for logical_id in order:
        if touched.intersection(_references(resources[logical_id])):
            touched.add(logical_id)
    old = set(resources) - set(actions["Add"])
    actions["Modify"] = [name for name in order if name in touched and name in old]
    actions["Add"] = [name for name in order if name in actions["Add"]]
    return actions


def _create_stack(self: CloudFormationBackend, name: str, *args: Any, **kwargs: Any) -> Any:
    """Leave nothing of a stack that cannot be created."""
    before = set(self.stacks)
    try:
        return _moto_create_stack(self, name, *args, **kwargs)
    except Exception:
        for stack_id in set(self.stacks) - before:
            with suppress(Exception):
                self.stacks[stack_id].delete()
            del self.stacks[stack_id]
        raise


def _update_stack(self: Stack, *args: Any, **kwargs: Any) -> None:
    """Say meanwhile that the stack is being changed."""
    before, self.status = self.status, "UPDATE_IN_PROGRESS"
    try:
        _moto_update_stack(self, *args, **kwargs)
    except Exception:
        self.status = before
        raise


def _outputs(self: Stack) -> list[dict[str, Any]] | None:
    """Say nothing of a stack that is being made or changed: whoever asked would make it, too."""
    return _moto_outputs.fget(self) if self.status.endswith(_DONE) else None  # type: ignore[attr-defined]


def _resources(self: Stack) -> Any:
    """Of such a stack, list what is there."""
    if self.status.endswith(_DONE):
        return _moto_resources.fget(self)  # type: ignore[attr-defined]
    return list(self.resource_map._parsed_resources.values())  # noqa: SLF001 - there is no other way in


def _delete_stack(self: CloudFormationBackend, name_or_stack_id: str) -> None:
    """Keep a stack that cannot be deleted: what is left of it would be nobody's."""
    stack = self.stacks.get(name_or_stack_id)
    try:
        _moto_delete_stack(self, name_or_stack_id)
    except Exception:
        if stack is not None:
            stack.status = "DELETE_FAILED"
            self.stacks[name_or_stack_id] = stack
        raise
    if stack is not None:  # asked for its outputs, moto would make what they refer to once more
        stack.output_map._output_json_map = {}  # noqa: SLF001 - there is no other way in


def _delete(self: Any) -> None:
    """Delete what refers to others before those; moto takes any order that works at all."""
    resources, made = self._resource_json_map, self._parsed_resources
    left = [
        name
        for name in reversed(list(in_order(resources)))
        if resources[name].get("DeletionPolicy") != "Retain"
        and getattr(made.get(name), "logical_resource_id", None)
    ]
    failed: dict[str, Exception] = {}
    for _ in range(_PASSES):
        for name in list(left):
            try:
                self._delete_resource(made[name], resources[name])
            except Exception as error:  # noqa: BLE001 - tried again when others are gone
                failed[name] = error
            else:
                left.remove(name)
                del made[name]
    if left:
        why = "; ".join(f"{name}: {failed[name]}" for name in left)
        raise ValidationError(left[0], f"Resources cannot be deleted: {why}")
