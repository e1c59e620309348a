"""An event store that makes its events when somebody reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from noob.store import EventStore, _make_event_dict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from noob.event import Event
    from noob.store import EventDict
    from noob_core import Epoch

    from noob_cloud.engine.engine import Engine
    from noob_cloud.engine.frame import Emitted


class Record(Protocol):
    """What an epoch leaves behind."""

    root: Epoch
    value: Any

    def emitted(self) -> Iterator[list[Emitted]]:
        """Yield the events of each call, in the order of the calls."""
        ...

    def ended(self) -> Sequence[Epoch]:
        """Return the epochs in the order of their end."""
        ...


class LazyStore(EventStore):
    """Upstream's event store, of the last epoch; `events` is made when first read."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self._seen: Any = None
        self._made: EventDict = _make_event_dict()
        super().__init__()

    @classmethod
    def of(cls, record: Record, like: EventStore) -> LazyStore:
        """Make a store of one epoch, whose event ids continue those of another store."""
        store = cls()
        store.event_maker = like.event_maker
        store._fill(record)
        return store

    @property
    def events(self) -> EventDict:
        """Epoch to node to signal to events."""
        engine = self.engine
        if engine is not None and engine.last is not self._seen:
            self._seen = engine.last
            self._fill(engine.record())
        return self._made

    @events.setter
    def events(self, events: EventDict) -> None:
        self._made = events
        if self.engine is not None:
            self._seen = self.engine.last

    def _fill(self, record: Record | None) -> None:
        made = self._made = _make_event_dict()
        self._subepochs.clear()
        for emitted in record.emitted() if record is not None else ():
            for one in emitted:
                epoch, node, signal, _ = one
                made[epoch][node][signal].append(self.made(one))
                if not epoch.is_root:
                    for parent in epoch.parents:
                        self._subepochs[parent].add(epoch)

    def made(self, emitted: Emitted) -> Event[Any]:
        """Return the event that says what was emitted."""
        epoch, node, signal, value = emitted
        return self.event_maker.new_event(value, epoch, node_id=node, signal=signal)
