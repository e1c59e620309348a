"""A contract on a chain whose offers become tasks of the deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aws_cdk import Duration, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_

from infra.constructs import rights
from infra.constructs.container import log_group, traces
from infra.constructs.worker_function import (
    ARCHITECTURES,
    RUNTIMES,
    explain_function,
    function_role,
)
from infra.explained import explain
from infra.names import Names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from constructs import Construct

    from infra.settings import Chain, Settings
    from stacks.coordinator import CoordinatorStack
    from stacks.storage import StorageStack

_TIMEOUT: Final = Duration.seconds(120)


class ChainStack(Stack):
    """A function that reads the chain each minute, and submits a task for each offer, once.

    It stands outside the network, as the other functions do: so it reaches the nodes' addresses on
    the internet and the coordinator's API, and nothing reaches it. Where it is stands in the
    coordinator's queue, in one commit with the tasks, so two that run at once do the work of one,
    and what fails is read again a minute later.

    Attributes:
        function: reads and submits.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        settings: Settings,
        chain: Chain,
        storage: StorageStack,
        coordinator: CoordinatorStack,
        code: Path,
        layers: Sequence[tuple[str, Path]],
        **options: Any,
    ) -> None:
        super().__init__(scope, name, **options)
        self._settings, self._chain = settings, chain
        self._storage, self._coordinator = storage, coordinator
        self._names = Names(settings.name)
        self.function = self._make_function(code, layers)
        events.Rule(
            self,
            "Clock",
            rule_name=self._names.chain,
            description=f"Reads the chain on in {settings.name}",
            schedule=events.Schedule.rate(Duration.minutes(chain.every_minutes)),
            targets=[
                targets.LambdaFunction(
                    self.function, retry_attempts=0, max_event_age=Duration.seconds(60)
                )
            ],
        )

    def _make_function(self, code: Path, layers: Sequence[tuple[str, Path]]) -> lambda_.Function:
        settings, storage = self._settings, self._storage
        group = log_group(self, "chain", settings=settings)
        role = function_role(self, group, settings=settings)
        for statement in (
            *rights.find_deployment(settings),
            *rights.find_coordinator(storage.bucket),
            *rights.pass_values(storage.bucket),
            rights.allow(
                ["secretsmanager:GetSecretValue"],
                storage.token.secret_arn,
                # AWS ends the ARN of a secret with six letters of its own
                rights.arn("secretsmanager", f"secret:{self._chain.rpc_secret}-??????"),
            ),
            rights.allow(["execute-api:Invoke"], self._coordinator.edge.any_request),
        ):
            role.add_to_principal_policy(statement)
        function = lambda_.Function(
            self,
            "Listener",
            function_name=self._names.chain,
            description=f"Submits what a contract offers in {settings.name}",
            runtime=RUNTIMES[settings.python],
            architecture=ARCHITECTURES[settings.architecture],
            handler="handler.handler",
            code=lambda_.Code.from_asset(str(code)),
            layers=[
                lambda_.LayerVersion(
                    self,
                    kind.title(),
                    layer_version_name=f"{settings.name}-chain-{kind}",
                    description=f"noob-cloud: {kind}",
                    code=lambda_.Code.from_asset(str(path)),
                    compatible_architectures=[ARCHITECTURES[settings.architecture]],
                    compatible_runtimes=[RUNTIMES[settings.python]],
                )
                for kind, path in layers
            ],
            memory_size=512,
            timeout=_TIMEOUT,
            retry_attempts=0,
            max_event_age=Duration.seconds(60),
            environment={
                "NOOB_CLOUD_DEPLOYMENT": settings.name,
                "NOOB_CLOUD_BLOBS": storage.blobs,
                "NOOB_CLOUD_TOKEN_SECRET": storage.token.secret_arn,
                **self._of_the_chain(),
                **traces(settings, self._names.chain),
            },
            role=role.without_policy_updates(),
            log_group=group,
            tracing=lambda_.Tracing.ACTIVE if settings.observe.traces else None,
        )
        explain_function(self)
        explain(
            function,
            {
                "CKV_AWS_116": "What fails is read again a minute later: there is nothing to keep.",
            },
        )
        return function

    def _of_the_chain(self) -> dict[str, str]:
        chain = self._chain
        told = {
            "NETWORK": chain.network,
            "CHAIN_ID": chain.chain_id,
            "CONTRACT_ADDRESS": chain.contract,
            "RPC_SECRET": chain.rpc_secret,
            "FROM_BLOCK": chain.from_block,
            "FINALITY": chain.finality,
            "CHECK": "bloom" if chain.blooms else "none",
        }
        return {
            f"NOOB_CLOUD_CHAIN_{name}": str(value)
            for name, value in told.items()
            if value is not None
        }
