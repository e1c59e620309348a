"""SQS under many threads: moto forgets a message that comes while another one is deleted."""

from __future__ import annotations

import time
from typing import Any, Final

from moto.sqs.models import Queue, SQSBackend

__all__ = ["install"]

_LOOK_SECONDS: Final = 0.25
"""How often a wait looks for messages that nobody sent: those that become visible again."""


def install() -> None:
    """Have queues change under their locks."""
    moto_delete = Queue.delete_message
    moto_receive = SQSBackend.receive_message

    def delete(self: Queue, receipt_handle: str) -> None:
        with self._messages_lock:
            moto_delete(self, receipt_handle)

    def receive(
        self: SQSBackend,
        queue_name: str,
        count: int,
        wait_seconds_timeout: int,
        visibility_timeout: int,
        message_attribute_names: list[str] | None = None,
    ) -> list[Any]:
        """Take within the lock; a wait lets go of it."""
        queue = self.get_queue(queue_name)
        lock = queue._messages_lock  # noqa: SLF001 - the lock is all that is missing
        give_up = time.monotonic() + wait_seconds_timeout
        with lock:
            while True:
                found = moto_receive(
                    self, queue_name, count, 0, visibility_timeout, message_attribute_names
                )
                left = give_up - time.monotonic()
                if found or left <= 0:
                    return found
                lock.wait(min(left, _LOOK_SECONDS))

    Queue.delete_message = delete  # type: ignore[method-assign]
    SQSBackend.receive_message = receive  # type: ignore[method-assign]
