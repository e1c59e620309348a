"""Read a tube once: slots for signals, arguments bound to slots, scopes of maps, the order."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from inspect import isgeneratorfunction, signature
from typing import TYPE_CHECKING, Any, NamedTuple

from noob.edge import Signal
from noob.node import Gather, Map, Return
from noob.node.base import Node, WrapClassNode, WrapFuncNode
from noob.node.tube import TubeNode
from noob.types import EventMap, RunnerContext
from noob.utils import iscoroutinefunction_partial
from noob_core import Epoch

from noob_cloud.plan.order import order_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from noob import Tube

_INJECTED = {"epoch": Epoch, "events": EventMap}


class Kind(StrEnum):
    """How a node is called."""

    FUNCTION = "function"
    GENERATOR = "generator"
    CLASS = "class"
    COROUTINE = "coroutine"
    MAP = "map"
    GATHER = "gather"
    RETURN = "return"
    TUBE = "tube"


class Arg(NamedTuple):
    """One argument of a node: where it comes from and how it is passed."""

    key: int | str
    """Position, or name."""
    slot: int
    """The slot it is read from; -1 for an asset."""
    required: bool = True
    asset: str | None = None
    input: str | None = None
    sources: tuple[int, ...] = ()
    """Slots whose NoEvent means that this optional argument will not come."""


@dataclass(slots=True)
class Step:
    """One node of the plan."""

    index: int
    """Position in the order of the plan."""
    node: Node
    kind: Kind
    exact: bool
    """Whether a special node is upstream's own class and not a subclass of it."""
    outputs: tuple[int, ...]
    signals: tuple[str, ...]
    args: tuple[Arg, ...]
    needs: tuple[int, ...]
    """Distinct event slots among the required arguments."""
    optional: bool
    """Whether any argument may stay away."""
    injections: dict[str, str]
    assets: tuple[str, ...]
    updates: tuple[tuple[int, str], ...]
    """(output slot, asset) for each asset that stores what this node emits."""
    context: bool
    """Whether its `init` asks for the runner's context."""
    scope: tuple[str, ...] = ()
    """Ids of the maps whose subepochs it runs in, outermost first."""
    batch: int = 0
    """Upstream's generation: nodes of one batch are ready at the same time."""

    @property
    def id(self) -> str:
        """The node's id."""
        return self.node.id

    @property
    def stateful(self) -> bool:
        """Whether it must see its events in the order of the epochs."""
        return bool(self.node.stateful) or self.kind in (Kind.GATHER, Kind.GENERATOR)


@dataclass(slots=True)
class Graph:
    """A tube in integers."""

    tube: Tube
    steps: list[Step] = field(default_factory=list)
    slots: dict[tuple[str, str], int] = field(default_factory=dict)
    """(node id or "input", signal) to slot."""
    names: list[tuple[str, str]] = field(default_factory=list)
    """Slot to (node id or "input", signal)."""
    slot_scope: list[tuple[str, ...]] = field(default_factory=list)
    off: list[str] = field(default_factory=list)
    """Disabled nodes."""
    irregular: str | None = None
    """Why the order has to be left to upstream's scheduler core, if it has."""
    returns: Step | None = None

    @classmethod
    def of(cls, tube: Tube) -> Graph:
        """Read `tube` as it is now: what is disabled is left out."""
        graph = cls(tube)
        graph._read()
        return graph

    @property
    def by_id(self) -> dict[str, Step]:
        """Steps by node id."""
        return {step.id: step for step in self.steps}

    def behind(self, node: str | None = None) -> set[str]:
        """Return the nodes that depend on a map (or on the one given), however indirectly."""
        behind: set[str] = set()
        if not any(step.kind is Kind.MAP for step in self.steps):
            return behind
        maker = {slot: step for step in self.steps for slot in step.outputs}
        for step in self._topological():
            for arg in step.args:
                before = maker.get(arg.slot)
                if before is not None and (
                    before.id in behind
                    or (before.kind is Kind.MAP if node is None else before.id == node)
                ):
                    behind.add(step.id)
                    break
        return behind

    def slot(self, node: str, signal: str) -> int:
        """Return the slot of a signal, made on first use."""
        key = (node, signal)
        found = self.slots.get(key)
        if found is None:
            found = self.slots[key] = len(self.names)
            self.names.append(key)
        return found

    def _read(self) -> None:
        tube = self.tube
        nodes = tube.nodes
        cache: dict[Any, Any] = {}
        stores = tube.state.dependencies
        for node in nodes.values():
            if not node.enabled:
                self.off.append(node.id)
                continue
            signals = _signals(node, cache)
            outputs = tuple([self.slot(node.id, name) for name in signals])
            stored = stores.get(node.id, {})
            kind, exact = _kind(node, cache)
            self.steps.append(
                Step(
                    index=len(self.steps),
                    node=node,
                    kind=kind,
                    exact=exact,
                    outputs=outputs,
                    signals=signals,
                    args=(),
                    needs=(),
                    optional=False,
                    injections=_injections(node, cache),
                    assets=(),
                    updates=tuple(
                        (slot, asset)
                        for name, slot in zip(signals, outputs, strict=True)
                        for asset in sorted(stored.get(name, ()))
                    ),
                    context=_wants_context(node, cache),
                )
            )
        for step in self.steps:
            self._bind(step)
        self._place()

    def _bind(self, step: Step) -> None:
        args: list[Arg] = []
        needs: dict[int, None] = {}
        assets: list[str] = []
        modes: dict[int, bool] = {}
        for edge in step.node.edges if step.node.spec is not None else ():
            key = 0 if edge.target_slot is None else edge.target_slot
            if edge.source_node == "assets":
                args.append(Arg(key, -1, asset=edge.source_signal))
                assets.append(edge.source_signal)
                continue
            slot = self.slot(edge.source_node, edge.source_signal)
            if edge.source_node == "input":
                args.append(Arg(key, slot, input=edge.source_signal))
                continue
            args.append(Arg(key, slot, required=edge.required))
            if modes.setdefault(slot, edge.required) != edge.required:
                self._irregular(f"{step.id} takes one signal both as required and as optional")
            if edge.required:
                needs[slot] = None
            else:
                step.optional = True
        args.sort(key=lambda arg: (1, 0) if isinstance(arg.key, str) else (0, arg.key))
        step.args = tuple(args)
        step.needs = tuple(needs)
        step.assets = tuple(dict.fromkeys(assets))
        if step.kind is Kind.RETURN:
            self.returns = step
        if step.kind in (Kind.MAP, Kind.GATHER, Kind.RETURN) and not step.exact:
            self._irregular(f"{step.id} is a subclass of {step.kind}")

    def _irregular(self, why: str) -> None:
        if self.irregular is None:
            self.irregular = why

    def _place(self) -> None:
        """Find each step's scope, then the order; leave the strange to the scheduler core."""
        self._scope()
        self._check_shared()
        order = order_of(self)
        for step in self.steps:
            step.batch = order.batch[step.id]
        self.steps = [self.steps[index] for index in order.sequence]
        for index, step in enumerate(self.steps):
            step.index = index
        if order.irregular:
            self._irregular(order.irregular)
        for step in self.steps:
            if step.optional and order.sources:
                self._unlock(step, order.sources)

    def _unlock(self, step: Step, sources: dict[tuple[str, str], list[int]]) -> None:
        """Tell a step's optional arguments which NoEvents they need not wait for.

        A signal is waited for once, however many arguments read it: they share their sources.
        """
        found: dict[int, dict[int, None]] = {}
        for arg in step.args:
            if not arg.required:
                theirs = found.setdefault(arg.slot, {})
                theirs.update(dict.fromkeys(sources.get((step.id, str(arg.key)), ())))
        step.args = tuple(
            arg if arg.required else arg._replace(sources=tuple(found[arg.slot]))
            for arg in step.args
        )

    def _scope(self) -> None:
        """Give each step the subepochs of the deepest map that it reads from."""
        self.slot_scope = [()] * len(self.names)
        for step in self._topological():
            scope: tuple[str, ...] = ()
            for arg in step.args:
                theirs = self.slot_scope[arg.slot] if arg.slot >= 0 else ()
                if len(theirs) > len(scope):
                    theirs, scope = scope, theirs
                if scope[: len(theirs)] != theirs:
                    self._irregular(f"{step.id} joins different maps")
            step.scope = scope
            for position, slot in enumerate(step.outputs):
                if step.kind is Kind.MAP and position == 0:
                    self.slot_scope[slot] = (*scope, step.id)
                elif step.kind is Kind.GATHER:
                    self.slot_scope[slot] = scope[:-1]
                else:
                    self.slot_scope[slot] = scope

    def _check_shared(self) -> None:
        """Find what depends on the order of rows, or on which row gathers last."""
        inside = [asset for step in self.steps if step.scope for asset in _touched(step)]
        for asset in inside:
            if inside.count(asset) > 1:
                self._irregular(f"several nodes behind a map share the asset {asset}")
        gathered = {
            slot
            for step in self.steps
            if step.kind is Kind.GATHER and step.scope
            for slot in step.outputs
        }
        for step in self.steps:
            if step.scope and any(a.slot in gathered and not a.required for a in step.args):
                self._irregular(f"{step.id} may do without a list gathered from its own map")

    def _topological(self) -> list[Step]:
        producer = {slot: step for step in self.steps for slot in step.outputs}
        waiting: dict[str, int] = {}
        consumers: dict[str, list[Step]] = {}
        for step in self.steps:
            before = {
                producer[arg.slot].id for arg in step.args if arg.slot >= 0 and arg.slot in producer
            }
            waiting[step.id] = len(before)
            for node in before:
                consumers.setdefault(node, []).append(step)
        ready = [step for step in self.steps if not waiting[step.id]]
        for step in ready:
            for consumer in consumers.get(step.id, ()):
                waiting[consumer.id] -= 1
                if not waiting[consumer.id]:
                    ready.append(consumer)
        return ready


def _touched(step: Step) -> set[str]:
    return {*step.assets, *(asset for _, asset in step.updates)}


def _kind(node: Node, cache: dict[Any, Any]) -> tuple[Kind, bool]:
    if type(node) is WrapFuncNode:
        key = ("kind", id(node.fn))
        if key not in cache:
            cache[key] = _kind_of_function(node)
        return cache[key], True
    kind: Kind
    for special, kind in (
        (Map, Kind.MAP),
        (Gather, Kind.GATHER),
        (Return, Kind.RETURN),
        (TubeNode, Kind.TUBE),
    ):
        if isinstance(node, special):
            return kind, type(node) is special
    return _kind_of_function(node), True


def _kind_of_function(node: Node) -> Kind:
    function = process_function(node)
    if isgeneratorfunction(function):
        return Kind.GENERATOR
    if iscoroutinefunction_partial(function):
        return Kind.COROUTINE
    return Kind.FUNCTION if isinstance(node, WrapFuncNode) else Kind.CLASS


def process_function(node: Node) -> Callable[..., Any]:
    """Return the function that does a node's work, before `init` has bound it to an instance."""
    if isinstance(node, WrapFuncNode):
        return node.fn
    if isinstance(node, WrapClassNode):
        name = node._get_process_method(node.cls)  # noqa: SLF001 - upstream's own rule
        function: Callable[..., Any] = getattr(node.cls, name)
        return function
    return type(node).process


def _signals(node: Node, cache: dict[Any, Any]) -> tuple[str, ...]:
    if type(node) not in (WrapFuncNode, WrapClassNode):
        return tuple(node.signals)
    function = process_function(node)
    key = ("signals", function)
    try:
        if key not in cache:
            cache[key] = tuple(Signal.from_callable(function))
    except TypeError:  # a callable that cannot be hashed
        return tuple(node.signals)
    found: tuple[str, ...] = cache[key]
    return found


def _injections(node: Node, cache: dict[Any, Any]) -> dict[str, str]:
    function = process_function(node)
    key = ("injections", function)
    try:
        if key in cache:
            found: dict[str, str] = cache[key]
            return found
    except TypeError:  # a callable that cannot be hashed
        cache = {}
        key = ("injections", id(function))  # type: ignore[assignment]
    injections: dict[str, str] = {}
    if not isgeneratorfunction(function):
        for name, parameter in signature(function).parameters.items():
            for what, kind in _INJECTED.items():
                if parameter.annotation is kind:
                    injections[what] = name
    cache[key] = injections
    return injections


def _wants_context(node: Node, cache: dict[Any, Any]) -> bool:
    key = ("context", type(node).init)
    if key not in cache:
        cache[key] = any(
            parameter.annotation is RunnerContext
            for parameter in signature(type(node).init).parameters.values()
        )
    wants: bool = cache[key]
    return wants
