"""What a plan is made of and what an engine says while it is driven. Frozen, without behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noob_core import Epoch


@dataclass(frozen=True, slots=True)
class Stage:
    """Nodes that run in one place in one go."""

    id: int
    """Index of the stage in `Plan.stages`."""
    nodes: tuple[str, ...]
    """Node ids, in the order of the plan."""
    inputs: tuple[int, ...]
    """Slots that are read from outside the stage, in the order of `Call.values`."""
    outputs: tuple[int, ...]
    """Slots that the stage gives back: what is read outside it, and what its last nodes emit."""
    remote: bool
    """Whether any process may run it: stateless, no assets, no runner context."""
    why: str
    """One sentence for `explain`."""
    level: int
    """Stages of one level do not depend on each other."""
    affinity: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    timeout: float | None = None
    memory: int | None = None
    retries: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One remote stage to run once, for one epoch."""

    stage: Stage
    epoch: Epoch
    values: tuple[Any, ...]
    """Aligned with `stage.inputs`; `MISSING` where there is no event."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Resume only once every earlier epoch has left `level`: what follows keeps state.

    An epoch is at the level of what it yielded last. It has left `level` when it yields
    something of a higher level, or has ended.
    """

    level: int


@dataclass(slots=True)
class Finished:
    """One epoch of the tube, run to its end."""

    epoch: Epoch
    value: Any
    """As `SynchronousRunner.process` returns it."""
    exhausted: bool
    """Whether the tube has nothing left to do: the next epoch raises."""
    record: Any = field(repr=False)
    """What was emitted, and in which order."""
    store: Any = field(repr=False)
    """The store whose event ids its events continue."""

    @property
    def events(self) -> Any:
        """The epoch's events as `EventStore.events` holds them; made when first read."""
        return type(self.store).of(self.record, self.store).events


@dataclass(frozen=True, slots=True)
class Row:
    """What `explain` says of one node."""

    node: str
    kind: str
    """function, generator, class, coroutine, map, gather, return or tube."""
    how: str
    """compiled, or scheduler: ordered by upstream's scheduler core."""
    where: str
    """pinned (runs where the runner runs), remote (anywhere), or off (disabled)."""
    stage: int | None
    """Index of the stage; nodes of one stage are fused."""
    fused: bool
    level: int
    why: str
    affinity: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
