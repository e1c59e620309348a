"""The scheduler of the core, held against the standard library's."""

from __future__ import annotations

import graphlib
from array import array
from itertools import pairwise
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noob_cloud.native import core

if core is None:
    pytest.skip("the Rust core is not installed", allow_module_level=True)

DIAMOND = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]


def scheduler(nodes: Any = "abcd", edges: Any = DIAMOND, **more: Any) -> Any:
    return core.FastScheduler(nodes, edges, **more)


def test_names_numbers_and_buffers_say_the_same():
    numbers = [(0, 1), (0, 2), (1, 3), (2, 3)]
    flat = array("I", [number for edge in numbers for number in edge])
    assert scheduler().topological_sort() == ["a", "b", "c", "d"]
    assert scheduler(4, numbers).topological_sort() == [0, 1, 2, 3]
    assert scheduler(4, flat).levels() == [[0], [1, 2], [3]]
    assert (len(scheduler()), scheduler().edges) == (4, 4)


def test_a_cycle_is_the_standard_library_s_error_and_says_the_way_around():
    with pytest.raises(graphlib.CycleError) as raised:
        scheduler("abc", [("a", "b"), ("b", "c"), ("c", "a")])
    assert str(raised.value.args[0]) == "nodes are in a cycle: a -> b -> c -> a"
    assert raised.value.args[1] == ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    ("nodes", "edges", "error", "said"),
    [
        (2, [(0, 2)], KeyError, "no node is called 2"),
        (2, [(-1, 0)], KeyError, "no node is called -1"),
        (2, array("I", [0, 2]), ValueError, "names node 2; there are 2"),
        ("ab", [("a", "x")], KeyError, "no node is called x"),
        ("aa", [], ValueError, "two nodes are called a"),
        (2, array("I", [0]), ValueError, "two numbers for each, not 1"),
        (2, [(0, 1, 2)], ValueError, "length 2"),
        (-1, [], OverflowError, None),
        ((1 << 26) + 1, [], OverflowError, "up to 2\\^26 nodes"),
        (2, 7, TypeError, None),
    ],
)
def test_what_is_no_graph_is_refused(nodes, edges, error, said):
    with pytest.raises(error, match=said):
        scheduler(nodes, edges)


def test_epochs_run_side_by_side():
    made = scheduler()
    made.add_epoch(0)
    made.add_epoch(1)
    assert made.get_ready(0) == ["a"]
    assert made.done_and_ready(0, ["a"]) == ["b", "c"]
    assert made.get_ready(1, 0) == []
    assert made.get_ready(1, 1) == ["a"]
    made.done(0, ("b", "c"))
    assert made.done_and_ready(0, made.get_ready(0)) == []
    assert not made.is_active(0)
    assert made.is_active(1)
    assert made.end_epoch(1)
    assert made.in_flight == 1


def test_misuse_is_told():
    made = scheduler(limit=1)
    made.add_epoch(0)
    for work, error, said in (
        (lambda: made.add_epoch(0), ValueError, "in flight already"),
        (lambda: made.add_epoch(1), OverflowError, "there may be 1 epochs"),
        (lambda: made.add_epoch(1 << 63), ValueError, "is not below 2"),
        (lambda: made.done(0, ["a"]), ValueError, "node a of epoch 0 has not been handed out"),
        (lambda: made.done(7, []), KeyError, "epoch 7"),
        (lambda: made.get_ready(7), KeyError, "epoch 7 is not in flight"),
        (lambda: made.expand(0, "a", 3), ValueError, "node a is no map"),
        (lambda: made.done(0, ["z"]), KeyError, "no node is called z"),
    ):
        with pytest.raises(error, match=said):
            work()
    made.done(0, [])


def test_maps_and_gathers():
    edges = [("list", "map"), ("map", "work"), ("work", "gather")]
    made = scheduler(["list", "map", "work", "gather"], edges, scopes={"work": "map"})
    made.add_epoch(0)
    made.done(0, made.get_ready(0))
    assert made.get_ready(0) == ["map"]
    items = made.expand(0, "map", 3)
    assert list(items) == [items[0], items[0] + 1, items[0] + 2]
    ready = made.get_ready_within(0)
    assert ready == [(item, "work") for item in items]
    made.done(items[0], ["work"])
    made.expire(items[1], ["work"])
    assert made.get_ready_within(0) == []
    made.done(items[2], ["work"])
    assert made.get_ready_within(0, 5) == [(0, "gather")]


def test_names_are_known_by_what_they_say():
    """Equal names will do; the objects that were handed out are only found sooner."""
    made = scheduler(["".join(("no", "de", str(n))) for n in range(3)], [("node0", "node1")])
    made.add_epoch(0)
    assert made.get_ready(0) == ["node0", "node2"]
    assert made.done_and_ready(0, {"node0": None}) == ["node1"]
    numbers = scheduler(1000, [(998, 999)])
    numbers.add_epoch(0)
    assert len(numbers.get_ready(0)) == 999
    numbers.done(0, [int(str(number)) for number in range(998)])
    assert numbers.done_and_ready(0, [998]) == [999]


def test_an_epoch_begins_again():
    made = scheduler()
    made.add_epoch(3)
    made.done(3, made.get_ready(3))
    made.reset(3)
    assert made.get_ready(3) == ["a"]
    with pytest.raises(KeyError, match="epoch 4 is not in flight"):
        made.reset(4)


def test_an_item_waits_for_what_is_outside_of_its_map():
    """What expired outside before the map was expanded keeps the items' dependents from running."""
    edges = [("list", "map"), ("list", "side"), ("map", "work"), ("side", "work")]
    made = scheduler(["list", "map", "side", "work"], edges, scopes={"work": "map"})
    for expires in (True, False):
        made.add_epoch(0)
        made.done(0, made.get_ready(0))
        assert made.get_ready(0) == ["map", "side"]
        made.expire(0, ["side"]) if expires else made.done(0, ["side"])
        items = made.expand(0, "map", 2)
        ready = made.get_ready_within(0)
        assert ready == ([] if expires else [(item, "work") for item in items])
        assert made.is_active(0) is not expires
        made.end_epoch(0)


@pytest.mark.parametrize(
    ("scopes", "said"),
    [
        ({"a": "a"}, "node a is in its own scope"),
        ({"b": "a", "c": "b", "d": "b"}, None),
        ({"c": "a", "d": "b"}, "the edge c -> d leaves more than one scope"),
    ],
)
def test_scopes_that_do_not_fit_are_told(scopes, said):
    edges = [("a", "b"), ("b", "c"), ("c", "d")]
    if said is None:
        assert len(scheduler("abcd", edges, scopes=scopes)) == 4
        return
    with pytest.raises(ValueError, match=said):
        scheduler("abcd", edges, scopes=scopes)


def test_what_expires_takes_its_dependents_along():
    made = scheduler()
    made.add_epoch(0)
    made.expire(0, made.get_ready(0))
    assert not made.is_active(0)


def test_threads_share_it():
    made = scheduler(100, [(n, n + 1) for n in range(99)])

    def run(epoch: int) -> None:
        made.add_epoch(epoch)
        ready = made.get_ready(epoch)
        while ready:
            ready = made.done_and_ready(epoch, ready)

    threads = [Thread(target=run, args=(epoch,)) for epoch in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(made.is_active(epoch) for epoch in range(8))


edges = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=60)


@given(edges)
def test_it_agrees_with_the_standard_library(edges):
    theirs = graphlib.TopologicalSorter({node: [] for node in range(20)})
    for before, after in edges:
        theirs.add(after, before)
    try:
        theirs.prepare()
    except graphlib.CycleError:
        with pytest.raises(graphlib.CycleError) as raised:
            scheduler(20, edges)
        around = raised.value.args[1]
        assert all(step in edges for step in pairwise(around))
        return
    ours = scheduler(20, edges)
    ours.add_epoch(0)
    mine = ours.get_ready(0)
    levels = []
    while theirs.is_active():
        ready = theirs.get_ready()
        assert sorted(mine) == sorted(ready)
        levels.append(sorted(ready))
        theirs.done(*ready)
        mine = ours.done_and_ready(0, mine)
    assert not ours.is_active(0)
    assert ours.levels() == levels
    place = {node: at for at, node in enumerate(ours.topological_sort())}
    assert all(place[before] < place[after] for before, after in edges)
