"""The door to the coordinator: an HTTP API that asks for IAM's signature, without a balancer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aws_cdk import Aws
from aws_cdk import aws_apigatewayv2 as api
from aws_cdk import aws_apigatewayv2_authorizers as authorizers
from aws_cdk import aws_apigatewayv2_integrations as integrations
from constructs import Construct

from infra.constructs import rights
from infra.constructs.container import log_group

if TYPE_CHECKING:
    from aws_cdk import aws_servicediscovery as discovery

    from infra.constructs.network import Network
    from infra.settings import Settings

_LOGGED = {
    "requestId": "$context.requestId",
    "ip": "$context.identity.sourceIp",
    "user": "$context.identity.userArn",
    "time": "$context.requestTimeEpoch",
    "method": "$context.httpMethod",
    "path": "$context.path",
    "status": "$context.status",
    "bytes": "$context.responseLength",
    "milliseconds": "$context.responseLatency",
    "error": "$context.integrationErrorMessage",
}


class Edge(Construct):
    """An HTTP API that reaches a Cloud Map service through a VPC link.

    Attributes:
        url: where it answers.
        any_request: ARN of every request to it.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        settings: Settings,
        network: Network,
        service: discovery.IService,
    ) -> None:
        super().__init__(scope, name)
        link = api.VpcLink(
            self,
            "Link",
            vpc=network.vpc,
            subnets=network.subnets,
            security_groups=[network.gate],
            vpc_link_name=settings.name,
        )
        made = api.HttpApi(
            self,
            "Api",
            api_name=settings.name,
            description="The coordinator, for who may sign",
            create_default_stage=False,
            default_authorizer=authorizers.HttpIamAuthorizer(),
            default_integration=integrations.HttpServiceDiscoveryIntegration(
                "Coordinator", service, vpc_link=link
            ),
        )
        group = log_group(self, "api", settings=settings)
        stage = api.HttpStage(self, "Stage", http_api=made, stage_name="$default", auto_deploy=True)
        of_stage = stage.node.default_child
        if not isinstance(of_stage, api.CfnStage):  # the CDK's own promise
            raise TypeError(f"A stage of {type(of_stage)}")
        of_stage.access_log_settings = api.CfnStage.AccessLogSettingsProperty(
            destination_arn=group.log_group_arn, format=json.dumps(_LOGGED)
        )
        self.api = made
        self.url = f"https://{made.api_id}.execute-api.{Aws.REGION}.{Aws.URL_SUFFIX}"
        self.any_request = rights.arn("execute-api", f"{made.api_id}/$default/*")
