"""The worker as a Lambda function: woken up to pull, asked over HTTP, or told by a queue."""

from __future__ import annotations

import json
import logging
import os
import sys
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import uuid4

from noob_cloud import tracing
from noob_cloud.serverless.code import allowed_modules
from noob_cloud.serverless.find import find

if TYPE_CHECKING:
    from collections.abc import Mapping

    from noob_cloud.deployment import Deployment
    from noob_cloud.serverless.web import Web
    from noob_cloud.worker.settings import WorkerSettings
    from noob_cloud.worker.slots import Slots

__all__ = ["Context", "WorkerFunction"]

_log = logging.getLogger(__name__)

_KEPT_SECONDS: Final = 300.0
"""How long what was found of the deployment is trusted: a token may be changed."""
_PATIENCE: Final = 20.0
"""How long the coordinator may be away before a wake-up says so, in seconds."""


class Context(Protocol):
    """What Lambda says of an invocation."""

    def get_remaining_time_in_millis(self) -> int:
        """Return how long it may still run, in milliseconds."""
        ...


class WorkerFunction:
    """One execution environment of the worker: tells events apart, and keeps what is warm.

    Nothing that must differ between two environments is made before the first event: both may
    come from one snapshot. Connections are made anew for each wake-up, since the environment is
    frozen between two.

    Args:
        environ: the function's environment.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._found: tuple[float, Deployment] | None = None
        self._web: Web | None = None

    def handle(self, event: Any, context: Context) -> dict[str, Any]:
        """Answer an event: a wake-up, messages of a queue, or a request of a function URL.

        Raises:
            ValueError: it is none of them.
        """
        if isinstance(event, dict):
            if event.get("noob_cloud") == "pull":
                return self._pull(event, context)
            if "Records" in event:
                return self._records(event["Records"], context)
            if "requestContext" in event and "http" in event["requestContext"]:
                return self._ask(event, context)
        raise ValueError(
            'This function takes {"noob_cloud": "pull"}, messages of SQS whose bodies are that,'
            f" and requests of its function URL; not {json.dumps(event)[:200]}"
        )

    def prepare(self) -> None:
        """Load everything: what a snapshot is taken of starts with it."""
        import noob  # noqa: PLC0415, F401 - loads upstream

        from noob_cloud.serverless import web  # noqa: PLC0415, F401 - loads FastAPI

    @cached_property
    def worker_id(self) -> str:
        """The environment's name, of its own also where many start from one snapshot."""
        name = self._environ.get("AWS_LAMBDA_FUNCTION_NAME", "lambda")
        return f"{name}-{uuid4().hex[:12]}"

    @cached_property
    def _modules(self) -> tuple[str, ...]:
        root = self._environ.get("LAMBDA_TASK_ROOT")
        return allowed_modules([root] if root else sys.path[:1], self._environ)

    @cached_property
    def _slots(self) -> Slots:
        from noob_cloud.worker.slots import slots  # noqa: PLC0415 - a request has its own

        made = slots(self._max_tasks, isolate=self._isolate, allowed_modules=self._modules)
        made.warm()
        return made

    @property
    def _max_tasks(self) -> int:
        return int(self._environ.get("NOOB_CLOUD_MAX_TASKS") or 1)

    @property
    def _isolate(self) -> bool:
        return self._environ.get("NOOB_CLOUD_ISOLATE") != "0"

    @property
    def _tags(self) -> frozenset[str]:
        words = self._environ.get("NOOB_CLOUD_TAGS", "").split(",")
        return frozenset(word.strip() for word in words if word.strip())

    # ---- wake-ups

    def _pull(self, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        from noob_cloud.coordinator.drivers import Drivers  # noqa: PLC0415 - a request needs none
        from noob_cloud.exceptions import (  # noqa: PLC0415 - as above
            AuthenticationError,
            ForbiddenError,
        )
        from noob_cloud.serverless import wake  # noqa: PLC0415 - as above

        seconds = context.get_remaining_time_in_millis() / 1000
        limit = event.get("limit_seconds")
        lease = float(self._environ.get("NOOB_CLOUD_WORKER_LEASE_SECONDS") or wake.LEASE_SECONDS)
        slots = self._slots  # its process starts while the coordinator is looked for
        found = self._deployment
        queue = found.queue(patience=min(_PATIENCE, seconds / 4))
        drivers = Drivers(
            queue,
            token=found.token,
            where=self._where,
            worker_id=self.worker_id,
            tags=self._tags,
            allowed_modules=self._modules,
            lease_seconds=lease,
            poll_seconds=wake.POLL_SECONDS,
        )
        try:
            return wake.pull_for(
                seconds if limit is None else min(seconds, float(limit)),
                queue,
                slots,
                worker_id=self.worker_id,
                tags=self._tags,
                drivers=drivers,
                idle_seconds=float(event.get("idle_seconds") or wake.IDLE_SECONDS),
                lease_seconds=lease,
            )
        except (AuthenticationError, ForbiddenError):
            self._found = None  # the token may have been changed
            raise
        finally:
            queue.close()
            tracing.flush()  # the environment is frozen now

    @property
    def _where(self) -> str | None:
        return self._environ.get("NOOB_CLOUD_COORDINATOR") or self._environ.get(
            "NOOB_CLOUD_DEPLOYMENT"
        )

    @property
    def _deployment(self) -> Deployment:
        now = monotonic()
        if self._found is None or now - self._found[0] > _KEPT_SECONDS:
            self._found = (now, find(environ=self._environ))
        return self._found[1]

    def _records(self, records: list[Any], context: Context) -> dict[str, Any]:
        """Pull if a message is a wake-up; give back each that is none."""
        bad: list[dict[str, str]] = []
        wake: Mapping[str, Any] | None = None
        for record in records:
            told = _wake_up(record)
            if told is None:
                number = record.get("messageId", "") if isinstance(record, dict) else ""
                _log.error("message %s is no wake-up: %.200r", number, record)
                bad.append({"itemIdentifier": number})
            else:
                wake = told
        counts = {} if wake is None else self._pull(wake, context)
        return {**counts, "batchItemFailures": bad}

    # ---- requests

    def _ask(self, event: dict[str, Any], context: Context) -> dict[str, Any]:
        if self._web is None:
            from noob_cloud.serverless.web import Web  # noqa: PLC0415 - loads FastAPI

            self._web = Web(self._settings())
        return self._web(event, context)

    def _settings(self) -> WorkerSettings:
        from noob_cloud.identity import TokenBook  # noqa: PLC0415 - a wake-up needs none
        from noob_cloud.serverless.find import secret  # noqa: PLC0415 - as above
        from noob_cloud.worker.settings import WorkerSettings  # noqa: PLC0415 - as above

        token = self._environ.get("NOOB_CLOUD_TOKEN") or secret(self._environ)
        return WorkerSettings(
            tokens=TokenBook.from_settings(token=token),
            worker_id=self.worker_id,
            tags=self._tags,
            allowed_modules=self._modules,
            max_tasks=self._max_tasks,
            isolate=self._isolate,
        )


def _wake_up(record: Any) -> Mapping[str, Any] | None:
    """Return the wake-up in a message; None: it holds none."""
    try:
        told = json.loads(record["body"])
        return told if told["noob_cloud"] == "pull" else None
    except (KeyError, TypeError, ValueError):
        return None
