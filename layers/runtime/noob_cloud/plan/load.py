"""Load a tube without the parts of upstream's loader that grow with the square of its size."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from noob import Tube
from noob.edge import Slot
from noob.event import EventMaker
from noob.input import InputCollection, InputScope
from noob.logging import init_logger
from noob.node import Map, Return
from noob.node.base import Node, WrapFuncNode
from noob.scheduler import Scheduler
from noob.tube import TubeSpecification
from noob.utils import resolve_python_identifier
from noob_core import Scheduler as Core

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from os import PathLike

    from noob.edge import Edge
    from noob.node import NodeSpecification


def load_tube(
    spec: TubeSpecification | Mapping[str, Any] | str | PathLike[str],
    input: dict[str, Any] | None = None,  # noqa: A002 - upstream's name
) -> Tube:
    """Load a tube: what upstream's `Tube.from_specification` returns, sooner.

    Its scheduler makes its core when it is first used; a compiled plan seldom does.

    Raises:
        Exception: what upstream's loader raises for the same specification.
    """
    specification = TubeSpecification.from_any(spec)  # type: ignore[arg-type]
    given = input or {}
    collection = Tube._init_inputs(specification)  # noqa: SLF001 - the steps of upstream's loader
    collection.add_input(InputScope.tube, given)
    shortcut = _Shortcut(collection)
    nodes = {one.id: shortcut.node(one) for one in specification.nodes.values()}
    edges = Tube._init_edges(nodes)  # noqa: SLF001 - see above
    if not _sound(nodes, edges):
        return Tube.from_specification(specification, given)  # it raises, and says why
    tube = Tube.model_construct(
        tube_id=cast("str", specification.noob_id),
        nodes=nodes,
        edges=edges,
        state=Tube._init_state(specification, edges, collection),  # noqa: SLF001 - see above
        scheduler=_scheduler(specification.nodes, nodes, edges),
        input=given,
        input_collection=collection,
        spec=specification,
    )
    if any(asset.depends for asset in tube.state.assets.values()):
        try:
            cast("Any", tube).assets_exhausted_after_storage()
        except AssertionError:
            return Tube.from_specification(specification, given)  # it raises, and says why
    return tube


class LateCore:
    """A scheduler core that is made when it is first asked for something it must know."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments
        self._core: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._core is None:
            self._core = Core(*self._arguments)
        return getattr(self._core, name)

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to do."""
        return self._core is not None and bool(self._core.exhausted)

    @property
    def epoch_log(self) -> set[int]:
        """Epochs that have ended."""
        return set() if self._core is None else self._core.epoch_log

    def first_active_epoch(self) -> Any:
        """Return the lowest epoch that has something to do."""
        return None if self._core is None else self._core.first_active_epoch()


class _Shortcut:
    """Make nodes, asking each function once for what it is."""

    def __init__(self, collection: InputCollection) -> None:
        self.collection = collection
        self.found: dict[str, Any] = {}
        self.slots: dict[Any, dict[str, Slot] | None] = {}

    def node(self, spec: NodeSpecification) -> Node:
        """Make one node, as `Node.from_specification` does."""
        if spec.type_ not in self.found:
            self.found[spec.type_] = resolve_python_identifier(spec.type_)
        function = self.found[spec.type_]
        if inspect.isclass(function) or isinstance(spec.enabled, str):
            return Node.from_specification(spec, self.collection)
        if function not in self.slots:
            self.slots[function] = _slots(function)
        params = self.collection.get_node_params(spec.params if spec.params is not None else {})
        generator = inspect.isgeneratorfunction(function)
        stateful = generator if spec.stateful is None else spec.stateful
        node = WrapFuncNode.model_construct(
            id=spec.id,
            fn=function,
            spec=spec,
            params=params,
            enabled=spec.enabled,
            stateful=stateful,
        )
        spec.stateful = stateful
        slots = self.slots[function]
        if slots is not None:
            node.__dict__["slots"] = slots
        return node


def _slots(function: Any) -> dict[str, Slot] | None:
    """Return a function's slots; None where they depend on the node's specification."""
    kinds = [p.kind for p in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return None
    return Slot.from_callable(function)


def _scheduler(
    specs: Mapping[str, NodeSpecification], nodes: Mapping[str, Node], edges: list[Edge]
) -> Scheduler:
    scheduler = Scheduler.__new__(Scheduler)
    copies = {id_: spec.model_copy() for id_, spec in specs.items()}
    for id_, node in nodes.items():
        copies[id_].enabled = node.enabled
    scheduler.nodes = copies
    scheduler.edges = edges
    scheduler.event_maker = EventMaker()
    scheduler._logger = init_logger("noob.scheduler")  # noqa: SLF001 - as its own default
    targets = {edge.target_node for edge in edges}
    scheduler.source_nodes = [
        id_ for id_, node in nodes.items() if node.enabled and id_ not in targets
    ]
    late: Any = LateCore(
        [(id_, bool(spec.enabled), spec.stateful) for id_, spec in copies.items()],
        [
            (e.source_node, e.source_signal, e.target_node, str(e.target_slot), e.required)
            for e in edges
        ],
    )
    scheduler._core = late  # noqa: SLF001 - as its own _rebuild_core, but later
    return scheduler


def _sound(nodes: Mapping[str, Node], edges: Iterable[Edge]) -> bool:
    """Say whether upstream's validators would let the tube pass."""
    after: dict[str, list[str]] = {}
    waiting = dict.fromkeys(nodes, 0)
    for edge in edges:
        if edge.source_node in nodes:
            after.setdefault(edge.source_node, []).append(edge.target_node)
            waiting[edge.target_node] += 1
    ready = [node for node, count in waiting.items() if not count]
    for node in ready:
        for target in after.get(node, ()):
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    if len(ready) < len(nodes):
        return False  # a cycle
    if sum(isinstance(node, Return) for node in nodes.values()) > 1:
        return False
    maps = [id_ for id_, node in nodes.items() if isinstance(node, Map)]
    shadows = {id_: _downstream(id_, after) for id_ in maps}
    return not any(
        left != right
        and right not in shadows[left]
        and left not in shadows[right]
        and not (shadows[left] - {left}).isdisjoint(shadows[right] - {right})
        for left in maps
        for right in maps
    )


def _downstream(node: str, after: Mapping[str, list[str]]) -> set[str]:
    found = {node}
    queue = [node]
    while queue:
        for target in after.get(queue.pop(), ()):
            if target not in found:
                found.add(target)
                queue.append(target)
    return found
