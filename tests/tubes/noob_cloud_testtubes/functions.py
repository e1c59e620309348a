"""Tubes of functions: every shape of argument, signal and return."""

from __future__ import annotations

from noob_cloud_testtubes.case import COUNTER, Case, chain, node, result, scalar, tube_spec


def _functions() -> list[Case]:
    return [
        Case(
            "diamond",
            chain(
                "diamond",
                left=node("double", "value=src.index"),
                right=node("increment", "value=src.index", params={"by": 5}),
                both=node("add", "left=left.value", "right=right.next"),
                out=result("sum=both.value", "left=left.value"),
            ),
        ),
        Case(
            "return_scalar",
            chain("return-scalar", a=node("double", "value=src.index"), out=scalar("a.value")),
        ),
        Case(
            "return_list",
            chain(
                "return-list",
                a=node("double", "value=src.index"),
                out=result("src.index", "a.value"),
            ),
        ),
        Case(
            "return_mixed",
            chain(
                "return-mixed",
                a=node("double", "value=src.index"),
                out=result("src.index", "a=a.value"),
            ),
        ),
        Case("no_return", chain("no-return", a=node("double", "value=src.index"))),
        Case("source_only", chain("source-only", out=scalar("src.index"))),
        Case(
            "constant_source",
            tube_spec(
                "constant-source",
                {
                    "src": node("constant"),
                    "a": node("double", "value=src.seven"),
                    "out": scalar("a.value"),
                },
            ),
        ),
        Case(
            "multi_signal",
            chain(
                "multi-signal",
                parts=node("divide", "value=src.index", params={"by": 4}),
                a=node("double", "value=parts.quotient"),
                b=node("increment", "value=parts.remainder"),
                out=result("a=a.value", "b=b.next", "q=parts.quotient", "r=parts.remainder"),
            ),
        ),
        Case(
            "multi_signal_generator",
            tube_spec(
                "multi-signal-generator",
                {
                    "src": node("pairs"),
                    "a": node("double", "value=src.number"),
                    "t": node("text", "value=src.word"),
                    "out": result("a=a.value", "t=t.value"),
                },
            ),
        ),
        Case(
            "two_sources",
            tube_spec(
                "two-sources",
                {
                    "numbers": node("counter", params={"start": 10}),
                    "letters": node("letters"),
                    "both": node("gather_kwargs", "n=numbers.index", "l=letters.letter"),
                    "out": scalar("both.value"),
                },
            ),
        ),
        Case(
            "positional",
            chain(
                "positional",
                a=node("gather_args", "src.index", "src.index"),
                b=node("mixed", "src.index", "a.value", "last=src.index"),
                c=node("mixed", "first=src.index"),
                d=node("double", scalar="src.index"),
                out=result("b=b.value", "c=c.value", "d=d.value"),
            ),
        ),
        Case(
            "same_signal_twice",
            chain(
                "same-signal-twice",
                a=node("add", "left=src.index", "right=src.index"),
                out=scalar("a.value"),
            ),
        ),
        Case(
            "declared_backwards",
            tube_spec(
                "declared-backwards",
                {
                    "out": result("b=b.value"),
                    "b": node("add", "left=a.value", "right=src.index"),
                    "a": node("double", "value=src.index"),
                    "src": COUNTER,
                },
            ),
        ),
        Case(
            "none_values",
            tube_spec(
                "none-values",
                {
                    "src": node("nones"),
                    "a": node("identity", "value=src.maybe"),
                    "b": node("nothing", "value=src.maybe"),
                    "t": node("text", "value=b.value"),
                    "out": result("a=a.value", "b=b.value", "t=t.value"),
                },
            ),
        ),
        Case(
            "none_scalar",
            chain("none-scalar", a=node("nothing", "value=src.index"), out=scalar("a.value")),
        ),
        Case(
            "container_types",
            chain(
                "container-types",
                a=node("containers", "value=src.index"),
                b=node("identity", "value=a.value"),
                t=node("text", "value=b.value"),
                out=result("b=b.value"),
            ),
        ),
        Case(
            "dangerous_text",
            chain(
                "dangerous-text",
                a=node("returns_text", "value=src.index"),
                b=node("identity", "value=a.value"),
                out=scalar("b.value"),
            ),
        ),
        Case(
            "long_tuple",
            # More values than signals: the rest falls off, as zip does.
            chain(
                "long-tuple",
                a=node("long_tuple", "value=src.index"),
                b=node("add", "left=a.a", "right=a.b"),
                out=scalar("b.value"),
            ),
        ),
        Case(
            "chain",
            tube_spec(
                "chain",
                {
                    "src": COUNTER,
                    "n0": node("increment", "value=src.index"),
                    **{f"n{i}": node("increment", f"value=n{i - 1}.next") for i in range(1, 30)},
                    "out": scalar("n29.next"),
                },
            ),
        ),
        Case(
            "layered",
            tube_spec(
                "layered",
                {
                    "src": COUNTER,
                    **{f"a{i}": node("increment", "value=src.index") for i in range(6)},
                    **{
                        f"b{i}": node("add", f"left=a{i}.next", f"right=a{(i + 1) % 6}.next")
                        for i in range(6)
                    },
                    "all": node("gather_args", *(f"b{i}.value" for i in range(6))),
                    "out": scalar("all.value"),
                },
            ),
        ),
        Case(
            "async",
            chain(
                "async",
                a=node("async_double", "value=src.index"),
                b=node("AsyncAverage", "value=a.value"),
                out=result("a=a.value", "b=b.average"),
            ),
        ),
        Case(
            "injections",
            chain(
                "injections",
                a=node("with_epoch", "value=src.index"),
                b=node("with_events", "value=src.index"),
                c=node("epoch_only"),
                out=result("a=a.value", "b=b.value", "c=c.value"),
            ),
        ),
        Case(
            "builtin",
            chain(
                "builtin",
                a=node("builtins.abs", "src.index"),
                out=scalar("a.value"),
            ),
        ),
    ]


FUNCTIONS: tuple[Case, ...] = tuple(_functions())
"""Tubes of functions."""
