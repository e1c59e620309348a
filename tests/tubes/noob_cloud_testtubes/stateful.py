"""Tubes with nodes that keep something from epoch to epoch."""

from __future__ import annotations

from noob_cloud_testtubes.case import COUNTER, Case, chain, node, result, scalar, tube_spec


def _stateful() -> list[Case]:
    return [
        Case(
            "classes",
            chain(
                "classes",
                a=node("Accumulator", "value=src.index", params={"start": 100}),
                w=node("Window", "value=a.total", params={"size": 2, "name": "w"}),
                s=node("Scale", "value=src.index", params={"factor": 7}),
                out=result("a=a.total", "w=w.window", "s=s.scaled"),
            ),
        ),
        Case(
            "class_sources",
            tube_spec(
                "class-sources",
                {
                    "a": node("CounterClass", params={"start": 3}),
                    "b": node("CounterNode", params={"start": 5}),
                    "both": node("add", "left=a.index", "right=b.index"),
                    "out": scalar("both.value"),
                },
            ),
        ),
        Case(
            "life_cycle",
            tube_spec(
                "life-cycle",
                {
                    "src": COUNTER,
                    "life": node("Spare"),
                    "out": result("i=src.index", "begun=life.begun", "ended=life.ended"),
                },
            ),
        ),
        Case(
            "stateless_classes",
            chain(
                "stateless-classes",
                a=node("Offset", "value=src.index", params={"by": 2}),
                b=node("Prefix", "value=a.value", params={"prefix": "#"}, stateful=False),
                out=scalar("b.value"),
            ),
        ),
        Case(
            "stateful_function",
            chain(
                "stateful-function",
                a=node("double", "value=src.index", stateful=True),
                b=node("increment", "value=a.value"),
                out=scalar("b.next"),
            ),
        ),
        Case(
            "sandwich",
            # stateless, stateful, stateless, stateful: order must hold at both.
            chain(
                "sandwich",
                a=node("double", "value=src.index"),
                s=node("Accumulator", "value=a.value"),
                b=node("increment", "value=s.total"),
                w=node("Window", "value=b.next"),
                c=node("text", "value=w.window"),
                out=result("c=c.value"),
            ),
            n=12,
        ),
        Case(
            "late_early",
            # Early epochs take longest on a worker; results and state stay in order.
            chain(
                "late-early",
                a=node("later_first", "value=src.index", params={"seconds": 0.005}),
                w=node("Window", "value=a.value"),
                sink=node("Ticker", "value=a.value"),
                out=result("w=w.window", "a=a.value"),
            ),
            n=12,
        ),
        Case(
            "gather_root",
            chain(
                "gather-root",
                a=node("double", "value=src.index"),
                g=node("gather", "value=a.value", params={"n": 3}),
                t=node("total", "items=g.value"),
                out=result("g=g.value", "t=t.sum"),
            ),
            n=9,
        ),
        Case(
            "gather_trigger",
            tube_spec(
                "gather-trigger",
                {
                    "src": COUNTER,
                    "tick": node("sporadic"),
                    "g": node("gather", "value=src.index", "trigger=tick.tick"),
                    "out": result("g=g.value"),
                },
            ),
            n=9,
        ),
        Case(
            "gather_flatten",
            tube_spec(
                "gather-flatten",
                {
                    "src": node("lists"),
                    "g": node("gather", "value=src.items", params={"n": 2, "flatten": True}),
                    "out": result("g=g.value"),
                },
            ),
            n=6,
        ),
        Case(
            "context",
            chain(
                "context",
                a=node("Contextual", "value=src.index"),
                out=scalar("a.value"),
            ),
        ),
    ]


STATEFUL: tuple[Case, ...] = tuple(_stateful())
"""Tubes with stateful nodes."""
