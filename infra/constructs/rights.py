"""What a part may do, in statements as narrow as AWS has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from infra.names import ALIAS, INBOX, OUTBOX, REPLICA, Names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_s3 as s3

    from infra.settings import Settings


def allow(
    actions: Sequence[str], *resources: str, **conditions: Mapping[str, object]
) -> iam.PolicyStatement:
    """Return a statement that allows actions on resources, under conditions."""
    return iam.PolicyStatement(
        actions=[*actions], resources=[*resources], conditions=conditions or None
    )


def arn(service: str, resource: str) -> str:
    """Return the ARN of a resource of this account and region."""
    return f"arn:{Aws.PARTITION}:{service}:{Aws.REGION}:{Aws.ACCOUNT_ID}:{resource}"


def keep_replica(bucket: s3.IBucket) -> list[iam.PolicyStatement]:
    """Allow what the coordinator does below its prefix: lease, replica, blobs.

    S3 says of an object that is missing that it is forbidden, unless one may list the bucket, and
    no prefix is in that question: without `IfExists` a first lease could never be taken.
    """
    below = f"{REPLICA}/*"
    return [
        allow(
            ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
            bucket.arn_for_objects(below),
        ),
        allow(
            ["s3:ListBucket"],
            bucket.bucket_arn,
            StringLikeIfExists={"s3:prefix": [REPLICA, below]},
        ),
    ]


def find_coordinator(bucket: s3.IBucket) -> list[iam.PolicyStatement]:
    """Allow to read where the coordinator listens."""
    return [allow(["s3:GetObject"], bucket.arn_for_objects(f"{REPLICA}/lease.json"))]


def pass_values(bucket: s3.IBucket) -> list[iam.PolicyStatement]:
    """Allow to pass large values by their cid."""
    return [allow(["s3:GetObject", "s3:PutObject"], bucket.arn_for_objects(f"{REPLICA}/blobs/*"))]


def read_inputs(bucket: s3.IBucket) -> list[iam.PolicyStatement]:
    """Allow a worker to read what users uploaded, and to write beside it."""
    return [
        allow(["s3:GetObject"], bucket.arn_for_objects(f"{INBOX}/*")),
        allow(["s3:GetObject", "s3:PutObject"], bucket.arn_for_objects(f"{OUTBOX}/*")),
    ]


def find_deployment(settings: Settings) -> list[iam.PolicyStatement]:
    """Allow to read the parameters that say where everything is."""
    below = arn("ssm", f"parameter{Names(settings.name).parameter('*')}")
    return [allow(["ssm:GetParametersByPath"], below.removesuffix("/*"), below)]


def start_workers(settings: Settings) -> list[iam.PolicyStatement]:
    """Allow the coordinator to start its pools' workers."""
    names = Names(settings.name)
    functions = [
        arn("lambda", f"function:{names.function(pool.name, size)}:{ALIAS}")
        for pool in settings.lambda_pools
        for size in pool.sizes
    ]
    services = [
        arn("ecs", f"service/{names.cluster}/{names.service(pool.name)}")
        for pool in settings.fargate_pools
    ] + [
        arn("ecs", f"service/{names.gpu_cluster(pool.name)}/{names.service(pool.name)}")
        for pool in settings.ec2_pools
    ]
    found = []
    if functions:
        found.append(allow(["lambda:InvokeFunction"], *functions))
    if services:
        found.append(allow(["ecs:DescribeServices", "ecs:UpdateService"], *services))
    return found


def protect_tasks(cluster: str) -> list[iam.PolicyStatement]:
    """Allow a worker to ask that it is not stopped while it holds a lease."""
    tasks = arn("ecs", f"task/{cluster}/*")
    return [allow(["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"], tasks)]


def let_in_rule(queue: str, rule: str) -> iam.PolicyStatement:
    """Let a rule of EventBridge send to a queue."""
    return iam.PolicyStatement(
        principals=[iam.ServicePrincipal("events.amazonaws.com")],
        actions=["sqs:SendMessage"],
        resources=[queue],
        conditions={"ArnEquals": {"aws:SourceArn": rule}},
    )


def send_traces(settings: Settings) -> list[iam.PolicyStatement]:
    """Allow to send traces, where that is wanted; X-Ray has no finer resource than all."""
    if not settings.observe.traces:
        return []
    return [allow(["xray:PutTelemetryRecords", "xray:PutTraceSegments"], "*")]
