"""A pool of workers on instances with GPUs, which are started from zero and stopped again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aws_cdk import Tags
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.constructs import rights
from infra.constructs.container import add_container, log_group
from infra.constructs.worker_service import grant_work, worker_program
from infra.explained import explain
from infra.names import Names

if TYPE_CHECKING:
    from infra.constructs.archives import Archives
    from infra.constructs.network import Network
    from infra.pools import Ec2Pool
    from infra.settings import Settings
    from noob_cloud.serverless.package import Packed
    from stacks.storage import StorageStack

_AMI: Final = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
"""Parameter of AWS that names its newest image with GPU drivers; read when an instance is launched.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/retrieve-ecs-optimized_AMI.html"""
_WARM_UP_SECONDS: Final = 120


class GpuWorkers(Construct):
    """Workers in containers that see GPUs.

    ECS counts the tasks that find no room and sets the size of the group: none for no task. An
    instance is not taken away while a task runs on it.

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
        pool: Ec2Pool,
        storage: StorageStack,
        network: Network,
        archives: Archives,
        code: Packed | None,
    ) -> None:
        super().__init__(scope, name)
        self._settings, self._pool, self._network = settings, pool, network
        self._cluster_name = Names(settings.name).gpu_cluster(pool.name)
        cluster = ecs.CfnCluster(
            self,
            "Cluster",
            cluster_name=self._cluster_name,
            cluster_settings=[
                ecs.CfnCluster.ClusterSettingsProperty(
                    name="containerInsights",
                    value="enabled" if settings.observe.container_insights else "disabled",
                )
            ],
        )
        provider = self._make_provider()
        association = ecs.CfnClusterCapacityProviderAssociations(
            self,
            "Providers",
            cluster=cluster.ref,
            capacity_providers=[provider.ref],
            default_capacity_provider_strategy=[],
        )
        task = self._make_task(storage, archives, code)
        self.role: iam.IRole = task.task_role
        self.service = ecs.Ec2Service(
            self,
            "Service",
            service_name=Names(settings.name).service(pool.name),
            cluster=ecs.Cluster.from_cluster_attributes(
                self,
                "Ours",
                cluster_name=cluster.ref,
                vpc=network.vpc,
                security_groups=[],
                has_ec2_capacity=True,
            ),
            task_definition=task,
            desired_count=pool.min_workers,
            min_healthy_percent=0,
            max_healthy_percent=100,
            availability_zone_rebalancing=ecs.AvailabilityZoneRebalancing.DISABLED,  # it stops work
            capacity_provider_strategies=[
                ecs.CapacityProviderStrategy(capacity_provider=provider.ref, weight=1)
            ],
            placement_strategies=[
                ecs.PlacementStrategy.packed_by(ecs.BinPackResource.MEMORY),
            ],
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            enable_ecs_managed_tags=True,
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
        )
        self.service.node.add_dependency(association)
        explain(
            cluster,
            {
                "AwsSolutions-ECS4": "The coordinator counts its workers itself; CloudWatch's own"
                " metrics cost: observe.container_insights = true has them.",
                "CKV_AWS_65": "See AwsSolutions-ECS4.",
            },
        )

    # ---- machines

    def _make_provider(self) -> ecs.CfnCapacityProvider:
        group = self._make_group()
        scaling = ecs.CfnCapacityProvider.ManagedScalingProperty(
            status="ENABLED",
            target_capacity=100,
            minimum_scaling_step_size=1,
            maximum_scaling_step_size=self._pool.max_workers,
            instance_warmup_period=_WARM_UP_SECONDS,
        )
        return ecs.CfnCapacityProvider(
            self,
            "Provider",
            name=f"{self._settings.name}-{self._pool.name}",
            auto_scaling_group_provider=ecs.CfnCapacityProvider.AutoScalingGroupProviderProperty(
                auto_scaling_group_arn=group.auto_scaling_group_name,
                managed_scaling=scaling,
                managed_termination_protection="ENABLED",
                managed_draining="ENABLED",
            ),
        )

    def _make_group(self) -> autoscaling.AutoScalingGroup:
        group = autoscaling.AutoScalingGroup(
            self,
            "Group",
            auto_scaling_group_name=f"{self._settings.name}-{self._pool.name}",
            vpc=self._network.vpc,
            vpc_subnets=self._network.subnets,
            launch_template=self._make_template(),
            min_capacity=0,
            max_capacity=self._pool.max_workers,
            new_instances_protected_from_scale_in=True,
        )
        Tags.of(group).add("AmazonECSManaged", "true")  # ECS sets it; an update must not remove it
        explain(
            group,
            {
                "AwsSolutions-AS3": "Instances come and go with the work; what matters of it has"
                " its alarms in the stack `observe`.",
            },
        )
        return group

    def _make_template(self) -> ec2.LaunchTemplate:
        pool = self._pool
        template = ec2.LaunchTemplate(
            self,
            "Template",
            launch_template_name=f"{self._settings.name}-{pool.name}",
            machine_image=ec2.MachineImage.resolve_ssm_parameter_at_launch(
                _AMI, user_data=self._user_data()
            ),
            instance_type=ec2.InstanceType(pool.instance),
            role=self._make_role(),
            security_group=self._network.workers,
            associate_public_ip_address=self._network.public or None,
            require_imdsv2=True,
            http_put_response_hop_limit=1,  # containers do not reach the machine's credentials
            detailed_monitoring=True,
            spot_options=ec2.LaunchTemplateSpotOptions() if pool.spot else None,
            block_devices=[
                ec2.BlockDevice(
                    device_name="/dev/xvda",
                    volume=ec2.BlockDeviceVolume.ebs(
                        pool.disk_gib, encrypted=True, volume_type=ec2.EbsDeviceVolumeType.GP3
                    ),
                )
            ],
        )
        explain(
            template,
            {
                "CKV_AWS_88": "Public addresses instead of a NAT gateway, behind a group that lets"
                ' nobody in; network.mode = "private" has none.',
            },
        )
        return template

    def _user_data(self) -> ec2.UserData:
        settings = {
            "ECS_CLUSTER": self._cluster_name,
            "ECS_ENABLE_GPU_SUPPORT": "true",
            "ECS_ENABLE_TASK_IAM_ROLE": "true",
            "ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE": "true",
            "ECS_ENABLE_SPOT_INSTANCE_DRAINING": "true",
            "ECS_CONTAINER_STOP_TIMEOUT": "120s",
            "ECS_IMAGE_PULL_BEHAVIOR": "prefer-cached",
        }
        data = ec2.UserData.for_linux()
        lines = "\n".join(f"{name}={value}" for name, value in settings.items())
        data.add_commands(f"cat >> /etc/ecs/ecs.config <<'END'\n{lines}\nEND")
        return data

    def _make_role(self) -> iam.Role:
        """Return what an instance may: be one of its cluster, and no other."""
        cluster = self._cluster_name
        role = iam.Role(
            self,
            "Machine",
            assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"),
            description=f"An instance of the noob-cloud deployment {self._settings.name}",
        )
        for statement in (
            rights.allow(
                [
                    "ecs:DeregisterContainerInstance",
                    "ecs:RegisterContainerInstance",
                    "ecs:SubmitAttachmentStateChanges",
                    "ecs:SubmitContainerStateChange",
                    "ecs:SubmitTaskStateChange",
                ],
                rights.arn("ecs", f"cluster/{cluster}"),
            ),
            rights.allow(
                [
                    "ecs:Poll",
                    "ecs:StartTelemetrySession",
                    "ecs:UpdateContainerInstancesState",
                ],
                rights.arn("ecs", f"container-instance/{cluster}/*"),
            ),
            rights.allow(["ecs:DiscoverPollEndpoint"], "*"),
        ):
            role.add_to_policy(statement)
        explain(
            role,
            {
                "AwsSolutions-IAM5": "Every instance of one cluster; ecs:DiscoverPollEndpoint has"
                " no resources.",
            },
        )
        return role

    # ---- what runs on them

    def _make_task(
        self, storage: StorageStack, archives: Archives, code: Packed | None
    ) -> ecs.Ec2TaskDefinition:
        pool, settings = self._pool, self._settings
        task = ecs.Ec2TaskDefinition(
            self,
            "Task",
            family=Names(settings.name).service(pool.name),
            network_mode=ecs.NetworkMode.BRIDGE,  # the machine's address: in a public subnet a
            # task of its own network would have no way out
        )
        program = worker_program(pool, storage=storage, archives=archives, code=code)
        container = add_container(
            task,
            program,
            settings=settings,
            group=log_group(self, pool.name, settings=settings),
            cpu=int(pool.vcpu * 1024),
            memory_limit_mib=pool.memory,
            gpu_count=pool.gpus,
        )
        container.add_environment("NVIDIA_DRIVER_CAPABILITIES", "compute,utility")
        grant_work(task, cluster=self._cluster_name, storage=storage)
        return task
