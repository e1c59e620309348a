"""What a worker runs for one call of a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob_cloud.engine.calls import NO_EVENT, Loops, bind, plain, settle
from noob_cloud.exceptions import PlanError
from noob_cloud.plan.plan import Plan, remote_why
from noob_cloud.task import MISSING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noob import Tube
    from noob_core import Epoch


class StageProgram:
    """The nodes of one stage, ready to be called: `program(epoch, values) -> outputs`.

    It needs nothing but the tube and the ids, and gives slots the order that the plan gives them
    in every other process. Call `init` before and `deinit` after; a call does `init` by itself.

    Raises:
        PlanError: the tube has no such node, it is disabled, or it must not run elsewhere.
    """

    def __init__(self, tube: Tube, node_ids: Sequence[str], *, plan: Plan | None = None) -> None:
        plan = plan or Plan(tube)
        by_id = plan.graph.by_id
        for node in node_ids:
            if node not in by_id:
                raise PlanError(f"The tube has no enabled node {node!r}.", node_id=node)
            remote, why = remote_why(by_id[node])
            if not remote:
                raise PlanError(f"The node {node!r} cannot run here: {why}.", node_id=node)
        self.nodes = tuple(node_ids)
        self.steps = [by_id[node] for node in node_ids]
        self.inputs, self.outputs = plan.interface(self.steps)
        self._loops = Loops()
        self._calls: list[Any] | None = None

    def init(self) -> None:
        """Initialise the nodes; a no-op if they are."""
        if self._calls is None:
            for step in self.steps:
                step.node.init()
            self._calls = [bind(step, self._loops) for step in self.steps]

    def deinit(self) -> None:
        """Deinitialise the nodes; a no-op if they are not."""
        if self._calls is not None:
            self._calls = None
            for step in self.steps:
                step.node.deinit()
            self._loops.close()

    def __call__(self, epoch: Epoch, values: Sequence[Any]) -> tuple[Any, ...]:
        """Run the stage once.

        Args:
            epoch: the epoch, or subepoch, of the call.
            values: aligned with `inputs`; MISSING where there is no event.

        Returns:
            Values aligned with `outputs`; MISSING where nothing was emitted.

        Raises:
            Exception: what a node raised, with a note that names the node and the epoch.
        """
        if self._calls is None:
            self.init()
        calls = self._calls
        assert calls is not None  # noqa: S101 - init has just made them
        frame: dict[int, Any] = dict(zip(self.inputs, values, strict=True))
        alone = len(self.steps) == 1
        for step, call in zip(self.steps, calls, strict=True):
            args: list[Any] = []
            kwargs: dict[str, Any] = {}
            missing = False
            for arg in step.args:
                value = frame.get(arg.slot, MISSING)
                if value is MISSING or value is NO_EVENT:
                    missing = missing or arg.required
                elif isinstance(arg.key, str):
                    kwargs[arg.key] = value
                else:
                    args.append(value)
            if missing:
                continue
            if "epoch" in step.injections:
                kwargs[step.injections["epoch"]] = epoch
            try:
                raw = call(*args, **kwargs)
                if alone:
                    return self._spread(raw)
                emitted = settle(step, raw, lambda: epoch)
            except Exception as error:
                error.add_note(f"raised by node {step.id} in epoch {epoch}")
                raise
            frame.update(zip(step.outputs, emitted, strict=True))
        return tuple([frame.get(slot, MISSING) for slot in self.outputs])

    def _spread(self, raw: Any) -> tuple[Any, ...]:
        """Spread a return value, and let events that the node has made pass: home knows them."""
        step = self.steps[0]
        try:
            return settle(step, raw, lambda: None)
        except Exception:
            if len(step.outputs) == 1:
                return (raw,)
            raise


__all__ = ["StageProgram", "plain"]
