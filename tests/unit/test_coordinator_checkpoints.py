"""A follower's checkpoint in a coordinator: whose it is, what is refused, a lost answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from noob_cloud.coordinator import wire
from noob_cloud.coordinator.pools import PoolsSettings

from .coordinator_app import App, running

if TYPE_CHECKING:
    from pathlib import Path

GROUP = wire.Group(wire.Options(), "n", [0, 1], ["a", "b"])


def body(expected: int = 0, marks: tuple[int, ...] = (5, 6), **more: Any) -> wire.Move:
    return wire.Move(expected, b"state", wire.Submit([GROUP] if marks else []), list(marks), **more)


async def move(app: App, given: wire.Move, who: str = "client", name: str = "chain") -> Any:
    return await app.frame(who, f"/checkpoints/{name}", given)


def test_a_checkpoint_is_its_makers_own(tmp_path: Path) -> None:
    """Another identity's of the same name is another one."""

    async def work() -> None:
        async with running(tmp_path) as app:
            assert (await move(app, body())).json() == {"ids": [1, 2]}
            assert (await move(app, body(), "owner")).json() == {"ids": [3, 4]}
            found = await app.json("client", "GET", "/checkpoints/chain")
            assert found.json() == {"version": 1, "state": "c3RhdGU="}

    asyncio.run(work())


def test_a_worker_may_not(tmp_path: Path) -> None:
    """A token for work alone neither moves nor sees a checkpoint."""

    async def work() -> None:
        async with running(tmp_path) as app:
            assert (await move(app, body(), "anna")).status_code == 403
            assert (await app.json("anna", "GET", "/checkpoints/chain")).status_code == 403

    asyncio.run(work())


def test_a_request_whose_answer_was_lost(tmp_path: Path) -> None:
    """Sent again it answers with the same ids, submits nothing, and is no conflict."""
    again = wire.Move(0, b"state", wire.Submit([GROUP], "once-1"), [5, 6])

    async def work() -> None:
        async with running(tmp_path) as app:
            first, second = await move(app, again), await move(app, again)
            assert first.json() == second.json() == {"ids": [1, 2]}
            assert (await app.json("client", "GET", "/stats")).json()["queue"]["ready"] == 2
            other = await move(app, body())
            assert other.status_code == 409
            assert "'chain' is at version 1, not 0" in other.json()["message"]

    asyncio.run(work())


def test_who_waits_for_what_is_taken_back_learns_of_it(tmp_path: Path) -> None:
    """A cancelled task has its outcome for those who wait."""

    async def work() -> None:
        async with running(tmp_path) as app:
            await move(app, body())
            waiting = asyncio.create_task(
                app.frame("client", "/settled", wire.Wait([2], 20.0), wire.Views)
            )
            await asyncio.sleep(0)
            await move(app, body(1, (), undo_above=5))
            (found,) = (await waiting).tasks
            assert (found.task_id, found.status) == (2, "cancelled")

    asyncio.run(work())


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (body(marks=(5,)), 422),
        (wire.Move(0, bytes((1 << 20) + 1), wire.Submit([])), 422),
        (wire.Move(-1, b"", wire.Submit([])), 422),
        (wire.Move(0, b"", wire.Submit([GROUP]), [-1, 2]), 422),
        (wire.Move(0, b"", wire.Submit([GROUP] * 3), [1] * 6), 413),
        (wire.Submit([GROUP]), 422),
    ],
)
def test_what_is_refused(tmp_path: Path, given: Any, status: int) -> None:
    """A body out of its bounds is a clear error, and nothing is done."""

    async def work() -> None:
        async with running(tmp_path, max_batch=5) as app:
            found = await move(app, given)
            assert found.status_code == status, found.text
            assert (await app.json("client", "GET", "/stats")).json()["queue"]["ready"] == 0
            assert (await app.json("client", "GET", "/checkpoints/chain")).json()["version"] == 0

    asyncio.run(work())


def test_no_frame_and_no_name(tmp_path: Path) -> None:
    """JSON is not taken, and a name has its bounds."""

    async def work() -> None:
        async with running(tmp_path) as app:
            assert (await app.json("client", "POST", "/checkpoints/chain", {})).status_code == 422
            assert (await move(app, body(), name="x" * 201)).status_code == 422

    asyncio.run(work())


def test_offers_go_to_workers_outside_the_pools(tmp_path: Path) -> None:
    """Where there are pools, the chain's workers are one: no other worker gets its tasks."""
    pools = PoolsSettings.model_validate(
        [
            {"name": "lambda", "kind": "lambda", "sizes": {"1024": "f"}},
            {"name": "chain", "kind": "own", "tags": ["chain"], "accept_untagged": False},
        ]
    )
    options = wire.Options(required_tags=("chain",), timeout_seconds=6 * 3600.0)
    given = wire.Move(0, b"", wire.Submit([wire.Group(options, "chain_event", [0])]), [7])

    async def work() -> None:
        async with running(tmp_path, pools=pools, scale_pools=False) as app:
            assert (await move(app, given)).status_code == 200
            for tags in ([], ["gpu"], ["noob:pool-lambda-1024"]):
                ask = wire.Ask("w", 1, tags)
                assert not (await app.frame("owner", "/claims", ask, wire.Claimed)).lots
            ask = wire.Ask("w", 1, ["chain", "noob:pool-chain"])
            (lot,) = (await app.frame("owner", "/claims", ask, wire.Claimed)).lots
            assert lot.ids == [1]

    asyncio.run(work())
