"""The worker as a Lambda function: a published version behind an alias, called in two ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aws_cdk import Annotations, Duration, Size
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.constructs import rights
from infra.constructs.container import log_group, traces
from infra.explained import explain
from infra.names import ALIAS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from aws_cdk import aws_logs as logs

    from infra.pools import LambdaPool
    from infra.settings import Settings

ARCHITECTURES: Final = {
    "arm64": lambda_.Architecture.ARM_64,
    "x86_64": lambda_.Architecture.X86_64,
}
RUNTIMES: Final = {
    "3.11": lambda_.Runtime.PYTHON_3_11,
    "3.12": lambda_.Runtime.PYTHON_3_12,
    "3.13": lambda_.Runtime.PYTHON_3_13,
}
_WITHOUT_SNAPSHOTS: Final = frozenset(("3.11",))
_SMALL_DISK: Final = 512
_EVENT_AGE: Final = Duration.seconds(60)
"""A wake-up that could not be delivered for longer is not worth it: the coordinator has counted
it as failed and sent another."""


def function_role(scope: Construct, group: logs.LogGroup, *, settings: Settings) -> iam.Role:
    """Return the role of a function that may log to its group, and trace."""
    role = iam.Role(
        scope,
        "Role",
        assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
        description=f"A function of the noob-cloud deployment {settings.name}",
    )
    statements = [
        rights.allow(["logs:CreateLogStream", "logs:PutLogEvents"], group.log_group_arn),
        *rights.send_traces(settings),
    ]
    for statement in statements:
        role.add_to_principal_policy(statement)
    return role


class WorkerFunction(Construct):
    """One size of the worker.

    Attributes:
        alias: what is invoked: a published version, started from its snapshot.
        role: what it may.
        url: for who sends tasks instead of having them pulled; it asks for IAM's signature.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        settings: Settings,
        pool: LambdaPool,
        size: int,
        function_name: str,
        code: Path,
        layers: Sequence[lambda_.ILayerVersion],
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(scope, name)
        group = log_group(self, f"{pool.name}-{size}", settings=settings)
        self.role = function_role(self, group, settings=settings)
        function = lambda_.Function(
            self,
            "Function",
            function_name=function_name,
            description=f"Pulls tasks of {settings.name} that fit into {size} MiB",
            runtime=RUNTIMES[settings.python],
            architecture=ARCHITECTURES[pool.architecture or settings.architecture],
            handler="handler.handler",
            code=lambda_.Code.from_asset(str(code)),
            layers=[*layers],
            memory_size=size,
            timeout=Duration.seconds(pool.timeout_seconds),
            ephemeral_storage_size=Size.mebibytes(pool.storage_mib),
            environment={**environment, **traces(settings, function_name)},
            role=self.role.without_policy_updates(),
            log_group=group,
            tracing=lambda_.Tracing.ACTIVE if settings.observe.traces else None,
            reserved_concurrent_executions=pool.concurrency,
            snap_start=self._snapshots(settings, pool),
        )
        self.alias = lambda_.Alias(
            self, "Alias", alias_name=ALIAS, version=function.current_version
        )
        self.alias.configure_async_invoke(retry_attempts=0, max_event_age=_EVENT_AGE)
        self.url = self.alias.add_function_url(auth_type=lambda_.FunctionUrlAuthType.AWS_IAM)
        Annotations.of(function).acknowledge_warning(
            "@aws-cdk/aws-lambda:snapStartRequirePublish",
            "The alias is of a published version.",
        )
        explain_function(self)
        explain(
            self,
            {
                "CKV_AWS_116": "A wake-up that is lost loses no task: the coordinator sends"
                " another while tasks are ready.",
            },
        )

    @staticmethod
    def _snapshots(settings: Settings, pool: LambdaPool) -> lambda_.SnapStartConf | None:
        able = settings.python not in _WITHOUT_SNAPSHOTS and pool.storage_mib == _SMALL_DISK
        return lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS if pool.snap_start and able else None


def explain_function(construct: Construct) -> None:
    """Leave what checkers say of every function of ours."""
    explain(
        construct,
        {
            "AwsSolutions-L1": "The layers are built for one Python: the setting `python` changes"
            " both at once.",
            "AwsSolutions-IAM5": "Every object below one prefix, every request to one API, every"
            " stream of one log group: AWS has no finer names. X-Ray has no resources at all.",
            "CKV_AWS_115": "New accounts refuse to reserve concurrency: `concurrency` of the pool"
            " does, and max_workers is what the coordinator keeps to.",
            "CKV_AWS_117": "Outside the network it reaches S3, the API and the internet without"
            " NAT, and nothing reaches it.",
            "CKV_AWS_173": "Its environment has names of things, no secrets.",
        },
    )
