"""Who may what: every policy of every stack, read as IAM reads it."""

from __future__ import annotations

import json
import re

import pytest

UNBOUND = {
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
    "ecs:DiscoverPollEndpoint",
    "ecr:GetAuthorizationToken",
}
"""Actions for which AWS has no resources: "*" is the only one.
https://docs.aws.amazon.com/service-authorization/latest/reference/reference.html"""
BELOW = (
    r"/(coordinator|coordinator/blobs|inbox|outbox)/\*$",  # objects below a prefix
    r":parameter/noob-cloud/test/\*$",  # parameters below a name
    r":task/test(-gpu)?/\*$",  # tasks of a cluster get their names when they start
    r":container-instance/test-gpu/\*$",  # so do its instances
    r"/\$default/\*$",  # requests to one API
    r":alarm:test-\*$",  # a condition
)
"""Where a name ends with "*", because what is below it has its name later."""


def test_no_action_is_a_wildcard(documents, private):
    """Every action that is allowed is named."""
    for where, statement in _statements(documents, private):
        if statement["Effect"] == "Allow":
            assert not [action for action in _list(statement["Action"]) if "*" in action], where


def test_resources_are_as_narrow_as_aws_has_them(documents, private):
    """Only actions without resources have a star, and only names that come later end with it."""
    for where, statement in _statements(documents, private):
        if statement["Effect"] != "Allow":
            continue
        for resource in _list(statement.get("Resource", [])):
            text = _flat(resource).replace("private", "test")
            if text == "*":
                assert set(_list(statement["Action"])) <= UNBOUND, where
            elif "*" in text:
                assert any(re.search(pattern, text) for pattern in BELOW), f"{where}: {text}"


def test_no_managed_policy_of_aws_is_used(documents):
    """Managed policies of AWS allow more than any part needs."""
    assert "iam::aws:policy" not in json.dumps(documents)


def test_nobody_else_is_let_in(documents):
    """Resource policies let in services of AWS under a condition, and refuse whom they name."""
    for where, statement in _statements(documents):
        principal = statement.get("Principal")
        if principal is not None and statement["Effect"] == "Allow":
            assert set(principal) == {"Service"}, where
            if "sts:AssumeRole" not in _list(statement["Action"]):
                assert "Condition" in statement, where


def test_only_the_coordinator_writes_the_replica(documents):
    """Workers and the submit function write no object of the coordinator's but blobs."""
    for part in ("workers", "gpu", "events"):
        for where, statement in _statements({part: documents[part]}):
            if "s3:PutObject" in _list(statement["Action"]):
                for resource in _list(statement["Resource"]):
                    assert re.search(r"/(coordinator/blobs|outbox)/\*$", _flat(resource)), where


def test_the_coordinator_is_told_of_what_is_missing(documents):
    """S3 answers "forbidden" for a missing object to who may not list, and names no prefix there.

    A condition that wants a prefix would keep the first coordinator from its first lease.
    """
    (found,) = [
        statement
        for _, statement in _statements({"coordinator": documents["coordinator"]})
        if "s3:ListBucket" in _list(statement["Action"])
    ]
    assert found["Condition"] == {
        "StringLikeIfExists": {"s3:prefix": ["coordinator", "coordinator/*"]}
    }


def test_only_the_coordinator_starts_workers(documents):
    """It may invoke the aliases and set the counts of its own services, and nobody else may."""
    found = {}
    for where, statement in _statements(documents):
        for action in _list(statement["Action"]):
            if action in {"lambda:InvokeFunction", "ecs:UpdateService"}:
                found.setdefault(action, set()).add(where.split(":")[1])
    assert {name.split("Default")[0] for name in found["ecs:UpdateService"]} == {"TaskTaskRole"}
    assert {name[:4] for name in found["lambda:InvokeFunction"]} == {"Task", "User"}


@pytest.mark.parametrize(
    ("part", "programs"), [("coordinator", 1), ("workers", 3), ("gpu", 1), ("events", 1)]
)
def test_every_part_may_send_its_traces(documents, part, programs):
    """Each program says where spans go, under a name of its own, and its role lets it."""
    environments = [
        {each["Name"]: each["Value"] for each in container["Environment"]}
        for task in _of(documents[part], "AWS::ECS::TaskDefinition")
        for container in task["ContainerDefinitions"]
    ]
    environments += [
        function["Environment"]["Variables"]
        for function in _of(documents[part], "AWS::Lambda::Function")
    ]
    assert [each["NOOB_CLOUD_TRACES"] for each in environments] == ["xray"] * programs
    assert len({each["OTEL_SERVICE_NAME"] for each in environments}) == programs
    allowed = [
        where
        for where, statement in _statements({part: documents[part]})
        if "xray:PutTraceSegments" in _list(statement.get("Action", []))
    ]
    assert len(allowed) == programs


def test_traces_can_be_left_out(synthesize):
    """Without them nothing of X-Ray is in any template."""
    from aws_cdk.assertions import Template  # noqa: PLC0415 - loads jsii

    found = synthesize(name="test", observe__traces="false")
    text = json.dumps([Template.from_stack(stack).to_json() for stack in found.values()])
    assert "xray" not in text.lower()
    assert "TracingConfig" not in text


@pytest.mark.parametrize("part", ["coordinator", "workers", "gpu", "events"])
def test_secrets_are_in_no_environment(documents, part):
    """Environments name the token's secret; its value is resolved by who may read it."""
    text = json.dumps(documents[part])
    assert "{{resolve:secretsmanager" not in text


def test_everything_is_tagged(documents):
    """Whatever takes tags says whose it is."""
    untaggable = set()
    for document in documents.values():
        for resource in document["Resources"].values():
            tags = resource["Properties"].get("Tags") if "Properties" in resource else None
            if tags is None:
                untaggable.add(resource["Type"])
            else:
                told = (
                    tags
                    if isinstance(tags, dict)
                    else {each["Key"]: each["Value"] for each in tags}
                )
                assert told["noob-cloud:deployment"] == "test"
                assert told["team"] == "pictures"
    assert untaggable.isdisjoint(
        {
            "AWS::S3::Bucket",
            "AWS::SecretsManager::Secret",
            "AWS::ECS::Cluster",
            "AWS::ECS::Service",
            "AWS::ECS::TaskDefinition",
            "AWS::Lambda::Function",
            "AWS::EC2::VPC",
            "AWS::SQS::Queue",
            "AWS::IAM::Role",
            "AWS::SNS::Topic",
            "AWS::ApiGatewayV2::Api",
            "AWS::AutoScaling::AutoScalingGroup",
        }
    )


def test_no_account_and_no_region_is_named(documents):
    """The same templates go to any account and region."""
    text = json.dumps(documents)
    assert not re.search(r"\b\d{12}\b", text.replace("000000000000", ""))
    assert not re.search(r"\b(us|eu|ap|sa|ca)-[a-z]+-\d\b", re.sub(r"us-east-1\\?\"", "", text))


def _of(document, kind):
    found = document["Resources"].values()
    return [resource["Properties"] for resource in found if resource["Type"] == kind]


def _statements(*deployments):
    for documents in deployments:
        for part, document in documents.items():
            for name, resource in document["Resources"].items():
                for found in _documents(resource.get("Properties", {})):
                    for number, statement in enumerate(found["Statement"]):
                        yield f"{part}:{name}:{number}", statement


def _documents(value):
    if isinstance(value, dict):
        if "Statement" in value:
            yield value
        else:
            for each in value.values():
                yield from _documents(each)
    elif isinstance(value, list):
        for each in value:
            yield from _documents(each)


def _list(value):
    return value if isinstance(value, list) else [value]


def _flat(value):
    """Return a value of CloudFormation as a text, with its references by name."""
    if isinstance(value, str):
        return value
    ((function, given),) = value.items()
    if function == "Fn::Join":
        return given[0].join(_flat(each) for each in given[1])
    if function in {"Fn::GetAtt", "Fn::Select"}:
        return "<" + ".".join(map(str, given)) + ">"
    return f"<{given}>"
