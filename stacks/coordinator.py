"""The one task that keeps the queue, the network it stands in, and the door to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aws_cdk import CfnOutput, Duration, Stack
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_servicediscovery as discovery
from aws_cdk import aws_ssm as ssm

from infra.constructs import rights
from infra.constructs.archives import Archives
from infra.constructs.container import ARCHITECTURES, Program, add_container, log_group
from infra.constructs.edge import Edge
from infra.constructs.network import Network
from infra.explained import explain
from infra.fleet import pools
from infra.names import PORT, Names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from constructs import Construct

    from infra.settings import Settings
    from stacks.storage import StorageStack

_HEALTHY = f"import urllib.request as r;r.urlopen('http://127.0.0.1:{PORT}/health', timeout=3)"


class CoordinatorStack(Stack):
    """One Fargate task at most, which restores the queue from S3, and an HTTP API before it.

    Attributes:
        network: where workers stand as well.
        cluster: of the coordinator and of the workers on Fargate.
        edge: the HTTP API.
        logs: what the coordinator says.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        settings: Settings,
        storage: StorageStack,
        archives: Mapping[str, Path],
        **options: Any,
    ) -> None:
        super().__init__(scope, name, **options)
        self._settings, self._storage = settings, storage
        self.names = Names(settings.name)
        self.network = Network(self, "Network", settings=settings)
        self.cluster = self._make_cluster()
        self.logs = log_group(self, "coordinator", settings=settings)
        service = self._make_service(self._make_task(archives))
        found = service.enable_cloud_map(
            name="coordinator",
            dns_record_type=discovery.DnsRecordType.SRV,  # API Gateway asks for the port as well
            dns_ttl=Duration.seconds(10),
            container_port=PORT,
            failure_threshold=1,
        )
        self.edge = Edge(self, "Edge", settings=settings, network=self.network, service=found)
        ssm.StringParameter(
            self,
            "ApiUrl",
            parameter_name=self.names.parameter("api-url"),
            string_value=self.edge.url,
        )
        self._make_policy()
        CfnOutput(self, "Url", value=self.edge.url, description="Where the coordinator answers")

    def _make_cluster(self) -> ecs.Cluster:
        insights = self._settings.observe.container_insights
        cluster = ecs.Cluster(
            self,
            "Cluster",
            cluster_name=self.names.cluster,
            vpc=self.network.vpc,
            enable_fargate_capacity_providers=True,
            container_insights_v2=(
                ecs.ContainerInsights.ENABLED if insights else ecs.ContainerInsights.DISABLED
            ),
            default_cloud_map_namespace=ecs.CloudMapNamespaceOptions(
                name=f"{self._settings.name}.internal"
            ),
        )
        explain(
            cluster,
            {
                "AwsSolutions-ECS4": "The coordinator counts its workers itself; CloudWatch's own"
                " metrics cost: observe.container_insights = true has them.",
                "CKV_AWS_65": "See AwsSolutions-ECS4.",
            },
        )
        return cluster

    def _make_task(self, archives: Mapping[str, Path]) -> ecs.FargateTaskDefinition:
        size = self._settings.coordinator
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            family=self.names.service("coordinator"),
            cpu=int(size.vcpu * 1024),
            memory_limit_mib=size.memory,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ARCHITECTURES[self._settings.architecture],
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
        )
        program = Program(
            "main",
            archives=Archives(self, "Archives", paths=archives),
            token=self._storage.token,
            environment={
                "NOOB_CLOUD_HOST": "0.0.0.0",  # noqa: S104 - its security group lets in whom it should
                "NOOB_CLOUD_PORT": str(PORT),
                "NOOB_CLOUD_DB_PATH": "/tmp/noob-cloud-queue/queue.db",  # noqa: S108 - see NOBODY
                "NOOB_CLOUD_REPLICA": self._storage.replica,
                "NOOB_CLOUD_ACK": size.ack,
                "NOOB_CLOUD_POOLS": json.dumps(pools(self._settings)),
                "NOOB_CLOUD_EMF": "1",
                **size.environment,
            },
            image=size.image,
        )
        add_container(
            task,
            program,
            settings=self._settings,
            group=self.logs,
            port_mappings=[ecs.PortMapping(container_port=PORT)],
            health_check=ecs.HealthCheck(
                command=["CMD", "python", "-c", _HEALTHY],
                interval=Duration.seconds(10),
                timeout=Duration.seconds(5),
                retries=3,
                start_period=Duration.seconds(300),  # a large queue takes a while to restore
            ),
        )
        for statement in (
            *rights.keep_replica(self._storage.bucket),
            *rights.start_workers(self._settings),
        ):
            task.add_to_task_role_policy(statement)
        _explain(task)
        return task

    def _make_service(self, task: ecs.FargateTaskDefinition) -> ecs.FargateService:
        return ecs.FargateService(
            self,
            "Service",
            service_name=self.names.service("coordinator"),
            cluster=self.cluster,
            task_definition=task,
            desired_count=1,
            min_healthy_percent=0,  # one coordinator writes: the old one goes, then a new one comes
            max_healthy_percent=100,
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            assign_public_ip=self.network.public,
            vpc_subnets=self.network.subnets,
            security_groups=[self.network.coordinator],
            enable_ecs_managed_tags=True,
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
        )

    def _make_policy(self) -> None:
        """Make the policy for who submits work, to be attached to people and programs."""
        names, bucket = self.names, self._storage.bucket
        workers = [
            rights.arn("lambda", f"function:{names.function(pool.name, size)}")
            for pool in self._settings.lambda_pools
            for size in pool.sizes
        ]
        policy = iam.ManagedPolicy(
            self,
            "User",
            managed_policy_name=f"{self._settings.name}-user-{self.region}",
            description=f"Submit work to the noob-cloud deployment {self._settings.name}",
            statements=[
                *rights.find_deployment(self._settings),
                rights.allow(["secretsmanager:GetSecretValue"], self._storage.token.secret_arn),
                rights.allow(["execute-api:Invoke"], self.edge.any_request),
                *rights.pass_values(bucket),
                rights.allow(["s3:PutObject"], bucket.arn_for_objects("inbox/*")),
                rights.allow(["s3:GetObject"], bucket.arn_for_objects("outbox/*")),
                rights.allow(["sqs:SendMessage"], rights.arn("sqs", names.events)),
                *self._call_functions(workers),
            ],
        )
        _explain(policy)

    @staticmethod
    def _call_functions(workers: list[str]) -> list[iam.PolicyStatement]:
        """Allow to call the workers by their URL, which takes both rights, and no other way."""
        if not workers:
            return []
        by_url = {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}
        signed = {"StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}}
        qualified = [f"{worker}:live" for worker in workers]
        return [
            rights.allow(["lambda:InvokeFunctionUrl"], *qualified, **signed),
            rights.allow(["lambda:InvokeFunction"], *qualified, **by_url),
        ]


def _explain(construct: Construct) -> None:
    explain(
        construct,
        {
            "AwsSolutions-IAM5": "Every object below one prefix, every request to one API, every"
            " task of one cluster: AWS has no finer names for them. X-Ray has no resources.",
        },
    )
