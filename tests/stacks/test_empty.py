"""Emptying a bucket that keeps old versions, on an S3 on this machine."""

from __future__ import annotations

import io
from uuid import uuid4

import boto3
import pytest

from infra.empty import main


@pytest.fixture
def bucket(s3_url, monkeypatch):
    """A bucket with versions and marks of deletion, and the parameter that names it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    client, name = boto3.client("s3"), f"deployed-{uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    for number in range(3):
        client.put_object(Bucket=name, Key="lease.json", Body=str(number))
    client.put_object(Bucket=name, Key="blob", Body=b"1")
    client.delete_object(Bucket=name, Key="blob")
    boto3.client("ssm").put_parameter(
        Name="/noob-cloud/emptied/bucket", Value=name, Type="String", Overwrite=True
    )
    return name


def test_nothing_is_left(bucket, capsys):
    """Every version and every mark goes, so that the bucket can be deleted."""
    assert main(["emptied", "--yes"]) == 0

    assert "5 objects and versions deleted" in capsys.readouterr().err
    boto3.client("s3").delete_bucket(Bucket=bucket)


def test_asks_first(bucket, capsys, monkeypatch):
    """Who does not type the bucket's name loses nothing."""
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))

    assert main(["emptied"]) != 0

    assert "Nothing was deleted" in capsys.readouterr().err
    assert boto3.client("s3").list_object_versions(Bucket=bucket)["Versions"]


def test_an_unknown_deployment_is_said(bucket, capsys):
    """A name that nothing has is no traceback."""
    assert main(["nowhere", "--yes"]) == 1
    assert "Nothing is deployed as 'nowhere' in us-east-1" in capsys.readouterr().err
