"""Who does the work that needs GPUs: instances that are started for it and stopped after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_cdk import Stack
from aws_cdk import aws_iam as iam

from infra.constructs.archives import Archives
from infra.constructs.gpu_workers import GpuWorkers

if TYPE_CHECKING:
    from constructs import Construct

    from infra.assets import Assets
    from infra.settings import Settings
    from stacks.coordinator import CoordinatorStack
    from stacks.storage import StorageStack


class GpuStack(Stack):
    """The pool `gpu`, or what the settings call it; there may be several.

    Attributes:
        pools: each pool, by its name.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        settings: Settings,
        storage: StorageStack,
        coordinator: CoordinatorStack,
        assets: Assets,
        **options: Any,
    ) -> None:
        super().__init__(scope, name, **options)
        self.pools: dict[str, GpuWorkers] = {}
        policies = [
            iam.ManagedPolicy.from_managed_policy_arn(self, f"Policy{number}", arn)
            for number, arn in enumerate(settings.worker_policies)
        ]
        archives: dict[str, Archives] = {}
        for pool in settings.ec2_pools:
            architecture = pool.architecture
            if architecture not in archives:
                archives[architecture] = Archives(
                    self,
                    f"Archives{architecture.title().replace('_', '')}",
                    paths=assets.worker_archives(architecture),
                )
            workers = GpuWorkers(
                self,
                pool.name.title(),
                settings=settings,
                pool=pool,
                storage=storage,
                network=coordinator.network,
                archives=archives[architecture],
                code=assets.code(architecture),
            )
            for policy in policies:
                workers.role.add_managed_policy(policy)
            self.pools[pool.name] = workers
