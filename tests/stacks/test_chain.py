"""The contract's offers as tasks."""

from __future__ import annotations

import json

import pytest
from aws_cdk.assertions import Match

from infra.settings import Chain

SECRET = "chain/sepolia"


def test_the_chain_is_read_each_minute(templates):
    """A clock calls the function; what fails is not tried again, but read a minute later."""
    templates["chain"].has_resource_properties(
        "AWS::Events::Rule",
        {
            "ScheduleExpression": "rate(1 minute)",
            "Targets": [
                Match.object_like(
                    {"RetryPolicy": {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}}
                )
            ],
        },
    )
    templates["chain"].has_resource_properties(
        "AWS::Lambda::EventInvokeConfig",
        {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60},
    )


def test_the_function_is_told_the_chain_and_no_secret(documents):
    """The node's address may hold a provider's key: only its secret's name is in the template."""
    (function,) = _of(documents["chain"], "AWS::Lambda::Function")
    told = function["Properties"]["Environment"]["Variables"]
    assert {name: value for name, value in told.items() if "CHAIN" in name} == {
        "NOOB_CLOUD_CHAIN_NETWORK": "sepolia",
        "NOOB_CLOUD_CHAIN_CONTRACT_ADDRESS": "0x" + "ab" * 20,
        "NOOB_CLOUD_CHAIN_RPC_SECRET": SECRET,
        "NOOB_CLOUD_CHAIN_FROM_BLOCK": "7000000",
        "NOOB_CLOUD_CHAIN_FINALITY": "finalized",
        "NOOB_CLOUD_CHAIN_CHECK": "bloom",
    }
    assert len(function["Properties"]["Layers"]) == 3


def test_it_stands_outside_the_network(documents):
    """It reaches the node on the internet without NAT, and nothing reaches it."""
    (function,) = _of(documents["chain"], "AWS::Lambda::Function")
    assert "VpcConfig" not in function["Properties"]
    assert not _of(documents["chain"], "AWS::Lambda::Url")


def test_it_reads_two_secrets_and_no_more(documents):
    """The coordinator's token, and the node's address."""
    statements = [
        statement
        for policy in _of(documents["chain"], "AWS::IAM::Policy")
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if "secretsmanager:GetSecretValue" in statement["Action"]
    ]
    (statement,) = statements
    assert len(statement["Resource"]) == 2
    assert f":secret:{SECRET}-??????" in json.dumps(statement["Resource"])
    assert "*" not in json.dumps(statement["Resource"])


def test_without_a_chain_there_is_no_stack(private):
    """Who names no chain deploys nothing for one."""
    assert "chain" not in private


def test_silence_is_an_alarm(templates):
    """One that reads nothing, or the same old block again and again, is noticed."""
    templates["observe"].has_resource_properties(
        "AWS::CloudWatch::Alarm",
        {
            "AlarmName": "test-ChainSilent",
            "TreatMissingData": "breaching",
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "Threshold": 3600,
            "EvaluationPeriods": 3,
            "Metrics": [
                Match.object_like(
                    {
                        "MetricStat": {
                            "Metric": Match.object_like({"MetricName": "ChainAgeSeconds"}),
                            "Period": 300,
                            "Stat": "Minimum",
                        }
                    }
                )
            ],
        },
    )


def test_errors_are_an_alarm(templates):
    """A listener that ends with an error each time is noticed by its errors, too."""
    templates["observe"].has_resource_properties(
        "AWS::CloudWatch::Alarm",
        {
            "AlarmName": "test-ChainErrors",
            "Metrics": [
                Match.object_like(
                    {
                        "MetricStat": Match.object_like(
                            {
                                "Metric": Match.object_like(
                                    {"MetricName": "Errors", "Namespace": "AWS/Lambda"}
                                )
                            }
                        )
                    }
                )
            ],
        },
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": "sepolia", "chain_id": 1},
        {"network": None},
        {"contract": "0x12"},
        {"rpc_secret": "https://node.example/key"},
        {"rpc_secret": "any*"},
        {"finality": 0},
        {"finality": "soon"},
        {"every_minutes": 0},
    ],
)
def test_settings_are_checked(wrong):
    """What cannot be is refused before anything is deployed."""
    right = {"network": "sepolia", "contract": "0x" + "ab" * 20, "rpc_secret": SECRET}
    assert Chain.model_validate(right).finality == "finalized"
    with pytest.raises(ValueError, match="validation error"):
        Chain.model_validate(right | wrong)


def _of(document, kind):
    return [each for each in document["Resources"].values() if each["Type"] == kind]


def test_the_coordinator_knows_of_workers_elsewhere(documents):
    """Offers are routed to the chain's workers, whom the deployment does not start."""
    text = json.dumps(documents["coordinator"])
    assert r"\"name\": \"chain\", \"kind\": \"own\"" in text.replace(r"\\\"", r"\"")
