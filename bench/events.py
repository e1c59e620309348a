"""From an event to the first claim of its run, on the local cloud: every stack, deployed.

    python bench/events.py [--json] [--events 30]

An object is put into the bucket; S3 tells EventBridge, its rule SQS, the queue the submit function,
the function the coordinator, and a worker of the service that waits for work claims the run. `put`
is what the put took, `to the run` from its start until the coordinator has acknowledged the run, in
S3 too, `to the claim` until the worker holds it: the figure. `barrier` beside it is one submit of a
task to the same coordinator, acknowledged. The first event, for which the function has to be
started, is `cold`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.latencies import show  # noqa: E402 - after the path
from localdev.local import LocalCloud  # noqa: E402 - after the path

from noob_cloud.deployment import Deployment  # noqa: E402

SETTINGS = """
[events]
mapping = "events.toml"

[[pools]]
kind = "fargate"
min_workers = 1
max_workers = 1
slots = 4
"""
MAPPING = """
[[on]]
s3 = "inbox/"
tube = "tube.yaml"
"""
TUBE = {
    "noob_id": "event",
    "noob_model": "noob.tube.TubeSpecification",
    "noob_version": "1003.0.2",
    "nodes": {
        "one": {"type": "noob_cloud_bench_events.one"},
        "out": {"type": "return", "depends": "one.value"},
    },
}
MODULE = """
def one() -> int:
    return 1
"""


def project(folder: Path) -> Path:
    (folder / "src").mkdir(parents=True)
    (folder / "noob-cloud.toml").write_text(SETTINGS)
    (folder / "events.toml").write_text(MAPPING)
    (folder / "tube.yaml").write_text(json.dumps(TUBE))
    (folder / "src" / "noob_cloud_bench_events.py").write_text(MODULE)
    return folder


def measure(cloud: LocalCloud, events: int) -> dict[str, list[float]]:
    replica = cloud.client("ssm").get_parameter(Name="/noob-cloud/noob-cloud/replica")
    bucket = replica["Parameter"]["Value"].removeprefix("s3://").partition("/")[0]
    s3 = cloud.client("s3")
    names = ("put", "to the run", "to the claim", "cold", "barrier")
    found: dict[str, list[float]] = {name: [] for name in names}
    with Deployment.find("noob-cloud").client() as client:
        cloud.wait_for_service("fargate", running=1)
        while not client.workers():
            time.sleep(0.1)
        known = {run.run_id for run in client.runs()}
        for number in range(events + 1):
            begun = time.time()
            s3.put_object(Bucket=bucket, Key=f"inbox/{number}", Body=b"x")
            put = time.time() - begun
            run_id = ""
            while not run_id:
                time.sleep(0.01)
                run_id = next((x.run_id for x in client.runs(5) if x.run_id not in known), "")
            known.add(run_id)
            *_, run = client.watch_run(run_id, timeout=60)
            if run.status != "completed":
                raise SystemExit(f"{run_id} is {run.status}: {run.error}")
            task = client.queue.get_task(run.task_id, decode=False)
            claimed = (task.started_at or 0.0) - begun
            if number == 0:
                found["cold"].append(claimed)
                continue
            found["put"].append(put)
            found["to the run"].append(run.created_at - begun)
            found["to the claim"].append(claimed)
            begun = time.time()
            client.queue.submit_task("later", 0, delay=3600.0)
            found["barrier"].append(time.time() - begun)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--events", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = project(Path(scratch) / "project")
        with LocalCloud(Path(scratch) / "cloud") as cloud:
            os.environ.update(cloud.environment)
            cloud.deploy(context={"project": str(folder)})
            cloud.wait_for_coordinator()
            found = measure(cloud, options.events)
    show(found, as_json=options.json)


if __name__ == "__main__":
    main()
