"""Epochs driven: what is handed out, what waits its turn, how an epoch ends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from noob import SynchronousRunner as Upstream
from noob import Tube
from noob_core.exceptions import SchedulerExhaustedError

from noob_cloud.engine import Engine, StageProgram, Turn, drive_serially
from noob_cloud.exceptions import PlanError
from noob_cloud.plan import Plan
from noob_cloud.task import MISSING

sys.path.insert(0, str(Path(__file__).parent))

N = "noob_cloud_testnodes"
MAPPED: dict[str, Any] = {
    "source": {"type": f"{N}.lists"},
    "each": {"type": "map", "depends": [{"value": "source.items"}]},
    "twice": {"type": f"{N}.double", "depends": [{"value": "each.value"}]},
    "more": {"type": f"{N}.increment", "depends": [{"value": "twice.value"}]},
    "all": {"type": "gather", "depends": [{"value": "more.next"}, {"n": "each.n"}]},
    "out": {"type": "return", "depends": "all.value"},
}


def tube(nodes: dict[str, Any], **more: Any) -> Tube:
    copies = {name: {**node} for name, node in nodes.items()}
    return Tube.from_specification({"noob_id": "engine", "nodes": copies, **more})


def test_map_hands_out_all_rows_at_once() -> None:
    """One list of calls holds a level's work over all subepochs, fused where it can be."""
    engine = Engine(tube(MAPPED))
    drive = engine.drive({})
    asked: Any = next(drive)
    while isinstance(asked, Turn):
        asked = next(drive)

    assert [call.stage.nodes for call in asked] == [("twice", "more")] * 2
    assert [str(call.epoch) for call in asked] == ["(0, ('each', 0))", "(0, ('each', 1))"]
    assert [call.values for call in asked] == [(value,) for (value,) in (c.values for c in asked)]

    drive.close()
    engine.deinit()


def test_source_waits_for_its_turn() -> None:
    """Nothing that keeps state runs before the driver has granted the turn."""
    engine = Engine(tube(MAPPED))
    drive = engine.drive({})

    first = next(drive)

    assert first == Turn(0)
    drive.close()
    engine.deinit()


@pytest.mark.parametrize("remote", [True, False])
def test_driven_epochs_equal_upstreams(*, remote: bool) -> None:
    """Epochs driven with or without remote stages give what upstream's runner gives."""
    engine = Engine(tube(MAPPED))
    upstream = Upstream(tube(MAPPED))

    for _ in range(5):
        finished = drive_serially(engine, remote=remote)
        assert finished.value == upstream.process()
        assert not finished.exhausted
    engine.deinit()
    upstream.deinit()


def test_finished_epoch_shows_its_events() -> None:
    """The events of a driven epoch are made when they are read."""
    engine = Engine(tube(MAPPED))
    finished = drive_serially(engine)

    events = finished.events[finished.epoch]

    assert events["all"]["value"][0]["value"] == finished.value
    assert events["each"]["n"][0]["value"] == len(finished.value)
    engine.deinit()


def test_failed_call_ends_its_epoch() -> None:
    """An exception thrown in is raised, and the next epoch runs."""
    engine = Engine(tube(MAPPED))

    def refuse(call: Any) -> tuple[Any, ...]:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        drive_serially(engine, run=refuse)
    assert drive_serially(engine).epoch.root == 1
    engine.deinit()


def test_exhausted_tube_says_so() -> None:
    """The epoch in which the last source ends is exhausted; the one after it raises."""
    engine = Engine(
        tube(
            {
                "source": {"type": f"{N}.counter", "params": {"limit": 1}},
                "out": {"type": "return", "depends": "source.index"},
            }
        )
    )

    assert drive_serially(engine).value == 0
    last = drive_serially(engine)
    assert last.value is None
    assert last.exhausted
    with pytest.raises(SchedulerExhaustedError):
        drive_serially(engine)
    engine.deinit()


def test_epoch_in_flight_gives_up_when_the_sources_end() -> None:
    """An epoch begun before its predecessor found the end raises at its turn."""
    nodes = {
        "source": {"type": f"{N}.counter", "params": {"limit": 0}},
        "out": {"type": "return", "depends": "source.index"},
    }
    engine = Engine(tube(nodes))
    first, second = engine.drive({}), engine.drive({})
    next(first)
    next(second)

    assert [asked for asked in first if not isinstance(asked, Turn)] == []
    with pytest.raises(SchedulerExhaustedError):
        next(second)
    engine.deinit()


def test_program_knows_its_slots_by_itself() -> None:
    """A worker that has only the tube reads and gives the values in the plan's order."""
    plan = Plan(tube(MAPPED))
    (stage,) = [stage for stage in plan.stages if stage.remote]

    program = StageProgram(tube(MAPPED), stage.nodes)

    assert (program.inputs, program.outputs) == (stage.inputs, stage.outputs)
    assert program(None, (4,)) == (9,)  # type: ignore[arg-type]
    program.deinit()


def test_program_leaves_out_what_cannot_run() -> None:
    """Where nothing comes in, nothing goes out."""
    program = StageProgram(tube(MAPPED), ("twice", "more"))

    assert program(None, (MISSING,)) == (MISSING,)  # type: ignore[arg-type]
    program.deinit()


def test_program_names_the_node_that_raised() -> None:
    """What a node raises carries the node and the epoch."""
    nodes = {
        "source": {"type": f"{N}.counter"},
        "bad": {"type": f"{N}.fail_at", "depends": [{"value": "source.index"}]},
    }
    program = StageProgram(tube(nodes), ["bad"])

    with pytest.raises(ValueError, match=r".") as caught:
        program(7, (2,))  # type: ignore[arg-type]

    assert "raised by node bad in epoch 7" in caught.value.__notes__
    program.deinit()


@pytest.mark.parametrize(
    ("node", "says"),
    [("source", "stateful generator"), ("each", "subepochs"), ("none", "no enabled node")],
)
def test_program_refuses_what_must_stay(node: str, says: str) -> None:
    """Stateful and structural nodes are no stage of a worker."""
    with pytest.raises(PlanError, match=says):
        StageProgram(tube(MAPPED), [node])


def test_sources_that_end_one_by_one_equal_upstreams() -> None:
    """After the first source's end the scheduler core orders the rest, as upstream does."""
    nodes = {
        "short": {"type": f"{N}.counter", "params": {"limit": 2}},
        "long": {"type": f"{N}.counter", "params": {"limit": 4}},
        "a": {"type": f"{N}.double", "depends": [{"value": "short.index"}]},
        "b": {"type": f"{N}.double", "depends": [{"value": "long.index"}]},
        "out": {"type": "return", "depends": [{"a": "a.value"}, {"b": "b.value"}]},
    }
    engine, upstream = Engine(tube(nodes)), Upstream(tube(nodes))

    for _ in range(5):
        assert drive_serially(engine).value == upstream.process()

    assert {row.how for row in engine.explain()} == {"scheduler"}
    engine.deinit()
    upstream.deinit()


@pytest.mark.parametrize("driven", [True, False])
def test_node_that_makes_its_own_events_equals_upstreams(*, driven: bool) -> None:
    """A map of one's own makes subepochs; it is called once for each epoch all the same."""
    nodes = {
        "source": {"type": f"{N}.counter"},
        "halves": {"type": "engine_nodes.Halves", "depends": [{"value": "source.index"}]},
        "twice": {"type": f"{N}.double", "depends": [{"value": "halves.value"}]},
        "out": {"type": "return", "depends": [{"t": "twice.value"}]},
    }
    engine, upstream = Engine(tube(nodes)), Upstream(tube(nodes))

    for _ in range(3):
        ours = drive_serially(engine).value if driven else engine.process()
        assert ours == upstream.process()

    engine.deinit()
    upstream.deinit()


def test_map_that_emits_nothing_costs_one_epoch() -> None:
    """An epoch left to the core for an empty map is followed by compiled ones."""
    nodes = {
        "source": {"type": f"{N}.counter"},
        "some": {"type": f"{N}.spread", "depends": [{"value": "source.index"}]},
        "each": {"type": "map", "depends": [{"value": "some.value"}]},
        "out": {"type": "return", "depends": [{"i": "source.index"}, {"v": "each.value"}]},
    }
    engine, upstream = Engine(tube(nodes)), Upstream(tube(nodes))

    for _ in range(6):
        assert engine.process() == upstream.process()

    assert {row.how for row in engine.explain()} == {"compiled"}
    assert any("left to upstream's scheduler core" in row.why for row in engine.explain())
    engine.deinit()
    upstream.deinit()
