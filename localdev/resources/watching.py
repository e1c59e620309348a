"""Parameters, alarms, budgets, what scales by itself, and schedules."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from localdev.aws import call, client
from localdev.cloudformation import Resource


class Parameter(Resource):
    """A parameter of SSM; moto's own type fails on tags."""

    type = "AWS::SSM::Parameter"
    named_by = "Name"

    def create(self) -> None:
        given = {key: value for key, value in self.properties.items() if key != "Tags"}
        call("ssm", "put_parameter", {**given, "Name": self.name, "Overwrite": True})
        self.attributes = {"Type": given["Type"], "Value": given["Value"]}

    def remove(self) -> None:
        with suppress(ClientError):
            client("ssm").delete_parameter(Name=self.name)


class Alarm(Resource):
    """An alarm: it can be read back; nothing here measures."""

    type = "AWS::CloudWatch::Alarm"
    named_by = "AlarmName"

    def create(self) -> None:
        call("cloudwatch", "put_metric_alarm", {**self.properties, "AlarmName": self.name})
        self.attributes = {
            "Arn": f"arn:aws:cloudwatch:{self.region}:{self.account}:alarm:{self.name}"
        }

    def remove(self) -> None:
        client("cloudwatch").delete_alarms(AlarmNames=[self.name])


class Budget(Resource):
    """A budget of AWS."""

    type = "AWS::Budgets::Budget"

    def create(self) -> None:
        budget = self.properties["Budget"]
        self.id = self.name = budget.setdefault("BudgetName", self.name)
        amount = budget.get("BudgetLimit", {})
        if "Amount" in amount:
            amount["Amount"] = str(amount["Amount"])
        with suppress(ClientError):  # one of this name is there
            call("budgets", "create_budget", {"AccountId": self.account, "Budget": budget})

    def remove(self) -> None:
        with suppress(ClientError):
            client("budgets").delete_budget(AccountId=self.account, BudgetName=self.name)


class _Scaling(Resource):
    operation: ClassVar[str]

    def create(self) -> None:
        given = dict(self.properties)
        target = given.pop("ScalingTargetId", None)
        if target is not None:  # the id of a target names what it scales
            resource, dimension, namespace = target.split("|")
            given |= {"ResourceId": resource, "ScalableDimension": dimension,
                      "ServiceNamespace": namespace}  # fmt: skip
        made = call("application-autoscaling", self.operation, given)
        self.id = made.get("PolicyARN") or "|".join(
            given[key] for key in ("ResourceId", "ScalableDimension", "ServiceNamespace")
        )
        self.attributes = {"Arn": self.id}


class ScalableTarget(_Scaling):
    """What Application Auto Scaling scales: here the coordinator does."""

    type = "AWS::ApplicationAutoScaling::ScalableTarget"
    operation = "register_scalable_target"


class ScalingPolicy(_Scaling):
    """How it is scaled."""

    type = "AWS::ApplicationAutoScaling::ScalingPolicy"
    operation = "put_scaling_policy"


class Schedule(Resource):
    """A schedule of EventBridge's scheduler: the agent keeps its times."""

    type = "AWS::Scheduler::Schedule"
    named_by = "Name"

    def create(self) -> None:
        self._put("create_schedule")

    def update(self) -> None:
        self._put("update_schedule")

    def remove(self) -> None:
        with suppress(ClientError):
            client("scheduler").delete_schedule(Name=self.name)

    def _put(self, operation: str) -> None:
        given: dict[str, Any] = {**self.properties, "Name": self.name}
        made = call("scheduler", operation, given)
        self.attributes = {"Arn": made["ScheduleArn"]}
