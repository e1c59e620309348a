"""Events that start runs."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

from aws_cdk.assertions import Match, Template


def test_events_wait_in_a_queue_with_a_second_one_for_the_dead(templates):
    """What fails five times is kept for 14 days."""
    templates["events"].has_resource_properties(
        "AWS::SQS::Queue",
        {
            "QueueName": "test-events",
            "RedrivePolicy": {"maxReceiveCount": 5, "deadLetterTargetArn": Match.any_value()},
            "SqsManagedSseEnabled": True,
            "VisibilityTimeout": 360,
        },
    )
    templates["events"].has_resource_properties(
        "AWS::SQS::Queue",
        {"QueueName": "test-events-dead", "MessageRetentionPeriod": 14 * 86_400},
    )


def test_a_bad_message_does_not_hold_the_others(templates):
    """The function says which messages of a batch failed."""
    templates["events"].has_resource_properties(
        "AWS::Lambda::EventSourceMapping", {"FunctionResponseTypes": ["ReportBatchItemFailures"]}
    )


def test_visibility_outlasts_the_function(documents):
    """A message is hidden for six times as long as the function may take."""
    (function,) = _of(documents["events"], "AWS::Lambda::Function")
    queues = _of(documents["events"], "AWS::SQS::Queue")
    assert all(
        queue["Properties"]["VisibilityTimeout"] >= 6 * function["Properties"]["Timeout"]
        for queue in queues
    )


def test_uploads_below_the_mapped_prefixes_are_events(templates):
    """Only objects below the prefixes of the mapping become messages."""
    templates["events"].has_resource_properties(
        "AWS::Events::Rule",
        {
            "EventPattern": Match.object_like(
                {
                    "source": ["aws.s3"],
                    "detail-type": ["Object Created"],
                    "detail": Match.object_like(
                        {"object": {"key": [{"prefix": "inbox/pictures/"}]}}
                    ),
                }
            ),
            "Targets": [Match.object_like({"DeadLetterConfig": Match.any_value()})],
        },
    )


def test_schedules_and_patterns_are_rules(templates):
    """A schedule says which one it is; a pattern is the user's own."""
    templates["events"].has_resource_properties(
        "AWS::Events::Rule",
        {
            "ScheduleExpression": "rate(1 hour)",
            "Targets": [
                Match.object_like(
                    {
                        "InputTransformer": Match.object_like(
                            {"InputPathsMap": {"id": "$.id", "time": "$.time"}}
                        )
                    }
                )
            ],
        },
    )
    templates["events"].has_resource_properties(
        "AWS::Events::Rule", {"EventPattern": {"source": ["my.app"]}}
    )


def test_only_our_rules_may_send(documents):
    """Each rule is let into both queues by its ARN; nobody else is, without rights of his own."""
    for policy in _of(documents["events"], "AWS::SQS::QueuePolicy"):
        allowed = [
            each
            for each in policy["Properties"]["PolicyDocument"]["Statement"]
            if each["Effect"] == "Allow"
        ]
        assert len(allowed) == 3
        for each in allowed:
            assert each["Principal"] == {"Service": "events.amazonaws.com"}
            assert "aws:SourceArn" in each["Condition"]["ArnEquals"]


def test_mapping_lies_beside_the_function(stacks, documents):
    """The function reads the file that the rules were made of."""
    folder = Path(stacks["events"].node.root.outdir)
    with ZipFile(folder / "packed" / "submit.zip") as found:
        assert b"inbox/pictures/" in found.read("events.toml")
        assert {"handler.py", "tiles.yaml"} <= set(found.namelist())


def test_without_a_mapping_only_messages_start_something(private):
    """The queue is there for messages; no rule is made."""
    assert _of(private["events"], "AWS::Events::Rule") == []
    assert len(_of(private["events"], "AWS::SQS::Queue")) == 2
    assert "events.toml" not in json.dumps(private["events"])


def _of(document, kind):
    return [each for each in document["Resources"].values() if each["Type"] == kind]


def test_concurrency_is_reserved_where_it_is_asked_for(private, templates):
    """No more messages are taken than may run: one that is throttled counts as tried."""
    reserved = Match.object_like({"ReservedConcurrentExecutions": 3})
    private_events = Template.from_json(private["events"])
    private_events.has_resource_properties("AWS::Lambda::Function", reserved)
    private_events.has_resource_properties(
        "AWS::Lambda::EventSourceMapping", {"ScalingConfig": {"MaximumConcurrency": 3}}
    )
    templates["events"].has_resource_properties(
        "AWS::Lambda::Function", {"ReservedConcurrentExecutions": Match.absent()}
    )
