"""Tubes that come to an end: exhausted sources, and nodes that raise."""

from __future__ import annotations

from noob_cloud_testnodes import BadTileError, TwoFieldError

from noob_cloud_testtubes.case import (
    COUNTER,
    NODES,
    Case,
    Failure,
    Spec,
    chain,
    node,
    result,
    scalar,
    tube_spec,
)


def _exhausting() -> list[Case]:
    def limited(name: str, limit: int, **nodes: Spec) -> Spec:
        return tube_spec(name, {"src": node("counter", params={"limit": limit}), **nodes})

    return [
        Case(
            "exhausted",
            limited("exhausted", 3, a=node("double", "value=src.index"), out=scalar("a.value")),
        ),
        Case(
            "exhausted_at_once",
            limited(
                "exhausted-at-once", 0, a=node("double", "value=src.index"), out=scalar("a.value")
            ),
        ),
        Case(
            "exhausted_one_of_two",
            tube_spec(
                "exhausted-one-of-two",
                {
                    "src": COUNTER,
                    "short": node("counter", params={"limit": 2}),
                    "a": node("add", "left=src.index", "right=short.index"),
                    "b": node("double", "value=src.index"),
                    "out": result("a=a.value", "b=b.value"),
                },
            ),
        ),
        Case(
            "exhausted_map",
            tube_spec(
                "exhausted-map",
                {
                    "src": node("counter", params={"limit": 3}),
                    "many": node("spread_some", "value=src.index"),
                    "m": node("map", "value=many.value"),
                    "a": node("double", "value=m.value"),
                    "g": node("gather", "value=a.value", "n=m.n"),
                    "out": result("g=g.value"),
                },
            ),
        ),
        Case(
            "exhausted_stateful",
            limited(
                "exhausted-stateful",
                4,
                s=node("Accumulator", "value=src.index"),
                d=node("double", "value=s.total"),
                w=node("Window", "value=d.value"),
                out=result("w=w.window"),
            ),
        ),
        Case(
            "exhausted_no_return",
            limited("exhausted-no-return", 2, a=node("Ticker", "value=src.index")),
        ),
    ]


def _failures() -> list[Failure]:
    return [
        Failure(
            "own_error",
            chain(
                "own-error",
                a=node("fail_at", "value=src.index"),
                b=node("double", "value=a.value"),
                out=scalar("b.value"),
            ),
            (0, 2, BadTileError("no tile 2"), 6, 8),
            node_id="a",
        ),
        Failure(
            "builtin_error",
            chain(
                "builtin-error",
                a=node("fail_builtin", "value=src.index", params={"at": 1}),
                out=scalar("a.value"),
            ),
            (-1.0, ZeroDivisionError("division by zero"), 1.0),
            node_id="a",
        ),
        Failure(
            "fields_error",
            chain(
                "fields-error",
                a=node("fail_two_fields", "value=src.index", params={"at": 0}),
                out=scalar("a.value"),
            ),
            (TwoFieldError(0, "does not fit"), 1, 2),
            node_id="a",
        ),
        Failure(
            "async_error",
            chain("async-error", a=node("async_fail", "value=src.index"), out=scalar("a.value")),
            (BadTileError("async node fails at 0"), BadTileError("async node fails at 1")),
            node_id="a",
        ),
        Failure(
            "stateful_error",
            chain(
                "stateful-error",
                a=node("double", "value=src.index"),
                s=node("FailOnce", "value=a.value"),
                out=scalar("s.value"),
            ),
            ([0, 1], BadTileError("stateful node fails at 2"), [4, 3], [6, 4]),
            node_id="s",
        ),
        Failure(
            "map_error",
            tube_spec(
                "map-error",
                {
                    "src": node("lists", params={"sizes": [3]}),
                    "m": node("map", "value=src.items"),
                    "a": node("fail_at", "value=m.value", params={"at": 11}),
                    "out": result("a=a.value"),
                },
            ),
            ({"a": [0, 1, 2]}, BadTileError("no tile 11"), {"a": [20, 21, 22]}),
            node_id="a",
        ),
        Failure(
            "branch_error",
            # A state beside the failing branch goes on where it is.
            chain(
                "branch-error",
                s=node("Accumulator", "value=src.index"),
                a=node("fail_at", "value=s.total", params={"at": 1}),
                out=scalar("a.value"),
            ),
            (0, BadTileError("no tile 1"), 3, 6),
            node_id="a",
        ),
        Failure(
            "asset_error",
            # Upstream leaves the asset entered; every scope must be left again.
            tube_spec(
                "asset-error",
                {
                    "src": COUNTER,
                    "a": node("use_resource_fail", "resource=assets.node", "value=src.index"),
                    "b": node("use_resource", "resource=assets.process", "value=src.index"),
                    "out": result("a=a.value"),
                },
                assets={
                    "node": {
                        "type": NODES + "resource",
                        "scope": "node",
                        "params": {"name": "of the node"},
                    },
                    "process": {
                        "type": NODES + "resource",
                        "scope": "process",
                        "params": {"name": "of the process"},
                    },
                },
            ),
            (
                {"a": ["of the node", 0]},
                BadTileError("asset user fails at 1"),
                {"a": ["of the node", 2]},
            ),
            node_id="a",
        ),
        Failure(
            "short_tuple_of_one",
            # A node with two signals that returns one number cannot be taken apart.
            chain(
                "arity",
                a=node("divide", "value=src.index"),
                b=node("fail_at", "value=a.remainder", params={"at": 1}),
                out=scalar("b.value"),
            ),
            (0, BadTileError("no tile 1"), 2, 0),
            node_id="b",
        ),
    ]


EXHAUSTING: tuple[Case, ...] = tuple(_exhausting())
"""Tubes that end by themselves."""


def _hanging() -> list[Failure]:
    return [
        Failure(
            "short_tuple",
            # Fewer values than signals: the second has no event, and who waits for it no turn.
            # Whether Return waits too is open; that the epoch ends is not.
            chain(
                "short-tuple",
                a=node("wrong_arity", "value=src.index"),
                b=node("double", "value=a.b"),
                out=result("a=a.a", "b=b.value"),
            ),
            (..., ..., ...),
        ),
        Failure(
            "map_after_gather",
            # What was gathered may be spread again.
            chain(
                "map-after-gather",
                many=node("spread_some", "value=src.index"),
                m=node("map", "value=many.value"),
                a=node("double", "value=m.value"),
                g=node("gather", "value=a.value", "n=m.n"),
                m2=node("map", "value=g.value"),
                b=node("increment", "value=m2.value"),
                h=node("gather", "value=b.next", "n=m2.n"),
                out=result("g=g.value", "h=h.value"),
            ),
            ({"g": [0], "h": [1]}, {"g": [200, 202], "h": [201, 203]}),
        ),
    ]


FAILURES: tuple[Failure, ...] = tuple(_failures())
"""Tubes that raise."""

HANGING: tuple[Failure, ...] = tuple(_hanging())
"""Tubes on which upstream waits without end, and what is right."""
