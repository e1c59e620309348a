"""Queues that call functions: polled as Lambda polls SQS, in batches, with partial answers."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from localdev.aws import client
from localdev.functions import ThrottledError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor

    from localdev.runtime import Answer

__all__ = ["QueueSource", "failures_of"]

_WAIT_SECONDS: Final = 5
_AT_ONCE: Final = 10
"""Messages that SQS hands out at once."""
_BATCHES: Final = 5
"""Batches at once where the mapping says nothing, as Lambda begins with."""
_PAUSE: Final = 0.5
_log: Final = logging.getLogger("localdev")


class QueueSource:
    """One event source mapping, until it is stopped.

    Args:
        mapping: as the state has it.
        invoke: calls a function by its name with a payload.
        threads: where SQS is waited for.
    """

    def __init__(
        self,
        mapping: dict[str, Any],
        *,
        invoke: Callable[[str, bytes], Awaitable[Answer]],
        threads: Executor,
    ) -> None:
        self.mapping = mapping
        self._invoke = invoke
        self._threads = threads
        self._free = asyncio.Semaphore(mapping["concurrency"] or _BATCHES)
        self._batches: set[asyncio.Task[None]] = set()
        self._url = ""
        self._poll = asyncio.create_task(self._run(), name=f"source {mapping['queue']}")

    async def stop(self) -> None:
        """Poll no more; batches under way come back when their visibility ends."""
        for task in (self._poll, *self._batches):
            task.cancel()
        await asyncio.gather(self._poll, *self._batches, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._free.acquire()
                try:
                    messages = await self._receive()
                except BaseException:
                    self._free.release()
                    raise
                if not messages:
                    self._free.release()
                    continue
                batch = asyncio.create_task(self._settle(messages))
                self._batches.add(batch)
                batch.add_done_callback(self._batches.discard)
            except (BotoCoreError, ClientError) as error:
                _log.warning("%s cannot be polled: %s", self.mapping["queue"], error)
                await asyncio.sleep(_PAUSE)

    async def _receive(self) -> list[dict[str, Any]]:
        size, window = self.mapping["batch"], self.mapping["window"]
        found: list[dict[str, Any]] = []
        give_up = time.monotonic() + window
        while True:
            wait = _WAIT_SECONDS if not found else max(0, min(1, round(give_up - time.monotonic())))
            found += await self._ask(
                "receive_message",
                MaxNumberOfMessages=min(_AT_ONCE, size - len(found)),
                WaitTimeSeconds=wait,
                AttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            if not found or len(found) >= size or time.monotonic() >= give_up:
                return found

    async def _settle(self, messages: list[dict[str, Any]]) -> None:
        try:
            event = {"Records": [self._record(message) for message in messages]}
            try:
                answer = await self._invoke(self.mapping["function"], json.dumps(event).encode())
            except (ThrottledError, LookupError) as error:
                _log.warning("a batch of %d waits: %s", len(messages), error)
                await asyncio.sleep(_PAUSE)
                return  # as on AWS: it comes back when its visibility ends
            failed = failures_of(answer, partial=self.mapping["partial"])
            done = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(messages)
                if failed is not None and message["MessageId"] not in failed
            ]
            for first in range(0, len(done), _AT_ONCE):
                with suppress(BotoCoreError, ClientError):
                    await self._ask("delete_message_batch", Entries=done[first : first + _AT_ONCE])
        finally:
            self._free.release()

    async def _ask(self, operation: str, **arguments: Any) -> list[dict[str, Any]]:
        def ask() -> list[dict[str, Any]]:
            sqs = client("sqs")
            if not self._url:
                name = self.mapping["queue"].split(":")[-1]
                self._url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
            answer = getattr(sqs, operation)(QueueUrl=self._url, **arguments)
            found: list[dict[str, Any]] = answer.get("Messages", [])
            return found

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)

    def _record(self, message: dict[str, Any]) -> dict[str, Any]:
        arn = self.mapping["queue"]
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": {
                name: {"stringValue": value.get("StringValue"), "dataType": value["DataType"]}
                for name, value in message.get("MessageAttributes", {}).items()
            },
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": arn,
            "awsRegion": arn.split(":")[3],
        }


def failures_of(answer: Answer, *, partial: bool) -> set[str] | None:
    """Return the ids of the messages that failed; None: all of them.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    if answer.error:
        return None
    if not partial:
        return set()
    try:
        told = json.loads(answer.payload)
    except ValueError:
        return None
    if not told or not told.get("batchItemFailures"):
        return set()
    found = {each.get("itemIdentifier") for each in told["batchItemFailures"]}
    return None if not all(found) else found
