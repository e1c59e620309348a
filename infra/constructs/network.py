"""Where the containers stand: two zones, and groups that let in nobody but each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aws_cdk import RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.explained import explain
from infra.names import PORT, Names

if TYPE_CHECKING:
    from infra.settings import Settings

_ENDPOINTS: Final = {
    "EcrApi": ec2.InterfaceVpcEndpointAwsService.ECR,
    "EcrImages": ec2.InterfaceVpcEndpointAwsService.ECR_DOCKER,
    "Logs": ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS,
    "Secrets": ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER,
    "Ecs": ec2.InterfaceVpcEndpointAwsService.ECS,
    "EcsAgent": ec2.InterfaceVpcEndpointAwsService.ECS_AGENT,
    "EcsTelemetry": ec2.InterfaceVpcEndpointAwsService.ECS_TELEMETRY,
    "Lambda": ec2.InterfaceVpcEndpointAwsService.LAMBDA_,
    "XRay": ec2.InterfaceVpcEndpointAwsService.XRAY,
}
"""What containers ask of AWS; S3 has an endpoint of its own kind, which costs nothing."""
HTTPS: Final = ec2.Port.tcp(443)


class Network(Construct):
    """A VPC without NAT, and the security groups of those who meet in it.

    Attributes:
        vpc: the network.
        subnets: where containers stand.
        public: whether these have addresses of their own.
        gate: what the HTTP API comes through.
        coordinator: lets the gate and the workers in.
        workers: lets nobody in.
    """

    def __init__(self, scope: Construct, name: str, *, settings: Settings) -> None:
        super().__init__(scope, name)
        self.public = settings.network.mode == "public"
        kind = ec2.SubnetType.PUBLIC if self.public else ec2.SubnetType.PRIVATE_ISOLATED
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(settings.network.cidr),
            max_azs=2,
            nat_gateways=0,
            restrict_default_security_group=False,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="containers",
                    subnet_type=kind,
                    cidr_mask=20,
                    map_public_ip_on_launch=self.public or None,
                )
            ],
            gateway_endpoints={
                "S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3)
            },
        )
        self.subnets = ec2.SubnetSelection(subnet_type=kind)
        self.gate = self._group("Gate", "What the HTTP API comes through")
        self.coordinator = self._group("Coordinator", "The coordinator")
        self.workers = self._group("Workers", "Workers: nobody is let in", everywhere=True)
        port = ec2.Port.tcp(PORT)
        self.coordinator.add_ingress_rule(self.gate, port, "the HTTP API")
        self.coordinator.add_ingress_rule(self.workers, port, "workers inside")
        self.coordinator.add_egress_rule(ec2.Peer.any_ipv4(), HTTPS, "S3 and the APIs of AWS")
        self.gate.add_egress_rule(self.coordinator, port, "the coordinator")
        self._explain()
        if not self.public:
            self._add_endpoints()
        if settings.network.flow_logs:
            self._log_refused(settings)

    def _group(self, name: str, what: str, *, everywhere: bool = False) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(
            self, name, vpc=self.vpc, description=what, allow_all_outbound=everywhere
        )

    def _add_endpoints(self) -> None:
        inside = self._group("Endpoints", "Endpoints of AWS's services")
        inside.add_ingress_rule(ec2.Peer.ipv4(self.vpc.vpc_cidr_block), HTTPS, "from inside")
        for name, service in _ENDPOINTS.items():
            self.vpc.add_interface_endpoint(
                name,
                service=service,
                subnets=self.subnets,
                security_groups=[inside],
                open=False,
            )

    def _log_refused(self, settings: Settings) -> None:
        group = logs.LogGroup(
            self,
            "FlowLogs",
            log_group_name=Names(settings.name).log_group("refused-connections"),
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=RemovalPolicy.DESTROY,
        )
        self.vpc.add_flow_log(
            "Refused",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(group),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )

    def _explain(self) -> None:
        explain(
            self.vpc,
            {
                "AwsSolutions-VPC7": "Flow logs cost by the gigabyte, and nobody is let in here:"
                " network.flow_logs = true logs what was refused.",
            },
        )
