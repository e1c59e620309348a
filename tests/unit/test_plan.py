"""A tube compiled once: stages, levels, turns, and what `explain` says."""

from __future__ import annotations

from typing import Any

import pytest
from noob import Tube

from noob_cloud.plan import Plan, load_tube
from noob_cloud.plan.load import LateCore

CHAIN = {
    "source": {"type": "noob_cloud_testnodes.counter"},
    "a": {"type": "noob_cloud_testnodes.double", "depends": [{"value": "source.index"}]},
    "b": {"type": "noob_cloud_testnodes.double", "depends": [{"value": "a.value"}]},
    "c": {"type": "noob_cloud_testnodes.double", "depends": [{"value": "b.value"}]},
    "out": {"type": "return", "depends": "c.value"},
}


def spec(nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "noob_id": "plan",
        "nodes": {name: {**node} for name, node in nodes.items()},
        **more,
    }


def tube(nodes: dict[str, Any], **more: Any) -> Tube:
    return Tube.from_specification(spec(nodes, **more))


def test_chain_of_stateless_nodes_is_one_stage() -> None:
    """Stateless nodes in a row are fused; only what is read outside the stage leaves it."""
    plan = Plan(tube(CHAIN))

    (stage,) = [stage for stage in plan.stages if stage.remote]

    assert stage.nodes == ("a", "b", "c")
    assert [plan.graph.names[slot] for slot in stage.inputs] == [("source", "index")]
    assert [plan.graph.names[slot] for slot in stage.outputs] == [("c", "value")]


def test_chain_is_not_fused_on_request() -> None:
    """Without fusing each node is a stage, and gives back all its signals."""
    plan = Plan(tube(CHAIN), fuse=False)

    assert [stage.nodes for stage in plan.stages if stage.remote] == [("a",), ("b",), ("c",)]


def test_other_tags_end_a_chain() -> None:
    """A node with tags of its own is not fused with its neighbours."""
    plan = Plan(tube(CHAIN), {"b": {"affinity": ["gpu"]}})

    remote = [stage for stage in plan.stages if stage.remote]

    assert [stage.nodes for stage in remote] == [("a",), ("b",), ("c",)]
    assert remote[1].affinity == {"gpu"}


def test_second_reader_ends_a_chain() -> None:
    """What two nodes read is given back, so that both can have it."""
    nodes = {
        **CHAIN,
        "d": {"type": "noob_cloud_testnodes.double", "depends": [{"value": "a.value"}]},
    }
    plan = Plan(tube(nodes))

    assert ("a",) in [stage.nodes for stage in plan.stages]
    assert ("b", "c") in [stage.nodes for stage in plan.stages]


def test_levels_rise_along_edges() -> None:
    """A stage stands above everything that it reads; local levels are even, remote ones odd."""
    plan = Plan(tube(CHAIN), fuse=False)
    level = {node: stage.level for stage in plan.stages for node in stage.nodes}

    assert level == {"source": 0, "a": 1, "b": 3, "c": 5, "out": 6}
    assert [stage.level for stages in plan.levels for stage in stages] == sorted(level.values())


def test_stateful_stage_takes_a_turn() -> None:
    """Sources wait for their turn; return nodes keep nothing between epochs."""
    plan = Plan(tube(CHAIN))
    turns = {stage.nodes[0]: plan.turn_of(stage) for stage in plan.stages}

    assert turns == {"source": 0, "a": None, "out": None}


def test_nodes_that_share_an_asset_take_one_turn() -> None:
    """Nodes that touch one asset hold their turn until the last of them has run."""
    plan = Plan(
        tube(
            {
                "first": {
                    "type": "noob_cloud_testnodes.identity",
                    "depends": [{"value": "assets.count"}],
                },
                "far": {
                    "type": "noob_cloud_testnodes.double",
                    "depends": [{"value": "first.value"}],
                },
                "last": {
                    "type": "noob_cloud_testnodes.add",
                    "depends": [{"left": "far.value"}, {"right": "assets.count"}],
                },
            },
            assets={"count": {"type": "builtins.int", "scope": "runner"}},
        )
    )
    turns = {stage.nodes[0]: plan.turn_of(stage) for stage in plan.stages}

    assert turns == {"first": 2, "far": None, "last": 2}


def test_explain_says_why() -> None:
    """Every node is explained: how it is ordered, where it runs and why."""
    nodes = {**CHAIN, "off": {"type": "noob_cloud_testnodes.counter", "enabled": False}}
    rows = {row.node: row for row in Plan(tube(nodes)).explain()}

    assert rows["source"].where == "pinned"
    assert "epoch order" in rows["source"].why
    assert rows["b"].where == "remote"
    assert rows["b"].fused
    assert "a -> b -> c" in rows["b"].why
    assert rows["off"].where == "off"
    assert all(row.how == "compiled" for row in rows.values())


def test_strange_order_is_left_to_the_core() -> None:
    """A node in and outside of a map's subepochs has no fixed order; `explain` says so."""
    plan = Plan(
        tube(
            {
                "source": {"type": "noob_cloud_testnodes.lists"},
                "each": {"type": "map", "depends": [{"value": "source.items"}]},
                "both": {"type": "noob_cloud_testnodes.double", "depends": [{"value": "each.n"}]},
                "out": {"type": "return", "depends": ["both.value"]},
            }
        )
    )

    assert plan.graph.irregular is not None
    assert {row.how for row in plan.explain()} == {"scheduler"}


def test_scopes_follow_maps() -> None:
    """Nodes behind a map run in its subepochs, up to the gather that ends it."""
    plan = Plan(
        tube(
            {
                "source": {"type": "noob_cloud_testnodes.lists"},
                "each": {"type": "map", "depends": [{"value": "source.items"}]},
                "twice": {
                    "type": "noob_cloud_testnodes.double",
                    "depends": [{"value": "each.value"}],
                },
                "all": {
                    "type": "gather",
                    "depends": [{"value": "twice.value"}, {"n": "each.n"}],
                },
                "out": {"type": "return", "depends": "all.value"},
            }
        )
    )
    scopes = {step.id: step.scope for step in plan.steps}

    assert scopes["twice"] == scopes["all"] == ("each",)
    assert scopes["each"] == scopes["out"] == ()


def test_stale_plan_says_so() -> None:
    """Disabling a node makes a plan stale."""
    one = tube(CHAIN)
    plan = Plan(one)
    assert plan.fresh

    one.disable_node("b")

    assert not plan.fresh


def test_loaded_tube_is_upstreams() -> None:
    """The quick loader gives what upstream's loader gives."""
    ours, theirs = load_tube(spec(CHAIN)), tube(CHAIN)

    assert ours.edges == theirs.edges
    assert ours.spec == theirs.spec
    assert list(ours.nodes) == list(theirs.nodes)
    for name, node in theirs.nodes.items():
        mine = ours.nodes[name]
        assert type(mine) is type(node)
        assert mine.signals == node.signals
        assert mine.slots == node.slots
        assert mine.stateful == node.stateful
        assert mine.enabled == node.enabled
    assert set(ours.scheduler.source_nodes) == set(theirs.scheduler.source_nodes)


def test_loaded_tube_runs_upstream() -> None:
    """Upstream's runner runs a tube of the quick loader; its core is made when it is needed."""
    from noob import SynchronousRunner  # noqa: PLC0415 - the peer

    one = load_tube(spec(CHAIN))
    assert isinstance(one.scheduler._core, LateCore)

    assert SynchronousRunner(one).run(n=3) == [0, 8, 16]


@pytest.mark.parametrize(
    "nodes",
    [
        {
            "a": {"type": "noob_cloud_testnodes.double", "depends": [{"value": "b.value"}]},
            "b": {"type": "noob_cloud_testnodes.double", "depends": [{"value": "a.value"}]},
        },
        {
            "source": {"type": "noob_cloud_testnodes.lists"},
            "x": {"type": "map", "depends": [{"value": "source.items"}]},
            "y": {"type": "map", "depends": [{"value": "source.items"}]},
            "z": {"type": "noob_cloud_testnodes.add", "depends": ["x.value", "y.value"]},
        },
    ],
    ids=["a cycle", "two unrelated maps"],
)
def test_loader_refuses_what_upstream_refuses(nodes: dict[str, Any]) -> None:
    """What upstream's validators refuse is refused with the same error."""
    with pytest.raises(Exception, match=r".") as theirs:
        tube(nodes)
    with pytest.raises(type(theirs.value)):
        load_tube(spec(nodes))
