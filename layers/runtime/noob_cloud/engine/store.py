"""An event store that makes its events when somebody reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from noob.store import EventStore, _make_event_dict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from noob.event import Event
    from noob.store import EventDict
    from noob.types import Epoch

    from noob_cloud.engine.frame import Emitted


class Record(Protocol):
    """What an epoch leaves behind."""

    def emitted(self) -> Iterator[list[Emitted]]:
        """Yield the events of each call, in the order of the calls."""
        ...

    def ended(self) -> Sequence[Epoch]:
        """Return the epochs in the order of their end."""
        ...


class LazyStore(EventStore):
    """Upstream's event store, of the last epoch; `events` is made when first read."""

    def __init__(self) -> None:
        self._record: Record | None = None
        self._made: EventDict | None = None
        self._ready: dict[int, tuple[Any, Event[Any]]] = {}
        super().__init__()

    @classmethod
    def of(cls, record: Record, like: EventStore) -> LazyStore:
        """Make a store of one epoch, whose event ids continue those of another store."""
        store = cls()
        store.event_maker = like.event_maker
        store.read_from(record)
        return store

    @property
    def events(self) -> EventDict:  # type: ignore[override]
        """Epoch to node to signal to events."""
        if self._made is None:
            self._made = _make_event_dict()
            record, self._record = self._record, None
            if record is not None:
                for emitted in record.emitted():
                    for one in emitted:
                        self.add(self.made(one))
        return self._made

    @events.setter
    def events(self, events: EventDict) -> None:
        self._made = events
        self._record = None

    def read_from(self, record: Record) -> None:
        """Show the events of an epoch from now on."""
        self._record = record
        self._made = None

    def made(self, emitted: Emitted) -> Event[Any]:
        """Return the event that says what was emitted."""
        epoch, node, signal, value = emitted
        return self.event_maker.new_event(value, epoch, node_id=node, signal=signal)
