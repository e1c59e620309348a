"""Tubes made up by Hypothesis: random graphs of nodes of every kind, that upstream can run.

Upstream allows one map, or a chain of nested ones, above any node, and waits for ever where a
second map follows a gather; a generated tube has at most one region that maps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from noob_cloud_testtubes import Case, Spec, node, result, scalar, tube_spec

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

_SOURCES = {
    "counter": (("index",), {"start": st.integers(-3, 50)}),
    "pairs": (("number",), {}),
    "switch": (("low", "high", "both"), {}),
    "sporadic": (("tick",), {"every": st.integers(1, 4)}),
    "CounterClass": (("index",), {"start": st.integers(0, 9)}),
    "CounterNode": (("index",), {"start": st.integers(0, 9), "limit": st.integers(3, 9)}),
}
"""Type -> (signals that hold an integer, its parameters)."""

_UNARY = {
    "double": (("value",), {}),
    "increment": (("next",), {"by": st.integers(-5, 5)}),
    "divide": (("quotient", "remainder"), {"by": st.integers(1, 5)}),
    "identity": (("value",), {}),
    "with_level": (("value",), {}),
    "Offset": (("value",), {"by": st.integers(-5, 5)}),
    "async_double": (("value",), {}),
}
_STATEFUL = {
    "Accumulator": (("total",), {"start": st.integers(-5, 5)}),
    "Scale": (("scaled",), {"factor": st.integers(-3, 3)}),
}
_SOMETIMES = {
    "evens": (("even",), {}),
    "multiples": (("value",), {"of": st.integers(1, 3)}),
    "parity": (("even", "odd"), {}),
}
_SINKS = ("Window", "Ticker", "text")


@dataclass
class _Tube:
    """What has been made up so far."""

    draw: DrawFn
    nodes: Spec = field(default_factory=dict)
    signals: list[str] = field(default_factory=list)
    """Signals that hold an integer where the next node stands."""

    def add(self, kind: str, signals: tuple[str, ...], *depends: str, **params: Any) -> str:
        """Add a node; its signals are there for the next."""
        name = f"n{len(self.nodes)}"
        self.nodes[name] = node(kind, *depends, params=params or None)
        self.signals += [f"{name}.{signal}" for signal in signals]
        return name

    def pick(self, *, recent: bool = False) -> str:
        """One of the signals; a recent one makes long tubes."""
        return self.draw(st.sampled_from(self.signals[-4:] if recent else self.signals))

    def some(self, kinds: dict[str, Any], *depends: str) -> str:
        """A node of one of these kinds, with parameters made up or left out."""
        kind = self.draw(st.sampled_from(sorted(kinds)))
        signals, params = kinds[kind]
        drawn = {
            name: self.draw(values) for name, values in params.items() if self.draw(st.booleans())
        }
        if kind == "CounterNode" and "limit" not in drawn:
            drawn["limit"] = 9
        return self.add(kind, signals, *depends, **drawn)

    def grow(self, *, sometimes: bool, stateful: bool) -> None:
        """One node more."""
        shape = self.draw(
            st.sampled_from(
                ["unary"] * 3
                + ["binary"] * 2
                + ["stateful"] * stateful
                + ["sometimes", "optional"] * sometimes
            )
        )
        if shape == "unary":
            self.some(_UNARY, f"value={self.pick(recent=True)}")
        elif shape == "binary":
            left, right = self.pick(recent=True), self.pick()
            if self.draw(st.booleans()):
                self.add("add", ("value",), f"left={left}", f"right={right}")
            else:
                self.add("add", ("value",), left, right)
        elif shape == "stateful":
            self.some(_STATEFUL, f"value={self.pick(recent=True)}")
        elif shape == "sometimes":
            self.some(_SOMETIMES, f"value={self.pick(recent=True)}")
        else:
            slots = [f"{slot}={self.pick()}" for slot in ("this", "that")]
            self.add("blend", ("value",), *slots[: self.draw(st.integers(1, 2))])

    def region(self) -> None:
        """A map, what happens in it, and mostly a gather behind it."""
        outside = list(self.signals)
        nested = self.draw(st.booleans())
        gathered = self.draw(st.integers(0, 3)) > 0
        many = self.add("grid" if nested else "spread_some", (), f"value={self.pick()}")
        maps = [self.add("map", (), f"value={many}.value")]
        if nested:
            maps.append(self.add("map", (), f"value={maps[0]}.value"))
        self.signals = [*outside[-2:], f"{maps[-1]}.value"]
        for _ in range(self.draw(st.integers(1, 4))):
            self.grow(sometimes=not gathered, stateful=True)
        if not gathered:
            return
        # Gather what really is inside: the newest signal that hangs on the map.
        inside = [signal for signal in self.signals if signal not in outside]
        value = next(s for s in reversed(inside) if self._hangs_on(s.split(".")[0], maps[-1]))
        self.signals = outside
        for one_map in reversed(maps):
            gather = self.add("gather", (), f"value={value}", f"n={one_map}.n")
            summed = self.add("total", (), f"items={gather}.value")
            value = f"{summed}.sum"
        self.signals.append(value)

    def _hangs_on(self, name: str, ancestor: str) -> bool:
        if name == ancestor:
            return True
        depends = self.nodes.get(name, {}).get("depends", [])
        sources = [d if isinstance(d, str) else next(iter(d.values())) for d in depends]
        return any(self._hangs_on(source.split(".")[0], ancestor) for source in sources)


@st.composite
def cases(draw: DrawFn, *, most: int = 9, maps: bool = True) -> Case:
    """A tube of up to about `most` nodes and the number of epochs to run it for."""
    tube = _Tube(draw)
    for _ in range(draw(st.integers(1, 2))):
        tube.some(_SOURCES)
    for _ in range(draw(st.integers(1, most // 2))):
        tube.grow(sometimes=True, stateful=True)
    if maps and draw(st.booleans()):
        tube.region()
    for _ in range(draw(st.integers(0, most // 2))):
        tube.grow(sometimes=True, stateful=True)
    if draw(st.booleans()):
        tube.add(draw(st.sampled_from(_SINKS)), (), f"value={tube.pick()}")

    wanted = draw(st.lists(st.sampled_from(tube.signals), min_size=1, max_size=4, unique=True))
    form = draw(st.sampled_from(["scalar", "list", "dict", "none"]))
    if form == "scalar":
        tube.nodes["out"] = scalar(wanted[0])
    elif form == "list":
        tube.nodes["out"] = result(*wanted)
    elif form == "dict":
        tube.nodes["out"] = result(*(f"k{i}={signal}" for i, signal in enumerate(wanted)))
    if draw(st.booleans()):
        tube.nodes = dict(reversed(tube.nodes.items()))  # the order of writing must not matter
    return Case("generated", tube_spec("generated", tube.nodes), n=draw(st.integers(1, 5)))
