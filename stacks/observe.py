"""What is watched: a dashboard, and alarms for what somebody should look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions

from infra.constructs import rights
from infra.explained import explain
from infra.names import Names

if TYPE_CHECKING:
    from constructs import Construct

    from infra.settings import Settings
    from stacks.coordinator import CoordinatorStack

NAMESPACE: Final = "noob-cloud"
LEASE_LOST: Final = "must not write any more"
"""What the coordinator logs when another one has taken its lease."""
_MINUTE: Final = Duration.minutes(1)
_FIVE: Final = Duration.minutes(5)
_AT_LEAST: Final = cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
_AT_MOST: Final = cloudwatch.ComparisonOperator.LESS_THAN_OR_EQUAL_TO_THRESHOLD
_BELOW: Final = cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD
_SILENCE_IS_WELL: Final = cloudwatch.TreatMissingData.NOT_BREACHING


@dataclass(frozen=True)
class Alarm:
    """When somebody is told, and what to look at then."""

    name: str
    metric: cloudwatch.IMetric
    threshold: float
    text: str
    compare: cloudwatch.ComparisonOperator = _AT_LEAST
    periods: int = 1
    missing: cloudwatch.TreatMissingData = _SILENCE_IS_WELL


class ObserveStack(Stack):
    """One dashboard and one topic of a deployment, fed by what its parts write.

    The coordinator writes its metrics as lines of its log (EMF), so nothing is asked of it.

    Attributes:
        topic: what alarms are sent to.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        settings: Settings,
        coordinator: CoordinatorStack,
        **options: Any,
    ) -> None:
        super().__init__(scope, name, **options)
        self._settings, self._coordinator = settings, coordinator
        self._names = Names(settings.name)
        self.topic = self._make_topic()
        alarms = [self._add(alarm) for alarm in (*self._of_the_queue(), *self._of_the_parts())]
        self._make_dashboard(alarms)

    # ---- who is told

    def _make_topic(self) -> sns.Topic:
        topic = sns.Topic(
            self, "Alarms", topic_name=f"{self._settings.name}-alarms", enforce_ssl=True
        )
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={
                    "ArnLike": {
                        "aws:SourceArn": rights.arn("cloudwatch", f"alarm:{self._settings.name}-*")
                    }
                },
            )
        )
        if self._settings.observe.email is not None:
            topic.add_subscription(subscriptions.EmailSubscription(self._settings.observe.email))
        explain(
            topic,
            {
                "CKV_AWS_26": "Alarms have names and numbers, no data; a key of one's own"
                " would cost and have to let CloudWatch in.",
            },
        )
        return topic

    def _add(self, alarm: Alarm) -> cloudwatch.Alarm:
        made = cloudwatch.Alarm(
            self,
            alarm.name,
            alarm_name=f"{self._settings.name}-{alarm.name}",
            alarm_description=alarm.text,
            metric=alarm.metric,
            threshold=alarm.threshold,
            comparison_operator=alarm.compare,
            evaluation_periods=alarm.periods,
            treat_missing_data=alarm.missing,
        )
        made.add_alarm_action(actions.SnsAction(self.topic))
        made.add_ok_action(actions.SnsAction(self.topic))
        return made

    # ---- of what

    def _of_the_queue(self) -> list[Alarm]:
        observe = self._settings.observe
        alarms = [
            Alarm(
                "OldestReady",
                self._ours("OldestReadySeconds", "Maximum"),
                observe.oldest_ready_seconds,
                "A task waits for long: no pool takes it, none can be had, or the budget is spent."
                " `noob-cloud status` says which tags it waits for.",
                periods=5,
            ),
            Alarm(
                "DeadTasks",
                self._ours("DeadTasks", "Maximum"),
                1,
                "A task failed too often. `noob-cloud status` shows its traceback, and it can be"
                " sent again.",
            ),
            Alarm(
                "Silent",
                self._ours("ReadyTasks", "SampleCount", period=_FIVE),
                1,
                "The coordinator has said nothing for ten minutes: its service shows why its task"
                " does not start.",
                compare=_BELOW,
                periods=2,
                missing=cloudwatch.TreatMissingData.BREACHING,
            ),
        ]
        if self._settings.budget.per_day is not None:
            alarms.append(
                Alarm(
                    "Budget",
                    self._ours("BudgetLeft", "Minimum"),
                    0,
                    "The budget of the day is spent: no more workers are started until midnight"
                    " UTC, and those that run go on.",
                    compare=_AT_MOST,
                )
            )
        return alarms

    def _of_the_parts(self) -> list[Alarm]:
        lost = self._filter("LeaseLost", logs.FilterPattern.literal(f'"{LEASE_LOST}"'))
        refused = self._coordinator.edge.api.metric_server_error(period=_FIVE, statistic="Sum")
        return [
            Alarm(
                "LeaseLost",
                lost,
                1,
                "Another coordinator took the lease and this one stopped, as it should; two of"
                " them share one replica only by mistake.",
            ),
            Alarm(
                "ReplicationLag",
                self._ours("ReplicationSeconds", "Maximum"),
                self._settings.observe.replication_seconds,
                "A commit waits for the replica in S3: submissions are answered late, or 503, and"
                " none is lost. The coordinator's log says what S3 or Litestream answer.",
                periods=2,
            ),
            Alarm(
                "ApiErrors",
                self._ours("ApiErrors", "Sum", period=_FIVE),
                10,
                "The coordinator answers with errors of its own (5xx): its log"
                f" {self._names.log_group('coordinator')} says which.",
            ),
            Alarm(
                "Refused",
                refused,
                10,
                "The coordinator is away, or cannot prove its lease: clients wait for three"
                " minutes before they give up.",
            ),
            Alarm(
                "DeadEvents",
                self._of_queue(self._names.dead_events, "ApproximateNumberOfMessagesVisible"),
                1,
                "An event could not be submitted; it is kept for 14 days in the queue"
                f" {self._names.dead_events}, and the log of {self._names.submit} says why.",
            ),
            Alarm(
                "SubmitErrors",
                self._of_function(self._names.submit, "Errors"),
                5,
                "Events cannot be submitted; they are tried again.",
            ),
            *self._of_the_chain(),
            *self._of_the_workers(),
        ]

    def _of_the_chain(self) -> list[Alarm]:
        chain = self._settings.chain
        if chain is None:
            return []
        return [
            Alarm(
                "ChainSilent",
                self._ours("ChainAgeSeconds", "Minimum", period=_FIVE),
                chain.silent_seconds,
                "The last block that was read is old, or none was: the node or the coordinator does"
                " not answer, the node stands still, or the listener is catching up. The log"
                f" {self._names.log_group('chain')} says which; nothing is lost, it is read on from"
                " where it stands.",
                periods=3 * max(1, chain.every_minutes // 5),
                missing=cloudwatch.TreatMissingData.BREACHING,
            ),
            Alarm(
                "ChainErrors",
                self._of_function(self._names.chain, "Errors"),
                3 if chain.every_minutes == 1 else 1,
                "The listener of the chain ends with an error; it is called again each"
                f" {chain.every_minutes} min, and reads on. The log"
                f" {self._names.log_group('chain')} says why.",
            ),
        ]

    def _of_the_workers(self) -> list[Alarm]:
        return [
            Alarm(
                f"Errors-{pool.name}-{size}",
                self._of_function(self._names.function(pool.name, size), "Errors"),
                5,
                "Lambda workers end with an error: their tasks are run again, and their log group"
                f" {self._names.log_group(f'{pool.name}-{size}')} says why.",
            )
            for pool in self._settings.lambda_pools
            for size in pool.sizes
        ]

    # ---- metrics

    def _ours(
        self, name: str, statistic: str, *, period: Duration = _MINUTE, pool: str | None = None
    ) -> cloudwatch.Metric:
        dimensions = {"Deployment": self._settings.name}
        if pool is not None:
            dimensions["Pool"] = pool
        return cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=name,
            dimensions_map=dimensions,
            statistic=statistic,
            period=period,
            label=name if pool is None else pool,
        )

    def _of_queue(self, queue: str, name: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace="AWS/SQS",
            metric_name=name,
            dimensions_map={"QueueName": queue},
            statistic="Maximum",
            period=_FIVE,
        )

    def _of_function(self, function: str, name: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace="AWS/Lambda",
            metric_name=name,
            dimensions_map={"FunctionName": function},
            statistic="Sum",
            period=_FIVE,
            label=function,
        )

    def _filter(self, name: str, pattern: logs.IFilterPattern) -> cloudwatch.Metric:
        """Count lines of the coordinator's log."""
        logs.MetricFilter(
            self,
            f"{name}Lines",
            log_group=self._coordinator.logs,
            filter_pattern=pattern,
            metric_namespace=NAMESPACE,
            metric_name=f"{self._settings.name}/{name}",
            metric_value="1",
        )
        return cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=f"{self._settings.name}/{name}",
            statistic="Sum",
            period=_FIVE,
        )

    # ---- at one glance

    def _make_dashboard(self, alarms: list[cloudwatch.Alarm]) -> None:
        board = cloudwatch.Dashboard(self, "Dashboard", dashboard_name=self._settings.name)
        board.add_widgets(cloudwatch.AlarmStatusWidget(alarms=[*alarms], width=24, height=4))
        board.add_widgets(
            _graph(
                "Tasks", self._ours("ReadyTasks", "Maximum"), self._ours("DeadTasks", "Maximum")
            ),
            _graph("Oldest ready task, in seconds", self._ours("OldestReadySeconds", "Maximum")),
            _graph(
                "Seconds until a commit is in S3",
                self._ours("ReplicationSeconds", "Maximum"),
                self._ours("ReplicationSeconds", "Average"),
            ),
            _graph("Requests that failed", self._ours("ApiErrors", "Sum")),
            _graph(
                "Money of the day",
                self._ours("SpentToday", "Maximum"),
                self._ours("BudgetLeft", "Minimum"),
            ),
        )
        places = [
            f"{pool.name}-{size}" for pool in self._settings.lambda_pools for size in pool.sizes
        ] + [pool.name for pool in (*self._settings.fargate_pools, *self._settings.ec2_pools)]
        board.add_widgets(
            *(
                _graph(title, *(self._ours(name, "Maximum", pool=place) for place in places))
                for title, name in (
                    ("Workers", "Workers"),
                    ("Workers wanted", "WantedWorkers"),
                    ("Starts that failed", "FailedStarts"),
                )
            )
        )
        functions = [
            self._names.function(pool.name, size)
            for pool in self._settings.lambda_pools
            for size in pool.sizes
        ] + [self._names.submit]
        if self._settings.chain is not None:
            functions.append(self._names.chain)
            board.add_widgets(
                _graph(
                    "Age of the last block read, in s", self._ours("ChainAgeSeconds", "Maximum")
                ),
                _graph("Events of the chain", self._ours("ChainEvents", "Sum")),
            )
        board.add_widgets(
            *(
                _graph(title, *(self._of_function(each, name) for each in functions))
                for title, name in (
                    ("Invocations", "Invocations"),
                    ("Errors of functions", "Errors"),
                    ("Throttled invocations", "Throttles"),
                )
            )
        )


def _graph(title: str, *metrics: cloudwatch.IMetric) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=[*metrics], width=8)
