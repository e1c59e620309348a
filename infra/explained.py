"""Findings of the checkers that we leave, each with its reason, written on the resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_cdk import CfnResource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from constructs import IConstruct


def explain(construct: IConstruct, findings: Mapping[str, str]) -> None:
    """Leave findings of cdk-nag (`AwsSolutions-...`) and checkov (`CKV...`) on what a construct is.

    Args:
        construct: it, and every resource within it.
        findings: the rules, and why each does not apply.
    """
    nag = [{"id": rule, "reason": why} for rule, why in findings.items() if _is_nag(rule)]
    checkov = [{"id": rule, "comment": why} for rule, why in findings.items() if not _is_nag(rule)]
    for each in construct.node.find_all():
        if isinstance(each, CfnResource):
            _add(each, "cdk_nag", "rules_to_suppress", nag)
            _add(each, "checkov", "skip", checkov)


def _is_nag(rule: str) -> bool:
    return rule.startswith("AwsSolutions-")


def _add(resource: CfnResource, tool: str, key: str, found: list[dict[str, Any]]) -> None:
    if found:
        before = (resource.get_metadata(tool) or {}).get(key, [])
        resource.add_metadata(tool, {key: [*before, *found]})
