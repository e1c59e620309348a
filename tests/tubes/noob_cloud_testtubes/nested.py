"""Tubes within tubes."""

from __future__ import annotations

from noob_cloud_testtubes.case import Case, chain, node, result, scalar, tube_spec


def _nested() -> list[Case]:
    inner = tube_spec(
        "inner",
        {
            "a": node("double", "value=input.x"),
            "s": node("Accumulator", "value=a.value"),
            "out": result("doubled=a.value", "total=s.total"),
        },
        input={"x": {"type": "int", "scope": "process"}},
    )
    inner_scalar = tube_spec(
        "inner-scalar",
        {
            "a": node("increment", "value=input.x", params={"by": "input.by"}),
            "e": node("evens", "value=a.next"),
            "out": scalar("e.even"),
        },
        input={
            "x": {"type": "int", "scope": "process"},
            "by": {"type": "int", "scope": "tube", "default": 1},
        },
    )
    inner_source = tube_spec(
        "inner-source", {"src": node("counter", params={"limit": 3}), "out": result("i=src.index")}
    )
    inner_map = tube_spec(
        "inner-map",
        {
            "m": node("map", "value=input.items"),
            "a": node("double", "value=m.value"),
            "g": node("gather", "value=a.value", "n=m.n"),
            "out": result("g=g.value"),
        },
        input={"items": {"type": "list", "scope": "process"}},
    )
    middle = tube_spec(
        "middle",
        {
            "deep": node("tube", "x=input.x", params={"tube": inner}),
            "out": result("doubled=deep.doubled"),
        },
        input={"x": {"type": "int", "scope": "process"}},
    )
    return [
        Case(
            "tube_node",
            chain(
                "tube-node",
                t=node("tube", "x=src.index", params={"tube": inner}),
                b=node("add", "left=t.doubled", "right=t.total"),
                out=result("b=b.value", "d=t.doubled"),
            ),
        ),
        Case(
            "tube_node_scalar",
            chain(
                "tube-node-scalar",
                t=node("tube", "x=src.index", params={"tube": inner_scalar, "by": 3}),
                b=node("double", "value=t.value"),
                out=result("b=b.value", "i=src.index"),
            ),
        ),
        Case(
            "tube_node_source",
            tube_spec(
                "tube-node-source",
                {
                    "t": node("tube", params={"tube": inner_source}),
                    "b": node("double", "value=t.i"),
                    "out": scalar("b.value"),
                },
            ),
            n=3,
        ),
        Case(
            "tube_node_map",
            tube_spec(
                "tube-node-map",
                {
                    "src": node("lists"),
                    "t": node("tube", "items=src.items", params={"tube": inner_map}),
                    "b": node("total", "items=t.g"),
                    "out": scalar("b.sum"),
                },
            ),
        ),
        Case(
            "tube_node_deep",
            chain(
                "tube-node-deep",
                t=node("tube", "x=src.index", params={"tube": middle}),
                out=scalar("t.doubled"),
            ),
        ),
    ]


NESTED: tuple[Case, ...] = tuple(_nested())
"""Tubes within tubes."""
