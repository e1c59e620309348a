"""Be a worker: pull tasks from a queue until told to stop."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

from noob_cloud import codec
from noob_cloud.worker import child
from noob_cloud.worker.claim import ClaimLoop
from noob_cloud.worker.execute import raise_outcome
from noob_cloud.worker.slots import slots

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator, Sequence

    from noob_cloud.queue.interface import Queue
    from noob_cloud.tubes import TubeSource

__all__ = ["default_worker_id", "pull"]


def default_worker_id() -> str:
    """Return a name that no other worker has: the machine's and the process's."""
    return f"{socket.gethostname()}-{os.getpid()}"


def pull(
    queue: Queue,
    *,
    worker_id: str | None = None,
    tags: Iterable[str] = (),
    max_tasks: int = 1,
    isolate: bool = True,
    allowed_modules: Sequence[str] | None = None,
    tube: TubeSource | None = None,
    handle_signals: bool = True,
    **options: Any,
) -> Counter[str]:
    """Work on a queue until SIGTERM or Ctrl-C; return what became of the tasks.

    The first signal lets running tasks end and hands the others back; the second ends at once.

    Args:
        queue: a file's `TaskQueue`, or a coordinator's `RemoteQueue`.
        worker_id: the worker's name; None: made of the machine's and the process's.
        tags: what it may claim.
        max_tasks: tasks at once.
        isolate: run each task in a child process that can be killed; else in threads.
        allowed_modules: prefixes of the modules that tubes may import, besides those of `tube`;
            None: any, for a queue that only its owner writes to.
        tube: whose nodes tasks submitted by hand mean; loaded first.
        handle_signals: whether signals stop the loop; only in a main thread.
        options: further arguments of `ClaimLoop`.

    Raises:
        Exception: what the import of `tube`'s modules raised.
    """
    allowed = allowed_modules
    if tube is not None and allowed is not None:
        allowed = [*allowed, *tube.modules]
    places = slots(max_tasks, isolate=isolate, allowed_modules=allowed)
    try:
        places.warm()
        if tube is not None:
            kind, body = places.load(tube.document)
            if kind != child.OUTCOME:
                raise_outcome(codec.loads(body))
        loop = ClaimLoop(
            queue,
            places,
            worker_id=worker_id or default_worker_id(),
            tags=tags,
            hand_tube=None if tube is None else tube.cid,
            **options,
        )
        with _stopping(loop, enabled=handle_signals):
            return loop.run()
    finally:
        places.close()


@contextmanager
def _stopping(loop: ClaimLoop, *, enabled: bool) -> Iterator[None]:
    """Stop the loop at the first signal, and the process at the second."""
    if not enabled or current_thread() is not main_thread():
        yield
        return

    def stop(number: int, _frame: Any) -> None:
        signal.signal(number, before[signal.Signals(number)])
        loop.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
