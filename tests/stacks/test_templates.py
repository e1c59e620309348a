"""What the templates promise."""

from __future__ import annotations


def test_coordinator_is_never_two(templates):
    """The old coordinator goes before the new one comes."""
    templates["coordinator"].has_resource_properties(
        "AWS::ECS::Service",
        {
            "DesiredCount": 1,
            "DeploymentConfiguration": {"MinimumHealthyPercent": 0, "MaximumPercent": 100},
        },
    )
