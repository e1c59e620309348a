"""Workers on Lambda and on Fargate."""

from __future__ import annotations

import json

import pytest
from aws_cdk.assertions import Match


def test_one_function_for_each_size(documents):
    """A task that was killed for memory finds a larger place."""
    functions = _of(documents["workers"], "AWS::Lambda::Function")
    assert {each["Properties"]["MemorySize"] for each in functions} == {1024, 4096}
    for each in functions:
        assert "ReservedConcurrentExecutions" not in each["Properties"]
        assert len(each["Properties"]["Layers"]) == 2


def test_functions_start_from_snapshots(documents, private):
    """A version is published with SnapStart behind the alias `live`; Python 3.11 has none."""
    resources = documents["workers"]["Resources"]
    for function in _of(documents["workers"], "AWS::Lambda::Function"):
        assert function["Properties"]["SnapStart"] == {"ApplyOn": "PublishedVersions"}
        assert function["Properties"]["EphemeralStorage"] == {"Size": 512}
    for alias in _of(documents["workers"], "AWS::Lambda::Alias"):
        version, attribute = alias["Properties"]["FunctionVersion"]["Fn::GetAtt"]
        assert alias["Properties"]["Name"] == "live"
        assert attribute == "Version"
        assert resources[version]["Type"] == "AWS::Lambda::Version"
    (old,) = _of(private["workers"], "AWS::Lambda::Function")
    assert old["Properties"]["Runtime"] == "python3.11"
    assert "SnapStart" not in old["Properties"]


def test_new_code_is_a_new_version(synthesize):
    """What changes the function changes the version that is published, so the alias moves on."""
    from aws_cdk.assertions import Template  # noqa: PLC0415 - loads jsii

    found = set()
    for seconds in (100, 200):
        pool = {"kind": "lambda", "sizes": [1024], "timeout_seconds": seconds}
        stack = synthesize(name="test", pools=json.dumps([pool]))["workers"]
        found |= set(Template.from_stack(stack).find_resources("AWS::Lambda::Version"))
    assert len(found) == 2


def test_a_lost_wake_up_is_not_repeated(templates):
    """Asynchronous invocations are tried once, and are too old after a minute."""
    templates["workers"].resource_properties_count_is(
        "AWS::Lambda::EventInvokeConfig",
        {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60},
        2,
    )


def test_function_urls_ask_for_a_signature(templates):
    """Each alias has a URL, for who may sign."""
    templates["workers"].resource_properties_count_is(
        "AWS::Lambda::Url", {"AuthType": "AWS_IAM", "Qualifier": "live"}, 2
    )


def test_users_have_both_rights_to_a_url(documents):
    """A URL takes two rights; the wider one holds for calls by the URL only."""
    (policy,) = _of(documents["coordinator"], "AWS::IAM::ManagedPolicy")
    statements = policy["Properties"]["PolicyDocument"]["Statement"]
    by_url = [each for each in statements if "lambda:" in json.dumps(each["Action"])]
    assert [(each["Action"], each["Condition"]) for each in by_url] == [
        (
            "lambda:InvokeFunctionUrl",
            {"StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}},
        ),
        ("lambda:InvokeFunction", {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}),
    ]


def test_functions_know_their_place(documents):
    """Each size claims as the place that the coordinator calls it."""
    tags = {
        each["Properties"]["MemorySize"]: each["Properties"]["Environment"]["Variables"][
            "NOOB_CLOUD_TAGS"
        ]
        for each in _of(documents["workers"], "AWS::Lambda::Function")
    }
    assert tags == {1024: "noob:pool-lambda-1024", 4096: "noob:pool-lambda-4096"}


def test_fargate_runs_on_spot_with_a_base(templates, private):
    """Spot capacity with a base on demand, or on demand only where spot is off."""
    templates["workers"].has_resource_properties(
        "AWS::ECS::Service",
        {
            "DesiredCount": 0,
            "CapacityProviderStrategy": [
                {"CapacityProvider": "FARGATE", "Base": 1, "Weight": 0},
                {"CapacityProvider": "FARGATE_SPOT", "Weight": 1},
            ],
            "LaunchType": Match.absent(),
        },
    )
    (service,) = _of(private["workers"], "AWS::ECS::Service")
    strategy = service["Properties"]["CapacityProviderStrategy"]
    assert strategy == [{"CapacityProvider": "FARGATE", "Weight": 1}]


@pytest.mark.parametrize("part", ["workers", "gpu"])
def test_workers_drain_within_the_notice(documents, part):
    """A worker stops claiming and finishes within the two minutes that AWS gives."""
    for task in _of(documents[part], "AWS::ECS::TaskDefinition"):
        (container,) = task["Properties"]["ContainerDefinitions"]
        assert container["StopTimeout"] == 120
        assert "--drain-seconds=110" in json.dumps(container["Command"])


@pytest.mark.parametrize("part", ["workers", "gpu"])
def test_workers_may_protect_themselves(documents, part):
    """A worker that holds a lease may ask not to be stopped, for tasks of its own cluster."""
    text = json.dumps(_of(documents[part], "AWS::IAM::Policy"))
    assert "ecs:UpdateTaskProtection" in text
    assert ":task/test" in text


@pytest.mark.parametrize("part", ["workers", "gpu"])
def test_workers_are_not_moved_for_balance(documents, part):
    """ECS moves no worker to another zone only for balance: that stops its work."""
    for service in _of(documents[part], "AWS::ECS::Service"):
        assert service["Properties"]["AvailabilityZoneRebalancing"] == "DISABLED"


@pytest.mark.parametrize("part", ["workers", "gpu"])
def test_workers_understand_their_arguments(documents, part):
    """The command line is one that the worker server takes."""
    from noob_cloud.runner.worker_server import arguments  # noqa: PLC0415 - as it is run

    for task in _of(documents[part], "AWS::ECS::TaskDefinition"):
        (container,) = task["Properties"]["ContainerDefinitions"]
        python, option, _boot, module, *told = container["Command"]
        assert (python, option) == ("python", "-c")
        assert module == "noob_cloud.runner.worker_server"
        words = [word if isinstance(word, str) else "--coordinator=s3://b/p" for word in told]
        given = arguments().parse_args(words)
        assert given.coordinator.startswith("s3://")
        assert given.max_tasks == 1


def test_own_policies_are_attached(private):
    """What the user's code needs is attached to every worker, and to nobody else."""
    roles = [
        role["Properties"].get("ManagedPolicyArns", [])
        for role in _of(private["workers"], "AWS::IAM::Role")
    ]
    assert roles.count(["arn:aws:iam::123456789012:policy/pictures"]) == 2
    assert "policy/pictures" not in json.dumps(private["coordinator"])


def test_concurrency_is_reserved_where_it_is_asked_for(private):
    """Reserved concurrency is a setting."""
    (function,) = _of(private["workers"], "AWS::Lambda::Function")
    assert function["Properties"]["ReservedConcurrentExecutions"] == 5


def test_a_missing_native_layer_is_said(synthesize, tmp_path, assets_dir):
    """Without the native layer everything is deployed, and a warning says what that means."""
    from aws_cdk.assertions import Annotations, Match, Template  # noqa: PLC0415 - loads jsii

    (tmp_path / "layers").mkdir()
    name = "runtime-arm64.zip"
    (tmp_path / "layers" / name).write_bytes((assets_dir / "layers" / name).read_bytes())
    stacks = synthesize(name="test", assets_dir=str(tmp_path), pools='[{"kind": "lambda"}]')

    Template.from_stack(stacks["workers"]).resource_count_is("AWS::Lambda::LayerVersion", 1)
    Annotations.from_stack(stacks["workers"]).has_warning(
        "*", Match.string_like_regexp("There is no native layer for arm64.*")
    )


def _of(document, kind):
    return [each for each in document["Resources"].values() if each["Type"] == kind]
