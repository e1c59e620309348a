"""AWS::ECS: task definitions and services with all their properties, capacity providers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError
from moto.ecs.models import ecs_backends

from localdev.aws import call, client
from localdev.cloudformation import Resource


class TaskDefinition(Resource):
    """What a task runs; a change is the next revision."""

    type = "AWS::ECS::TaskDefinition"

    def create(self) -> None:
        family = self.properties.get("Family", self.name)
        made = call("ecs", "register_task_definition", {**self.properties, "Family": family})
        self.id = made["taskDefinition"]["taskDefinitionArn"]
        self.attributes = {"TaskDefinitionArn": self.id}

    def remove(self) -> None:
        with suppress(ClientError):
            client("ecs").deregister_task_definition(taskDefinition=self.id)


class Service(Resource):
    """So many tasks of a definition: the agent runs them."""

    type = "AWS::ECS::Service"
    named_by = "ServiceName"

    def create(self) -> None:
        given = {key: value for key, value in self.properties.items()
                 if key != "CapacityProviderStrategy"}  # fmt: skip
        given.setdefault("DesiredCount", 1)
        made = call("ecs", "create_service", {**given, "ServiceName": self.name})
        self.id = made["service"]["serviceArn"]
        self.attributes = {"Name": self.name, "ServiceArn": self.id}
        self._expose()

    def _expose(self) -> None:
        """Keep what moto's service has no place for."""
        cluster = self.properties["Cluster"].split("/")[-1]
        service = ecs_backends[self.account][self.region].services[f"{cluster}:{self.name}"]
        most = self.properties.get("DeploymentConfiguration", {}).get("MaximumPercent", 200)
        service.maximum_percent = int(most)  # type: ignore[attr-defined]

    def update(self) -> None:
        given = {"Cluster": self.properties["Cluster"], "Service": self.name}
        for key in ("TaskDefinition", "DesiredCount"):
            if key in self.properties:
                given[key] = self.properties[key]
        call("ecs", "update_service", given)
        self._expose()

    def remove(self) -> None:
        with suppress(ClientError):
            client("ecs").delete_service(
                cluster=self.properties["Cluster"], service=self.name, force=True
            )


class CapacityProvider(Resource):
    """A group of instances that tasks run on; here tasks run on this machine."""

    type = "AWS::ECS::CapacityProvider"
    named_by = "Name"

    def create(self) -> None:
        call("ecs", "create_capacity_provider", {**self.properties, "Name": self.name})

    def update(self) -> None:
        call("ecs", "update_capacity_provider", {**self.properties, "Name": self.name})

    def remove(self) -> None:
        with suppress(ClientError):
            client("ecs").delete_capacity_provider(capacityProvider=self.name)


class CapacityProviderAssociations(Resource):
    """Which capacity providers a cluster has."""

    type = "AWS::ECS::ClusterCapacityProviderAssociations"

    def create(self) -> None:
        given = self.properties
        told: dict[str, Any] = {
            "cluster": given["Cluster"],
            "capacityProviders": given.get("CapacityProviders", []),
            "defaultCapacityProviderStrategy": given.get("DefaultCapacityProviderStrategy", []),
        }
        call("ecs", "put_cluster_capacity_providers", told)
        self.id = given["Cluster"]
