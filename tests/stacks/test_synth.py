"""The CDK's own command line: offline, without an account."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from infra.archives import ROOT

CDK = ROOT / "node_modules" / ".bin" / "cdk"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def cdk(tmp_path, assets_dir):
    """Return what runs `cdk synth` with nothing of this machine's AWS, and returns what it said."""
    if not CDK.exists() or shutil.which("node") is None:
        pytest.skip("make node_modules/.bin/cdk")

    def cdk(*options):
        env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        env |= {"HOME": str(tmp_path), "HTTPS_PROXY": NOWHERE, "HTTP_PROXY": NOWHERE}
        env["AWS_EC2_METADATA_DISABLED"] = "true"
        where = ["-o", str(tmp_path / "out"), "-c", f"assets_dir={assets_dir}"]
        command = [str(CDK), "synth", "-q", *where, *options]
        return subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=110
        )

    return cdk


@pytest.mark.slow
def test_synthesizes_offline_without_an_account(cdk, tmp_path):
    """`cdk synth` needs neither network nor credentials, and every stack goes to any account."""
    done = cdk("-c", "name=other")

    assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    stacks = {
        name: each["environment"]
        for name, each in manifest["artifacts"].items()
        if each["type"] == "aws:cloudformation:stack"
    }
    parts = ("storage", "coordinator", "workers", "events", "observe")
    assert set(stacks) == {f"other-{part}" for part in parts}
    assert set(stacks.values()) == {"aws://unknown-account/unknown-region"}
    assert manifest.get("missing", []) == []


def test_a_gpu_pool_on_fargate_is_refused_at_synth():
    """A wrong setting ends the app with one sentence and no traceback."""
    if shutil.which("node") is None:
        pytest.skip("the CDK needs Node.js")
    context = {"pools": '[{"kind": "fargate", "gpus": 1}]'}
    env = {**os.environ, "CDK_CONTEXT_JSON": json.dumps(context)}
    command = [sys.executable, "-m", "infra.app"]

    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    told = "pools.0.fargate: Fargate has no GPUs: AWS offers none to Fargate tasks"
    assert told in done.stderr
    assert "Traceback" not in done.stderr
