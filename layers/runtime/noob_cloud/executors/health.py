"""Ask every worker from time to time how it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from typing import TYPE_CHECKING

from noob_cloud.exceptions import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from noob_cloud.executors.remote_worker import RemoteWorker


class HealthMonitor:
    """Asks `/health` of each worker, at once and then every `interval` seconds.

    Args:
        workers: whom to ask.
        heard: called with each worker and what it said; None when it said nothing.
        interval: seconds between two rounds.
        patience: seconds that an answer may take.
    """

    def __init__(
        self,
        workers: Sequence[RemoteWorker],
        heard: Callable[[RemoteWorker, dict[str, Any] | None], None],
        *,
        interval: float = 5.0,
        patience: float = 2.0,
    ) -> None:
        self._workers = workers
        self._heard = heard
        self._interval = interval
        self._patience = patience
        self._end = Event()
        self._thread = Thread(target=self._watch, name="noob-cloud-health", daemon=True)

    def start(self) -> None:
        """Hear every worker once, then go on in the background."""
        self.round()
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(self._patience)

    def round(self) -> None:
        """Ask every worker, all at the same time, and wait for the answers."""
        with ThreadPoolExecutor(max_workers=min(32, len(self._workers))) as pool:
            list(pool.map(self._ask, self._workers))

    def _ask(self, worker: RemoteWorker) -> None:
        try:
            said = worker.client.health(wait=self._patience)
        except UnavailableError:
            self._heard(worker, None)
        else:
            self._heard(worker, said)

    def _watch(self) -> None:
        while not self._end.wait(self._interval):
            self.round()
