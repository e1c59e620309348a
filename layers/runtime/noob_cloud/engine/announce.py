"""Make events of what was emitted, and call the callbacks with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob.event import MetaEventType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from noob import Tube
    from noob.event import Event, MetaEvent
    from noob_core import Epoch

    from noob_cloud.engine.frame import Emitted
    from noob_cloud.engine.store import LazyStore


class Announcer:
    """What an engine says of an epoch."""

    tube: Tube
    store: LazyStore
    callbacks: list[Callable[[Event[Any] | MetaEvent], None]]
    watched: bool

    def event(self, emitted: Emitted) -> Event[Any]:
        """Make the event that says what was emitted."""
        epoch, node, signal, value = emitted
        return self.store.event_maker.new_event(value, epoch, node_id=node, signal=signal)

    def announce(self, events: Sequence[Emitted], ended: Sequence[Epoch]) -> None:
        """Call the callbacks, if they are called while the epoch runs."""
        if not self.watched:
            return
        for emitted in events:
            event = self.store.made(emitted)
            for callback in self.callbacks:
                callback(event)
        self.announce_end(ended)

    def announce_end(self, ended: Sequence[Epoch]) -> None:
        """Call the callbacks for epochs that have ended."""
        maker = self.tube.scheduler.event_maker
        for epoch in ended:
            meta = maker.new_meta_event(epoch, MetaEventType.EpochEnded, epoch)
            for callback in self.callbacks:
                callback(meta)
