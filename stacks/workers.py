"""Who does the work without machines of one's own: Lambda functions and containers on Fargate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_cdk import Annotations, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_ssm as ssm

from infra.constructs import rights
from infra.constructs.archives import Archives
from infra.constructs.fargate_workers import FargateWorkers
from infra.constructs.worker_function import ARCHITECTURES, RUNTIMES, WorkerFunction
from infra.fleet import place
from infra.names import Names

if TYPE_CHECKING:
    from constructs import Construct

    from infra.assets import Assets
    from infra.pools import Architecture, FargatePool, LambdaPool
    from infra.settings import Settings
    from stacks.coordinator import CoordinatorStack
    from stacks.storage import StorageStack


class WorkersStack(Stack):
    """The pools `lambda` and `fargate`, or what the settings call them.

    Attributes:
        functions: each size of each pool, by the place it is.
        services: each pool on Fargate, by its name.
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
        self._settings, self._storage = settings, storage
        self._coordinator, self._assets = coordinator, assets
        self._names = Names(settings.name)
        self._policies = [
            iam.ManagedPolicy.from_managed_policy_arn(self, f"Policy{number}", arn)
            for number, arn in enumerate(settings.worker_policies)
        ]
        self._layers: dict[str, list[lambda_.LayerVersion]] = {}
        self._archives: dict[str, Archives] = {}
        self.functions: dict[str, WorkerFunction] = {}
        self.services: dict[str, FargateWorkers] = {}
        for pool in settings.lambda_pools:
            for size in pool.sizes:
                self._add_function(pool, size)
        for each in settings.fargate_pools:
            self._add_service(each)
        ssm.StringParameter(
            self,
            "Code",
            parameter_name=self._names.parameter("code"),
            string_value=assets.code_cid or "-",
        )

    def _add_function(self, pool: LambdaPool, size: int) -> None:
        architecture = pool.architecture or self._settings.architecture
        worker = WorkerFunction(
            self,
            f"{pool.name}-{size}".title(),
            settings=self._settings,
            pool=pool,
            size=size,
            function_name=self._names.function(pool.name, size),
            code=self._assets.worker(architecture),
            layers=self._layers_for(architecture),
            environment={
                "NOOB_CLOUD_DEPLOYMENT": self._settings.name,
                "NOOB_CLOUD_BLOBS": self._storage.blobs,
                "NOOB_CLOUD_TOKEN_SECRET": self._storage.token.secret_arn,
                "NOOB_CLOUD_TAGS": place(pool, size),
                **self._assets.code_environment,
            },
        )
        bucket = self._storage.bucket
        for statement in (
            *rights.find_deployment(self._settings),
            *rights.find_coordinator(bucket),
            *rights.pass_values(bucket),
            *rights.read_inputs(bucket),
            rights.allow(["secretsmanager:GetSecretValue"], self._storage.token.secret_arn),
            rights.allow(["execute-api:Invoke"], self._coordinator.edge.any_request),
        ):
            worker.role.add_to_principal_policy(statement)
        self._attach(worker.role)
        self.functions[f"{pool.name}-{size}"] = worker

    def _add_service(self, pool: FargatePool) -> None:
        architecture = pool.architecture or self._settings.architecture
        workers = FargateWorkers(
            self,
            pool.name.title(),
            settings=self._settings,
            pool=pool,
            storage=self._storage,
            cluster=self._coordinator.cluster,
            network=self._coordinator.network,
            archives=self._archives_for(architecture),
            code=self._assets.code(architecture),
        )
        self._attach(workers.role)
        self.services[pool.name] = workers

    def _attach(self, role: iam.IRole) -> None:
        for policy in self._policies:
            role.add_managed_policy(policy)

    def _layers_for(self, architecture: Architecture) -> list[lambda_.LayerVersion]:
        if architecture not in self._layers:
            found = self._assets.layers(architecture)
            if "native" not in found:
                Annotations.of(self).add_warning_v2(
                    "noob-cloud:no-native-layer",
                    f"There is no native layer for {architecture}: workers run the same in Python,"
                    " slower. layers/build.py says what it takes to build it.",
                )
            self._layers[architecture] = [
                lambda_.LayerVersion(
                    self,
                    f"{kind.title()}{architecture.title().replace('_', '')}",
                    layer_version_name=f"{self._settings.name}-{kind}-{architecture}",
                    description=f"noob-cloud: {kind}",
                    code=lambda_.Code.from_asset(str(path)),
                    compatible_architectures=[ARCHITECTURES[architecture]],
                    compatible_runtimes=[RUNTIMES[self._settings.python]],
                )
                for kind, path in found.items()
            ]
        return self._layers[architecture]

    def _archives_for(self, architecture: Architecture) -> Archives:
        if architecture not in self._archives:
            self._archives[architecture] = Archives(
                self,
                f"Archives{architecture.title().replace('_', '')}",
                paths=self._assets.worker_archives(architecture),
            )
        return self._archives[architecture]
