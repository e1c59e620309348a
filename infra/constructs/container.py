"""A container of ours: the pinned Python image, which fetches what it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aws_cdk import Aws, Duration, RemovalPolicy
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs

from infra.archives import ROOT, image
from infra.constructs import rights
from infra.explained import explain
from infra.names import Names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_secretsmanager as secretsmanager
    from constructs import Construct

    from infra.constructs.archives import Archives
    from infra.settings import Settings

NOBODY: Final = "65534:65534"
_OF_ECR: Final = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/(?P<name>[^@:]+)"
)
ARCHITECTURES: Final = {
    "arm64": ecs.CpuArchitecture.ARM64,
    "x86_64": ecs.CpuArchitecture.X86_64,
}


@dataclass(frozen=True)
class Program:
    """What a container runs.

    Args:
        module: `python -m MODULE`.
        arguments: of the module.
        archives: what is fetched before.
        environment: besides what every container has.
        token: the secret that becomes `NOOB_CLOUD_TOKEN`.
        image: another image than the pinned one.
    """

    module: str
    archives: Archives
    token: secretsmanager.ISecret
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None


def log_group(scope: Construct, part: str, *, settings: Settings) -> logs.LogGroup:
    """Return the log group of a part, which goes when the part does."""
    group = logs.LogGroup(
        scope,
        "Logs",
        log_group_name=Names(settings.name).log_group(part),
        retention=_retention(settings.observe.log_days),
        removal_policy=RemovalPolicy.DESTROY,
    )
    explain(
        group,
        {
            "CKV_AWS_158": "Encrypted with CloudWatch's own key; values of tasks are not logged.",
        },
    )
    return group


def _retention(days: int) -> logs.RetentionDays:
    whole = {30: 1, 60: 2, 90: 3, 180: 6}
    words = ["", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX"]
    if days in whole:
        months = whole[days]
        name = f"{words[months]}_MONTH" + ("S" if months > 1 else "")
    else:
        names = {1: "ONE_DAY", 3: "THREE_DAYS", 5: "FIVE_DAYS", 7: "ONE_WEEK", 14: "TWO_WEEKS"}
        name = names.get(days) or {365: "ONE_YEAR", 731: "TWO_YEARS"}[days]
    found: logs.RetentionDays = getattr(logs.RetentionDays, name)
    return found


def traces(settings: Settings, part: str) -> dict[str, str]:
    """Return the environment of what sends its traces to X-Ray by X-Ray's own API.

    Spans go out from the process that made them, with its own rights: X-Ray takes OTLP only from
    accounts that keep traces in CloudWatch Logs, and a collector would be a container more in
    each task.
    """
    if not settings.observe.traces:
        return {}
    return {"NOOB_CLOUD_TRACES": "xray", "OTEL_SERVICE_NAME": part}


def add_container(
    task: ecs.TaskDefinition,
    program: Program,
    *,
    settings: Settings,
    group: logs.LogGroup,
    **options: Any,
) -> ecs.ContainerDefinition:
    """Add the one container of a task that runs a program, and allow it to start.

    Args:
        task: what the container is added to.
        program: what it runs.
        settings: of the deployment.
        group: where it logs.
        options: of `ecs.TaskDefinition.add_container`.
    """
    text = (ROOT / "infra" / "boot.py").read_text(encoding="utf-8")
    container = task.add_container(
        "main",
        image=ecs.ContainerImage.from_registry(program.image or image(settings.python)),
        command=["python", "-c", text, program.module, *program.arguments],
        environment={
            "AWS_REGION": Aws.REGION,
            "HOME": "/tmp",  # noqa: S108 - of nobody, in a container of its own
            "NOOB_CLOUD_ARCHIVES": program.archives.urls,
            "NOOB_CLOUD_DEPLOYMENT": settings.name,
            "PYTHONUNBUFFERED": "1",
            **traces(settings, task.family),
            **program.environment,
        },
        secrets={"NOOB_CLOUD_TOKEN": ecs.Secret.from_secrets_manager(program.token)},
        logging=ecs.LogDriver.aws_logs(stream_prefix="noob-cloud", log_group=group),
        user=NOBODY,
        linux_parameters=ecs.LinuxParameters(task, "Linux", init_process_enabled=True),
        **{"stop_timeout": Duration.seconds(120), **options},
    )
    program.archives.grant_fetch(task.task_role)
    for statement in rights.send_traces(settings):
        task.add_to_task_role_policy(statement)
    _grant_pull(task, program.image)
    explain(
        task,
        {
            "AwsSolutions-ECS2": "Names of things only: the token comes from Secrets Manager.",
        },
    )
    return container


def _grant_pull(task: ecs.TaskDefinition, name: str | None) -> None:
    found = _OF_ECR.match(name or "")
    if found is None:
        return
    role = task.obtain_execution_role()
    repository = (
        f"arn:{Aws.PARTITION}:ecr:{found['region']}:{found['account']}:repository/{found['name']}"
    )
    role.add_to_principal_policy(
        iam.PolicyStatement(
            actions=[
                "ecr:BatchCheckLayerAvailability",
                "ecr:BatchGetImage",
                "ecr:GetDownloadUrlForLayer",
            ],
            resources=[repository],
        )
    )
    role.add_to_principal_policy(
        iam.PolicyStatement(actions=["ecr:GetAuthorizationToken"], resources=["*"])
    )
