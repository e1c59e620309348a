"""The coordinator has as many workers as there is work for; AWS is moto's."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import zipfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber
from moto import mock_aws

sys.path.insert(0, str(Path(__file__).parent))
from coordinator_app import App, running

from noob_cloud.coordinator import wire
from noob_cloud.coordinator.capacity import Place, Scale, Start
from noob_cloud.coordinator.capacity_aws import AwsProvider
from noob_cloud.coordinator.durability import Barrier
from noob_cloud.coordinator.emf import lines
from noob_cloud.exceptions import UnavailableError
from noob_cloud.queue.remote import RemoteQueue
from noob_cloud.task import Task, Token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

POOLS = [
    {"name": "lambda", "kind": "lambda", "sizes": {"1024": "small"}, "max_workers": 5},
    {
        "name": "fargate",
        "kind": "fargate",
        "cluster": "c",
        "service": "s",
        "vcpu": 4,
        "memory": 16_384,
        "slots": 2,
        "tags": ["x86"],
        "cooldown_seconds": 50,
    },
    {
        "name": "gpu",
        "kind": "ec2",
        "cluster": "c",
        "service": "g",
        "instance": "g5.xlarge",
        "tags": ["gpu"],
        "accept_untagged": False,
        "cooldown_seconds": 50,
    },
]


class Recorder:
    """Notes what it is told to do, instead of AWS."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []
        self.services = {"fargate": 0, "gpu": 0}
        self.trouble: Exception | None = None

    def start(self, place: Place, count: int) -> int:
        if self.trouble is not None:
            raise self.trouble
        self.done.append((place.name, count))
        return count

    def desired(self, place: Place) -> int:
        if self.trouble is not None:
            raise self.trouble
        return self.services[place.name]

    def scale(self, place: Place, workers: int) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.services[place.name] = workers
        self.done.append((place.name, workers))


@asynccontextmanager
async def with_pools(
    folder: Path, monkeypatch: pytest.MonkeyPatch, pools: Any = None, **settings: Any
) -> AsyncIterator[tuple[App, Recorder]]:
    """A coordinator whose loop goes on by hand: `turn`."""
    recorder = Recorder()
    monkeypatch.setattr("noob_cloud.coordinator.service.AwsProvider", lambda: recorder)

    async def serve(_loop: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("noob_cloud.coordinator.capacity_loop.CapacityLoop.serve", serve)
    async with running(folder, pools=pools or POOLS, **settings) as app:
        await app.coordinator.capacity._begin()
        yield app, recorder


async def turn(app: App, seconds: float = 0.0) -> None:
    """One look of the loop, so many seconds after its latest."""
    loop = app.coordinator.capacity
    await loop.turn(loop.fleet._at + seconds)


def tasks(count: int = 1, node: str = "n", **options: Any) -> wire.Submit:
    return wire.Submit([wire.Group(wire.Options(**options), node, list(range(count)))])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


async def test_tasks_bring_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each, in the order of preference; those under way are not started twice."""
    async with with_pools(tmp_path, monkeypatch) as (app, aws):
        await turn(app)
        assert aws.done == []
        await app.frame("client", "/tasks", tasks(8))
        await turn(app)
        await turn(app, 1.0)
        assert aws.done == [("lambda-1024", 5), ("fargate", 2)]


async def test_a_gpu_comes_from_zero_and_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For its tag alone, and when nothing needs it any more its cool-down passes first."""
    async with with_pools(tmp_path, monkeypatch) as (app, aws):
        await app.frame("client", "/tasks", tasks(1, affinity_tags=("gpu",)))
        await turn(app)
        assert aws.done == [("gpu", 1)]
        ask = wire.Ask("g-1", 1, ["noob:pool-gpu"])
        (lot,) = (await app.frame("owner", "/claims", ask, wire.Claimed)).lots
        await turn(app, 1.0)
        outcomes = wire.Outcomes("g-1", done=[wire.Done(lot.token, lot.ids)])
        await app.frame("owner", "/outcomes", outcomes, wire.Settled)
        await turn(app, 1.0)
        assert aws.services["gpu"] == 1
        for _ in range(60):
            await turn(app, 1.0)
        assert aws.done == [("gpu", 1), ("gpu", 0)]


async def test_a_run_without_a_client_brings_its_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a Lambda, which ends too soon: the first pool that drives."""
    async with with_pools(tmp_path, monkeypatch) as (app, aws):
        spec = {"noob_id": "t", "noob_model": "noob.tube.TubeSpecification", "nodes": {}}
        answer = await app.json("client", "POST", "/runs", {"tube": {"spec": spec}, "n": 1})
        assert answer.status_code == 201, answer.text
        await turn(app)
        await turn(app, 1.0)
        assert aws.done == [("fargate", 1)]


async def test_who_drives_a_run_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even before it asked for a task: it is counted, and not taken away."""
    async with with_pools(tmp_path, monkeypatch) as (app, aws):
        spec = {"noob_id": "t", "noob_model": "noob.tube.TubeSpecification", "nodes": {}}
        await app.json("client", "POST", "/runs", {"tube": {"spec": spec}, "n": 1})
        await turn(app)
        asked = ["noob:drive", "noob:drive+noob:pool-fargate"]
        ask = wire.Ask("f-1/driver", 1, asked, accept_untagged=False)
        assert len((await app.frame("owner", "/claims", ask, wire.Claimed)).lots) == 1
        for _ in range(100):
            app.coordinator.workers.get("f-1/driver").last_seen += 1.0
            await turn(app, 1.0)
        assert aws.done == [("fargate", 1)]


async def test_a_service_is_found_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A coordinator that takes over leaves its predecessor's workers for a cool-down."""
    async with with_pools(tmp_path, monkeypatch) as (app, aws):
        aws.services["fargate"] = 3
        for _ in range(40):
            await turn(app, 1.0)
        assert aws.done == []
        for _ in range(20):
            await turn(app, 1.0)
        assert aws.done == [("fargate", 0)]


async def test_a_service_that_cannot_be_found_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has is not known, so it is not set; the other pools go on meanwhile."""
    async with with_pools(tmp_path, monkeypatch) as (app, aws):
        aws.services["gpu"] = 3
        aws.trouble = UnavailableError("not authorized to describe")
        await turn(app)
        assert app.coordinator.capacity._unseen == {"fargate", "gpu"}
        aws.trouble = None
        await app.frame("client", "/tasks", tasks(1, affinity_tags=("gpu",)))
        await app.frame("client", "/tasks", tasks(2))
        await turn(app, 1.0)
        assert aws.done == [("lambda-1024", 2)]
        await turn(app, 15.0)
        assert app.coordinator.capacity.fleet.crews["gpu"].desired == 3
        assert aws.services["gpu"] == 3


async def test_a_deployment_that_sets_a_service_back_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cdk deploy` writes the template's count; a minute later it has its workers again."""
    async with with_pools(tmp_path, monkeypatch) as (app, aws):
        await app.frame("client", "/tasks", tasks(1, affinity_tags=("gpu",)))
        await turn(app)
        assert aws.done == [("gpu", 1)]
        aws.services["gpu"] = 0

        await turn(app, 30.0)
        assert aws.services["gpu"] == 0
        await turn(app, 31.0)

        assert aws.services["gpu"] == 1


async def test_a_successor_listens_before_it_starts_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers of its predecessor are at work; only then it knows how many more are needed."""
    settings = {"pools": POOLS[:1], "db_path": tmp_path / "q.db"}
    ask = wire.Ask("l-1", 1, ["noob:pool-lambda-1024"])
    async with with_pools(tmp_path, monkeypatch, **settings) as (app, _aws):
        await app.frame("client", "/tasks", tasks(3))
        await app.frame("owner", "/claims", ask, wire.Claimed)
    async with with_pools(tmp_path, monkeypatch, **settings) as (app, aws):
        await turn(app)
        assert aws.done == []
        beat = wire.Beat("l-1", tags=["noob:pool-lambda-1024"], running=1)
        await app.frame("owner", "/heartbeats", beat, wire.Beaten)
        await turn(app, 4.0)
        assert aws.done == [("lambda-1024", 2)]


async def test_an_idle_worker_that_is_silent_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Lambda that has ended is not waited for; one at work is, for longer."""
    async with with_pools(tmp_path, monkeypatch, POOLS[:1]) as (app, _aws):
        ask = wire.Ask("l-1", 1, ["noob:pool-lambda-1024"])
        await app.frame("owner", "/claims", ask, wire.Claimed)
        row = app.coordinator.workers.get("l-1")
        loop = app.coordinator.capacity
        for running, silent, there in ((0, 3.0, 1), (0, 8.0, 0), (1, 8.0, 1), (1, 16.0, 0)):
            row.running = running
            found = loop._see(row.last_seen + silent)
            assert sum(len(seen.workers) for seen in found.values()) == there


async def test_what_cannot_be_had_is_tried_after_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS is away, or refuses: who follows the events is told, and nothing ends."""
    async with with_pools(tmp_path, monkeypatch, POOLS[:1]) as (app, aws):
        aws.trouble = UnavailableError("throttled")
        await app.frame("client", "/tasks", tasks(2))
        await turn(app)
        await turn(app, 5.0)
        aws.trouble = None
        await turn(app, 1.0)
        assert aws.done == []
        await turn(app, 6.0)
        assert aws.done == [("lambda-1024", 2)]
        kinds = [x["kind"] for x in app.coordinator.events.after(0)]
        assert kinds.count("capacity.failed") == 1


async def test_the_money_of_a_day_is_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coordinator that is started again knows what was spent, by run as well, and stops there."""
    pools = {"pools": [{**POOLS[0], "price": 3600.0, "life_seconds": 1}], "budget": {"per_day": 10}}
    settings = {"pools": pools, "db_path": tmp_path / "q.db"}
    async with with_pools(tmp_path, monkeypatch, **settings) as (app, aws):
        await app.frame("client", "/tasks", tasks(1, run_id="r"))
        await turn(app)
        ask = wire.Ask("l-1", 1, ["noob:pool-lambda-1024"])
        await app.frame("owner", "/claims", ask, wire.Claimed)
        await turn(app)
        app.coordinator.capacity._held_at = 0.0
        for _ in range(5):
            await turn(app, 1.0)
        await app.frame("client", "/tasks", tasks(5, run_id="r"))
        await turn(app, 3.0)
        assert aws.done == [("lambda-1024", 1), ("lambda-1024", 2)]
        spent = app.coordinator.capacity.fleet.spent_today
        assert spent == pytest.approx(8.0, abs=0.1)
    async with with_pools(tmp_path, monkeypatch, **settings) as (app, aws):
        fleet = app.coordinator.capacity.fleet
        assert fleet.spent_today == pytest.approx(spent)
        assert fleet.spent_by_run["r"] == pytest.approx(spent, abs=1.1)


async def test_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers and money by pool, for Prometheus and for CloudWatch."""
    pools = {"pools": POOLS, "budget": {"per_day": 2.5}}
    async with with_pools(tmp_path, monkeypatch, pools) as (app, _aws):
        await app.frame("client", "/tasks", tasks(3))
        await turn(app)
        text = (await app.json("client", "GET", "/metrics")).text
        assert 'noob_pool_workers{pool="lambda-1024",state="starting"} 3.0' in text
        assert 'noob_pool_wanted{pool="lambda-1024"} 3.0' in text
        assert "noob_budget_left 2.46" in text  # three Lambdas may live for 900 s each
        stats = app.coordinator.desk.stats()
        now = app.coordinator.capacity.fleet._at
        found = list(lines(app.coordinator.capacity, stats, "demo", now))
        assert found[0]["_aws"]["Timestamp"] == int(now * 1000)
        assert found[0]["Deployment"] == "demo"
        assert (found[0]["ReadyTasks"], round(found[0]["BudgetLeft"], 2)) == (3, 2.46)
        (small,) = (x for x in found if x.get("Pool") == "lambda-1024")
        assert small["WantedWorkers"] == 3
        names = {x["Name"] for x in small["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
        assert names <= small.keys()


async def test_metrics_say_how_requests_fare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors since the last line, and the longest time that a commit waited for the replica."""
    async with with_pools(tmp_path, monkeypatch) as (app, _aws):
        health = app.coordinator.health
        health.barrier = Barrier(lambda: 0, _copied, lambda: True)
        health.refuse()
        health.refuse()
        stats, loop = app.coordinator.desk.stats(), app.coordinator.capacity

        first, second = (next(iter(lines(loop, stats, "demo", now))) for now in (1.0, 2.0))

        assert (first["ApiErrors"], second["ApiErrors"]) == (2, 0)
        assert first["ReplicationSeconds"] == 0.0
        told = (await app.json("client", "GET", "/metrics")).text
        assert "noob_api_errors_total 2.0" in told
        assert "noob_replication_seconds 0.0" in told


async def _copied() -> None:
    return


async def test_a_person_may_ask_how_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Places, money, and what was learned of nodes."""
    async with with_pools(tmp_path, monkeypatch) as (app, _aws):
        await app.frame("client", "/tasks", tasks(3))
        await turn(app)
        found = (await app.json("client", "GET", "/capacity")).json()
        assert [x["name"] for x in found["places"]] == ["lambda-1024", "fargate", "gpu"]
        assert found["places"][0]["starting"] == 3
        assert found["money"]["currency"] == "USD"
        assert found["learned"] == []


async def test_without_pools_there_is_no_loop(tmp_path: Path) -> None:
    """Nothing is looked at, and the route says that there are no pools."""
    async with running(tmp_path) as app:
        assert app.coordinator.capacity is None
        assert (await app.json("client", "GET", "/capacity")).json()["places"] == []


# ---- AWS, as moto has it


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("MOTO_LAMBDA", "simple")
    with mock_aws(config={"lambda": {"use_docker": False}}):
        yield


def a_function() -> str:
    """A function in moto's Lambda; it answers without running anything."""
    role = boto3.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("h.py", "def handler(event, context): return event")
    made = boto3.client("lambda").create_function(
        FunctionName="worker",
        Runtime="python3.12",
        Role=role["Role"]["Arn"],
        Handler="h.handler",
        Code={"ZipFile": code.getvalue()},
        Publish=True,
    )
    boto3.client("lambda").create_alias(
        FunctionName="worker", Name="live", FunctionVersion=made["Version"]
    )
    arn: str = boto3.client("lambda").get_function(FunctionName="worker")["Configuration"][
        "FunctionArn"
    ]
    return arn


def test_lambdas_are_invoked_asynchronously(aws: None) -> None:
    """With the wake-up event, by name, ARN or alias, once for each worker."""
    arn = a_function()
    client = boto3.client("lambda")
    asked: list[dict[str, Any]] = []
    client.meta.events.register(
        "before-parameter-build.lambda.Invoke", lambda params, **_: asked.append(dict(params))
    )
    provider = AwsProvider({"lambda": client})
    for target in ("worker", "worker:live", f"{arn.removesuffix(':live')}:live"):
        asked.clear()
        place = Place("p", "p", "lambda", (target,), limit_seconds=30.0)
        assert provider.start(place, 3) == 3
        assert len(asked) == 3
        assert asked[0]["InvocationType"] == "Event"
        assert json.loads(asked[0]["Payload"]) == {"noob_cloud": "pull", "limit_seconds": 30.0}
        assert asked[0].get("Qualifier") == ("live" if target.endswith("live") else None)


def test_throttled_invokes_are_starts_that_failed(
    aws: None, caplog: pytest.LogCaptureFixture
) -> None:
    """How many were accepted is told, AWS's words are in the log, and the rest is not tried."""
    client = boto3.client("lambda", config=Config(retries={"total_max_attempts": 1}))
    with Stubber(client) as stubber:
        stubber.add_response("invoke", {"StatusCode": 202})
        stubber.add_client_error("invoke", "TooManyRequestsException", "Rate Exceeded.")
        place = Place("p", "p", "lambda", ("worker",))
        assert AwsProvider({"lambda": client}, at_once=1).start(place, 30) == 1
    assert "29 of 30 workers of p were not started" in caplog.text
    assert "Rate Exceeded" in caplog.text


def test_services_are_scaled(aws: None) -> None:
    """Their desired count is read and set."""
    ecs = boto3.client("ecs")
    ecs.create_cluster(clusterName="c")
    ecs.register_task_definition(
        family="f", containerDefinitions=[{"name": "w", "image": "i", "memory": 100}]
    )
    ecs.create_service(cluster="c", serviceName="s", taskDefinition="f", desiredCount=2)
    provider = AwsProvider()
    place = Place("p", "p", "fargate", ("c", "s"))
    assert provider.desired(place) == 2
    provider.scale(place, 7)
    assert provider.desired(place) == 7
    with pytest.raises(UnavailableError, match="no service moon"):
        provider.desired(Place("p", "p", "fargate", ("c", "moon")))


def test_actions_are_plain_values() -> None:
    """What a recorder notes can be compared."""
    place = Place("p", "p", "lambda")
    assert Start(place, 1) == Start(place, 1)
    assert Scale(place, 1) != Scale(place, 2)


async def test_a_heartbeat_says_of_which_place_a_worker_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it last asked for: a coordinator that was started meanwhile has heard of no claim."""
    async with with_pools(tmp_path, monkeypatch, POOLS[:1]) as (app, _aws):
        said: list[wire.Beat] = []
        queue = RemoteQueue("http://here", "t" * 16)
        monkeypatch.setattr(queue, "_post", lambda _path, body, _kind, **_: said.append(body))
        with suppress(AttributeError):  # nobody answers
            queue.claim_many("l-1", 1, ["noob:pool-lambda-1024"])
        with suppress(AttributeError):
            queue.heartbeat([Task(1, "n", 0, token=Token(0, 1), worker_id="l-1")])
        assert said[-1].tags == ["noob:pool-lambda-1024"]
        await app.frame("owner", "/heartbeats", said[-1], wire.Beaten)
        assert app.coordinator.workers.get("l-1").pool == "lambda-1024"
