"""A stack that is looked at while it is made has each of its resources once."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("moto.server")
pytest.importorskip("awslambdaric")

from localdev.local import LocalCloud

from .localdev_stacks import get

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc")
COUNT = 40


def template(count: int) -> str:
    """So many secrets, and outputs that name them, the last ones first."""
    secret = {"Type": "AWS::SecretsManager::Secret", "Properties": {"SecretString": "swordfish"}}
    names = [f"Secret{number}" for number in range(count)]
    resources = {name: {**secret, "Properties": {**secret["Properties"], "Name": name}}
                 for name in names}  # fmt: skip
    outputs = {name: {"Value": {"Ref": name}} for name in reversed(names)}
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "watched"}}
    return json.dumps(
        {
            "Resources": {"Bucket": bucket, **resources},
            "Outputs": {**outputs, "Bucket": {"Value": get("Bucket")}},
        }
    )


def test_a_stack_that_is_watched(tmp_path: Path) -> None:
    """Its outputs are told when it is complete; asking earlier makes nothing a second time."""
    with LocalCloud(tmp_path / "cloud") as cloud:
        formation = cloud.client("cloudformation")
        ended = threading.Event()
        early: list[Any] = []

        def watch() -> None:
            own = cloud.client("cloudformation")
            while not ended.is_set():
                for stack in own.describe_stacks()["Stacks"]:
                    if not stack["StackStatus"].endswith("_COMPLETE"):
                        early.extend(stack.get("Outputs", []))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            formation.create_stack(StackName="watched", TemplateBody=template(COUNT))
            formation.update_stack(StackName="watched", TemplateBody=template(2 * COUNT))
        finally:
            ended.set()
            watcher.join()

        (stack,) = formation.describe_stacks()["Stacks"]
        assert stack["StackStatus"] == "UPDATE_COMPLETE"
        assert len(stack["Outputs"]) == 2 * COUNT + 1
        assert early == []
        secrets = cloud.client("secretsmanager").get_paginator("list_secrets").paginate()
        assert sum(len(page["SecretList"]) for page in secrets) == 2 * COUNT
