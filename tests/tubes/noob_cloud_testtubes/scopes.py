"""Tubes with inputs and assets of every scope."""

from __future__ import annotations

from typing import Any

from noob_cloud_testtubes.case import COUNTER, NODES, Case, Spec, node, result, scalar, tube_spec


def _inputs() -> list[Case]:
    return [
        Case(
            "tube_input",
            tube_spec(
                "tube-input",
                {
                    "src": node("counter", params={"start": "input.start"}),
                    "a": node("increment", "value=src.index", params={"by": "input.by"}),
                    "out": scalar("a.next"),
                },
                input={
                    "start": {"type": "int", "scope": "tube"},
                    "by": {"type": "int", "scope": "tube", "default": 9},
                },
            ),
            input={"start": 40},
        ),
        Case(
            "tube_input_depends",
            tube_spec(
                "tube-input-depends",
                {
                    "src": COUNTER,
                    "a": node("add", "left=src.index", "right=input.plus"),
                    "out": scalar("a.value"),
                },
                input={"plus": {"type": "int", "scope": "tube"}},
            ),
            input={"plus": 30},
        ),
        Case(
            "process_input",
            tube_spec(
                "process-input",
                {
                    "src": COUNTER,
                    "a": node("add", "left=src.index", "right=input.plus"),
                    "b": node("increment", "value=input.times"),
                    "c": node("double", "value=b.next"),
                    "out": result("a=a.value", "c=c.value"),
                },
                input={
                    "plus": {"type": "int", "scope": "process"},
                    "times": {"type": "int", "scope": "process", "default": 3},
                },
            ),
            feeds=({"plus": 1}, {"plus": 2, "times": 5}, {"plus": -3}),
        ),
        Case(
            "process_input_only",
            tube_spec(
                "process-input-only",
                {
                    "a": node("double", "value=input.x"),
                    "s": node("Accumulator", "value=a.value"),
                    "out": result("a=a.value", "s=s.total"),
                },
                input={"x": {"type": "int", "scope": "process"}},
            ),
            feeds=({"x": 1}, {"x": 2}, {"x": 3}),
        ),
        Case(
            "process_input_default",
            tube_spec(
                "process-input-default",
                {
                    "src": COUNTER,
                    "a": node("add", "left=src.index", "right=input.plus"),
                    "out": scalar("a.value"),
                },
                input={"plus": {"type": "int", "scope": "process", "default": 5}},
            ),
        ),
        Case(
            "process_input_map",
            tube_spec(
                "process-input-map",
                {
                    "m": node("map", "value=input.items"),
                    "a": node("add", "left=m.value", "right=input.plus"),
                    "g": node("gather", "value=a.value", "n=m.n"),
                    "out": scalar("g.value"),
                },
                input={
                    "items": {"type": "list", "scope": "process"},
                    "plus": {"type": "int", "scope": "process"},
                },
            ),
            feeds=({"items": [1, 2], "plus": 1}, {"items": [5], "plus": 2}),
        ),
        Case(
            "process_input_missing",
            tube_spec(
                "process-input-missing",
                {"a": node("double", "value=input.x"), "out": scalar("a.value")},
                input={"x": {"type": "int", "scope": "process"}},
            ),
            feeds=({}, {"x": 2}, {"y": 1}, {"x": 4}),
        ),
    ]


def _assets() -> list[Case]:
    def use(scope: str, kind: str, user: str, slot: str, **params: Any) -> Spec:
        return tube_spec(
            f"asset-{scope}-{slot}",
            {
                "src": COUNTER,
                "a": node(user, f"{slot}=assets.thing", "value=src.index"),
                "b": node(user, f"{slot}=assets.thing", "value=src.index"),
                "c": node("text", "value=a.value"),
                "out": result("a=a.value", "b=b.value", "c=c.value"),
            },
            assets={"thing": {"type": NODES + kind, "scope": scope, "params": params}},
        )

    return [
        *(
            Case(f"asset_{scope}_{kind.lower()}", use(scope, kind, user, slot, **params))
            for scope in ("runner", "process", "node")
            for kind, user, slot, params in (
                ("Box", "use_box", "box", {"start": 5}),
                ("resource", "use_resource", "resource", {"name": "r"}),
                ("Ledger", "append", "ledger", {}),
            )
        ),
        Case(
            "asset_depends",
            tube_spec(
                "asset-depends",
                {
                    "src": COUNTER,
                    "a": node("grow", "table=assets.table", "value=src.index"),
                    "out": result("t=a.table", "n=a.length"),
                },
                assets={
                    "table": {"type": NODES + "table", "scope": "runner", "depends": "a.table"}
                },
            ),
        ),
        Case(
            "asset_depends_alone",
            # Nobody else reads the signal: upstream stores it without a copy.
            tube_spec(
                "asset-depends-alone",
                {
                    "src": COUNTER,
                    "a": node("grow", "table=assets.table", "value=src.index"),
                    "d": node("double", "value=a.length"),
                    "out": result("d=d.value"),
                },
                assets={
                    "table": {"type": NODES + "table", "scope": "runner", "depends": "a.table"}
                },
            ),
        ),
        Case(
            "asset_in_map",
            tube_spec(
                "asset-in-map",
                {
                    "src": COUNTER,
                    "many": node("spread_some", "value=src.index"),
                    "m": node("map", "value=many.value"),
                    "a": node("use_box", "box=assets.box", "value=m.value"),
                    "g": node("gather", "value=a.value", "n=m.n"),
                    "out": result("g=g.value"),
                },
                assets={"box": {"type": NODES + "Box", "scope": "process"}},
            ),
        ),
    ]


INPUTS: tuple[Case, ...] = tuple(_inputs())
"""Tubes with input."""

ASSETS: tuple[Case, ...] = tuple(_assets())
"""Tubes with assets."""
