"""A coordinator with pools sends tasks where they may run, and says so where that is nowhere."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from coordinator_app import App, running

from noob_cloud.coordinator import wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio
MIB = 1 << 20
POOLS = [
    {"name": "lambda", "kind": "lambda", "sizes": {"1024": "small", "4096": "large"}},
    {
        "name": "fargate",
        "kind": "fargate",
        "cluster": "c",
        "service": "s",
        "vcpu": 4,
        "memory": 16_384,
        "slots": 2,
        "tags": ["x86"],
    },
    {
        "name": "gpu",
        "kind": "ec2",
        "cluster": "c",
        "service": "g",
        "instance": "g5.xlarge",
        "tags": ["gpu", "cuda"],
        "accept_untagged": False,
    },
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def with_pools(folder: Path, **settings: Any) -> AsyncIterator[App]:
    async with running(folder, pools=POOLS, scale_pools=False, **settings) as app:
        yield app


def tasks(nodes: Any = "n", count: int = 1, **options: Any) -> wire.Submit:
    return wire.Submit([wire.Group(wire.Options(**options), nodes, list(range(count)))])


async def claimed(app: App, place: str, limit: int = 10, worker: str = "") -> list[int]:
    ask = wire.Ask(worker or f"w-{place}", limit, [f"noob:pool-{place}"])
    found = await app.frame("owner", "/claims", ask, wire.Claimed)
    return [i for lot in found.lots for i in lot.ids]


async def submitted(app: App, body: wire.Submit) -> list[int]:
    answer = await app.frame("client", "/tasks", body, wire.Submitted)
    ids: list[int] = answer.ids
    return ids


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({}, {"lambda-1024", "lambda-4096", "fargate"}),
        ({"memory": 2000 * MIB}, {"lambda-4096", "fargate"}),
        ({"timeout_seconds": 1000.0}, {"fargate"}),
        ({"memory": 8192 * MIB}, {"fargate"}),
        ({"affinity_tags": ("gpu",), "timeout_seconds": 5000.0}, {"gpu"}),
        ({"required_tags": ("x86",)}, {"fargate"}),
    ],
)
async def test_who_gets_a_task(tmp_path: Path, options: Any, places: set[str]) -> None:
    """Exactly the workers of the places that may run it; the others find nothing."""
    for place in ("lambda-1024", "lambda-4096", "fargate", "gpu"):
        async with with_pools(tmp_path) as app:
            ids = await submitted(app, tasks(**options))
            assert await claimed(app, place) == (ids if place in places else [])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"required_tags": ("tpu",)}, "No pool offers all of tpu: lambda-1024 has none;"),
        ({"memory": 9000 * MIB}, "fargate allows any time and 8192 MiB"),
        ({"affinity_tags": ("noob:over-900s",)}, "are ours"),
    ],
)
async def test_what_may_run_nowhere_is_refused(tmp_path: Path, options: Any, said: str) -> None:
    """At submit, with the pools and what they allow; nothing of the request is in the queue."""
    async with with_pools(tmp_path) as app:
        body = tasks(**options)
        body.groups.insert(0, tasks().groups[0])
        body.groups[0].places, body.groups[1].places = [0], [1]
        answer = await app.frame("client", "/tasks", body)
        assert answer.status_code == 422
        assert answer.json()["error"] == "RoutingError"
        assert said in answer.json()["message"]
        assert app.coordinator.desk.stats().live == 0


async def test_a_person_is_told_the_same(tmp_path: Path) -> None:
    """JSON goes the same way, and may say the memory in bytes."""
    async with with_pools(tmp_path) as app:
        task = {"node_id": "n", "epoch": 0, "memory": 9000 * MIB}
        answer = await app.json("client", "POST", "/tasks", {"tasks": [task]})
        assert answer.status_code == 422
        assert answer.json()["error"] == "RoutingError"
        task["memory"] = 2000 * MIB
        answer = await app.json("client", "POST", "/tasks", {"tasks": [task]})
        shown = await app.json("client", "GET", f"/tasks/{answer.json()['ids'][0]}")
        assert shown.json()["required_tags"] == ["noob:over-1024mib", "noob:untagged"]


async def test_a_run_whose_placement_has_no_pool_is_refused(tmp_path: Path) -> None:
    """Before anybody drives it: the message names the node."""
    async with with_pools(tmp_path) as app:
        body = wire.NewRun("cid", 1, None, None, wire.pack({"detect": {"required": ["tpu"]}}))
        answer = await app.frame("client", "/runs", body)
        assert answer.status_code == 422
        assert "The node 'detect': No pool offers all of tpu" in answer.json()["message"]


async def test_without_pools_nothing_is_asked(tmp_path: Path) -> None:
    """A tag that nobody has yet, and a limit that nobody keeps, wait as they always did."""
    async with running(tmp_path) as app:
        await submitted(app, tasks(required_tags=("tpu",), memory=1 << 50))
        assert app.coordinator.desk.stats().ready_by_tags == {"+tpu": 1}
        assert app.coordinator.placing is None


async def test_a_worker_without_the_pools_tag_is_of_no_pool(tmp_path: Path) -> None:
    """The token decides: anna's has no tags, so she is refused the GPU pool's."""
    async with with_pools(tmp_path) as app:
        await submitted(app, tasks(affinity_tags=("gpu",)))
        ask = wire.Ask("anna-1", 1, ["noob:pool-gpu", "gpu"])
        found = await app.frame("anna", "/claims", ask, wire.Claimed)
        assert found.lots == []
        assert await claimed(app, "gpu") == [1]


async def test_a_gpu_worker_takes_no_untagged_task(tmp_path: Path) -> None:
    """Even if it asks for them: its pool was not set to."""
    async with with_pools(tmp_path) as app:
        await submitted(app, tasks())
        ask = wire.Ask("g", 1, ["noob:pool-gpu"], accept_untagged=True)
        assert (await app.frame("owner", "/claims", ask, wire.Claimed)).lots == []


async def fail(app: App, task_id: int, token: Any, error: str, worker: str) -> wire.Settled:
    body = wire.Outcomes(worker, failed=[wire.Failure(task_id, token, error)])
    settled: wire.Settled = await app.frame("owner", "/outcomes", body, wire.Settled)
    return settled


KILLED = (
    "noob_cloud.exceptions.WorkerLostError: the process that ran the task was killed by SIGKILL"
)


async def killed(app: App, place: str, error: str = KILLED) -> None:
    """A worker of the place claims the one ready task, and its attempt is killed."""
    ask = wire.Ask(f"w-{place}", 1, [f"noob:pool-{place}"])
    (lot,) = (await app.frame("owner", "/claims", ask, wire.Claimed)).lots
    await fail(app, lot.ids[0], lot.token, error, f"w-{place}")
    app.coordinator.desk.expire(now=app.coordinator.desk.clock_now() + 400)


async def test_a_task_that_was_killed_for_memory_climbs(tmp_path: Path) -> None:
    """Next it is the larger Lambda's, then Fargate's; it can be looked at and cancelled there."""
    async with with_pools(tmp_path) as app:
        (task_id,) = await submitted(app, tasks())
        await killed(app, "lambda-1024")
        assert await claimed(app, "lambda-1024") == []
        await killed(app, "lambda-4096")
        assert await claimed(app, "lambda-4096") == []
        found = await app.json("client", "GET", f"/tasks/{task_id}")
        assert found.json()["status"] == "ready"
        await killed(app, "fargate")  # there is none larger: again there
        assert await claimed(app, "fargate") == [task_id]
        cancelled = await app.json("client", "POST", f"/tasks/{task_id}/cancel")
        assert cancelled.json() == {"cancelled": True}


async def test_what_was_learned_of_a_node_holds_for_later_tasks(tmp_path: Path) -> None:
    """Also after a restart: it is in the file. Tasks of other nodes stay where they were."""
    async with with_pools(tmp_path, db_path=tmp_path / "q.db") as app:
        await submitted(app, tasks("big"))
        await killed(app, "lambda-1024")
        first, large, last = await submitted(app, tasks(["small", "big", "small"], 3))
        assert await claimed(app, "lambda-1024") == [first, last]
    async with with_pools(tmp_path, db_path=tmp_path / "q.db") as app:
        await submitted(app, tasks("big"))
        assert await claimed(app, "lambda-1024") == []
        assert await claimed(app, "lambda-4096", worker="other") == [1, large, 5]


async def test_one_lost_worker_is_no_proof(tmp_path: Path) -> None:
    """The task goes on in a larger place; others of its node do once it has happened twice."""
    async with with_pools(tmp_path) as app:
        desk = app.coordinator.desk
        for known in ((), ("big",)):
            assert tuple(app.coordinator.placing.learned) == ()
            await submitted(app, tasks("big"))
            ask = wire.Ask("w", 1, ["noob:pool-lambda-1024"])
            (lot,) = (await app.frame("owner", "/claims", ask, wire.Claimed)).lots
            body = wire.Outcomes("w", started=[wire.Held(lot.token, lot.ids)])
            await app.frame("owner", "/outcomes", body, wire.Settled)
            desk.expire(now=desk.clock_now() + 100)
            assert await claimed(app, "lambda-1024") == []
            assert tuple(app.coordinator.placing.learned) == known


async def test_what_a_node_raises_moves_nothing(tmp_path: Path) -> None:
    """An error is no kill: the next attempt is anybody's."""
    async with with_pools(tmp_path) as app:
        await submitted(app, tasks())
        await killed(app, "lambda-1024", "ValueError: 3")
        assert await claimed(app, "lambda-1024") == [1]


async def test_a_task_that_outlives_its_lambda_goes_where_there_is_more_time(
    tmp_path: Path,
) -> None:
    """Handed back after most of the function's time, it would be so again and again."""
    async with with_pools(tmp_path, client_clock=True) as app:
        now = app.coordinator.desk.clock_now()
        await app.frame("client", "/tasks", tasks(timeout_seconds=900.0), **{"Noob-Now": str(now)})
        for held, places in ((100, "lambda-1024"), (800, "lambda-1024")):
            ask = wire.Ask("w", 1, [f"noob:pool-{places}"], lease_seconds=900.0)
            at = {"Noob-Now": str(now)}
            (lot,) = (await app.frame("owner", "/claims", ask, wire.Claimed, **at)).lots
            body = wire.Outcomes("w", released=[wire.Held(lot.token, lot.ids)])
            now += held
            await app.frame("owner", "/outcomes", body, wire.Settled, **{"Noob-Now": str(now)})
        assert await claimed(app, "lambda-4096") == []
        assert await claimed(app, "fargate") == [1]


async def test_each_way_of_asking_is_routed_once(tmp_path: Path) -> None:
    """A thousand tasks alike are one look-up that finds nothing, and the rest finds that."""
    async with with_pools(tmp_path) as app:
        route = app.coordinator.placing.router.route
        before = route.cache_info()
        for _ in range(10):
            await submitted(app, tasks(count=100, memory=2000 * MIB))
        after = route.cache_info()
        assert after.misses - before.misses == 1
        assert after.hits - before.hits == 9
