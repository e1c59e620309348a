"""One runner for every place: a plan driven over any `concurrent.futures.Executor`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from noob.asset import AssetScope
from noob.exceptions import InputMissingError
from noob.input import InputScope
from noob_core.exceptions import SchedulerExhaustedError

from noob_cloud.exceptions import RunnerError
from noob_cloud.runner.dispatch import Dispatcher
from noob_cloud.runner.flights import Flights
from noob_cloud.runner.synchronous import SynchronousRunner
from noob_cloud.tubes import TubeSource

if TYPE_CHECKING:
    from collections.abc import Generator
    from concurrent.futures import Executor

    from noob.types import ReturnNodeType

_WINDOW = 64


@dataclass
class ExecutorRunner(SynchronousRunner):
    """Run the stateless stages of a tube on an executor, and everything else here, in order.

    The lifecycle is upstream's `TubeRunner`: `run`, `iter`, `process`, `init`, `deinit`, a
    context manager. Results come in the order of the epochs, whatever order the work ends in;
    at most `window` epochs are in flight. What a node raises elsewhere is raised here, with its
    traceback, node and epoch, when its epoch's turn comes.

    Args:
        tube: the tube to run.
        executor: any `concurrent.futures.Executor`: ours, `ProcessPoolExecutor`, Dask's
            `Client.get_executor()`. It stays the caller's: the runner never shuts it down.
        window: most epochs in flight. Assets that live for one epoch, or that carry a value
            from one epoch to the next, allow only one; `explain` says so.
    """

    executor: Executor | None = None
    window: int = _WINDOW
    _live_callbacks = False
    _source: TubeSource | None = field(default=None, repr=False)
    _live: Executor | None = field(default=None, repr=False)
    """The executor in use: the caller's, or the one this runner opened and will close."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1:
            raise RunnerError(f"window is {self.window}; at least one epoch must be in flight")
        if self._source is None:
            self._source = TubeSource.of(self.tube)

    def init(self) -> None:
        """Open the executor, if it is this runner's own, and initialise the nodes."""
        opened = self._live is None
        try:
            if self._live is None:
                self._live = self.executor or self._open()
            super().init()
        except BaseException:
            if opened:
                self._close()
            raise

    def deinit(self) -> None:
        """Deinitialise the nodes, and close the executor if it is this runner's own."""
        try:
            super().deinit()
        finally:
            self._close()

    def _close(self) -> None:
        """Let go of the executor, and end it if it is this runner's own."""
        live, self._live = self._live, None
        if live is not None and live is not self.executor:
            live.shutdown(wait=True, cancel_futures=True)

    def _open(self) -> Executor:
        """Make the executor that this runner owns; a named runner says which."""
        raise RunnerError(
            f"{type(self).__name__} needs an executor, for example "
            "executor=ProcessPoolExecutor(); SynchronousRunner runs a tube without one"
        )

    def process(self, **kwargs: Any) -> ReturnNodeType:
        """Run one epoch; process-scoped inputs are keyword arguments."""
        given = self._validate_input(**kwargs)
        if not self.running:
            self.init()
        with closing(self._fly(given)) as flights:
            return self._take(flights, 1)

    def run(  # type: ignore[override] # upstream's overloads leave out what it returns for None
        self, n: int | None = None
    ) -> list[ReturnNodeType] | None:
        """Run `n` epochs (None: until the sources are exhausted); return what they returned.

        Returns:
            The results that are not None, in order; None where there are none. As upstream does,
            an interrupt or an exhausted source ends the run and keeps the results so far.
        """
        self._require_no_process_input("run")
        if not self.running:
            self.init()
        outputs: list[ReturnNodeType] = []
        count = 0
        with closing(self._fly({})) as flights:
            try:
                while n is None or count < n:
                    value = self._take(flights, None if n is None else n - count)
                    count += 1
                    if value is not None:
                        outputs.append(value)
            except (KeyboardInterrupt, StopIteration, SchedulerExhaustedError) as reason:
                self._logger.debug("Quitting run due to %s", reason)
        return outputs or None

    def iter(self, n: int | None = None) -> Generator[ReturnNodeType, None, None]:
        """Yield `n` results (None: no end) in order; deinitialise afterwards.

        Raises:
            SchedulerExhaustedError: the sources ended before `n` results.
            RuntimeError: `max_iter_loops` epochs in a row gave no result.
        """
        self._require_no_process_input("iter")
        self.init()
        count = loops = 0
        try:
            with closing(self._fly({})) as flights:
                while n is None or count < n:
                    value = self._take(flights, None if n is None else n - count)
                    if self.tube.has_return and value is None:
                        loops += 1
                        if loops > self.max_iter_loops:
                            raise RuntimeError("Reached maximum process calls per iteration")
                        continue
                    count += 1
                    loops = 0
                    yield value
        finally:
            self.deinit()

    def _fly(self, given: dict[str, Any]) -> Flights:
        assert self._live is not None  # noqa: S101 - opened by init
        assert self._source is not None  # noqa: S101 - made with the runner
        engine = self.engine
        engine.refresh()
        return Flights(
            lambda: engine.drive(given),
            Dispatcher(self._live, self._source),
            self._epochs_in_flight(),
        )

    def _take(self, flights: Flights, want: int | None) -> ReturnNodeType:
        """Return the next epoch's result, its events in the store and its callbacks called."""
        finished = flights.take(want)
        self._finish(finished)
        return finished.value

    def _epochs_in_flight(self) -> int:
        for asset in self.tube.state.specs.values():
            if asset.scope is AssetScope.process or asset.depends:
                return 1
        return self.window

    def _require_no_process_input(self, method: str) -> None:
        try:
            self.tube.input_collection.validate_input(InputScope.process, {})
        except InputMissingError as error:
            raise InputMissingError(
                f"Can't use the `{method}` method with tubes with process-scoped input "
                "that was not provided when instantiating the tube! "
                "Use `process()` directly, providing required inputs to each call."
            ) from error
