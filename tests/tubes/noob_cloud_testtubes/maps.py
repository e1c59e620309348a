"""Tubes that map over a list, and gather it again."""

from __future__ import annotations

from noob_cloud_testtubes.case import COUNTER, Case, node, result, scalar, tube_spec


def _maps() -> list[Case]:
    mapped = {"src": COUNTER, "many": node("spread_some", "value=src.index")}
    some = {"src": COUNTER, "many": node("spread", "value=src.index")}
    over = node("map", "value=many.value")
    gather = node("gather", "value=a.value", "n=m.n")
    return [
        Case(
            "map_gather",
            tube_spec(
                "map-gather",
                {
                    **mapped,
                    "m": over,
                    "a": node("double", "value=m.value"),
                    "g": gather,
                    "t": node("total", "items=g.value"),
                    "out": result("g=g.value", "t=t.sum", "n=m.n"),
                },
            ),
        ),
        Case(
            "map_empty",
            tube_spec(
                "map-empty",
                {
                    **some,
                    "m": over,
                    "a": node("double", "value=m.value"),
                    "g": gather,
                    "out": result("g=g.value", "i=src.index"),
                },
            ),
            n=9,
        ),
        Case(
            "map_return",
            # Without a gather, Return collects one value for each subepoch.
            tube_spec(
                "map-return",
                {
                    **mapped,
                    "m": over,
                    "a": node("double", "value=m.value"),
                    "out": result("a=a.value", "i=src.index"),
                },
            ),
        ),
        Case(
            "map_return_scalar",
            tube_spec("map-return-scalar", {**mapped, "m": over, "out": scalar("m.value")}),
        ),
        Case(
            "map_return_list",
            tube_spec(
                "map-return-list",
                {
                    **mapped,
                    "m": over,
                    "a": node("double", "value=m.value"),
                    "out": result("a.value"),
                },
            ),
        ),
        Case(
            "map_broadcast",
            # A node in a subepoch reads what its parent epoch knows.
            tube_spec(
                "map-broadcast",
                {
                    **mapped,
                    "m": over,
                    "a": node("add", "left=m.value", "right=src.index"),
                    "g": gather,
                    "out": scalar("g.value"),
                },
            ),
        ),
        Case(
            "map_chain",
            tube_spec(
                "map-chain",
                {
                    **mapped,
                    "m": over,
                    "x": node("double", "value=m.value"),
                    "y": node("increment", "value=x.value"),
                    "z": node("divide", "value=y.next"),
                    "a": node("add", "left=z.quotient", "right=z.remainder"),
                    "g": gather,
                    "out": result("g=g.value"),
                },
            ),
        ),
        Case(
            "map_stateful",
            tube_spec(
                "map-stateful",
                {
                    **mapped,
                    "m": over,
                    "d": node("double", "value=m.value"),
                    "s": node("Accumulator", "value=d.value"),
                    "a": node("increment", "value=s.total"),
                    "g": node("gather", "value=a.next", "n=m.n"),
                    "out": result("g=g.value"),
                },
            ),
        ),
        Case(
            "map_gather_fixed",
            # Gathers across subepochs and epochs alike.
            tube_spec(
                "map-gather-fixed",
                {
                    **mapped,
                    "m": over,
                    "a": node("double", "value=m.value"),
                    "g": node("gather", "value=a.value", params={"n": 2}),
                    "out": result("g=g.value"),
                },
            ),
        ),
        Case(
            "map_epoch",
            tube_spec(
                "map-epoch",
                {
                    **mapped,
                    "m": over,
                    "a": node("with_epoch", "value=m.value"),
                    "g": gather,
                    "out": scalar("g.value"),
                },
            ),
        ),
        Case(
            "map_nested",
            tube_spec(
                "map-nested",
                {
                    "src": COUNTER,
                    "many": node("grid", "value=src.index"),
                    "m": node("map", "value=many.value"),
                    "m2": node("map", "value=m.value"),
                    "a": node("double", "value=m2.value"),
                    "inner": node("gather", "value=a.value", "n=m2.n"),
                    "t": node("total", "items=inner.value"),
                    "g": node("gather", "value=t.sum", "n=m.n"),
                    "out": result("g=g.value"),
                },
            ),
        ),
        Case(
            "map_nested_flat",
            tube_spec(
                "map-nested-flat",
                {
                    "src": COUNTER,
                    "many": node("grid", "value=src.index"),
                    "m": node("map", "value=many.value"),
                    "m2": node("map", "value=m.value"),
                    "a": node("add", "left=m2.value", "right=src.index"),
                    "inner": node("gather", "value=a.value", "n=m2.n"),
                    "g": node("gather", "value=inner.value", "n=m.n", params={"flatten": True}),
                    "out": scalar("g.value"),
                },
            ),
        ),
        Case(
            "map_nested_return",
            tube_spec(
                "map-nested-return",
                {
                    "src": COUNTER,
                    "many": node("grid", "value=src.index"),
                    "m": node("map", "value=many.value"),
                    "m2": node("map", "value=m.value"),
                    "a": node("with_epoch", "value=m2.value"),
                    "out": result("a=a.value"),
                },
            ),
            n=3,
        ),
        Case(
            "map_noevent",
            # Some subepochs end without an event; the rest comes home without a gather.
            tube_spec(
                "map-noevent",
                {
                    **mapped,
                    "m": over,
                    "e": node("evens", "value=m.value"),
                    "a": node("double", "value=e.even"),
                    "out": result("a=a.value", "i=src.index"),
                },
            ),
        ),
        Case(
            "map_optional",
            tube_spec(
                "map-optional",
                {
                    **mapped,
                    "m": over,
                    "e": node("evens", "value=m.value"),
                    "a": node("needs_one", "value=m.value", "extra=e.even"),
                    "g": gather,
                    "out": scalar("g.value"),
                },
            ),
        ),
        Case(
            "map_optional_late",
            # Rows that lack the optional argument run before those that wait for theirs.
            tube_spec(
                "map-optional-late",
                {
                    **mapped,
                    "m": over,
                    "e": node("evens", "value=m.value"),
                    "d": node("double", "value=e.even"),
                    "b": node("blend", "this=d.value"),
                    "s": node("Accumulator", "value=b.value"),
                    "k": node("Ticker", "value=s.total"),
                    "out": result("s=s.total"),
                },
            ),
        ),
        Case(
            "map_of_text",
            tube_spec(
                "map-of-text",
                {
                    "src": node("letters"),
                    "w": node("gather_args", "src.letter", "src.letter"),
                    "m": node("map", "value=w.value"),
                    "a": node("Prefix", "value=m.value", stateful=False),
                    "g": gather,
                    "out": scalar("g.value"),
                },
            ),
        ),
        Case(
            "map_large",
            tube_spec(
                "map-large",
                {
                    "src": node("lists", params={"sizes": [60]}),
                    "m": node("map", "value=src.items"),
                    "a": node("double", "value=m.value"),
                    "g": gather,
                    "t": node("total", "items=g.value"),
                    "out": result("t=t.sum"),
                },
            ),
            n=3,
        ),
    ]


MAPS: tuple[Case, ...] = tuple(_maps())
"""Tubes with maps and gathers."""
