"""Assets of a tube: entered once, left whatever happens, updated by what nodes emit."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from noob.asset import AssetScope
from noob.event import MetaSignal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from noob import Tube
    from noob_core import Epoch

    from noob_cloud.engine.frame import Emitted
    from noob_cloud.plan.graph import Graph, Step


class Assets:
    """What an engine does with its tube's assets."""

    tube: Tube
    graph: Graph

    @contextmanager
    def node_assets(self, step: Step) -> Iterator[None]:
        """Enter the node-scoped assets of a step, once, and leave them whatever happens."""
        with ExitStack() as leaving:
            for name in step.assets:
                asset = self.tube.state.assets[name]
                if asset.scope is AssetScope.node:
                    asset.init()
                    leaving.callback(asset.deinit)
            yield

    def asset_values(self, step: Step) -> dict[str, Any]:
        """Return the assets that a step is given: none at all where all of them are None."""
        if not step.assets:
            return {}
        assets = self.tube.state.assets
        values = {name: assets[name].obj for name in step.assets if name in assets}
        return {} if all(value is None for value in values.values()) else values

    def update_assets(self, step: Step, events: Sequence[Emitted]) -> None:
        """Store what a step emitted in the assets that depend on it."""
        if not step.updates:
            return
        names = {self.graph.names[slot][1]: [] for slot, _ in step.updates}  # type: dict[str, list[str]]
        for slot, asset in step.updates:
            names[self.graph.names[slot][1]].append(asset)
        for epoch, node, signal, value in events:
            if node == step.id and not isinstance(value, MetaSignal):
                for asset in names.get(signal, ()):
                    self.update_asset(asset, value, epoch)

    def update_asset(self, asset: str, value: Any, epoch: Epoch) -> None:
        """Store a value in one asset."""
        state = self.tube.state
        state.assets[asset].update(value=value, epoch=epoch, copy=asset not in state.nocopy_deps)

    @contextmanager
    def epoch_assets(self) -> Iterator[Callable[[], None]]:
        """Leave the assets of the epoch's scope, once entered, each whatever the others raise.

        Yields:
            What enters them; a no-op for those that are entered.
        """
        waiting = iter(self.tube.state.scope_to_assets.get(AssetScope.process, []))
        with ExitStack() as leaving:

            def enter() -> None:
                for asset in waiting:
                    asset.init()
                    leaving.callback(asset.deinit)

            yield enter
