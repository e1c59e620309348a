"""`make demo`: the stacks of `cdk deploy` on this machine, at work, and without their coordinator.

What it deploys is `examples/cloud`. The cloud is an emulated one, in `localdev/`; everything else
is what runs on AWS: the CDK's command line, the stacks, the functions and the containers' programs.
"""

import argparse
import hashlib
import os
import shutil
import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import skimage
from noob import Tube
from PIL import Image

from examples.cloud_view import (
    bar,
    console,
    found_table,
    name_of,
    pool_of,
    step,
    worked_table,
)
from examples.tiles.sheet import draw
from noob_cloud.coordinator import CoordinatorClient
from noob_cloud.deployment import Deployment
from noob_cloud.exceptions import NoobCloudError
from noob_cloud.runner import SynchronousRunner
from noob_cloud.task import Task, TaskStatus

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "examples" / "cloud"
NAME = "pictures"
"""As in the project's noob-cloud.toml."""
THINGS = {"hubble_deep_field.jpg": "galaxies", "coins.png": "coins", "page.png": "letters"}
"""The pictures, which scikit-image has in its package, and what there is in them."""
STAGE_ON_GPU = "find"
KILL_AFTER = 25
"""Tasks of the second batch that are done when the coordinator is killed."""
SECONDS = 180.0
"""How long a batch may take."""


class DemoError(RuntimeError):
    """What was promised did not happen."""


def main() -> int:
    """Run the demo; 0 if everything that it says was checked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"), help="where to write")
    out = parser.parse_args().out
    why = lacking()
    if why is not None:
        from examples import demo  # noqa: PLC0415 - instead of this one

        console.print(f"{why} This is `noob-cloud demo` instead: no cloud, the same queue.\n")
        return demo.main(out)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return show(out)
    except KeyboardInterrupt:
        console.print("\nInterrupted. Every process has ended.")
        return 130
    except (DemoError, NoobCloudError) as error:
        console.print(f"\n[bold red]{type(error).__name__}:[/]", end=" ")
        console.print(str(error), markup=False)
        console.print(f"The logs are in {out / 'demo-cloud' / 'logs'}.")
        return 1


def lacking() -> str | None:
    """Return what keeps the stacks from being deployed here; None: nothing does."""
    if sys.platform != "linux":
        return "The emulated cloud needs Linux, where every task can have an address of its own."
    if shutil.which("node") is None:
        return "The stacks are deployed by the CDK, which needs Node.js 20 or newer."
    if not (ROOT / "node_modules" / "aws-cdk").is_dir() and shutil.which("cdk") is None:
        return "The CDK's command line is not installed (npm ci installs it)."
    return None


def show(out: Path) -> int:
    """Deploy, use, break, and check what is left."""
    from localdev.local import LocalCloud  # noqa: PLC0415 - needs what only the checkout has

    started = time.perf_counter()
    console.print("[bold]noob-cloud on an emulated AWS, on this machine[/]\n")
    with ExitStack() as stack:
        cloud = LocalCloud(out / "demo-cloud")
        with step("An emulated AWS, and what runs its functions and containers") as said:
            stack.enter_context(cloud)
            said.append(f"[dim]{cloud.url}, logs in {out / 'demo-cloud' / 'logs'}[/]")
        os.environ |= cloud.environment
        deploy(cloud)
        client = stack.enter_context(Deployment.find(NAME, endpoint_url=cloud.url).client())
        album = Album(cloud, client)

        summaries = album.process("Pictures put into the bucket are events, which start runs")
        console.print(found_table(summaries, THINGS))
        check_alone(album, summaries)
        check_gpu(client)
        sheet(album, summaries, out / "contact-sheet.png")
        check_loss(cloud, client, album, summaries)

        console.print("\nWhat ran where, in both batches:")
        console.print(worked_table(worked(client)))
        with step("Everything is taken down"):
            stack.close()
    console.print(f"\nContact sheet: [bold]{out / 'contact-sheet.png'}[/]", end="  ")
    console.print(f"({time.perf_counter() - started:.0f} s in all)")
    console.print(NEXT)
    return 0


def deploy(cloud: Any) -> None:
    """Deploy every stack of the project, and wait for its coordinator."""
    formation = cloud.client("cloudformation")

    def stacks() -> str:
        told = formation.describe_stacks()["Stacks"]
        names = [each["StackName"].removeprefix(f"{NAME}-") for each in reversed(told)]
        return ", ".join(names) or "synthesizing"

    with step(f"cdk deploy --all -c project={PROJECT.relative_to(ROOT)}", stacks) as said:
        cloud.deploy(context={"project": str(PROJECT)})
        said.append(f"[dim]stacks: {stacks()}[/]")
    with step("The coordinator takes its lease in S3 and answers") as said:
        said.append(f"[dim]{cloud.wait_for_coordinator(NAME)}[/]")


class Album:
    """The pictures, in the deployment's bucket."""

    def __init__(self, cloud: Any, client: CoordinatorClient) -> None:
        self._s3 = cloud.client("s3")
        self._client = client
        parameter = cloud.client("ssm").get_parameter(Name=f"/noob-cloud/{NAME}/bucket")
        self.bucket = parameter["Parameter"]["Value"]
        self.started: set[str] = set()
        """Runs that have been seen."""

    def upload(self) -> None:
        """Put the pictures below `inbox/`, which is an event for each."""
        self.started |= {run.run_id for run in self._client.runs()}
        for name in THINGS:
            body = (Path(skimage.__file__).parent / "data" / name).read_bytes()
            self._s3.put_object(Bucket=self.bucket, Key=f"inbox/{name}", Body=body)

    def uri(self, name: str) -> str:
        """Where a picture is."""
        return f"s3://{self.bucket}/inbox/{name}"

    def read(self, name: str) -> Image.Image:
        """Fetch a picture, in colour."""
        answer = self._s3.get_object(Bucket=self.bucket, Key=f"inbox/{name}")
        return Image.open(BytesIO(answer["Body"].read())).convert("RGB")

    def process(self, title: str) -> list[dict[str, Any]]:
        """Upload, follow the runs that this starts, and return what they found."""
        self.upload()
        return self.follow(title)

    def follow(self, title: str, *, until: int | None = None) -> list[dict[str, Any]]:
        """Follow the runs of the latest upload to their ends; or until so many tasks are done.

        Raises:
            DemoError: a run failed, or they did not end in time.
        """
        before = len(self.started) and self._before
        give_up = time.monotonic() + SECONDS
        with bar(title) as told:
            while True:
                runs = [run for run in self._client.runs() if run.run_id not in self.started]
                for run in runs:
                    if run.error is not None:
                        raise DemoError(f"A run failed: {run.error}\n{run.traceback}")
                stats = self._client.queue.stats()
                waiting = stats.ready + stats.delayed + stats.parked
                done = stats.completed - before
                told(done, done + waiting + stats.claimed + stats.running, self._by())
                if until is not None and done >= until:
                    return []
                if len(runs) == len(THINGS) and all(run.ended for run in runs):
                    break
                if time.monotonic() > give_up:
                    raise DemoError(f"After {SECONDS:.0f} s of a batch: {runs}")
                time.sleep(0.2)
        self._before = stats.completed
        found = [summary for run in runs for summary in self._client.run_results(run.run_id)]
        return sorted(found, key=lambda each: [*THINGS].index(name_of(each)))

    def _by(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for worker in self._client.workers():
            counts[pool_of(worker["worker_id"])] += worker["completed"]
        return counts


def check_alone(album: Album, summaries: list[dict[str, Any]]) -> None:
    """Compare with the same tube in this process.

    Raises:
        DemoError: they differ.
    """
    sys.path.insert(0, str(PROJECT / "src"))
    with step("Equal to the SynchronousRunner's result, in this process"):
        tube = Tube.from_specification(PROJECT / "tubes" / "find_things.yaml")
        with SynchronousRunner(tube) as runner:
            alone = [runner.process(picture=album.uri(name)) for name in THINGS]
        if alone != summaries:
            raise DemoError("The results differ from the SynchronousRunner's.")


def check_gpu(client: CoordinatorClient) -> None:
    """Hold the stage with the tag to the pool that has it.

    Raises:
        DemoError: a task ran where it must not.
    """
    done = worked(client)
    elsewhere = [f"{stage} on {pool or 'an unknown worker'}" for stage, pool in done
                 if (stage == STAGE_ON_GPU) != (pool == "gpu")]  # fmt: skip
    if elsewhere or not done:
        raise DemoError(f"Tags are hard, but these ran elsewhere: {', '.join(elsewhere)}")
    count = done[STAGE_ON_GPU, "gpu"]
    console.print(
        f"[green]✓[/] All {count} tasks of the stage tagged gpu ran in the GPU pool, and no other"
    )


def sheet(album: Album, summaries: list[dict[str, Any]], path: Path) -> None:
    """Draw the contact sheet."""
    with step(f"The contact sheet: {path}"):
        named = [
            {**each, "picture": (name := name_of(each)), "what": THINGS[name]} for each in summaries
        ]
        subtitle = "found by Lambda, Fargate and a GPU pool: equal to SynchronousRunner"
        draw(named, path, subtitle=subtitle, read=album.read)


def check_loss(
    cloud: Any, client: CoordinatorClient, album: Album, before: list[dict[str, Any]]
) -> None:
    """Kill the coordinator at work and remove its disk; hold its successor to what it had said.

    Raises:
        DemoError: something that was acknowledged is gone.
    """
    console.print()
    album.upload()
    album.follow("The same pictures again; and in the middle of it ...", until=KILL_AFTER)
    runs = {run.run_id for run in client.runs()}
    acknowledged = outcomes(client)
    cloud.kill_service("coordinator")
    console.print(
        "[bold red]✗[/] kill -9 of the coordinator, and its disk is wiped: it had acknowledged"
        f" [bold]{len(runs)}[/] runs and [bold]{len(acknowledged)}[/] outcomes of tasks"
    )
    with step("Another one waits for the lease, restores the queue from S3, and takes over"):
        there = outcomes(client)  # the client waits for it, too
        lost = [task for task, result in acknowledged.items() if there.get(task) != result]
        lost += [run for run in runs if run not in {each.run_id for each in client.runs()}]
    if lost:
        raise DemoError(f"{len(lost)} acknowledged things are lost: {lost[:5]}")
    console.print(
        f"[green]✓[/] [bold]0 lost[/]: {len(runs)} runs and {len(acknowledged)} outcomes are"
        " there, byte for byte"
    )
    after = album.follow("The runs go on under the new coordinator, to the same result")
    if after != before:
        raise DemoError("The results are others than before.")


def outcomes(client: CoordinatorClient) -> dict[str, str]:
    """Return the hash of each completed task's result."""
    return {str(task.task_id): _digest(task) for task in _completed(client)}


def worked(client: CoordinatorClient) -> Counter[tuple[str, str]]:
    """Count the completed tasks by (stage, pool); the runs' drivers are none."""
    tasks = sorted(_completed(client), key=lambda task: task.task_id)
    return Counter(
        (task.node_id, pool_of(task.worker_id or ""))
        for task in tasks
        if not task.node_id.startswith("noob_cloud:")
    )


def _completed(client: CoordinatorClient) -> list[Task]:
    return client.queue.list_tasks(TaskStatus.COMPLETED, limit=1000, decode=False)


def _digest(task: Task) -> str:
    return hashlib.sha256(repr(task.result).encode()).hexdigest()


def _interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


NEXT = """
What to type next (in this folder, after [bold]source .venv/bin/activate[/]):
  noob-cloud dev --project examples/cloud     the same stacks, to play with
  noob-cloud plan examples/cloud/tubes/find_things.yaml -n 1000
  noob-cloud demo                             the same queue without a cloud
  cat docs/DEPLOY.md                          the same on AWS: noob-cloud deploy --project ..."""

if __name__ == "__main__":
    sys.exit(main())
