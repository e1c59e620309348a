"""What a test tube is, and the short hand its specification is written in."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from noob import Tube

NODES = "noob_cloud_testnodes."
Spec = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A tube and how it is driven."""

    id: str
    spec: Spec
    input: dict[str, Any] = field(default_factory=dict)
    """Tube-scoped input."""
    feeds: tuple[dict[str, Any], ...] | None = None
    """Process-scoped input for each call; such a tube cannot `run` or `iter` without."""
    n: int = 6
    overwrites: bool = False
    """A node writes into what another emitted: seen where both share the memory, only there."""

    def tube(self) -> Tube:
        """A fresh tube: loading changes the specification it is given."""
        return load(self.spec, self.input)


def load(spec: Spec, tube_input: dict[str, Any] | None = None) -> Tube:
    """A fresh tube of a specification, which stays as it is."""
    return Tube.from_specification(deepcopy(spec), input=deepcopy(tube_input or {}))


def node(kind: str, *depends: str, params: Spec | None = None, **more: Any) -> Spec:
    """A node: `kind` is one of the test nodes or a special node of upstream's.

    A dependency is `"slot=node.signal"`, or `"node.signal"` by position. A keyword `returns` alone
    is a scalar dependency.
    """
    special = kind in {"map", "gather", "return", "tube"}
    made: Spec = {"type": kind if special or "." in kind else NODES + kind}
    if depends:
        made["depends"] = [
            dict([dep.split("=", 1)]) if "=" in dep else dep  # one slot each
            for dep in depends
        ]
    if "scalar" in more:
        made["depends"] = more.pop("scalar")
    if params is not None:
        made["params"] = params
    return {**made, **more}


def result(*depends: str) -> Spec:
    """A Return of the dict or list form."""
    return node("return", *depends)


def scalar(signal: str) -> Spec:
    """A Return of the scalar form."""
    return node("return", scalar=signal)


def tube_spec(name: str, /, nodes: Spec, **more: Any) -> Spec:
    """A tube's specification."""
    return {"noob_id": f"testing-{name}", "nodes": nodes, **more}


COUNTER = node("counter")
"""A source: 0, 1, 2, ..."""


def chain(name: str, /, **nodes: Spec) -> Spec:
    """A tube whose nodes hang on one counter named `src`."""
    return tube_spec(name, {"src": COUNTER, **nodes})


@dataclass(frozen=True)
class Failure:
    """A tube that raises, and what is right before and after: upstream hangs after an error."""

    id: str
    spec: Spec
    outcomes: tuple[Any, ...]
    """What each call of `process` gives: a value, an exception, or `...` for any value."""
    log: tuple[tuple[Any, ...], ...] | None = None
    """What the nodes and assets log from `init` to `deinit`, where it matters."""
    node_id: str | None = None
    """The node that raises."""

    def tube(self) -> Tube:
        """A fresh tube."""
        return load(self.spec)
