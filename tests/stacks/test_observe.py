"""The dashboard and the alarms."""

from __future__ import annotations

import json
import re
from pathlib import Path

from aws_cdk.assertions import Match

from noob_cloud.coordinator import durability, emf
from noob_cloud.serverless import chain
from stacks.observe import LEASE_LOST, NAMESPACE


def test_everything_that_matters_has_an_alarm(documents):
    """Each alarm tells somebody when it begins and when it ends, and says what to do."""
    alarms = _of(documents["observe"], "AWS::CloudWatch::Alarm")
    names = {alarm["Properties"]["AlarmName"] for alarm in alarms}
    assert names == {
        f"test-{name}"
        for name in (
            "OldestReady",
            "DeadTasks",
            "Silent",
            "Budget",
            "LeaseLost",
            "ReplicationLag",
            "ApiErrors",
            "Refused",
            "DeadEvents",
            "SubmitErrors",
            "ChainSilent",
            "ChainErrors",
            "Errors-lambda-1024",
            "Errors-lambda-4096",
        )
    }
    for alarm in alarms:
        assert alarm["Properties"]["AlarmActions"] == alarm["Properties"]["OKActions"]
        assert len(alarm["Properties"]["AlarmDescription"]) > 30


def test_silence_is_an_alarm(templates):
    """A coordinator that is gone sends no metrics, which is not taken for health."""
    templates["observe"].has_resource_properties(
        "AWS::CloudWatch::Alarm",
        {
            "AlarmName": "test-Silent",
            "TreatMissingData": "breaching",
            "ComparisonOperator": "LessThanThreshold",
        },
    )


def test_alarms_are_of_metrics_that_exist(documents):
    """What the coordinator's alarms and graphs name is what it writes."""
    source = Path(emf.__file__).read_text() + Path(chain.__file__).read_text()
    written = set(re.findall(r'"([A-Z][A-Za-z]+)":', source)) | set(
        re.findall(r'whole\["([A-Za-z]+)"\]', source)
    )
    text = json.dumps(documents["observe"])
    alarms = {
        metric["MetricName"]
        for alarm in _of(documents["observe"], "AWS::CloudWatch::Alarm")
        for metric in _metrics(alarm["Properties"])
        if metric.get("Namespace") == NAMESPACE and "/" not in metric["MetricName"]
    }
    assert emf.NAMESPACE == NAMESPACE
    assert alarms == {
        "OldestReadySeconds",
        "DeadTasks",
        "ReadyTasks",
        "BudgetLeft",
        "ReplicationSeconds",
        "ApiErrors",
        "ChainAgeSeconds",
    }
    assert alarms <= written
    for name in ("Workers", "WantedWorkers", "FailedStarts", "SpentToday"):
        assert name in written
        assert name in text


def test_filters_look_for_what_is_logged(templates):
    """The lines that are counted are lines that the coordinator writes."""
    folder = Path(durability.__file__).parent
    source = "".join(path.read_text() for path in folder.glob("*.py"))
    assert LEASE_LOST in source
    templates["observe"].resource_count_is("AWS::Logs::MetricFilter", 1)


def test_lag_of_the_replica_is_measured(templates):
    """The alarm goes by what commits waited for, in seconds, and not by lines of a log."""
    templates["observe"].has_resource_properties(
        "AWS::CloudWatch::Alarm",
        {
            "AlarmName": "test-ReplicationLag",
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "Threshold": 10,
            "Metrics": [
                Match.object_like(
                    {
                        "MetricStat": {
                            "Metric": Match.object_like({"MetricName": "ReplicationSeconds"}),
                            "Period": 60,
                            "Stat": "Maximum",
                        }
                    }
                )
            ],
        },
    )


def test_somebody_is_told(templates):
    """Alarms go to a topic, and from there to the address of the settings."""
    templates["observe"].has_resource_properties(
        "AWS::SNS::Subscription", {"Protocol": "email", "Endpoint": "somebody@example.com"}
    )
    templates["observe"].has_resource_properties(
        "AWS::CloudWatch::Dashboard", {"DashboardName": "test", "DashboardBody": Match.any_value()}
    )


def _metrics(alarm):
    """Return the metrics of an alarm, which has one of its own or a list."""
    listed = [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", ())]
    return listed or [alarm]


def _of(document, kind):
    return [each for each in document["Resources"].values() if each["Type"] == kind]
