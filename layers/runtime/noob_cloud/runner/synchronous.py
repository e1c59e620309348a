"""Upstream's synchronous runner, compiled: the same interface, the same answers, less waiting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from noob.runner.base import TubeRunner

from noob_cloud.engine import Engine
from noob_cloud.engine.store import LazyStore
from noob_cloud.placement import Placement
from noob_cloud.plan.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from noob.event import Event, MetaEvent
    from noob.types import ReturnNodeType
    from noob_core import Epoch

    from noob_cloud.plan.nouns import Finished, Row


_NONE: dict[int, Any] = {}


@dataclass
class SynchronousRunner(TubeRunner):
    """Run a tube in this process, by a plan made once.

    The lifecycle is upstream's: `run`, `iter`, `process`, `init`, `deinit`, a context manager.
    `store.events` holds the last epoch, made when read. Unlike upstream's, an exception in a
    node ends its epoch: assets exit, and the next `process` works.

    Args:
        tube: the tube to run.
        placement: where nodes may run, for `explain` and for the runners built on this one: a
            `Placement`, a mapping, or the path of a file.
        affinity: node id to tags, for short.
    """

    store: LazyStore = field(default_factory=LazyStore)
    placement: Placement | Mapping[str, Any] | str | Path | None = None
    affinity: Mapping[str, Iterable[str]] | None = None
    _live_callbacks = True
    """Whether callbacks are called while an epoch runs, or after it."""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        placement = Placement.of(self.placement, tube=self.tube, affinity=self.affinity)
        self.engine = Engine(self.tube, Plan(self.tube, placement), runner=self, store=self.store)
        self.engine.callbacks = self._callbacks

    @property
    def running(self) -> bool:
        """Whether the tube is initialised."""
        return self.engine.running

    def init(self) -> None:
        """Initialise nodes and runner-scoped assets; a no-op while running."""
        self.engine.init()

    def deinit(self) -> None:
        """Deinitialise what was initialised; a no-op while not running."""
        self.engine.deinit()

    def process(self, **kwargs: Any) -> ReturnNodeType:
        """Run one epoch; process-scoped inputs are keyword arguments.

        Raises:
            InputMissingError: an input that the tube requires is not given.
            SchedulerExhaustedError: the sources have ended.
            Exception: what a node raised.
        """
        engine = self.engine
        if engine.ready and not kwargs and engine.scheduler._core is engine.core:  # noqa: SLF001
            number = engine.number
            engine.number = number + 1
            return engine.run(engine, number, _NONE)
        return engine.process(self._validate_input(**kwargs))

    def add_callback(self, callback: Callable[[Event | MetaEvent], None]) -> None:
        """Call `callback` with each node's events in order, then with the epoch's end."""
        super().add_callback(callback)
        self.engine.watch(live=self._live_callbacks)

    def enable_node(self, node_id: str) -> None:
        """Bring a node back into the tube; the plan is made anew for the next epoch."""
        node = self.tube.nodes[node_id]
        if self.running and not node.enabled:
            self.engine.start(node)
        self.tube.enable_node(node_id)

    def disable_node(self, node_id: str) -> None:
        """Take a node out of the tube; the plan is made anew for the next epoch."""
        self.engine.stop(self.tube.nodes[node_id])
        self.tube.disable_node(node_id)

    def collect_return(self, epoch: Epoch | None = None) -> ReturnNodeType:
        """Return what the last epoch returned.

        Raises:
            ValueError: one epoch is asked for by name; only the last one is kept.
        """
        if epoch is not None:
            raise ValueError("Sync runner only stores a single epoch at a time")
        last = self.engine.last
        return last[2] if type(last) is tuple else getattr(last, "value", None)

    def explain(self) -> list[Row]:
        """Say node by node what is compiled, fused, remote or pinned, and why."""
        self.engine.refresh()
        return self.engine.explain()

    def _finish(self, finished: Finished) -> None:
        """Show an epoch that was driven elsewhere: its events in the store, and to callbacks."""
        self.engine.finish(finished)
