"""The half of a worker server that pulls from a coordinator."""

from __future__ import annotations

import logging
from threading import Thread
from typing import TYPE_CHECKING

from noob_cloud import tracing
from noob_cloud.exceptions import AuthenticationError, ForbiddenError
from noob_cloud.worker.claim import ClaimLoop
from noob_cloud.worker.protection import Protection

if TYPE_CHECKING:
    from noob_cloud.task import Task
    from noob_cloud.worker.settings import WorkerSettings
    from noob_cloud.worker.slots import Slots

_log = logging.getLogger(__name__)


class Puller:
    """Pulls tasks and drives runs until it is stopped.

    Args:
        settings: with the coordinator's URL.
        slots: the worker's own, where what is pushed runs as well.
    """

    def __init__(self, settings: WorkerSettings, slots: Slots) -> None:
        from noob_cloud.coordinator.drivers import Drivers  # noqa: PLC0415 - few workers pull
        from noob_cloud.serverless.find import find  # noqa: PLC0415 - few workers pull

        found = find(settings.coordinator, settings.coordinator_token)
        queue = found.queue()
        self._loop = ClaimLoop(
            queue,
            slots,
            worker_id=settings.worker_id,
            tags=settings.tags,
            accept_untagged=settings.accept_untagged,
            drain_seconds=settings.drain_seconds,
            documents=queue.blobs.get,
            hand_tube=None if settings.tube is None else settings.tube.cid,
        )
        self._drivers = Drivers(
            queue,
            token=found.token,
            where=settings.coordinator,
            worker_id=settings.worker_id,
            tags=settings.tags,
            allowed_modules=settings.modules,
        )
        self._protection = Protection.of_environment(
            lambda: self._loop.holds or self._drivers.holds
        )
        self._thread = Thread(target=self._pull, name="noob-cloud-pull", daemon=True)

    @property
    def active(self) -> list[Task]:
        """The tasks that run now."""
        return self._loop.active

    def start(self) -> None:
        """Begin to pull."""
        self._thread.start()
        self._drivers.start()
        if self._protection is not None:
            self._protection.start()

    def _pull(self) -> None:
        try:
            self._loop.run()
        except (AuthenticationError, ForbiddenError) as error:
            self._drivers.stop()
            _log.error("the coordinator refuses this worker: %s", error)

    def stop(self) -> None:
        """Pull no more; hand runs back, let tasks end."""
        self._drivers.stop()
        self._loop.stop()

    def join(self, timeout: float) -> None:
        """Wait until tasks have ended or are handed back."""
        self._drivers.join(timeout)
        self._thread.join(timeout)
        if self._protection is not None:
            self._protection.stop()
        tracing.flush()
