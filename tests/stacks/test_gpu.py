"""Workers with GPUs, from zero and back."""

from __future__ import annotations

from aws_cdk.assertions import Match


def test_group_scales_from_zero_and_back(templates):
    """There is no instance for no task, and one with a task on it is not taken away."""
    template = templates["gpu"]
    template.has_resource_properties(
        "AWS::AutoScaling::AutoScalingGroup",
        {
            "MinSize": "0",
            "MaxSize": "4",
            "DesiredCapacity": Match.absent(),
            "NewInstancesProtectedFromScaleIn": True,
        },
    )
    template.has_resource_properties(
        "AWS::ECS::CapacityProvider",
        {
            "AutoScalingGroupProvider": Match.object_like(
                {
                    "ManagedScaling": Match.object_like(
                        {"Status": "ENABLED", "TargetCapacity": 100, "MinimumScalingStepSize": 1}
                    ),
                    "ManagedTerminationProtection": "ENABLED",
                }
            )
        },
    )
    template.has_resource_properties("AWS::ECS::Service", {"DesiredCount": 0})


def test_ami_is_read_at_launch(templates):
    """The image is AWS's newest with GPU drivers when an instance starts: nothing is looked up."""
    templates["gpu"].has_resource_properties(
        "AWS::EC2::LaunchTemplate",
        {
            "LaunchTemplateData": Match.object_like(
                {
                    "ImageId": "resolve:ssm:/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu"
                    "/recommended/image_id",
                    "InstanceType": "g4dn.xlarge",
                }
            )
        },
    )


def test_instances_are_closed(templates):
    """Disks are encrypted, and containers do not reach the instance's credentials."""
    templates["gpu"].has_resource_properties(
        "AWS::EC2::LaunchTemplate",
        {
            "LaunchTemplateData": Match.object_like(
                {
                    "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
                    "BlockDeviceMappings": [
                        Match.object_like({"Ebs": Match.object_like({"Encrypted": True})})
                    ],
                }
            )
        },
    )


def test_task_has_its_gpu(templates):
    """The task asks for the GPU, so that ECS gives it to nobody else."""
    templates["gpu"].has_resource_properties(
        "AWS::ECS::TaskDefinition",
        {
            "RequiresCompatibilities": ["EC2"],
            "ContainerDefinitions": [
                Match.object_like({"ResourceRequirements": [{"Type": "GPU", "Value": "1"}]})
            ],
        },
    )


def test_without_a_pool_there_is_no_stack(private):
    """Who has no GPU pool has no GPU stack."""
    assert "gpu" not in private
