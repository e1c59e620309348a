"""A pool of workers on Fargate, on spot capacity with a base on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.constructs.container import ARCHITECTURES, add_container, log_group
from infra.constructs.worker_service import grant_work, worker_program
from infra.names import Names

if TYPE_CHECKING:
    from infra.constructs.archives import Archives
    from infra.constructs.network import Network
    from infra.pools import FargatePool
    from infra.settings import Settings
    from noob_cloud.serverless.package import Packed
    from stacks.storage import StorageStack


class FargateWorkers(Construct):
    """Workers in containers.

    Attributes:
        service: its desired count is the coordinator's from the first deployment on.
        role: what the workers may.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        settings: Settings,
        pool: FargatePool,
        storage: StorageStack,
        cluster: ecs.ICluster,
        network: Network,
        archives: Archives,
        code: Packed | None,
    ) -> None:
        super().__init__(scope, name)
        names = Names(settings.name)
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            family=names.service(pool.name),
            cpu=int(pool.vcpu * 1024),
            memory_limit_mib=pool.memory,
            ephemeral_storage_gib=pool.storage_gib if pool.storage_gib > 20 else None,  # noqa: PLR2004 - what it has anyway
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ARCHITECTURES[pool.architecture or settings.architecture],
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
        )
        program = worker_program(pool, storage=storage, archives=archives, code=code)
        group = log_group(self, pool.name, settings=settings)
        add_container(task, program, settings=settings, group=group)
        grant_work(task, cluster=names.cluster, storage=storage)
        self.role: iam.IRole = task.task_role
        self.service = ecs.FargateService(
            self,
            "Service",
            service_name=names.service(pool.name),
            cluster=cluster,
            task_definition=task,
            desired_count=pool.min_workers,
            min_healthy_percent=0,
            max_healthy_percent=200,
            availability_zone_rebalancing=ecs.AvailabilityZoneRebalancing.DISABLED,  # it stops work
            capacity_provider_strategies=_strategies(pool),
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            assign_public_ip=network.public,
            vpc_subnets=network.subnets,
            security_groups=[network.workers],
            enable_ecs_managed_tags=True,
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
        )


def _strategies(pool: FargatePool) -> list[ecs.CapacityProviderStrategy]:
    base = pool.on_demand_base
    on_demand = ecs.CapacityProviderStrategy(
        capacity_provider="FARGATE", base=base or None, weight=0 if pool.spot else 1
    )
    spot = ecs.CapacityProviderStrategy(capacity_provider="FARGATE_SPOT", weight=1)
    if not pool.spot:
        return [on_demand]
    return [on_demand, spot] if base else [spot]
