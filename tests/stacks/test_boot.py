"""How a container starts from a bare image, against an S3 on this machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from uuid import uuid4
from zipfile import ZipFile, ZipInfo

import boto3
import pytest

from infra.archives import ROOT

BOOT = (ROOT / "infra" / "boot.py").read_text(encoding="utf-8")
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture
def put(s3_url, tmp_path):
    """Return what puts an archive into a bucket, and returns how a container is told of it."""
    client = boto3.client(
        "s3",
        endpoint_url=s3_url,
        region_name="eu-central-1",
        aws_access_key_id="testing",
        aws_secret_access_key="secret",
    )
    bucket = f"assets-{uuid4().hex[:12]}"
    place = {"LocationConstraint": "eu-central-1"}
    client.create_bucket(Bucket=bucket, CreateBucketConfiguration=place)

    def put(files):
        path = tmp_path / f"{uuid4().hex}.zip"
        with ZipFile(path, "w") as archive:
            for name, text in files.items():
                entry = ZipInfo(name)
                entry.external_attr = (0o755 if "/bin/" in name else 0o644) << 16
                archive.writestr(entry, text)
        key = f"some-folder/{path.name}"
        client.upload_file(str(path), bucket, key)
        return f"s3://{bucket}/{key}#{hashlib.sha256(path.read_bytes()).hexdigest()}"

    return put


@pytest.fixture
def start(s3_url, tmp_path):
    """Return what starts a container's command, and returns what came of it."""

    def start(archives, *arguments, **environment):
        env = {
            "PATH": os.environ["PATH"],
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": s3_url,
            "NOOB_CLOUD_ARCHIVES": " ".join(archives),
            "TMPDIR": str(tmp_path),
            **KEYS,
            **environment,
        }
        command = [sys.executable, "-c", BOOT, *arguments]
        return subprocess.run(
            command, env=env, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60
        )

    return start


def test_runs_what_was_deployed(put, start):
    """Layers and code are unpacked, importable, and their programs are found and run."""
    layer = put(
        {
            "python/layer.py": "WORD = 'layer'",
            "python/bin/hello": "#!/bin/sh\necho program\n",
        }
    )
    code = put(
        {
            "main.py": "import sys, subprocess, layer\n"
            "subprocess.run(['hello'])\n"
            "print(layer.WORD, sys.argv[1:], flush=True)\n"
        }
    )

    done = start([layer, code], "main", "--one", "two words")

    assert done.stderr == ""
    assert done.stdout == "program\nlayer ['--one', 'two words']\n"


def test_other_bytes_are_not_run(put, start):
    """An archive that is not what was deployed ends the container before anything of it runs."""
    url = put({"main.py": "print('never')"})

    done = start([url.replace(url[-64:], "0" * 64)], "main")

    assert done.returncode == 1
    assert "it is not what was deployed" in done.stderr
    assert "never" not in done.stdout


def test_a_missing_archive_is_said_at_once(put, start):
    """What S3 refuses is not asked for again."""
    url = put({"main.py": ""}).replace(".zip", ".none")

    done = start([url], "main")

    assert done.returncode == 1
    assert "cannot be fetched: HTTP Error 404" in done.stderr


def test_signs_as_aws_does(monkeypatch):
    """The signature is botocore's, for a key with what has to be escaped, and a session's token."""
    from botocore.auth import S3SigV4Auth  # noqa: PLC0415 - only here
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415 - only here
    from botocore.credentials import Credentials  # noqa: PLC0415 - only here

    for name, value in {**KEYS, "AWS_SESSION_TOKEN": "token", "AWS_REGION": "eu-west-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    found: dict[str, object] = {"__name__": "boot"}
    exec(BOOT, found)

    made = found["request"]("bucket", "a key+more.zip")  # type: ignore[operator]

    assert made.full_url == "https://s3.eu-west-1.amazonaws.com/bucket/a%20key%2Bmore.zip"
    given = {name.lower(): value for name, value in made.header_items()}
    theirs = AWSRequest("GET", made.full_url, headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})
    auth = S3SigV4Auth(Credentials("testing", "secret", "token"), "s3", "eu-west-1")
    theirs.context["timestamp"] = given["x-amz-date"]
    theirs.headers["X-Amz-Date"] = given["x-amz-date"]
    theirs.headers["X-Amz-Security-Token"] = "token"
    theirs.headers["host"] = "s3.eu-west-1.amazonaws.com"
    text = auth.string_to_sign(theirs, auth.canonical_request(theirs))
    assert given["authorization"].endswith(f"Signature={auth.signature(text, theirs)}")


def test_fits_into_a_task_definition():
    """ECS takes 64 KiB for a task definition; the text is a small part of it."""
    assert len(BOOT.encode()) < 8192
