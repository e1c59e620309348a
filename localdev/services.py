"""ECS services: as many tasks as each wants, started, replaced and stopped as ECS does."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from localdev.tasks import Task, gpus_of, new_id, python_folder

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Services"]

_BACKOFF: Final = (0.2, 1.0, 2.0, 5.0, 10.0)
"""Seconds before the next task, after so many that ended by themselves one after the other."""
_STEADY_SECONDS: Final = 30.0
"""A task that lived for so long did not fail to start."""
_log: Final = logging.getLogger("localdev")


class Services:
    """The tasks of all services on this machine.

    Args:
        folder: of the tasks' disks.
        logs: one log a service.
        environment: what every task is told: endpoint, region, credentials.
        agent: URL where tasks find their metadata.
        gpus: how many GPUs this machine shows to tasks that need some.
    """

    def __init__(
        self,
        folder: Path,
        *,
        logs: Path,
        environment: Mapping[str, str],
        agent: str,
        gpus: int,
    ) -> None:
        self._folder = folder
        self._logs = logs
        self._environment = environment
        self._agent = agent
        self._gpus = gpus
        self._programs = python_folder(folder / ".bin")
        self._numbers = itertools.count(2)
        self.tasks: dict[str, list[Task]] = {}
        """The tasks of each service, the oldest first; those that are stopping too."""
        self._failed: dict[str, tuple[int, float]] = {}
        self._checks: dict[str, asyncio.Task[None]] = {}
        self.wanted: dict[str, dict[str, Any]] = {}
        """The services as they are deployed, by their keys."""

    async def reconcile(self, services: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
        """Start and stop what differs from what is wanted; return how many run of each."""
        self.wanted = {service["key"]: service for service in services}
        for key in {*self.wanted, *self.tasks}:
            await self._collect(key)
            service = self.wanted.get(key)
            if service is None:
                for task in self.tasks.get(key, []):
                    task.stop()
            else:
                await self._fill(service)
            for task in self.tasks.get(key, []):
                task.look()
        return {
            key: {
                "running": len(self.running(key)),
                "pending": max(0, service["desired"] - len(self.running(key))),
            }
            for key, service in self.wanted.items()
        }

    def running(self, key: str) -> list[Task]:
        """Return the tasks of a service that are not stopping."""
        return [each for each in self.tasks.get(key, []) if not each.stopping and not each.ended]

    async def _collect(self, key: str) -> None:
        """Forget tasks that have ended; remember that they failed, if nobody told them to end."""
        for task in [each for each in self.tasks.get(key, []) if each.ended]:
            self.tasks[key].remove(task)
            await task.clean()
            if not task.stopping:
                count, _ = self._failed.get(key, (0, 0.0))
                steady = time.monotonic() - task.began > _STEADY_SECONDS
                self._failed[key] = (0 if steady else count + 1, time.monotonic())
        if not self.tasks.get(key):
            self.tasks.pop(key, None)

    async def _fill(self, service: dict[str, Any]) -> None:
        key = service["key"]
        tasks = self.tasks.setdefault(key, [])
        current = (service["definition"], service["deployment"])
        for task in tasks:
            if (task.service["definition"], task.service["deployment"]) != current:
                task.stop()
        running = self.running(key)
        surplus = len(running) - service["desired"]
        free = [task for task in reversed(running) if not task.protected]
        for task in free[: max(0, surplus)]:
            task.stop()
        most = max(1, service["desired"] * service.get("maximum_percent", 200) // 100)
        while len(self.running(key)) < service["desired"] and len(tasks) < most:
            if not self._may_start(service) or not await self._start(service):
                break

    def _may_start(self, service: dict[str, Any]) -> bool:
        count, since = self._failed.get(service["key"], (0, 0.0))
        pause = _BACKOFF[min(count, len(_BACKOFF)) - 1] if count else 0.0
        return time.monotonic() - since >= pause

    async def _start(self, service: dict[str, Any]) -> bool:
        gpus = self._free_gpus()
        needed = gpus_of(service)
        if needed > len(gpus):
            return False  # pending, as on a cluster without a free instance
        task = Task(
            service,
            address=self.address(service),
            folder=self._folder / new_id(),
            log=self._logs / f"{service['name']}.log",
            environment=self._environment,
            agent=self._agent,
            gpus=tuple(gpus[:needed]),
            programs=self._programs,
        )
        if not task.runs:
            return False  # an image without a command: nothing here can start it
        try:
            await task.start()
        except (LookupError, OSError, ClientError, BotoCoreError) as error:
            _log.warning("a task of %s does not start: %s", service["name"], error)
            count, _ = self._failed.get(service["key"], (0, 0.0))
            self._failed[service["key"]] = (count + 1, time.monotonic())
            return False
        self.tasks.setdefault(service["key"], []).append(task)
        _log.info("task %s of %s started at %s", task.id, service["name"], task.address)
        if any(container.get("healthCheck") for container in task.runs):
            check = asyncio.create_task(self._check(task))
            self._checks[task.id] = check
            check.add_done_callback(lambda _: self._checks.pop(task.id, None))
        return True

    def address(self, service: dict[str, Any]) -> str:
        """Return an address for another task of a service, of its own on this machine.

        Its first half is this process's, so that two local clouds do not have the same.
        """
        del service
        number, own = next(self._numbers), os.getpid()
        return f"127.{1 + own % 250}.{(own // 250 + number // 250) % 250}.{number % 250 + 1}"

    def _free_gpus(self) -> list[int]:
        taken = {
            gpu for tasks in self.tasks.values() for task in tasks if not task.ended
            for gpu in task.gpus
        }  # fmt: skip
        return [gpu for gpu in range(self._gpus) if gpu not in taken]

    async def _check(self, task: Task) -> None:
        """Replace a task that says often enough that it is not healthy."""
        check = next(c["healthCheck"] for c in task.runs if c.get("healthCheck"))
        grace = float(check.get("startPeriod") or 0)
        bad = 0
        while not task.ended and not task.stopping:
            await asyncio.sleep(float(check.get("interval") or 30))
            if task.ended or task.stopping:
                return  # its disk may be gone
            if await task.healthy():
                bad, grace = 0, 0.0
            elif time.monotonic() - task.began > grace and not task.stopping:
                bad += 1
                if bad >= int(check.get("retries") or 3):
                    _log.warning("task %s of %s is unhealthy", task.id, task.service["name"])
                    task.stop()

    def find(self, task_id: str) -> Task | None:
        """Return a task by its id."""
        return next((t for tasks in self.tasks.values() for t in tasks if t.id == task_id), None)

    def named(self, name: str) -> list[Task]:
        """Return the tasks of a service by its name, or by the end of it after a dash."""
        return [
            task
            for key, tasks in self.tasks.items()
            for task in tasks
            if (own := key.split(":")[-1]) == name or own.endswith(f"-{name}")
        ]

    async def kill(self, name: str) -> int:
        """End every task of a service as the loss of its machine does: its disk goes too."""
        tasks = self.named(name)
        for task in tasks:
            task.kill()
        await asyncio.gather(*(task.finish() for task in tasks))
        await asyncio.gather(*(task.clean() for task in tasks))
        for task in tasks:
            self._failed.pop(task.service["key"], None)
        return len(tasks)

    def reclaim(self, name: str) -> int:
        """Tell the tasks of a service that their spot capacity ends: SIGTERM, then as they say."""
        tasks = [task for task in self.named(name) if not task.stopping]
        for task in tasks:
            task.stop()
        return len(tasks)

    async def stop(self, *, seconds: float) -> None:
        """End everything, within so many seconds."""
        everything = [task for tasks in self.tasks.values() for task in tasks]
        for task in everything:
            task.stop()
        ended = asyncio.gather(*(task.finish() for task in everything))
        try:
            await asyncio.wait_for(ended, seconds)
        except TimeoutError:
            for task in everything:
                task.kill()
            await asyncio.gather(*(task.finish() for task in everything))
        for check in list(self._checks.values()):
            check.cancel()

    def send(self, name: str, number: signal.Signals) -> int:
        """Send a signal to every process of a service."""
        tasks = self.named(name)
        for task in tasks:
            task.send(number)
        return len(tasks)
