"""The one task that keeps the queue, its network, and the door to it."""

from __future__ import annotations

import json

from aws_cdk.assertions import Match

from noob_cloud.coordinator.pools import PoolsSettings


def test_coordinator_is_never_two(templates):
    """The old coordinator goes before the new one comes, and a bad one goes back."""
    templates["coordinator"].has_resource_properties(
        "AWS::ECS::Service",
        {
            "DesiredCount": 1,
            "LaunchType": "FARGATE",
            "DeploymentConfiguration": {
                "MinimumHealthyPercent": 0,
                "MaximumPercent": 100,
                "DeploymentCircuitBreaker": {"Enable": True, "Rollback": True},
            },
        },
    )


def test_task_is_arm64_and_nobody(templates):
    """It runs on ARM64, as nobody, from an image that is pinned by its digest."""
    templates["coordinator"].has_resource_properties(
        "AWS::ECS::TaskDefinition",
        {
            "Cpu": "1024",
            "Memory": "2048",
            "RuntimePlatform": {"CpuArchitecture": "ARM64", "OperatingSystemFamily": "LINUX"},
            "ContainerDefinitions": [
                Match.object_like(
                    {
                        "Image": Match.string_like_regexp(
                            r"^public\.ecr\.aws/docker/library/python@sha256:[0-9a-f]{64}$"
                        ),
                        "User": "65534:65534",
                        "LinuxParameters": Match.object_like({"InitProcessEnabled": True}),
                    }
                )
            ],
        },
    )


def test_task_has_time_to_hand_over(templates):
    """It has two minutes after SIGTERM, and five to restore before it must be healthy."""
    templates["coordinator"].has_resource_properties(
        "AWS::ECS::TaskDefinition",
        {
            "ContainerDefinitions": [
                Match.object_like(
                    {
                        "StopTimeout": 120,
                        "HealthCheck": {
                            "Command": Match.array_with(["CMD", "python", "-c"]),
                            "Interval": 10,
                            "Retries": 3,
                            "StartPeriod": 300,
                            "Timeout": 5,
                        },
                        "LogConfiguration": {
                            "LogDriver": "awslogs",
                            "Options": Match.object_like({"awslogs-stream-prefix": "noob-cloud"}),
                        },
                    }
                )
            ]
        },
    )


def test_environment_is_what_the_coordinator_reads(documents):
    """Each NOOB_CLOUD_* variable is a setting of the coordinator, or of the container's start."""
    from noob_cloud.coordinator import CoordinatorSettings  # noqa: PLC0415 - loads pydantic

    container = _container(documents)
    names = {each["Name"] for each in container["Environment"]} | {"NOOB_CLOUD_TOKEN"}
    known = {f"NOOB_CLOUD_{name.upper()}" for name in CoordinatorSettings.model_fields}
    known |= {"NOOB_CLOUD_ARCHIVES", "NOOB_CLOUD_DEPLOYMENT", "NOOB_CLOUD_TRACES"}

    ours = {name for name in names if name.startswith("NOOB_CLOUD_")}
    assert ours - known == set()
    assert [each["Name"] for each in container["Secrets"]] == ["NOOB_CLOUD_TOKEN"]


def test_pools_are_what_the_coordinator_takes(documents):
    """NOOB_CLOUD_POOLS names the functions and services of the other stacks."""
    environment = {each["Name"]: each["Value"] for each in _container(documents)["Environment"]}
    pools = PoolsSettings.model_validate(json.loads(environment["NOOB_CLOUD_POOLS"]))

    by_name = {pool.name: pool for pool in pools.pools}
    assert by_name["lambda"].sizes == {1024: "test-lambda-1024:live", 4096: "test-lambda-4096:live"}
    assert (by_name["fargate"].cluster, by_name["fargate"].service) == ("test", "test-fargate")
    assert (by_name["gpu"].cluster, by_name["gpu"].service) == ("test-gpu", "test-gpu")
    assert by_name["gpu"].tags == ("gpu",)
    assert not by_name["gpu"].accept_untagged
    assert pools.budget.per_day == 20.0

    functions = _names(documents["workers"], "AWS::Lambda::Function", "FunctionName")
    services = _names(documents["workers"], "AWS::ECS::Service", "ServiceName")
    services |= _names(documents["gpu"], "AWS::ECS::Service", "ServiceName")
    assert {f"{name}:live" for name in functions} == set(by_name["lambda"].sizes.values())
    assert {"test-fargate", "test-gpu"} == services


def test_everybody_signs(templates):
    """The API asks every request for IAM's signature, and needs no load balancer."""
    template = templates["coordinator"]
    routes = "AWS::ApiGatewayV2::Route"
    template.all_resources_properties(routes, {"AuthorizationType": "AWS_IAM"})
    template.resource_count_is(routes, 1)
    template.has_resource_properties(
        "AWS::ApiGatewayV2::Integration",
        {
            "ConnectionType": "VPC_LINK",
            "IntegrationType": "HTTP_PROXY",
            "IntegrationMethod": "ANY",
            "PayloadFormatVersion": "1.0",
        },
    )
    template.resource_count_is("AWS::ElasticLoadBalancingV2::LoadBalancer", 0)


def test_api_finds_the_task_by_cloud_map(templates):
    """The service is registered with its port, which an HTTP API asks for."""
    template = templates["coordinator"]
    template.has_resource_properties(
        "AWS::ServiceDiscovery::Service",
        {"DnsConfig": Match.object_like({"DnsRecords": [{"TTL": 10, "Type": "SRV"}]})},
    )
    template.has_resource_properties(
        "AWS::ECS::Service",
        {"ServiceRegistries": [Match.object_like({"ContainerPort": 8080})]},
    )


def test_nobody_is_let_in(documents):
    """The coordinator lets in the API and the workers, on one port; the others nobody."""
    found = [
        resource["Properties"]
        for document in documents.values()
        for resource in document["Resources"].values()
        if resource["Type"] == "AWS::EC2::SecurityGroupIngress"
    ]
    assert {(rule["FromPort"], rule["ToPort"]) for rule in found} == {(8080, 8080)}
    assert len(found) == 2
    assert all("SourceSecurityGroupId" in rule for rule in found)
    groups = _of(documents["coordinator"], "AWS::EC2::SecurityGroup")
    assert all("SecurityGroupIngress" not in group["Properties"] for group in groups)


def test_there_is_no_nat(templates):
    """Public addresses instead of a NAT gateway; S3 is reached without either."""
    template = templates["coordinator"]
    template.resource_count_is("AWS::EC2::NatGateway", 0)
    template.resource_count_is("AWS::EC2::VPCEndpoint", 1)
    template.has_resource_properties(
        "AWS::ECS::Service",
        {
            "NetworkConfiguration": {
                "AwsvpcConfiguration": Match.object_like({"AssignPublicIp": "ENABLED"})
            }
        },
    )


def test_a_private_network_has_the_endpoints_it_needs(private):
    """Without a way to the internet each service of AWS that is asked has its endpoint."""
    document = private["coordinator"]
    kinds = {resource["Type"] for resource in document["Resources"].values()}
    assert not kinds & {"AWS::EC2::InternetGateway", "AWS::EC2::NatGateway"}
    text = json.dumps(_of(document, "AWS::EC2::VPCEndpoint"))
    services = (
        "ecr.api",
        "ecr.dkr",
        "logs",
        "secretsmanager",
        "ecs",
        "ecs-agent",
        "lambda",
        "xray",
        ".s3",
    )
    assert [name for name in services if name not in text] == []
    for part in ("coordinator", "workers"):
        (service,) = _of(private[part], "AWS::ECS::Service")
        network = service["Properties"]["NetworkConfiguration"]["AwsvpcConfiguration"]
        assert network["AssignPublicIp"] == "DISABLED"
    assert _of(document, "AWS::EC2::FlowLog")


def test_private_images_may_be_pulled(private):
    """A task that starts from a repository of one's own may read that one, and no other."""
    text = json.dumps(_of(private["workers"], "AWS::IAM::Policy"))
    assert "ecr:BatchGetImage" in text
    assert ":ecr:eu-central-1:123456789012:repository/python" in text


def _container(documents):
    (task,) = _of(documents["coordinator"], "AWS::ECS::TaskDefinition")
    (container,) = task["Properties"]["ContainerDefinitions"]
    return container


def _of(document, kind):
    return [each for each in document["Resources"].values() if each["Type"] == kind]


def _names(document, kind, name):
    return {resource["Properties"][name] for resource in _of(document, kind)}
