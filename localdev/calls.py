"""Calls of functions by name: which version is meant, now or later, once or again."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from localdev.aws import client
from localdev.functions import Function, ThrottledError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from localdev.functions import Functions
    from localdev.runtime import Answer

__all__ = ["Calls"]

_RETRIES: Final = 2
_MAX_AGE: Final = 6 * 3600.0
_RETRY_SECONDS: Final = (1.0, 2.0)
"""Before a failed event is tried again: AWS waits one minute, then two."""
_THROTTLED_SECONDS: Final = (0.2, 5.0)
"""Shortest and longest wait of an event that finds no environment free."""
_log: Final = logging.getLogger("localdev")


class Calls:
    """The deployed functions, and their asynchronous calls that are not done.

    Args:
        functions: what runs them.
        refresh: reads what is deployed.
        duplicates: whether every asynchronous call is delivered twice.
    """

    def __init__(
        self,
        functions: Functions,
        *,
        refresh: Callable[[], Awaitable[None]],
        duplicates: bool = False,
    ) -> None:
        self._functions = functions
        self._refresh = refresh
        self._duplicates = duplicates
        self._deployed: dict[str, dict[str, Any]] = {}
        self._later: set[asyncio.Task[None]] = set()

    def learn(self, functions: list[dict[str, Any]]) -> None:
        """Take what is deployed now."""
        self._deployed = {each["name"]: each for each in functions}

    def names(self) -> list[str]:
        """Return the functions that are deployed."""
        return list(self._deployed)

    def url(self, name: str) -> str | None:
        """Return a function's URL, if it has one."""
        url = self._deployed[name]["url"]
        return None if url is None else str(url["url"])

    def at_url(self, url_id: str) -> str | None:
        """Return the function, with its qualifier, whose URL has this id."""
        for name, told in self._deployed.items():
            if told["url"] is not None and told["url"]["url"].rstrip("/").endswith(url_id):
                qualifier = told["url"]["qualifier"]
                return f"{name}:{qualifier}" if qualifier else name
        return None

    def keys(self) -> set[tuple[Any, ...]]:
        """Return what environments may be used for what is deployed."""
        return {
            self._function(told, version).key
            for told in self._deployed.values()
            for version in told["versions"]
        }

    async def call(
        self, named: str, payload: bytes, *, context: str = "", fresh: bool = False
    ) -> Answer:
        """Call a function and wait for its answer.

        Args:
            named: `NAME`, `NAME:VERSION` or `NAME:ALIAS`.
            payload: what it is called with.
            context: the client's, as JSON.
            fresh: whether what is deployed is read before: the loop reads it five times a second.

        Raises:
            LookupError: there is no such function, version or alias.
            ThrottledError: too many calls run.
        """
        if fresh:
            await self._refresh()
        function, qualifier = self._find(named)
        return await self._functions.invoke(function, payload, qualifier=qualifier, context=context)

    async def call_later(self, named: str, payload: bytes, *, context: str = "") -> None:
        """Take a call that nobody waits for; it is tried as the function's settings say.

        Raises:
            LookupError: there is no such function, version or alias.
        """
        await self._refresh()
        self._find(named)
        for _ in range(2 if self._duplicates else 1):
            task = asyncio.create_task(self._deliver(named, payload, context))
            self._later.add(task)
            task.add_done_callback(self._later.discard)

    async def _deliver(self, named: str, payload: bytes, context: str) -> None:
        since, tries, pause = time.monotonic(), 0, _THROTTLED_SECONDS[0]
        reason = "EventAgeExceeded"
        while True:
            name = named.partition(":")[0]
            told = self._deployed.get(name)
            if told is None:
                return  # destroyed meanwhile
            settings = told["asynchronous"]
            if time.monotonic() - since > settings.get("MaximumEventAgeInSeconds", _MAX_AGE):
                break
            try:
                answer = await self.call(named, payload, context=context)
            except ThrottledError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _THROTTLED_SECONDS[1])
                continue
            except LookupError:
                return
            if not answer.error:
                return
            reason = "RetriesExhausted"
            if tries >= settings.get("MaximumRetryAttempts", _RETRIES):
                break
            await asyncio.sleep(_RETRY_SECONDS[min(tries, 1)])
            tries += 1
        _log.warning("an event of %s is given up: %s", named, reason)
        target = settings.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
        if target is not None and ":sqs:" in target:
            await asyncio.to_thread(_send, target, named, payload, reason, tries + 1)

    def _find(self, named: str) -> tuple[Function, str]:
        name, _, qualifier = named.partition(":")
        told = self._deployed.get(name)
        if told is None:
            raise LookupError(f"Function not found: {name}")
        version = told["aliases"].get(qualifier, qualifier) or "$LATEST"
        if version not in told["versions"]:
            raise LookupError(f"Function not found: {named}")
        return self._function(told, version), qualifier

    @staticmethod
    def _function(told: dict[str, Any], version: str) -> Function:
        each = told["versions"][version]
        return Function(
            name=told["name"],
            version=version,
            arn=told["arn"],
            handler=each["handler"],
            runtime=each["runtime"] or "python",
            timeout=each["timeout"],
            memory=each["memory"],
            code=each["code"],
            layers=tuple(each["layers"]),
            environment=each["environment"],
            reserved=told["reserved"],
            snapstart=each["snapstart"],
        )

    async def stop(self) -> None:
        """Forget the calls that are not done."""
        for task in list(self._later):
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)


def _send(queue: str, named: str, payload: bytes, reason: str, count: int) -> None:
    """Send what became of an event to the queue for those that failed."""
    sqs = client("sqs")
    url = sqs.get_queue_url(QueueName=queue.rsplit(":", 1)[-1])["QueueUrl"]
    told = {
        "version": "1.0",
        "requestContext": {
            "requestId": str(uuid4()),
            "functionArn": named,
            "condition": reason,
            "approximateInvokeCount": count,
        },
        "requestPayload": json.loads(payload or b"null"),
    }
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(told))
