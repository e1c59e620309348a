"""What a user may say in noob-cloud.toml and with -c, and what he is told when it cannot be."""

from __future__ import annotations

import pytest

from infra.archives import ROOT
from infra.fleet import pools
from infra.settings import Settings, SettingsError, read
from noob_cloud.coordinator.pools import PoolsSettings


def test_nothing_need_be_said(tmp_path):
    """A deployment without settings has Lambdas and Fargate, and keeps its data."""
    settings = read({}, folder=tmp_path)

    assert settings.name == "noob-cloud"
    assert [pool.name for pool in settings.pools] == ["lambda", "fargate"]
    assert settings.removal_policy == "retain"


def test_context_goes_before_the_file(tmp_path):
    """-c says it again for one deployment, table by table."""
    (tmp_path / "noob-cloud.toml").write_text(
        'name = "pictures"\n[coordinator]\nvcpu = 2\nmemory = 4096\n'
    )

    settings = read({"name": "test", "coordinator.memory": "8192"}, folder=tmp_path)

    assert (settings.name, settings.coordinator.vcpu) == ("test", 2)
    assert settings.coordinator.memory == 8192


def test_settings_lie_in_the_project(tmp_path):
    """The file of the user's project is found, and what it names is looked for beside it."""
    project = tmp_path / "mine"
    project.mkdir()
    (project / "noob-cloud.toml").write_text('[events]\nmapping = "events.toml"\n')

    settings = read({"project": "mine"}, folder=tmp_path)

    assert settings.project == project
    assert settings.events.mapping == project / "events.toml"


def test_flags_of_the_cdk_are_not_settings(tmp_path):
    """The context has the CDK's own keys as well."""
    assert read({"@aws-cdk/core:checkSecretUsage": True, "aws:cdk:x": 1}, folder=tmp_path)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"nmae": "x"}, "nmae: Extra inputs are not permitted"),
        ({"name": "Test"}, "name: String should match pattern"),
        ({"settings": "nowhere.toml"}, "There is no settings file"),
        ({"pools": "[{"}, "is no JSON"),
        ({"name.first": "x", "name": "y"}, "name"),
        ({"removal_policy": "keep"}, "removal_policy: Input should be 'retain' or 'destroy'"),
        ({"coordinator.vcpu": "3"}, "Fargate has tasks of 0.25, 0.5, 1, 2, 4, 8, 16 vCPU"),
        ({"coordinator.memory": "64000"}, "Fargate has 1 vCPU with 2048 to 8192 MiB"),
        ({"network.mode": "private"}, "copy the python image into a repository of your own"),
        ({"pools": '[{"kind": "lambda"}, {"kind": "lambda"}]'}, "Two pools have one name: lambda"),
        ({"pools": '[{"kind": "lambda", "name": "events"}]'}, "cannot be called 'events'"),
        ({"pools": '[{"kind": "lambda", "slots": 2}]'}, "one task at a time"),
        ({"pools": '[{"kind": "lambda", "sizes": [64]}]'}, "greater than or equal to 128"),
        ({"pools": '[{"kind": "lambda", "timeout_seconds": 901}]'}, "less than or equal to 900"),
        ({"pools": '[{"kind": "fargate", "min_workers": 11}]'}, "is above max_workers=10"),
        ({"name": "ecs-one", "pools": '[{"kind": "ec2"}]'}, "aws, ecs and fargate are its own"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, told, message):
    """A wrong setting is named, with what it may be."""
    with pytest.raises(SettingsError) as caught:
        read(told, folder=tmp_path)
    assert message in str(caught.value)


def test_a_gpu_pool_on_fargate_is_refused(tmp_path):
    """AWS has no GPUs for Fargate: that is said before anything is deployed."""
    pools = '[{"kind": "fargate", "name": "gpu", "gpus": 1}]'

    with pytest.raises(
        SettingsError, match="Fargate has no GPUs: AWS offers none to Fargate tasks"
    ):
        read({"pools": pools}, folder=tmp_path)


def test_a_file_that_is_none_is_said(tmp_path):
    """A file that is no TOML is named."""
    (tmp_path / "noob-cloud.toml").write_text("name = ")

    with pytest.raises(SettingsError, match=r"noob-cloud\.toml cannot be read"):
        read({}, folder=tmp_path)


def test_an_instance_without_a_price_is_refused(tmp_path):
    """What the coordinator would refuse when it starts is refused before anything is deployed."""
    settings = read(
        {"pools": '[{"kind": "lambda"}, {"kind": "ec2", "instance": "p4d.24xlarge"}]'},
        folder=tmp_path,
    )

    with pytest.raises(ValueError, match=r"pools: .*p4d\.24xlarge"):
        pools(settings)


def test_every_setting_is_explained():
    """The documentation names each table of the settings."""
    text = (ROOT / "docs" / "DEPLOY.md").read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if f"`{name}" not in text] == []


def test_a_plan_before_deployment_is_of_the_same_pools(tmp_path):
    """`noob-cloud plan` without a deployment assumes what a deployment without settings has."""
    usual = {place.name: place for place in PoolsSettings.usual().places()}
    deployed = PoolsSettings.model_validate(pools(read({}, folder=tmp_path)))
    found = {place.name: place for place in deployed.places()}

    assert found.keys() == usual.keys()
    for name, place in found.items():
        for value in ("kind", "memory", "most", "least", "slots", "price", "life_seconds"):
            assert getattr(place, value) == getattr(usual[name], value), (name, value)
