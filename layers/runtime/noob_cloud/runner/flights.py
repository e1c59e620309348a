"""Epochs in flight: each goes as far as its results allow, and state moves in epoch order."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from noob_cloud.engine import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from noob_cloud.engine import Call, Finished
    from noob_cloud.runner.dispatch import Dispatcher

    Drive = Generator[Turn | list[Call], list[Any] | None, Finished]

_LANDED = 1 << 62
"""The level of an epoch that has none left to enter."""


class Flight:
    """One epoch between its start and its result."""

    __slots__ = ("drive", "error", "finished", "level", "missing", "turn", "values")

    def __init__(self, drive: Drive) -> None:
        self.drive = drive
        self.level = -1
        """The level of the results it asked for last: local work up to there is done."""
        self.turn: int | None = None
        """The level whose stateful work it waits to begin."""
        self.values: list[Any] = []
        self.missing = 0
        """How many results it waits for."""
        self.finished: Finished | None = None
        self.error: BaseException | None = None

    @property
    def landed(self) -> bool:
        """Whether the epoch has its result or its error."""
        return self.finished is not None or self.error is not None


class Flights:
    """Start epochs, keep at most `window` of them in flight, give their results in order."""

    def __init__(self, start: Callable[[], Drive], dispatcher: Dispatcher, window: int) -> None:
        self._start = start
        self._dispatcher = dispatcher
        self._window = window
        self._flights: deque[Flight] = deque()

    def take(self, want: int | None) -> Finished:
        """Wait for the next epoch's result, and return it.

        Args:
            want: how many results the caller wants, this one included (None: no end). No more
                epochs than that are ever in flight, so none is run that nobody asked for.

        Raises:
            Exception: what the epoch raised; the results of every epoch before it were taken.
        """
        while True:
            self._launch(want)
            self._dispatcher.flush()
            head = self._flights[0]
            if head.landed:
                break
            self._land()
        self._flights.popleft()
        if head.error is not None:
            raise head.error
        assert head.finished is not None  # noqa: S101 - landed without an error
        return head.finished

    def close(self) -> None:
        """Give up every epoch in flight."""
        self._dispatcher.cancel()
        with ExitStack() as closing:  # every epoch, though one may fail to leave its assets
            while self._flights:
                closing.callback(self._flights.popleft().drive.close)

    def _launch(self, want: int | None) -> None:
        while len(self._flights) < self._window and (want is None or len(self._flights) < want):
            last = self._flights[-1] if self._flights else None
            if last is not None and (last.error or (last.turn is not None and last.level < 0)):
                return  # it will end the run, or has not drawn from its sources yet
            if last is not None and last.finished is not None and last.finished.exhausted:
                return
            flight = Flight(self._start())
            self._flights.append(flight)
            self._advance(flight, None)
            if flight.error is not None:
                return

    def _land(self) -> None:
        """Wait for results, hand them out, and let every epoch go on that can."""
        for (flight, index, _call), outputs, error in self._dispatcher.collect():
            if flight.landed:
                continue
            if error is not None:
                self._fail(flight, error)
                continue
            flight.values[index] = outputs
            flight.missing -= 1
            if flight.missing == 0:
                self._advance(flight, flight.values)
        self._take_turns()

    def _take_turns(self) -> None:
        behind = _LANDED  # up to here the local work of every earlier epoch is done
        for flight in self._flights:
            if flight.turn is not None and flight.turn <= behind:
                flight.turn = None
                self._advance(flight, None)
            if not flight.landed:
                behind = min(behind, flight.level)

    def _may_enter(self, flight: Flight, level: int) -> bool:
        for earlier in self._flights:
            if earlier is flight:
                return True
            if not earlier.landed and earlier.level < level:
                return False
        return True

    def _advance(self, flight: Flight, values: list[Any] | None) -> None:
        """Run the epoch's local work until it waits for a turn, for results, or has landed."""
        try:
            while True:
                asked = flight.drive.send(values)
                values = None
                if isinstance(asked, Turn):
                    if not self._may_enter(flight, asked.level):
                        flight.turn = asked.level
                        return
                elif asked:
                    flight.level = asked[0].stage.level
                    flight.values = [None] * len(asked)
                    flight.missing = len(asked)
                    for index, call in enumerate(asked):
                        self._dispatcher.add((flight, index, call))
                    return
                else:
                    values = []
        except StopIteration as stop:
            flight.finished = stop.value
        except Exception as error:  # noqa: BLE001 - raised when its epoch's turn comes
            flight.error = error

    def _fail(self, flight: Flight, error: BaseException) -> None:
        try:
            flight.drive.throw(error)
        except StopIteration as stop:
            flight.finished = stop.value
        except BaseException as raised:
            if not isinstance(raised, Exception) and raised is not error:
                raise  # an interrupt of our own
            # A StopIteration leaves a generator as the cause of a RuntimeError.
            flight.error = error if raised.__cause__ is error else raised
        else:
            flight.error = error
            flight.drive.close()
