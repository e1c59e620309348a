"""The compiled synchronous runner: upstream's interface, and right where upstream is not."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from noob import SynchronousRunner as Upstream
from noob import Tube
from noob.event import MetaSignal
from noob_core.exceptions import SchedulerExhaustedError

from noob_cloud.engine import drive_serially
from noob_cloud.exceptions import PlacementError
from noob_cloud.runner.synchronous import SynchronousRunner

sys.path.insert(0, str(Path(__file__).parent))
import engine_nodes

N = "noob_cloud_testnodes"
CHAIN: dict[str, Any] = {
    "source": {"type": f"{N}.counter"},
    "twice": {"type": f"{N}.double", "depends": [{"value": "source.index"}]},
    "out": {"type": "return", "depends": "twice.value"},
}


def tube(nodes: dict[str, Any], **more: Any) -> Tube:
    copies = {name: {**node} for name, node in nodes.items()}
    return Tube.from_specification({"noob_id": "sync", "nodes": copies, **more})


@pytest.fixture(autouse=True)
def seen() -> list[str]:
    engine_nodes.SEEN.clear()
    return engine_nodes.SEEN


def test_interface_is_upstreams() -> None:
    """Whatever upstream's runner has in public, ours has."""
    public = {name for name in dir(Upstream) if not name.startswith("_")}

    assert public <= set(dir(SynchronousRunner))


def test_lifecycle() -> None:
    """Process initialises by itself, run does not deinitialise, iter does."""
    runner = SynchronousRunner(tube(CHAIN))
    assert not runner.running
    assert runner.process() == 0
    assert runner.running
    assert runner.run(n=2) == [2, 4]
    assert runner.running
    runner.deinit()
    assert not runner.running
    assert list(runner.iter(n=2)) == [0, 2]
    assert not runner.running
    with runner:
        assert runner.running
    assert not runner.running


def test_exhaustion() -> None:
    """Run keeps what it has; process raises; iter lets the end escape and deinitialises."""
    nodes = {**CHAIN, "source": {"type": f"{N}.counter", "params": {"limit": 2}}}

    runner = SynchronousRunner(tube(nodes))
    assert runner.run() == [0, 2]
    with pytest.raises(SchedulerExhaustedError):
        runner.process()

    other = SynchronousRunner(tube(nodes))
    with pytest.raises(SchedulerExhaustedError):
        list(other.iter())
    assert not other.running


@pytest.mark.parametrize("scope", ["process", "node"])
def test_assets_exit_when_a_node_raises(scope: str, seen: list[str]) -> None:
    """An exception leaves no asset entered, and the next epoch works."""
    runner = SynchronousRunner(
        tube(
            {
                "source": {"type": f"{N}.counter"},
                "bad": {
                    "type": "engine_nodes.fails_once",
                    "depends": [{"value": "source.index"}, {"thing": "assets.thing"}],
                },
                "out": {"type": "return", "depends": "bad.value"},
            },
            assets={"thing": {"type": "engine_nodes.resource", "scope": scope}},
        )
    )

    assert runner.process() == 0
    with pytest.raises(ValueError, match="no 1"):
        runner.process()
    assert runner.process() == 2

    assert seen == ["enter resource", "exit resource"] * 3
    runner.deinit()


@pytest.mark.parametrize("scope", ["process", "node", "runner"])
@pytest.mark.parametrize("path", ["compiled", "driven"])
def test_assets_exit_though_another_cannot(scope: str, path: str, seen: list[str]) -> None:
    """What one asset raises on its way out is raised, after every other one has left."""
    runner = SynchronousRunner(
        tube(
            {
                "source": {"type": f"{N}.counter"},
                "use": {
                    "type": f"{N}.gather_kwargs",
                    "depends": [
                        {"value": "source.index"},
                        {"one": "assets.one"},
                        {"two": "assets.two"},
                        {"three": "assets.three"},
                    ],
                },
                "out": {"type": "return", "depends": "use.value"},
            },
            assets={
                name: {"type": f"engine_nodes.{kind}", "scope": scope, "params": {"name": name}}
                for name, kind in {"one": "sticky", "two": "sticky", "three": "resource"}.items()
            },
        )
    )

    with pytest.raises(RuntimeError, match=r"(one|two) sticks"):  # noqa: PT012 - by scope
        if path == "driven":
            drive_serially(runner.engine)
        else:
            runner.process()
        runner.deinit()

    assert sorted(seen) == sorted(
        f"{what} {name}" for what in ("enter", "exit") for name in ("one", "two", "three")
    )


def test_store_shows_how_far_a_failed_epoch_came() -> None:
    """The events before an exception can be read after it."""
    nodes = {
        "source": {"type": f"{N}.counter"},
        "bad": {"type": "engine_nodes.fails_once", "depends": [{"value": "source.index"}]},
    }
    runner = SynchronousRunner(tube(nodes))
    runner.process()
    with pytest.raises(ValueError, match="no 1"):
        runner.process()

    ((epoch, events),) = runner.store.events.items()

    assert epoch.root == 1
    assert set(events) == {"source"}
    runner.deinit()


def test_node_that_cannot_begin_leaves_the_others_ended(seen: list[str]) -> None:
    """If a node's init raises, those before it are deinitialised and nothing is running."""
    runner = SynchronousRunner(
        tube(
            {
                "good": {"type": "engine_nodes.Watched"},
                "bad": {"type": "engine_nodes.Watched", "params": {"fail": "init"}},
            }
        )
    )

    with pytest.raises(RuntimeError, match="bad cannot begin"):
        runner.init()

    assert seen == ["init good", "init bad", "deinit good"]
    assert not runner.running


def test_node_that_cannot_end_does_not_keep_the_others(seen: list[str]) -> None:
    """Every node is deinitialised, whatever one of them raises."""
    runner = SynchronousRunner(
        tube(
            {
                "bad": {"type": "engine_nodes.Watched", "params": {"fail": "deinit"}},
                "good": {"type": "engine_nodes.Watched"},
            }
        )
    )
    runner.init()

    with pytest.raises(RuntimeError, match="bad cannot end"):
        runner.deinit()

    assert seen == ["init bad", "init good", "deinit bad", "deinit good"]
    assert not runner.running


def test_deinit_without_init_does_nothing(seen: list[str]) -> None:
    """What was not initialised is not deinitialised, nor is it twice."""
    runner = SynchronousRunner(tube({"one": {"type": "engine_nodes.Watched"}}))
    runner.deinit()
    runner.init()
    runner.deinit()
    runner.deinit()

    assert seen == ["init one", "deinit one"]


def test_disabled_node_leaves_and_comes_back(seen: list[str]) -> None:
    """Disabling and enabling a node compiles the plan anew, and ends and begins the node."""
    runner = SynchronousRunner(
        tube(
            {
                "one": {"type": "engine_nodes.Watched"},
                "out": {"type": "return", "depends": "one.value"},
            }
        )
    )
    assert runner.process() == 1
    runner.disable_node("one")
    assert runner.process() is None
    assert [row.where for row in runner.explain() if row.node == "one"] == ["off"]
    runner.enable_node("one")
    assert runner.process() == 1
    runner.deinit()

    assert seen == ["init one", "deinit one", "init one", "deinit one"]


def test_bare_no_event_holds_for_every_signal() -> None:
    """A node of several signals that returns NoEvent emits NoEvent in each."""
    runner = SynchronousRunner(
        tube(
            {
                "source": {"type": f"{N}.counter"},
                "none": {"type": "engine_nodes.silent", "depends": [{"value": "source.index"}]},
                "out": {"type": "return", "depends": [{"a": "none.a"}]},
            }
        )
    )

    assert runner.process() is None
    ((_, events),) = runner.store.events.items()
    assert [events["none"][name][0]["value"] for name in ("a", "b")] == [MetaSignal.NoEvent] * 2
    runner.deinit()


def test_callbacks_see_events_then_the_end() -> None:
    """Callbacks get each node's events in order, and the epoch's end last."""
    runner = SynchronousRunner(tube(CHAIN))
    seen: list[tuple[str, Any]] = []
    runner.add_callback(lambda event: seen.append((event["node_id"], event["value"])))
    runner.process()
    runner.deinit()

    assert [node for node, _ in seen] == ["source", "twice", "out", "meta"]
    assert seen[0] == ("source", 0)


def test_callback_may_come_late() -> None:
    """A callback that is added between epochs sees those that follow."""
    runner = SynchronousRunner(tube(CHAIN))
    seen: list[str] = []
    runner.process()
    runner.add_callback(lambda event: seen.append(event["node_id"]))
    runner.process()
    runner.deinit()

    assert seen == ["source", "twice", "out", "meta"]


def test_store_is_of_the_last_epoch() -> None:
    """Events are made once, when read, and stay until the next epoch."""
    runner = SynchronousRunner(tube(CHAIN))
    runner.process()
    runner.process()

    first = runner.store.events
    assert [epoch.root for epoch in first] == [1]
    assert runner.store.events is first
    assert runner.store.get("twice", "value", next(iter(first)))["value"] == 2
    assert runner.collect_return() == 2
    runner.deinit()


def test_coroutine_runs_inside_a_running_loop() -> None:
    """A coroutine node works whether or not an event loop runs in this thread."""
    nodes = {
        "source": {"type": f"{N}.counter", "params": {"start": 3}},
        "later": {"type": f"{N}.async_double", "depends": ["source.index"]},
        "out": {"type": "return", "depends": "later.value"},
    }
    runner = SynchronousRunner(tube(nodes))

    async def inside() -> Any:
        return runner.process()

    assert runner.process() == 6
    assert asyncio.run(inside()) == 8
    runner.deinit()


def test_collect_return_keeps_one_epoch() -> None:
    """Only the last epoch's value is kept."""
    runner = SynchronousRunner(tube(CHAIN))
    runner.process()

    with pytest.raises(ValueError, match="single epoch"):
        runner.collect_return(epoch=object())  # type: ignore[arg-type]
    runner.deinit()


def test_upstream_goes_on_where_ours_has_ended() -> None:
    """A second runner of ours on the same tube goes on with the nodes as they are."""
    one = tube(CHAIN)
    with SynchronousRunner(one) as runner:
        assert runner.run(n=2) == [0, 2]
    with SynchronousRunner(one) as runner:
        assert runner.run(n=2) == [0, 2]


def test_placement_is_checked_at_once() -> None:
    """A placement that does not fit the tube is refused when the runner is made."""
    with pytest.raises(PlacementError, match="nobody"):
        SynchronousRunner(tube(CHAIN), affinity={"nobody": ["gpu"]})
    runner = SynchronousRunner(tube(CHAIN), affinity={"twice": ["gpu"]})
    assert [row.affinity for row in runner.explain() if row.node == "twice"] == [("gpu",)]
