"""The worker as an ECS service, whose count the coordinator sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from infra.constructs import rights
from infra.constructs.container import Program
from infra.explained import explain
from infra.fleet import place

if TYPE_CHECKING:
    from aws_cdk import aws_ecs as ecs

    from infra.constructs.archives import Archives
    from infra.pools import Ec2Pool, FargatePool
    from noob_cloud.serverless.package import Packed
    from stacks.storage import StorageStack

_DRAIN_SECONDS: Final = 110
"""How long a worker that is told to stop may finish its tasks: AWS gives 120 s, on Spot as well."""


def worker_program(
    pool: FargatePool | Ec2Pool,
    *,
    storage: StorageStack,
    archives: Archives,
    code: Packed | None,
) -> Program:
    """Return what the container of a worker runs."""
    tag = place(pool)
    modules = [] if code is None else [f"--allow-module={module}" for module in code.modules]
    environment = {
        "NOOB_CLOUD_COORDINATOR": storage.replica,
        "NOOB_CLOUD_BLOBS": storage.blobs,
        "NOOB_CLOUD_TAGS": tag,
    }
    if code is not None:
        environment["NOOB_CLOUD_CODE"] = code.cid
    return Program(
        "noob_cloud.runner.worker_server",
        archives=archives,
        token=storage.token,
        arguments=[
            "--host=127.0.0.1",
            f"--coordinator={storage.replica}",
            f"--tags={tag}",
            f"--max-tasks={pool.slots}",
            f"--drain-seconds={_DRAIN_SECONDS}",
            *modules,
        ],
        environment=environment,
        image=pool.image,
    )


def grant_work(
    task: ecs.TaskDefinition,
    *,
    cluster: str,
    storage: StorageStack,
) -> None:
    """Allow a worker's task what its work needs."""
    statements = (
        *rights.find_coordinator(storage.bucket),
        *rights.pass_values(storage.bucket),
        *rights.read_inputs(storage.bucket),
        *rights.protect_tasks(cluster),
    )
    for statement in statements:
        task.add_to_task_role_policy(statement)
    explain(
        task,
        {
            "AwsSolutions-IAM5": "Every object below one prefix, every task of one cluster: AWS"
            " has no finer names for them. X-Ray has no resources.",
        },
    )
