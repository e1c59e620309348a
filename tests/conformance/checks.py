"""What must hold for every runner, as plain functions: `check_xxx(make, ...)`.

Each asserts. They run on the real runners, and on broken ones, which they must notice.
Upstream's SynchronousRunner on the same tube says what is right, except where it is defective.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from noob.exceptions import NoobError
from noob_cloud_testnodes import LOG, BadTileError
from noob_cloud_testtubes import Case, Failure, case, chain, load, node, result, scalar, tube_spec

from .beyond import beyond_upstream
from .observe import (
    Factory,
    Oracle,
    Seen,
    UpstreamHangsError,
    attempt,
    freeze,
    see_iter,
    see_process,
    see_run,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_ORACLE: dict[tuple[str, str], Seen] = {}


def oracle(see: Callable[..., Seen], one: Case, **options: Any) -> Seen:
    """What upstream does; worked out once for each case."""
    key = (one.id, f"{see.__name__} {options}")
    if key not in _ORACLE:
        _ORACLE[key] = see(Oracle, one, **options)
    return _ORACLE[key]


# ---- results


def check_process(make: Factory, one: Case) -> None:
    """Each call of `process` gives what upstream gives; nodes and assets live as long."""
    _compare(see_process(make, one), oracle(see_process, one), one)


def check_run(make: Factory, one: Case) -> None:
    """`run` gives the results that are not None, in order, and does not end the runner."""
    _compare(see_run(make, one), oracle(see_run, one), one)


def check_iter(make: Factory, one: Case) -> None:
    """`iter` yields in order, passes over None, ends the runner, and lets exhaustion escape."""
    _compare(see_iter(make, one), oracle(see_iter, one), one)


def check_generated(make: Factory, one: Case) -> None:
    """All of it for a tube that was made up."""
    expected = see_process(Oracle, one, callbacks=True, store=True)
    ran = see_run(Oracle, one)
    found = see_process(make, one, callbacks=True, store=True)
    if beyond_upstream(one, ran):
        # Whoever cannot follow upstream there must not be worse.
        assert [outcome[0] == "raised" for outcome in found.outcomes] <= [
            outcome[0] == "raised" for outcome in expected.outcomes
        ]
        return
    _compare(found, expected, one)
    _compare_events(found, expected, one, exact=True)
    assert [_without_returns(store, one) for store in found.stores] == [
        _without_returns(store, one) for store in expected.stores
    ]
    _compare(see_run(make, one), ran, one)


def check_generated_results(make: Factory, one: Case) -> None:
    """The results of a tube that was made up."""
    expected, ran = see_process(Oracle, one), see_run(Oracle, one)
    if not beyond_upstream(one, ran):
        _compare(see_process(make, one), expected, one)
        _compare(see_run(make, one), ran, one)


# ---- what can be seen from outside


def check_callbacks(make: Factory, one: Case, *, exact: bool = True) -> None:
    """Callbacks get each node's events in order, and then the end of the epoch.

    Where nodes run elsewhere, fused nodes need not tell what they say among themselves
    (`exact=False`).
    """
    expected = oracle(see_process, one, callbacks=True)
    found = see_process(make, one, callbacks=True)
    _compare(found, expected, one)
    _compare_events(found, expected, one, exact=exact)


def check_store(make: Factory, one: Case, *, exact: bool = True) -> None:
    """`store.events` holds the events of the last epoch."""
    expected = oracle(see_process, one, store=True)
    found = see_process(make, one, store=True)
    _compare(found, expected, one)
    for outcome, stored, meant in zip(
        expected.outcomes, found.stores, expected.stores, strict=True
    ):
        if outcome[0] == "raised":
            continue  # no epoch, no events
        ours, theirs = _without_returns(stored, one), _without_returns(meant, one)
        if exact:
            assert ours == theirs
            continue
        for epoch, nodes in ours.items():
            for node_id, signals in nodes.items():
                assert one.overwrites or signals == theirs[epoch][node_id]
        shown = {node_id for nodes in ours.values() for node_id in nodes}
        assert _boundary(one) & _nodes_of(theirs) <= shown


def check_compiled(make: Factory, one: Case) -> None:
    """Every node of the tube is on the compiled path, and `explain` says so."""
    runner = make(one.tube())
    rows = runner.explain()
    assert {row.node for row in rows} == set(one.spec["nodes"])
    assert [row.node for row in rows if row.how != "compiled"] == []
    assert all(row.why for row in rows)


# ---- life cycle


_LIFE = tube_spec(
    "conformance-life",
    {
        "src": node("counter"),
        "a": node("double", "value=src.index"),
        "s": node("Scale", "value=a.value"),
        "w": node("Window", "value=s.scaled", params={"name": "w"}),
        "l": node("append", "ledger=assets.ledger", "value=s.scaled"),
        "out": result("w=w.window", "l=l.value"),
    },
    assets={"ledger": {"type": "noob_cloud_testnodes.Ledger", "scope": "runner"}},
)


def check_life_cycle(make: Factory) -> None:
    """Nodes and assets begin with the first call, end once with `deinit`, and can begin again."""
    LOG.clear()
    runner = make(load(_LIFE))
    assert not runner.running
    assert _counts() == {}

    first = runner.process()
    assert first == {"w": [0], "l": [0]}
    assert runner.running
    assert _counts() == {"init s": 1, "init w": 1, "asset init ledger": 1}

    assert runner.run(2) == [{"w": [0, 6], "l": [0, 6]}, {"w": [0, 6, 12], "l": [0, 6, 12]}]
    assert runner.running, "run does not end the runner"
    assert _counts() == {"init s": 1, "init w": 1, "asset init ledger": 1}

    runner.init()
    assert _counts()["init s"] == 1, "a running runner is not begun again"

    runner.deinit()
    once = {
        f"{what} {who}": 1
        for who, begin, end in (
            ("s", "init", "deinit"),
            ("w", "init", "deinit"),
            ("ledger", "asset init", "asset deinit"),
        )
        for what in (begin, end)
    }
    assert not runner.running
    assert _counts() == once

    with runner as entered:
        assert entered is runner
        assert runner.running
        runner.process()
    assert not runner.running
    assert _counts() == dict.fromkeys(once, 2)

    assert len(list(runner.iter(2))) == 2
    assert not runner.running
    assert _counts() == dict.fromkeys(once, 3)


def check_iter_closed_early(make: Factory) -> None:
    """Leaving an endless `iter` ends the runner, once."""
    LOG.clear()
    runner = make(load(_LIFE))
    results = runner.iter()
    taken = [next(results)["w"] for _ in range(3)]
    results.close()

    assert taken == [[0], [0, 6], [0, 6, 12]]
    assert not runner.running
    assert _counts()["deinit s"] == 1
    assert _counts()["asset deinit ledger"] == 1


def check_iter_gives_up(make: Factory) -> None:
    """`iter` raises where `max_iter_loops` epochs in a row gave nothing."""
    never = chain(
        "conformance-never",
        a=node("multiples", "value=src.index", params={"of": 1000}),
        b=node("double", "value=a.value"),
        out=scalar("b.value"),
    )
    check_iter(make, Case("conformance_never", never, n=6))


def check_enable_disable(make: Factory) -> None:
    """A disabled node and all that needs it stop; enabled again, they go on."""
    switched = chain(
        "conformance-switched",
        a=node("Scale", "value=src.index"),
        b=node("double", "value=a.scaled"),
        c=node("increment", "value=src.index"),
        d=node("double", "value=c.next"),
        s=node("Accumulator", "value=d.value"),
        out=scalar("s.total"),
    )

    def see(make: Factory) -> tuple[Any, ...]:
        LOG.clear()
        runner = make(load(switched))
        events: list[str] = []
        runner.add_callback(lambda event: events.append(event["node_id"]))
        values = [runner.process()]
        runner.disable_node("a")
        values += [runner.process(), runner.process()]
        runner.enable_node("a")
        values += [runner.process(), *(runner.run(2) or [])]
        runner.deinit()
        told = {name: events.count(name) for name in ("a", "s", "out")}
        return values, told, _by_actor(LOG)

    assert see(make) == see(Oracle)


# ---- errors and ends


def check_failure(make: Factory, failure: Failure, *, remote: bool = False) -> None:
    """What a node raises is raised where the user called; the next call works.

    Upstream leaves assets entered and its next call never returns, so what is right is written
    with the tube.
    """
    LOG.clear()
    runner = make(failure.tube())
    where = {row.node for row in runner.explain() if row.where == "remote"} if remote else set()
    raised = []
    values = []
    try:
        for _ in failure.outcomes:
            values.append(attempt(runner.process))
            if isinstance(values[-1], Exception):
                raised.append(values[-1])
            assert runner.running
    finally:
        runner.deinit()

    assert [freeze(value) for value in values] == [freeze(value) for value in failure.outcomes]
    assert not runner.running
    _assert_left()
    if remote and failure.node_id in where:
        for error in raised:
            told = "\n".join([*getattr(error, "__notes__", ()), repr(error.__cause__)])
            assert failure.node_id in told, "an error names its node"


def check_failure_in_run(make: Factory, failure: Failure) -> None:
    """`run` raises what the first failing epoch raises, and the runner can still be used."""
    position = next(i for i, value in enumerate(failure.outcomes) if isinstance(value, Exception))
    expected = failure.outcomes[position]
    LOG.clear()
    runner = make(failure.tube())
    try:
        with pytest.raises(type(expected)) as caught:
            runner.run(len(failure.outcomes) + 2)
        assert freeze(caught.value) == freeze(expected)
        # Epochs behind the failing one may have begun; whichever comes next, it comes.
        attempt(runner.process)
    finally:
        runner.deinit()
    assert not runner.running
    _assert_left()


def check_failure_in_iter(make: Factory, failure: Failure) -> None:
    """`iter` yields everything before the failing epoch, raises, and ends the runner."""
    LOG.clear()
    runner = make(failure.tube())
    values: list[Any] = []

    def take() -> None:
        for value in runner.iter(len(failure.outcomes)):
            values.append(value)  # noqa: PERF402 -- what came before the error counts

    values.append(attempt(take))
    position = next(i for i, value in enumerate(failure.outcomes) if isinstance(value, Exception))
    assert [freeze(value) for value in values] == [
        freeze(value) for value in failure.outcomes[: position + 1]
    ]
    assert not runner.running
    _assert_left()


def check_hanging(make: Factory, failure: Failure) -> None:
    """Where upstream waits for ever, the epoch ends with what is there."""
    with pytest.raises(UpstreamHangsError):
        Oracle(failure.tube()).process()

    runner = make(failure.tube())
    values = [attempt(runner.process) for _ in failure.outcomes]
    runner.deinit()

    for value, meant in zip(values, failure.outcomes, strict=True):
        if meant is ...:
            assert not isinstance(value, Exception)
        else:
            assert freeze(value) == freeze(meant)


def check_stop_iteration(make: Factory) -> None:
    """A node that raises StopIteration ends `run`, which keeps what it has."""
    stopping = chain(
        "conformance-stopping",
        a=node("stop", "value=src.index", params={"at": 3}),
        b=node("double", "value=a.value"),
        out=scalar("b.value"),
    )
    runner = make(load(stopping))
    try:
        assert runner.run(10) == Oracle(load(stopping)).run(10) == [0, 2, 4]
    finally:
        runner.deinit()


def check_failing_init(make: Factory) -> None:
    """A node that cannot begin says so where the runner is begun."""
    broken = chain(
        "conformance-broken",
        a=node("FailingInit", "value=src.index"),
        out=scalar("a.value"),
    )
    runner = make(load(broken))
    with pytest.raises(BadTileError, match="cannot begin"):
        runner.process()


def check_failing_callback(make: Factory) -> None:
    """What a callback raises is raised from the call, and the next call works."""
    one = case("diamond")
    runner = make(one.tube())
    armed = [True]

    def fail_once(event: Any) -> None:
        if armed and event["node_id"] == "both":
            armed.clear()
            raise BadTileError("callback")

    runner.add_callback(fail_once)
    with pytest.raises(BadTileError, match="callback"):
        runner.process()
    assert runner.process() == {"sum": 8, "left": 2}
    runner.deinit()


def check_worker_killed(make: Factory, folder: Path) -> None:
    """A worker that dies by SIGKILL in the middle of a task costs nothing but time."""
    marker = folder / "kill"
    marker.write_text(str(os.getpid()))
    killing = chain(
        "conformance-killing",
        a=node("kill_once", "value=src.index", params={"marker": str(marker), "at": 3}),
        s=node("Accumulator", "value=a.value"),
        out=result("a=a.value", "s=s.total"),
    )
    runner = make(load(killing))
    try:
        assert runner.run(8) == [{"a": i * 2, "s": i * (i + 1)} for i in range(8)]
    finally:
        runner.deinit()
    assert not marker.exists(), "nobody was killed"


def check_missing_input(make: Factory) -> None:
    """`run` and `iter` refuse a tube whose process-scoped input nobody gives."""
    one = case("process_input")
    runner = make(one.tube())
    theirs = Oracle(one.tube())
    assert freeze(attempt(lambda: runner.run(2))) == freeze(attempt(lambda: theirs.run(2)))
    assert freeze(attempt(lambda: list(runner.iter(2)))) == freeze(
        attempt(lambda: list(theirs.iter(2)))
    )
    assert isinstance(attempt(lambda: runner.run(2)), NoobError)


def check_two_runners(make: Factory) -> None:
    """Two runners of one specification know nothing of each other."""
    one = case("sandwich")
    left, right = make(one.tube()), make(one.tube())
    try:
        told = [(left.process(), right.process()) for _ in range(3)]
    finally:
        left.deinit()
        right.deinit()
    assert all(ours == theirs for ours, theirs in told)


# ---- comparing


def _compare(found: Seen, expected: Seen, one: Case) -> None:
    assert found.outcomes == expected.outcomes
    assert found.running == expected.running
    if any(asset.get("scope") == "node" for asset in one.spec.get("assets", {}).values()):
        # Upstream begins a node's assets twice and ends them once; that is no model.
        _assert_left(found.log)
    else:
        assert _by_actor(found.log) == _by_actor(expected.log)


def _by_actor(log: list[Any]) -> dict[str, list[Any]]:
    """What each node and asset did, in order; who comes first among several is open."""
    grouped = defaultdict(list)
    for what, *more in log:
        grouped[what if what == "sink" else more[0]].append((what, *more))
    return dict(grouped)


def _compare_events(found: Seen, expected: Seen, one: Case, *, exact: bool) -> None:
    for ours, theirs in zip(found.events, expected.events, strict=True):
        told, meant = _by_node(ours, one), _by_node(theirs, one)
        assert told.get("meta") == meant.get("meta")
        if "meta" in meant and ours[-1][0] != "meta":
            assert ours == theirs, "the end of the epoch comes last"
        if exact:
            assert told == meant
        else:
            assert one.overwrites or all(
                events == meant[node_id] for node_id, events in told.items()
            )
            assert _boundary(one) & set(meant) <= set(told)
        _assert_order(ours, one)


def _by_node(events: list[Any], one: Case) -> dict[str, list[Any]]:
    """Each node's events in order, without those that upstream makes by chance.

    A Return's only event is NoEvent, made once, twice or not at all by how it is wired; some
    subepochs end with an event and others without.
    """
    silent = _returns(one)
    grouped = defaultdict(list)
    for node_id, signal, epoch, value in events:
        if node_id in silent or (node_id == "meta" and epoch.startswith("[")):
            continue
        grouped[node_id].append((signal, epoch, value))
    return dict(grouped)


def _returns(one: Case) -> set[str]:
    return {name for name, spec in one.spec["nodes"].items() if spec["type"] == "return"}


def _without_returns(store: dict[str, Any], one: Case) -> dict[str, Any]:
    silent = _returns(one)
    kept = {
        epoch: {name: signals for name, signals in nodes.items() if name not in silent}
        for epoch, nodes in store.items()
    }
    return {epoch: nodes for epoch, nodes in kept.items() if nodes}


def _assert_order(events: list[Any], one: Case) -> None:
    """No node speaks before a node that it must hear has spoken."""
    edges = one.tube().edges
    needed = defaultdict(set)
    for edge in edges:
        if edge.required and edge.source_node in one.spec["nodes"]:
            needed[edge.target_node].add(edge.source_node)
    spoken: set[str] = set()
    told = {event[0] for event in events}
    for node_id, *_ in events:
        assert needed[node_id] & told <= spoken, f"{node_id} speaks too early"
        spoken.add(node_id)


def _boundary(one: Case) -> set[str]:
    """The nodes whose events are known where the runner is: state, and what is returned."""
    tube = one.tube()
    at_home = {name for name, one_node in tube.nodes.items() if one_node.stateful}
    return at_home | {
        edge.source_node
        for edge in tube.edges
        if edge.target_node in at_home or one.spec["nodes"][edge.target_node]["type"] == "return"
    } & set(tube.nodes)


def _nodes_of(store: dict[str, Any]) -> set[str]:
    return {node_id for nodes in store.values() for node_id in nodes}


def _counts() -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for what, who, *_ in LOG:
        if what != "process":
            counts[f"{what} {who}"] += 1
    return dict(counts)


def _assert_left(log: list[Any] | None = None) -> None:
    """Everything that was entered has been left."""
    counts: dict[str, int] = defaultdict(int)
    for what, who, *_ in LOG if log is None else log:
        if what in {"enter", "asset init", "init"}:
            counts[who] += 1
        elif what in {"exit", "asset deinit", "deinit"}:
            counts[who] -= 1
    assert all(count == 0 for count in counts.values()), f"still entered: {dict(counts)}"
