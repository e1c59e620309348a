"""Ask ECS not to stop a container while it holds work: scale-in and deployments take others first.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
"""

from __future__ import annotations

import json
import logging
import os
from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Protection"]

_log = logging.getLogger(__name__)

_VARIABLE: Final = "ECS_AGENT_URI"
_PATH: Final = "/task-protection/v1/state"
_MINUTES: Final = 20
"""How long ECS keeps a task that has died meanwhile from being replaced: AWS takes 1 to 2,880."""
_RENEW_SECONDS: Final = 300.0
_IDLE_SECONDS: Final = 5.0
"""How long nothing is held before the protection is given up: between two tasks it stays."""
_AFTER_REFUSAL: Final = 30.0
_LOOK_SECONDS: Final = 0.2
_TIMEOUT: Final = 5.0


class Protection:
    """Keeps one ECS task from being stopped while `holds` says so.

    A refusal, or an agent that does not answer, is logged and never ends anything: without
    protection the task has its two minutes to drain.

    Args:
        url: of the agent, as `ECS_AGENT_URI` has it.
        holds: whether the worker holds a lease now.
    """

    def __init__(self, url: str, holds: Callable[[], bool]) -> None:
        self._url = url.rstrip("/") + _PATH
        self._holds = holds
        self._since = 0.0
        """Monotonic time of the last answer of the agent."""
        self._busy_at: float | None = None
        self._on = False
        self._refused_at: float | None = None
        self._said = ""
        self._ending = Event()
        self._leaving = Lock()
        self._thread = Thread(target=self._watch, name="noob-cloud-protection", daemon=True)

    @classmethod
    def of_environment(
        cls, holds: Callable[[], bool], environ: Mapping[str, str] = os.environ
    ) -> Protection | None:
        """Return the protection of the container that this is; None: it is none of ECS's."""
        url = environ.get(_VARIABLE)
        return cls(url, holds) if url else None

    @property
    def on(self) -> bool:
        """Whether the agent has agreed last."""
        return self._on

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more, and give up the protection."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(_TIMEOUT + 1.0)
        with self._leaving:  # a worker is told to stop by a signal and by its server
            if self._on:
                self._ask(enabled=False, now=monotonic())

    def look(self, now: float) -> None:
        """Ask for what should be so at this monotonic time, if it is not."""
        if self._refused_at is not None and now - self._refused_at < _AFTER_REFUSAL:
            return
        if self._holds():
            self._busy_at = now
            if not self._on or now - self._since >= _RENEW_SECONDS:
                self._ask(enabled=True, now=now)
        elif self._on and (self._busy_at is None or now - self._busy_at >= _IDLE_SECONDS):
            self._ask(enabled=False, now=now)

    def _watch(self) -> None:
        while not self._ending.wait(_LOOK_SECONDS):
            self.look(monotonic())

    def _ask(self, *, enabled: bool, now: float) -> None:
        wanted: dict[str, Any] = {"ProtectionEnabled": enabled}
        if enabled:
            wanted["ExpiresInMinutes"] = _MINUTES
        trouble = self._put(wanted)
        self._refused_at = None if trouble is None else now
        if trouble is None:
            self._on, self._since, self._said = enabled, now, ""
        elif trouble != self._said:
            self._said = trouble
            what = "protect this task" if enabled else "give up this task's protection"
            _log.warning("ECS does not %s: %s", what, trouble)

    def _put(self, wanted: Mapping[str, Any]) -> str | None:
        """Tell the agent; return what it refuses with."""
        request = Request(  # noqa: S310 - the address that ECS gives
            self._url,
            json.dumps(wanted).encode(),
            {"Content-Type": "application/json"},
            method="PUT",
        )
        try:
            with urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310 - as above
                said = json.load(answer)
        except HTTPError as error:
            with error:
                return f"{error.code} {error.read(500).decode(errors='replace')}"
        except (OSError, ValueError) as error:
            return str(error)
        if not isinstance(said, dict) or "protection" not in said:
            return json.dumps(said)[:500]
        return None
