"""The CDK's own command line, with the emulated cloud instead of AWS."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localdev.errors import LocalCloudError, RefusedError
from localdev.layer import ARCHITECTURE, PYTHON, prepare

if TYPE_CHECKING:
    from localdev.local import LocalCloud

__all__ = ["Cdk"]

ROOT: Final = Path(__file__).resolve().parent.parent
_DEPLOY: Final = ("--method=direct", "--require-approval=never", "--concurrency=4")
"""Directly: with a change set moto loses the outputs."""
_QUIET: Final = ("--no-notices", "--no-version-reporting", "--ci")


class Cdk:
    """`cdk bootstrap`, `deploy` and `destroy` of the stacks in this folder.

    Args:
        cloud: where to.
    """

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._bootstrapped = False

    def deploy(
        self, stacks: list[str], *, context: dict[str, str], app: str | None
    ) -> dict[str, dict[str, str]]:
        """Deploy stacks and return their outputs."""
        if not self._bootstrapped:
            self._bootstrap()
            self._bootstrapped = True
        path = self._cloud.directory / "outputs.json"
        path.unlink(missing_ok=True)
        self._run(
            ["deploy", *(stacks or ["--all"]), *_DEPLOY, f"--outputs-file={path}"],
            context=context,
            app=app,
        )
        found: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def destroy(self, stacks: list[str], *, context: dict[str, str], app: str | None) -> None:
        """Destroy stacks."""
        self._run(["destroy", *(stacks or ["--all"]), "--force"], context=context, app=app)

    def _bootstrap(self) -> None:
        """Make what `cdk bootstrap` makes and a deployment here uses: a bucket, and a version.

        Its roles and its registry of images are not needed where everybody may do everything.
        """
        cloud = self._cloud
        name = f"cdk-hnb659fds-assets-{cloud.account}-{cloud.region}"
        where = {} if cloud.region == "us-east-1" else {"LocationConstraint": cloud.region}
        cloud.client("s3").create_bucket(
            Bucket=name, **({"CreateBucketConfiguration": where} if where else {})
        )
        cloud.client("ssm").put_parameter(
            Name="/cdk-bootstrap/hnb659fds/version", Value="31", Type="String", Overwrite=True
        )

    def _run(self, words: list[str], *, context: dict[str, str], app: str | None) -> None:
        cloud = self._cloud
        chosen = {
            "python": PYTHON,
            "architecture": ARCHITECTURE,
            "removal_policy": "destroy",
            **context,
        }
        if app is None and "assets_dir" not in context:
            chosen["assets_dir"] = str(prepare(cloud.cache))
        words = [*words, "--output", str(cloud.directory / "cdk.out")]
        for key, value in chosen.items():
            words += ["--context", f"{key}={value}"]
        words += [] if app is None else ["--app", app]
        self._call(words)

    def _call(self, words: list[str]) -> None:
        """Run the CDK's command line.

        Raises:
            LocalCloudError: it says why.
        """
        cloud, words = self._cloud, [*program(), *words, *_QUIET]
        home = cloud.directory / "home"  # the CDK caches accounts by their keys in its home
        home.mkdir(exist_ok=True)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        bin_folder = str(Path(sys.executable).parent)
        environment = {
            **inherited,
            **cloud.environment,
            # moto reads the address of a template as virtual-hosted where the host is a number
            "AWS_ENDPOINT_URL_S3_FOR_CLOUDFORMATION": cloud.url.replace("127.0.0.1", "localhost"),
            "HOME": str(home),
            "CDK_HOME": str(home),
            "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
            "NODE_NO_WARNINGS": "1",
            "PATH": os.pathsep.join((bin_folder, os.environ.get("PATH", os.defpath))),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        }
        done = _run_whole(words, environment)
        with (cloud.logs / "cdk.log").open("a") as log:
            log.write(f"$ {' '.join(words)}\n{done.stdout}{done.stderr}\n")
        if done.returncode:
            said = (done.stderr + done.stdout).strip()[-4000:]
            cloud_log = cloud.log("cloud").strip()[-1500:]
            what = words[len(program())]
            raise LocalCloudError(f"`cdk {what}` failed ({cloud.logs}):\n{said}\n{cloud_log}")


def _run_whole(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; where that is interrupted, end what it has started as well."""
    with subprocess.Popen(  # noqa: S603 - the program that was found
        words,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for whoever started it
    ) as process:
        try:
            out, err = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def program() -> list[str]:
    """Return the command of the CDK: the one of this folder's package.json, or on the PATH.

    Raises:
        RefusedError: there is none, or no Node.js to run it.
    """
    own = ROOT / "node_modules" / "aws-cdk" / "bin" / "cdk"
    node = shutil.which("node")
    if node is None:
        raise RefusedError(
            "The stacks are deployed with the CDK's command line, which needs Node.js: install 20"
            f" or newer (https://nodejs.org), then run `npm ci` in {ROOT}."
        )
    if own.exists():
        return [node, str(own)]
    found = shutil.which("cdk")
    if found is None:
        raise RefusedError(
            "The stacks are deployed with the CDK's command line, which is not installed: run"
            f" `npm ci` in {ROOT}, or put the program `cdk` on the PATH."
        )
    return [found]
