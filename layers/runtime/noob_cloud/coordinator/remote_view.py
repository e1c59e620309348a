"""What one may ask of a coordinator's queue without holding a task."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlencode

import msgspec

from noob_cloud.codec.limits import DEFAULT
from noob_cloud.coordinator import wire
from noob_cloud.coordinator.lots import Decoder
from noob_cloud.coordinator.remote_blobs import DirectBlobs, RemoteBlobs
from noob_cloud.coordinator.transport import FRAME_PLEASE, FRAMES, JSON
from noob_cloud.queue.interface import QueueStats
from noob_cloud.task import Task, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from noob_cloud.coordinator.transport import Reply, Transport
    from noob_cloud.queue.bodies import Blobs

_LONGEST_POLL: Final = 20.0
"""Seconds that one request waits; a longer wait is several requests."""
_MOST: Final = 5_000
"""Tasks in one request; more are several."""
_PAGE: Final = 1_000
_NOTHING: Final[dict[str, str]] = {}
_MOST_BYTES: Final = 6_000_000
"""Of values in one answer: gateways send 10 MB at most."""


class RemoteView:
    """Looks at the tasks of a coordinator, cancels and redrives them, limits their keys."""

    def __init__(self, transport: Transport, blobs: Blobs | None = None) -> None:
        self._transport = transport
        remote = RemoteBlobs(transport)
        self.blobs: Blobs = remote if blobs is None else DirectBlobs(blobs, remote)
        self._decoder = Decoder(self.blobs.get)

    @property
    def url(self) -> str:
        """Where the coordinator is."""
        return self._transport.url

    def cancel_task(self, task_id: int, *, now: float | None = None) -> bool:
        """Cancel the task, running or not; False if it already has its outcome."""
        found = self._json("POST", f"/tasks/{int(task_id)}/cancel", {}, now=now)
        return bool(found["cancelled"])

    def cancel_many(self, task_ids: Iterable[int], *, now: float | None = None) -> list[int]:
        """Cancel tasks, running or not; return those that had no outcome."""
        ids = list(task_ids)
        done: list[int] = []
        for first in range(0, len(ids), _PAGE):
            body = {"task_ids": ids[first : first + _PAGE]}
            done += self._json("POST", "/cancel", body, now=now)["cancelled"]
        return done

    def redrive(
        self, task_ids: Iterable[int] | None = None, *, now: float | None = None
    ) -> list[int]:
        """Bring dead letters (all of them without `task_ids`) back with a full set of attempts."""
        wanted = None if task_ids is None else list(task_ids)
        found: list[int] = self._json("POST", "/redrive", {"task_ids": wanted}, now=now)["redriven"]
        return found

    # ---- looking

    def get_task(self, task_id: int, *, decode: bool = True) -> Task:
        """Everything about one task, its result included."""
        reply = self._transport.send("GET", f"/tasks/{int(task_id)}", headers=FRAME_PLEASE)
        return self._views(reply, decode=decode)[0]

    def list_tasks(
        self,
        status: TaskStatus | str | None = None,
        run_id: str | None = None,
        *,
        limit: int = 100,
        after: int = 0,
        decode: bool = True,
    ) -> list[Task]:
        """Tasks in the order of their ids, beginning behind `after`."""
        found: list[Task] = []
        while len(found) < limit:
            size = min(_PAGE, limit - len(found))
            query: dict[str, Any] = {"after": after, "limit": size}
            if status is not None:
                query["status"] = TaskStatus(status).value
            if run_id is not None:
                query["run_id"] = run_id
            reply = self._transport.send("GET", f"/tasks?{urlencode(query)}", headers=FRAME_PLEASE)
            page = self._views(reply, decode=decode)
            found += page
            if len(page) < size:
                break
            after = page[-1].task_id
        return found

    def stats(self) -> QueueStats:
        """How many tasks are where."""
        return QueueStats(**self._json("GET", "/stats?seconds=0")["queue"])

    def wait_settled(
        self,
        task_ids: Iterable[int],
        timeout: float | None = None,
        *,
        at_least: int | None = None,
        decode: bool = True,
    ) -> list[Task]:
        """Those of `task_ids` that have an outcome, as soon as all (or `at_least`) have one."""
        ids = list(dict.fromkeys(task_ids))
        enough = len(ids) if at_least is None else min(at_least, len(ids))
        give_up = None if timeout is None else monotonic() + timeout
        found: dict[int, Task] = {}
        while True:
            left = _LONGEST_POLL if give_up is None else max(0.0, give_up - monotonic())
            wait = min(_LONGEST_POLL, left)
            missing = [task_id for task_id in ids if task_id not in found]
            more = False
            for first in range(0, len(missing), _MOST):
                part = missing[first : first + _MOST]
                least = max(0, min(enough - len(found), len(part)))
                body = wire.Wait(part, wait if first == 0 else 0.0, least, _MOST_BYTES)
                answer = self._post("/settled", body, wire.Views, wait=wait)
                more = more or answer.more
                for task in self._decoder.looked_at(answer.tasks, decode=decode):
                    found[task.task_id] = task
            if more and at_least is None:
                continue
            if len(found) >= enough or (give_up is not None and monotonic() >= give_up):
                return [found[task_id] for task_id in ids if task_id in found]

    def set_limit(
        self,
        key: str,
        concurrency: int | None = None,
        rate: tuple[int, float] | None = None,
        *,
        now: float | None = None,
    ) -> None:
        """At most `concurrency` tasks of this key at once, at most `rate[0]` in `rate[1]` s."""
        told = None if rate is None else {"tasks": rate[0], "seconds": rate[1]}
        body = {"key": key, "concurrency": concurrency, "rate": told}
        self._json("POST", "/limits", body, now=now)

    def close(self) -> None:
        """Let go of the connections; a closed queue can be used again."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- inside

    def _post(
        self,
        path: str,
        body: msgspec.Struct,
        kind: type[Any],
        *,
        now: float | None = None,
        wait: float = 0.0,
        headers: Mapping[str, str] = _NOTHING,
    ) -> Any:
        said = {**FRAMES, **headers} if headers else FRAMES
        if now is not None:
            said = {**said, "Noob-Now": repr(now)}
        reply = self._transport.send("POST", path, wire.to_frame(body), headers=said, wait=wait)
        return wire.from_frame(kind, reply.body, DEFAULT)

    def _json(self, method: str, path: str, body: Any = None, *, now: float | None = None) -> Any:
        headers = JSON if now is None else {**JSON, "Noob-Now": repr(now)}
        data = None if body is None else msgspec.json.encode(body)
        return self._transport.send(method, path, data, headers=headers).json()

    def _views(self, reply: Reply, *, decode: bool) -> list[Task]:
        views = wire.from_frame(wire.Views, reply.body, DEFAULT).tasks
        return list(self._decoder.looked_at(views, decode=decode))
