"""Small templates for the tests of the local cloud, and what deploys them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from localdev.local import LocalCloud

FUNCTION = """
import json, os, time

def handler(event, context):
    records = event.get("Records")
    if records is not None:
        return {"batchItemFailures": [
            {"itemIdentifier": record["messageId"]} for record in records if record["body"] == "bad"
        ]}
    match event.get("do"):
        case "crash": os._exit(3)
        case "sleep": time.sleep(event["seconds"])
        case "eat": held = bytearray(event["mib"] << 20); time.sleep(5)
        case "raise": raise ValueError("no such colour")
        case "write":
            with open(event["path"], "a") as file: file.write("x")
    return {"pid": os.getpid(), "arn": context.invoked_function_arn, "color": os.environ["COLOR"],
            "path": event.get("rawPath"), "body": event.get("body")}
"""
SERVICE = """
import os, signal, sys, time
def stop(*_):
    print("told to stop", flush=True)
    time.sleep(0.1)
    print("stopped", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("token", os.environ["TOKEN"], "gpus", os.environ.get("CUDA_VISIBLE_DEVICES"), *sys.argv[1:],
      flush=True)
open(os.environ["DISK"], "w").close()
while True:
    time.sleep(0.05)
"""


def get(name: str, attribute: str = "Arn") -> dict[str, Any]:
    return {"Fn::GetAtt": [name, attribute]}


def ref(name: str) -> dict[str, str]:
    return {"Ref": name}


def functions(*, color: str = "red", source: str = FUNCTION) -> dict[str, Any]:
    """A function behind an alias, with a URL, a queue that calls it, and dead letters."""
    return {
        "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {}}},
        "Function": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "FunctionName": "painter",
                "Handler": "index.handler",
                "Runtime": "python3.13",
                "Role": get("Role"),
                "Timeout": 1,
                "MemorySize": 128,
                "Environment": {"Variables": {"COLOR": color}},
                "Code": {"ZipFile": source},
            },
        },
        f"Version{color}": {
            "Type": "AWS::Lambda::Version",
            "Properties": {"FunctionName": ref("Function")},
        },
        "Alias": {
            "Type": "AWS::Lambda::Alias",
            "Properties": {
                "Name": "live",
                "FunctionName": ref("Function"),
                "FunctionVersion": get(f"Version{color}", "Version"),
            },
        },
        "Url": {
            "Type": "AWS::Lambda::Url",
            "Properties": {
                "AuthType": "AWS_IAM",
                "TargetFunctionArn": ref("Function"),
                "Qualifier": "live",
            },
        },
        "Invoke": {
            "Type": "AWS::Lambda::EventInvokeConfig",
            "Properties": {
                "FunctionName": ref("Function"),
                "Qualifier": "live",
                "MaximumRetryAttempts": 0,
            },
        },
        "Dead": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "dead"}},
        "Queue": {
            "Type": "AWS::SQS::Queue",
            "Properties": {
                "QueueName": "orders",
                "VisibilityTimeout": 1,
                "RedrivePolicy": {"deadLetterTargetArn": get("Dead"), "maxReceiveCount": 2},
            },
        },
        "Source": {
            "Type": "AWS::Lambda::EventSourceMapping",
            "Properties": {
                "FunctionName": ref("Alias"),
                "EventSourceArn": get("Queue"),
                "FunctionResponseTypes": ["ReportBatchItemFailures"],
            },
        },
    }


def service(*, desired: int = 1, gpus: int = 0, source: str = SERVICE) -> dict[str, Any]:
    """A service whose tasks say what they are told."""
    container: dict[str, Any] = {
        "Name": "main",
        "Image": "python",
        "Command": ["python", "-c", source, "--host=0.0.0.0"],
        "Environment": [{"Name": "DISK", "Value": "/tmp/disk"}],
        "Secrets": [{"Name": "TOKEN", "ValueFrom": {"Fn::Sub": "${Secret}:key::"}}],
        "StopTimeout": 10,
    }
    if gpus:
        container["ResourceRequirements"] = [{"Type": "GPU", "Value": str(gpus)}]
    return {
        "Secret": {
            "Type": "AWS::SecretsManager::Secret",
            "Properties": {"SecretString": json.dumps({"key": "swordfish"})},
        },
        "Cluster": {"Type": "AWS::ECS::Cluster", "Properties": {"ClusterName": "yard"}},
        "Task": {
            "Type": "AWS::ECS::TaskDefinition",
            "Properties": {"Family": "crane", "Memory": "256", "ContainerDefinitions": [container]},
        },
        "Service": {
            "Type": "AWS::ECS::Service",
            "Properties": {
                "ServiceName": "yard-crane",
                "Cluster": ref("Cluster"),
                "TaskDefinition": ref("Task"),
                "DesiredCount": desired,
            },
        },
    }


def bucket() -> dict[str, Any]:
    """A bucket whose new objects below a prefix become messages of a queue."""
    return {
        "Bucket": {
            "Type": "AWS::S3::Bucket",
            "Properties": {
                "BucketName": "pictures",
                "VersioningConfiguration": {"Status": "Enabled"},
                "NotificationConfiguration": {
                    "EventBridgeConfiguration": {"EventBridgeEnabled": True}
                },
            },
        },
        "Events": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "events"}},
        "Rule": {
            "Type": "AWS::Events::Rule",
            "Properties": {
                "EventPattern": {
                    "source": ["aws.s3"],
                    "detail-type": ["Object Created"],
                    "detail": {"object": {"key": [{"prefix": "inbox/"}]}},
                },
                "Targets": [{"Id": "queue", "Arn": get("Events")}],
            },
        },
        "Hourly": {
            "Type": "AWS::Events::Rule",
            "Properties": {
                "Name": "hourly",
                "ScheduleExpression": "rate(1 hour)",
                "Targets": [{"Id": "queue", "Arn": get("Events"), "Input": '{"tick": true}'}],
            },
        },
    }


def deploy(cloud: LocalCloud, name: str, resources: dict[str, Any]) -> None:
    """Create or update a stack."""
    client = cloud.client("cloudformation")
    template = json.dumps({"Resources": resources})
    names = [stack["StackName"] for stack in client.describe_stacks()["Stacks"]]
    operation = client.update_stack if name in names else client.create_stack
    operation(StackName=name, TemplateBody=template)


def destroy(cloud: LocalCloud, name: str) -> None:
    cloud.client("cloudformation").delete_stack(StackName=name)


def until(done: Callable[[], Any], *, seconds: float = 20) -> Any:
    """Return the first true value of `done()`."""
    give_up = time.monotonic() + seconds
    while not (found := done()):
        if time.monotonic() > give_up:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(0.02)
    return found


def messages(cloud: LocalCloud, queue: str, count: int) -> list[dict[str, Any]]:
    """Take so many messages from a queue."""
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    found: list[dict[str, Any]] = []

    def taken() -> bool:
        answer = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            found.append(message)
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return len(found) >= count

    until(taken)
    return found
