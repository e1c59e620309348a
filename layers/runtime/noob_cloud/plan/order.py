"""The order in which upstream's scheduler would run a tube's nodes, found without running them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from noob_core import Scheduler
from noob_core.exceptions import SchedulerError

if TYPE_CHECKING:
    from noob_core import Epoch

    from noob_cloud.plan.graph import Graph, Step

_DEEPEST = 6
"""Maps nested deeper than this are left to the scheduler core."""


@dataclass(slots=True)
class Order:
    """What `order_of` finds."""

    sequence: list[int] = field(default_factory=list)
    """Indices into `Graph.steps`, in the order of their first call."""
    batch: dict[str, int] = field(default_factory=dict)
    irregular: str | None = None
    sources: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """(node, optional argument) to the slots whose NoEvent unlocks it."""


def order_of(graph: Graph) -> Order:
    """Return the order of a tube in which every node emits.

    Without maps it is found by counting. With maps a scheduler core of one's own is asked, with
    two items from each map, and every node's calls are compared with those that its scope says;
    the tube is irregular where they differ.
    """
    order = Order()
    if any(step.kind == "map" for step in graph.steps):
        _rehearse(graph, order)
    else:
        _count(graph, order)
    ran = set(order.sequence)
    late = max(order.batch.values(), default=-1) + 1
    for index, step in enumerate(graph.steps):
        if index not in ran:  # waits for a disabled node
            order.sequence.append(index)
            order.batch[step.id] = late
    if any(step.optional for step in graph.steps):
        _sources(graph, order)
    return order


def core_of(graph: Graph) -> Any:
    """Make a scheduler core of one's own, as upstream's `Scheduler` makes its own."""
    scheduler = graph.tube.scheduler
    return Scheduler(
        [(id_, bool(spec.enabled), spec.stateful) for id_, spec in scheduler.nodes.items()],
        [
            (e.source_node, e.source_signal, e.target_node, str(e.target_slot), e.required)
            for e in scheduler.edges
        ],
    )


def _count(graph: Graph, order: Order) -> None:
    """Imitate the scheduler: a node is ready when its last signal is done, in batches."""
    steps = graph.steps
    waiting, consumers, virtual = _links(graph)
    ready = [index for index, count in enumerate(waiting) if not count]
    batch = 0
    while ready or virtual:
        after: list[int] = []
        unlocked = virtual
        for index in ready:
            order.sequence.append(index)
            order.batch[steps[index].id] = batch
        for index in unlocked:
            waiting[index] -= 1
            if not waiting[index]:
                after.append(index)
        virtual = []
        for consumer in [
            c for i in ready for slot in steps[i].outputs for c in consumers.get(slot, ())
        ]:
            waiting[consumer] -= 1
            if not waiting[consumer]:
                after.append(consumer)
        ready = after
        batch += 1


def _links(graph: Graph) -> tuple[list[int], dict[int, list[int]], list[int]]:
    """Return what each step waits for, who reads each slot, and who waits for inputs and assets."""
    producers = {slot for step in graph.steps for slot in step.outputs}
    waiting: list[int] = []
    consumers: dict[int, list[int]] = {}
    virtual: list[int] = []
    for index, step in enumerate(graph.steps):
        slots = {arg.slot for arg in step.args if arg.slot >= 0}
        assets = {arg.asset for arg in step.args if arg.asset}
        waiting.append(len(slots) + len(assets))
        virtual.extend(index for _ in assets)
        for slot in slots:
            if slot in producers:
                consumers.setdefault(slot, []).append(index)
            elif graph.names[slot][0] == "input":
                virtual.append(index)
    return waiting, consumers, virtual


def _rehearse(graph: Graph, order: Order) -> None:
    steps = {step.id: (index, step) for index, step in enumerate(graph.steps)}
    if max((len(step.scope) for step in graph.steps), default=0) > _DEEPEST:
        order.irregular = f"maps are nested more than {_DEEPEST} deep"
        return
    core = core_of(graph)
    calls: dict[str, list[Epoch]] = {}
    try:
        _play(core, steps, calls, order)
    except SchedulerError as error:
        order.irregular = f"the scheduler core refuses its maps: {error}"
        return
    for node, (_, step) in steps.items():
        expected = 2 ** len(step.scope)
        epochs = calls.get(node, [])
        rows = [tuple(epoch[level][0] for level in range(1, len(epoch))) for epoch in epochs]
        if epochs and _repeats(step):
            place = {graph.steps[index].id: at for at, index in enumerate(order.sequence)}
            before = {graph.names[arg.slot][0] for arg in step.args if arg.slot >= 0}
            if any(place.get(name, -1) > place[node] for name in before):
                order.irregular = f"{node} is called before all of its values have come"
            continue
        if epochs and (len(epochs) != expected or any(row != step.scope for row in rows)):
            order.irregular = f"{node} runs both inside and outside of a map"
            return


def _repeats(step: Step) -> bool:
    """Say whether calls of a return node in further subepochs add nothing: it knows each event."""
    spec = step.node.spec
    return step.kind == "return" and (
        (spec is not None and isinstance(spec.depends, str))
        or all(isinstance(arg.key, str) for arg in step.args)
    )


def _play(
    core: Any, steps: dict[str, tuple[int, Step]], calls: dict[str, list[Epoch]], order: Order
) -> None:
    root = core.add_epoch()
    batch = 0
    while core.is_active_at(root):
        ready = core.get_ready_at(root)
        if not ready:
            break
        for epoch, node in ready:
            found = steps.get(node)
            if found is None:
                core.done(epoch, node)
                continue
            index, step = found
            if node not in calls:
                order.sequence.append(index)
                order.batch[node] = batch
            calls.setdefault(node, []).append(epoch)
            _rehearse_step(core, step, epoch)
        batch += 1


def _rehearse_step(core: Any, step: Step, epoch: Epoch) -> None:
    node = step.id
    if step.kind == "map":
        items = [(sub, node, "value", False, False) for sub in epoch.make_subepochs(node, 2)]
        core.update([*items, (epoch, node, "n", False, False)])
    elif step.kind == "gather" and len(epoch) > 1:
        last = epoch[-1][1] == 1
        core.update([(epoch.parent if last else epoch, node, "value", not last, False)])
    elif step.signals:
        core.update([(epoch, node, signal, False, False) for signal in step.signals])
    else:
        core.done(epoch, node)


def _sources(graph: Graph, order: Order) -> None:
    core = core_of(graph)
    try:
        state = core.get_epoch_state(core.add_epoch())
    except SchedulerError:  # nothing is ever ready: the epoch is over at once
        return
    for item, record in state["info"].items():
        if isinstance(item, tuple) and item in graph.slots:
            for target in record["optional_successors"]:
                order.sources.setdefault(target, []).append(graph.slots[item])
