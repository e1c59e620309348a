"""The engine: a tube's nodes brought to life, and its epochs run by the plan."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from noob.asset import AssetScope
from noob.exceptions import InputMissingError
from noob.utils import iscoroutinefunction_partial
from noob_core.exceptions import SchedulerExhaustedError

from noob_cloud.engine.announce import Announcer
from noob_cloud.engine.assets import Assets
from noob_cloud.engine.calls import NO_EVENT, Loops, OddValueError, bind, with_context
from noob_cloud.engine.compiled import Compiled
from noob_cloud.engine.drive import Drive
from noob_cloud.engine.ledger import Ledger
from noob_cloud.engine.nested import start_nested
from noob_cloud.engine.store import LazyStore
from noob_cloud.plan.graph import Kind
from noob_cloud.plan.nouns import Finished
from noob_cloud.plan.plan import Plan
from noob_cloud.task import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from noob import Tube
    from noob.event import Event, MetaEvent
    from noob.runner import TubeRunner

    from noob_cloud.engine.frame import Frame
    from noob_cloud.plan.graph import Graph, Step
    from noob_cloud.plan.nouns import Call, Row, Turn


_ENDED = "_noob_cloud_ended"
"""On a scheduler: the core that has to order its epochs from now on, and why."""


class Engine(Assets, Announcer):
    """Run a tube's epochs: all here, or with remote stages handed out.

    Args:
        tube: the tube. The engine owns its nodes between `init` and `deinit`.
        plan: the tube's plan; made if absent, and made anew when nodes are enabled or disabled.
        runner: whose context nodes get that ask for it.
        store: where events are read after an epoch.
    """

    def __init__(
        self,
        tube: Tube,
        plan: Plan | None = None,
        *,
        runner: TubeRunner | None = None,
        store: LazyStore | None = None,
    ) -> None:
        self.tube = tube
        self.plan = plan or Plan(tube)
        self.runner = runner
        self.store = store if store is not None else LazyStore()
        self.store.engine = self
        self.callbacks: list[Callable[[Event | MetaEvent], None]] = []
        self.running = False
        self.watched = False
        """Whether callbacks are called while an epoch runs (and not after it)."""
        self._loops = Loops()
        self._live: list[Any] = []
        self._calls: dict[str, Callable[..., Any]] = {}
        self.last: Any = None
        """The last epoch's record: a `Record`, or what the compiled code left."""
        self.compiled: Compiled | None = None
        self.noev: list[tuple[int, int]] = []
        """(slot, row) of each NoEvent of the epoch that is running."""
        self.run: Any = None
        self.ready = False
        """Whether `run` may be called without a further look."""
        self.ordered: str | None = None
        """Why epochs are ordered by the scheduler core from now on, if they are."""
        self._adopt()

    # ---- what the plan says

    def _adopt(self) -> None:
        """Read the plan, and where the scheduler core stands."""
        plan = self.plan
        self.core: Any = plan.core
        self.scheduler = self.tube.scheduler
        self.graph: Graph = plan.graph
        self.steps: dict[str, Step] = self.graph.by_id
        self.ordered = self.graph.irregular
        core, why = getattr(self.scheduler, _ENDED, (None, None))
        if core is self.core:
            self.ordered = why  # a source has ended, perhaps while another engine ran the tube
        self.left_to_core: dict[str, str] = {}
        """Nodes at which single epochs were left to the scheduler core, and why."""
        self.compiled = None
        self.ready = False
        self.shadowed = self.graph.behind()
        self.risky: set[str] = set()
        """Maps behind which something may run even if they emit nothing."""
        for step in self.graph.steps:
            if step.kind is Kind.MAP and self._is_risky(step):
                self.risky.add(step.id)
        first = self.core.first_active_epoch()
        log = self.core.epoch_log
        self.number = first.root if first is not None else max(log, default=-1) + 1
        self._inputs = {
            name[1]: slot for name, slot in self.graph.slots.items() if name[0] == "input"
        }

    def _is_risky(self, step: Step) -> bool:
        return any(
            self.steps[other].optional
            and (self.steps[other].kind is not Kind.RETURN or len(self.steps[other].args) > 1)
            for other in self.graph.behind(step.id)
        )

    def refresh(self) -> None:
        """Compile anew if nodes have been enabled or disabled."""
        if self.tube.scheduler._core is not self.core:  # noqa: SLF001 - upstream's own sign of it
            self.plan = Plan(self.tube, self.plan.placement, fuse=self.plan.fuse)
            self._adopt()
            if self.running:
                self._bind()

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to do until the tube is made anew."""
        return bool(self.core.exhausted)

    def still_running(self, number: int) -> None:
        """Give up an epoch that was begun before the tube was found to be exhausted.

        Raises:
            SchedulerExhaustedError: there is nothing to do in this epoch.
        """
        if self.ordered is not None and self.exhausted:
            del number
            raise SchedulerExhaustedError(
                "Scheduler is exhausted and cannot run until re-initialized"
            )

    # ---- lifecycle

    def init(self) -> None:
        """Initialise nodes and the assets of the runner's scope; a no-op while running.

        Raises:
            Exception: what a node raised; those before it have been deinitialised again.
        """
        if self.running:
            return
        self.refresh()
        self.running = True
        self._live = []
        try:
            for node in self.tube.enabled_nodes.values():
                self.start(node)
            for asset in self.tube.state.scope_to_assets.get(AssetScope.runner, []):
                asset.init()
                self._live.append(asset)
        except BaseException:
            with suppress(Exception):
                self.deinit()
            raise
        self._bind()

    def start(self, node: Any) -> None:
        """Initialise one node."""
        step = self.steps.get(node.id)
        if step is not None and step.kind is Kind.TUBE and step.exact:
            start_nested(node, self.context())
        else:
            self._lifecycle(node.init)
        self._live.append(node)

    def stop(self, node: Any) -> None:
        """Deinitialise one node."""
        if node in self._live:
            self._live = [other for other in self._live if other is not node]
            self._lifecycle(node.deinit)

    def deinit(self) -> None:
        """Deinitialise whatever has been initialised, each whatever the others raise.

        Raises:
            Exception: the first of what they raised.
        """
        live, self._live = self._live, []
        self.running = False
        self.ready = False
        self.compiled = None
        self._calls = {}
        first: BaseException | None = None
        for one in live:
            try:
                self._lifecycle(one.deinit)
            except BaseException as error:  # noqa: BLE001 - the others must end as well
                first = first or error
        self._loops.close()
        if first is not None:
            raise first

    def context(self) -> Any:
        """Return what nodes get that ask for the runner's context."""
        return {"runner": self.runner, "input_collection": self.tube.input_collection}

    def _lifecycle(self, method: Callable[..., Any]) -> None:
        function = with_context(method, self.context)
        if iscoroutinefunction_partial(function):
            self._loops.call(function)
        else:
            function()

    def _bind(self) -> None:
        self.compiled = None
        self.ready = False
        self._calls = {step.id: bind(step, self._loops) for step in self.graph.steps}

    def call(self, step: Step, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call a node."""
        return self._calls[step.id](*args, **kwargs)

    def take_returned(self, step: Step) -> tuple[list[Any], dict[str, tuple[Any, Any]]]:
        """Empty a return node of a class of its own."""
        value = step.node.get(keep=False)  # type: ignore[attr-defined]
        return [value], {}

    def watch(self, *, live: bool) -> None:
        """Have callbacks called: while an epoch runs, or (see `finish`) after it.

        From now on no stage hides what its nodes emit: chains are not fused.
        """
        self.watched = live
        self.ready = False
        if self.plan.fuse:
            number = self.number
            self.plan = Plan(self.tube, self.plan.placement, fuse=False)
            self._adopt()
            self.number = max(number, self.number)
            if self.running:
                self._bind()

    # ---- epochs

    def inputs(self, given: Mapping[str, Any]) -> dict[int, Any]:
        """Return the value of each input slot.

        Raises:
            InputMissingError: an input that a node depends on was given in no scope.
        """
        values = {}
        for name, slot in self._inputs.items():
            try:
                values[slot] = self.tube.input_collection.get(name, dict(given))
            except KeyError as error:
                raise InputMissingError(
                    f"Node depends on input {name}, but not provided in any input scope"
                ) from error
        return values

    def begin(self) -> int:
        """Take the number of the next epoch.

        Raises:
            SchedulerExhaustedError: the sources have ended.
        """
        if self.core.exhausted:
            self.last = None
            raise SchedulerExhaustedError(
                "Scheduler is exhausted and cannot run until re-initialized"
            )
        number = self.number
        self.number = number + 1
        return number

    def drive(
        self,
        given: Mapping[str, Any] | None = None,
        remote: bool = True,  # noqa: FBT001, FBT002 - the seam
    ) -> Generator[Turn | list[Call], Sequence[tuple[Any, ...]] | None, Finished]:
        """Run one epoch; hand out what may run elsewhere.

        Yields:
            `Turn(level)`: resume once every earlier epoch has left the level.
            A list of `Call`: send back a list as long, each the outputs aligned with
            `call.stage.outputs`, or throw in what a call raised.

        Returns:
            The epoch's end. What a node raised is raised, the epoch ended and its assets exited.
        """
        if not self.running:
            self.init()
        self.refresh()
        inputs = self.inputs(given or {})
        number = self.begin()
        record: Any
        value: Any
        if self.ordered is None:
            drive = Drive(self, number, inputs)
            try:
                record, value = yield from self._compiled(drive, inputs, remote=remote)
            finally:
                drive.let_go()
        else:
            ledger = Ledger(self, number, inputs)
            with self.epoch_assets() as enter:
                value = yield from ledger.drive(remote=remote, began=enter)
            record = ledger
        record.value = value
        self.last = record
        return Finished(record.root, value, self.exhausted, record, self.store)

    def _compiled(
        self, drive: Drive, inputs: dict[int, Any], *, remote: bool
    ) -> Generator[Any, Any, tuple[Any, Any]]:
        """Drive an epoch by the plan; leave the rest of it to the scheduler core if it must be."""
        frame = drive.frame
        try:
            value = yield from drive.run(remote=remote)
        except OddValueError as odd:
            ledger = self.take_over(odd, frame, inputs)
            return ledger, (yield from ledger.drive(remote=remote, began=drive.hold))
        if self.watched:
            self.announce_end(frame.ended())
        return frame, value

    def take_over(self, odd: OddValueError, frame: Frame, inputs: dict[int, Any]) -> Ledger:
        """Leave the rest of this epoch to the scheduler core.

        So are the epochs after it, where a source has ended or a node makes events of its own.
        """
        if odd.raw is not MISSING and odd.raw is not NO_EVENT and self.ordered is None:
            self.ordered = odd.why
            self.ready = False
            setattr(self.scheduler, _ENDED, (self.core, odd.why))
        self.left_to_core[odd.step.id] = odd.why
        return Ledger(self, frame.number, inputs, frame, odd)

    def process(self, given: Mapping[str, Any] | None = None) -> Any:
        """Run one epoch in this process; return the tube's value.

        Raises:
            SchedulerExhaustedError: the sources have ended.
            Exception: what a node raised, the epoch ended and its assets exited.
        """
        if not self.running:
            self.init()
        self.refresh()
        if self.ordered is None:
            if self.compiled is None or self.compiled.watched != self.watched:
                self.compiled = Compiled(self)
            return self.compiled.process(given or {})
        drive = self.drive(given, remote=False)
        try:
            while True:
                next(drive)
        except StopIteration as stop:
            return stop.value.value

    def record(self) -> Any:
        """Return the last epoch's record."""
        last = self.last
        return last[-1].record(last) if type(last) is tuple else last

    def finish(self, finished: Finished) -> None:
        """Show an epoch's events in the store, and to callbacks that were not called during it."""
        self.last = finished.record
        if self.callbacks and not self.watched:
            self.watched = True
            try:
                for emitted in finished.record.emitted():
                    self.announce(emitted, [])
                self.announce_end(finished.record.ended())
            finally:
                self.watched = False

    def explain(self) -> list[Row]:
        """Say of each node what is compiled, fused, remote or pinned, and why."""
        rows = self.plan.explain()
        if self.graph.irregular is not None:
            return rows
        if self.ordered is None:
            why = "; an epoch's rest was left to upstream's scheduler core, since "
            left = self.left_to_core
            return [
                replace(row, why=row.why + why + left[row.node]) if row.node in left else row
                for row in rows
            ]
        why = f"; ordered by upstream's scheduler core, since {self.ordered}"
        return [
            row if row.where == "off" else replace(row, how="scheduler", why=row.why + why)
            for row in rows
        ]
