"""What starts runs without anybody asking: uploads, schedules, events and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_ssm as ssm

from infra.constructs import rights
from infra.constructs.container import log_group, traces
from infra.constructs.worker_function import (
    ARCHITECTURES,
    RUNTIMES,
    explain_function,
    function_role,
)
from infra.explained import explain
from infra.mapping import Rules
from infra.names import Names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from constructs import Construct

    from infra.settings import Settings
    from stacks.coordinator import CoordinatorStack
    from stacks.storage import StorageStack

_TIMEOUT: Final = Duration.seconds(60)
_HIDDEN: Final = Duration.seconds(6 * 60)
"""Six times the function's timeout, as Lambda asks for a queue that it polls."""
_KEPT: Final = Duration.days(14)


class EventsStack(Stack):
    """Events become messages of a queue, and a function submits what they start.

    A message is taken from the queue when its run is submitted; the id of the event is the run's
    idempotency key, so the second delivery of a message starts nothing. What cannot be submitted
    is kept in the queue of the dead for 14 days.

    Attributes:
        queue: of the events.
        dead: of those that failed too often.
        function: submits.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        settings: Settings,
        storage: StorageStack,
        coordinator: CoordinatorStack,
        code: Path,
        layers: Sequence[tuple[str, Path]],
        **options: Any,
    ) -> None:
        super().__init__(scope, name, **options)
        self._settings, self._storage, self._coordinator = settings, storage, coordinator
        self._names = Names(settings.name)
        self.dead = self._make_queue("Dead", self._names.dead_events)
        self.queue = self._make_queue("Events", self._names.events, dead=self.dead)
        self.function = self._make_function(code, layers)
        self._add_rules()
        ssm.StringParameter(
            self,
            "QueueUrl",
            parameter_name=self._names.parameter("events-queue"),
            string_value=self.queue.queue_url,
        )

    def _make_queue(self, name: str, queue_name: str, dead: sqs.Queue | None = None) -> sqs.Queue:
        queue = sqs.Queue(
            self,
            name,
            queue_name=queue_name,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=_KEPT,
            visibility_timeout=_HIDDEN,
            removal_policy=RemovalPolicy.DESTROY,
            dead_letter_queue=None
            if dead is None
            else sqs.DeadLetterQueue(queue=dead, max_receive_count=self._settings.events.retries),
        )
        explain(
            queue,
            {
                "CKV_AWS_27": "Encrypted with SQS's own key, which costs nothing a message and lets"
                " EventBridge in.",
            },
        )
        return queue

    def _make_function(self, code: Path, layers: Sequence[tuple[str, Path]]) -> lambda_.Function:
        settings, storage = self._settings, self._storage
        group = log_group(self, "submit", settings=settings)
        role = function_role(self, group, settings=settings)
        for statement in (
            *rights.find_deployment(settings),
            *rights.find_coordinator(storage.bucket),
            *rights.pass_values(storage.bucket),
            rights.allow(["secretsmanager:GetSecretValue"], storage.token.secret_arn),
            rights.allow(["execute-api:Invoke"], self._coordinator.edge.any_request),
            rights.allow(
                [
                    "sqs:ChangeMessageVisibility",
                    "sqs:DeleteMessage",
                    "sqs:GetQueueAttributes",
                    "sqs:ReceiveMessage",
                ],
                self.queue.queue_arn,
            ),
        ):
            role.add_to_principal_policy(statement)
        function = lambda_.Function(
            self,
            "Submit",
            function_name=self._names.submit,
            description=f"Submits what events start in {settings.name}",
            runtime=RUNTIMES[settings.python],
            architecture=ARCHITECTURES[settings.architecture],
            handler="handler.handler",
            code=lambda_.Code.from_asset(str(code)),
            layers=[
                lambda_.LayerVersion(
                    self,
                    kind.title(),
                    layer_version_name=f"{settings.name}-submit-{kind}",
                    description=f"noob-cloud: {kind}",
                    code=lambda_.Code.from_asset(str(path)),
                    compatible_architectures=[ARCHITECTURES[settings.architecture]],
                    compatible_runtimes=[RUNTIMES[settings.python]],
                )
                for kind, path in layers
            ],
            memory_size=512,
            timeout=_TIMEOUT,
            environment={
                "NOOB_CLOUD_DEPLOYMENT": settings.name,
                "NOOB_CLOUD_BLOBS": storage.blobs,
                "NOOB_CLOUD_TOKEN_SECRET": storage.token.secret_arn,
                **traces(settings, self._names.submit),
            },
            role=role.without_policy_updates(),
            log_group=group,
            tracing=lambda_.Tracing.ACTIVE if settings.observe.traces else None,
            reserved_concurrent_executions=settings.events.concurrency,
        )
        function.add_event_source(
            sources.SqsEventSource(
                self.queue,
                batch_size=10,
                max_batching_window=Duration.seconds(0),
                report_batch_item_failures=True,
                # a message that is throttled counts as tried, so no more are taken than may run
                max_concurrency=settings.events.concurrency,
            )
        )
        explain_function(self)
        explain(
            function,
            {
                "CKV_AWS_116": "SQS calls it, and keeps what it cannot submit in the queue of the"
                " dead.",
            },
        )
        return function

    # ---- what becomes a message

    def _add_rules(self) -> None:
        path = self._settings.events.mapping
        if path is None:
            return
        rules = Rules.load(path)
        if rules.uploads:
            self._add_uploads(rules.uploads)
        for number, expression in enumerate(rules.schedules):
            self._add_schedule(number, expression)
        for number, pattern in enumerate(rules.patterns):
            self._add_pattern(number, pattern)

    def _add_uploads(self, keys: Sequence[dict[str, str]]) -> None:
        events.Rule(
            self,
            "Uploads",
            rule_name=f"{self._settings.name}-uploads",
            description="Objects that start runs",
            event_pattern=events.EventPattern(
                source=["aws.s3"],
                detail_type=["Object Created"],
                detail={
                    "bucket": {"name": [self._storage.bucket.bucket_name]},
                    "object": {"key": [*keys]},
                },
            ),
            targets=[self._to_queue()],
        )

    def _add_schedule(self, number: int, expression: str) -> None:
        message = events.RuleTargetInput.from_object(
            {
                "on": "schedule",
                "schedule": expression,
                "id": events.EventField.event_id,
                "time": events.EventField.time,
            }
        )
        events.Rule(
            self,
            f"Schedule{number}",
            rule_name=f"{self._settings.name}-schedule-{number}",
            description=f"Starts runs: {expression}",
            schedule=events.Schedule.expression(expression),
            targets=[self._to_queue(message)],
        )

    def _add_pattern(self, number: int, pattern: dict[str, Any]) -> None:
        rule = events.CfnRule(
            self,
            f"Pattern{number}",
            name=f"{self._settings.name}-event-{number}",
            description="Events that start runs",
            event_pattern=pattern,
            targets=[
                events.CfnRule.TargetProperty(
                    id="queue",
                    arn=self.queue.queue_arn,
                    dead_letter_config=events.CfnRule.DeadLetterConfigProperty(
                        arn=self.dead.queue_arn
                    ),
                )
            ],
        )
        for queue in (self.queue, self.dead):
            queue.add_to_resource_policy(rights.let_in_rule(queue.queue_arn, rule.attr_arn))

    def _to_queue(self, message: events.RuleTargetInput | None = None) -> targets.SqsQueue:
        return targets.SqsQueue(self.queue, message=message, dead_letter_queue=self.dead)
