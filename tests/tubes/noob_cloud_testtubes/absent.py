"""Tubes where some events do not come: NoEvent, optional slots, disabled nodes."""

from __future__ import annotations

from noob_cloud_testtubes.case import COUNTER, Case, chain, node, result, scalar, tube_spec


def _absent() -> list[Case]:
    return [
        Case(
            "noevent",
            chain(
                "noevent",
                a=node("evens", "value=src.index"),
                b=node("double", "value=a.even"),
                out=result("b=b.value"),
            ),
        ),
        Case(
            "noevent_dict",
            chain(
                "noevent-dict",
                a=node("evens", "value=src.index"),
                b=node("double", "value=a.even"),
                c=node("double", "value=src.index"),
                out=result("b=b.value", "c=c.value"),
            ),
        ),
        Case(
            "noevent_list",
            chain(
                "noevent-list",
                a=node("evens", "value=src.index"),
                c=node("double", "value=src.index"),
                out=result("c.value", "a.even"),
            ),
        ),
        Case(
            "noevent_partial",
            chain(
                "noevent-partial",
                p=node("parity", "value=src.index"),
                a=node("double", "value=p.even"),
                b=node("increment", "value=p.odd"),
                out=result("a=a.value", "b=b.next"),
            ),
        ),
        Case(
            "noevent_source",
            tube_spec(
                "noevent-source",
                {
                    "src": COUNTER,
                    "tick": node("sporadic"),
                    "a": node("add", "left=src.index", "right=tick.tick"),
                    "out": result("a=a.value"),
                },
            ),
        ),
        Case(
            "noevent_stateful",
            chain(
                "noevent-stateful",
                a=node("evens", "value=src.index"),
                s=node("Accumulator", "value=a.even"),
                w=node("Window", "value=s.total"),
                out=result("i=src.index", "w=w.window"),
            ),
        ),
        Case(
            "switch",
            tube_spec(
                "switch",
                {
                    "src": node("switch"),
                    "a": node("double", "value=src.low"),
                    "b": node("increment", "value=src.high"),
                    "o": node("optional", "this=a.value", "that=b.next"),
                    "out": result("o=o.value", "both=src.both"),
                },
            ),
        ),
        Case(
            "optional_slot",
            chain(
                "optional-slot",
                e=node("evens", "value=src.index"),
                o=node("needs_one", "value=src.index", "extra=e.even"),
                out=scalar("o.value"),
            ),
        ),
        Case(
            "optional_chain",
            chain(
                "optional-chain",
                e=node("evens", "value=src.index"),
                m=node("multiples", "value=src.index", params={"of": 3}),
                a=node("double", "value=e.even"),
                b=node("double", "value=m.value"),
                o=node("optional", "this=a.value", "that=b.value"),
                t=node("text", "value=o.value"),
                out=result("o=o.value", "t=t.value"),
            ),
            n=8,
        ),
        Case(
            "optional_twice",
            # Two slots read one signal, whose node does not run; and the order of writing, the
            # readers first, must not matter.
            tube_spec(
                "optional-twice",
                {
                    "out": result("b=b.value", "c=c.value"),
                    "c": node("identity", "value=src.both"),
                    "b": node("blend", "this=d.value", "that=d.value"),
                    "d": node("double", "value=src.low"),
                    "src": node("switch"),
                },
            ),
        ),
        Case(
            "optional_unconnected",
            chain(
                "optional-unconnected",
                o=node("needs_one", "value=src.index"),
                out=scalar("o.value"),
            ),
        ),
        Case(
            "disabled",
            chain(
                "disabled",
                a=node("double", "value=src.index", enabled=False),
                b=node("double", "value=a.value"),
                c=node("increment", "value=src.index"),
                o=node("needs_one", "value=src.index", "extra=a.value"),
                out=result("b=b.value", "c=c.next", "o=o.value"),
            ),
        ),
        Case(
            "disabled_aside",
            # What hangs on the disabled node alone is left out; the rest runs.
            chain(
                "disabled-aside",
                a=node("Scale", "value=src.index", enabled=False),
                b=node("double", "value=a.scaled"),
                c=node("increment", "value=src.index"),
                out=scalar("c.next"),
            ),
        ),
        Case(
            "enabled_by_input",
            tube_spec(
                "enabled-by-input",
                {
                    "src": COUNTER,
                    "a": node("double", "value=src.index", enabled="input.wanted"),
                    "c": node("increment", "value=src.index"),
                    "out": result("a=a.value", "c=c.next"),
                },
                input={"wanted": {"type": "bool", "scope": "tube"}},
            ),
            input={"wanted": False},
        ),
    ]


ABSENT: tuple[Case, ...] = tuple(_absent())
"""Tubes where some events do not come."""
