"""What checkers say of the templates: nothing that is not explained where it stands.

Whether something was found is asked of the CDK, which answers with yes or no. The findings
themselves cannot be had from every installation: `aws-cdk-lib` and
`aws-cdk-cloud-assembly-schema` both install `aws_cdk/cloud_assembly_schema/__init__.py`, under two
names for its types, and whichever is written last decides whether jsii knows a finding's type.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PARTS = ("storage", "coordinator", "workers", "gpu", "events", "chain", "observe")


@pytest.mark.parametrize("part", PARTS)
def test_nag_finds_nothing_unexplained(stacks, part):
    """cdk-nag's AwsSolutions has neither errors nor warnings."""
    from aws_cdk.assertions import Annotations, Match  # noqa: PLC0415 - loads jsii

    told = Annotations.from_stack(stacks[part])
    anything = Match.string_like_regexp("AwsSolutions.*")

    told.has_no_error("*", anything)  # raises with the findings
    told.has_no_warning("*", anything)


def test_nag_looks():
    """It does find something on a bucket that nobody cared for."""
    import aws_cdk as cdk  # noqa: PLC0415 - loads jsii
    from aws_cdk.assertions import Annotations, Match  # noqa: PLC0415 - see above
    from cdk_nag import AwsSolutionsChecks  # noqa: PLC0415 - see above

    stack = cdk.Stack(cdk.App(), "careless")
    cdk.aws_s3.Bucket(stack, "Bucket")
    cdk.Aspects.of(stack).add(AwsSolutionsChecks())

    anything = Match.string_like_regexp("AwsSolutions-S1.*")
    Annotations.from_stack(stack).has_error("*", anything)  # raises where there is none
    with pytest.raises(RuntimeError, match="AwsSolutions-S1"):
        Annotations.from_stack(stack).has_no_error("*", anything)


@pytest.mark.parametrize("part", PARTS)
def test_every_exception_has_a_reason(documents, part):
    """A finding that is left says why, in a sentence."""
    for name, resource in documents[part]["Resources"].items():
        metadata = resource.get("Metadata", {})
        reasons = [x["reason"] for x in metadata.get("cdk_nag", {}).get("rules_to_suppress", [])]
        reasons += [x["comment"] for x in metadata.get("checkov", {}).get("skip", [])]
        assert all(len(reason) > 15 and reason.endswith(".") for reason in reasons), name


def test_cfn_lint_finds_nothing(documents, tmp_path):
    """CloudFormation's own schemas accept every template."""
    paths = []
    for part, document in documents.items():
        paths.append(tmp_path / f"{part}.json")
        paths[-1].write_text(json.dumps(document))

    command = [Path(sys.executable).with_name("cfn-lint"), "--ignore-checks"]
    command.append("W3005")  # the CDK says what a resource depends on even where that follows
    told = subprocess.run([*command, "--", *paths], capture_output=True, text=True, check=False)

    assert told.returncode == 0, told.stdout + told.stderr
