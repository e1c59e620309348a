"""Drive a run that has no client: replay its plan against the queue, and post its results.

Every stage of the run is a task whose key is what it computes, so a driver that takes over finds
the work of its predecessor in the queue and goes on behind the results that are posted. There is
no state to hand over.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from noob_cloud import codec, tracing
from noob_cloud.cid import cid
from noob_cloud.exceptions import LeaseLostError, RunFailedError, UnavailableError
from noob_cloud.task import Outcome, RunDriver, Token

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from noob import Tube

    from noob_cloud.coordinator.client import CoordinatorClient
    from noob_cloud.runner import QueuedRunner

_LARGEST_PAGE = 200
"""Results in one request."""


def drive_run(
    driver: RunDriver,
    client: CoordinatorClient,
    *,
    task_id: int,
    token: Token,
    allowed_modules: Sequence[str] | None,
) -> dict[str, Any]:
    """Drive a run to its end; return how many results it has and whether its sources ended.

    Args:
        driver: the run.
        client: of its coordinator.
        task_id: the driver's own task, whose lease somebody keeps alive meanwhile.
        token: of that lease.
        allowed_modules: prefixes of the modules that the tube may import; None: any.

    Raises:
        TubeRefusedError: the tube names a module that may not be imported here.
        LeaseLostError: another worker drives the run now.
        RunFailedError: a source gives other results when it is replayed.
        Exception: what a node raised; the results before it are posted.
    """
    from noob_core.exceptions import SchedulerExhaustedError  # noqa: PLC0415 - a child's work

    from noob_cloud.runner import QueuedRunner  # noqa: PLC0415 - loads upstream

    source = client.tube(driver.tube)
    tube = source.load(allowed_modules=allowed_modules)
    known = client.run_cids(driver.run_id)
    runner = QueuedRunner(
        tube,
        queue=client.queue,
        run_id=driver.run_id,
        placement=driver.placement,
        _source=source,
    )
    poster = _Poster(client, driver.run_id, len(known), task_id, token)
    exhausted = False
    count = 0
    try:
        for result in _results(runner, driver):
            if count < len(known):
                _check_replay(count, result, known[count], tube)
            else:
                poster.put(result)
            count += 1
    except SchedulerExhaustedError:
        exhausted = True
    finally:
        poster.close()
    return {"results": max(count, len(known)), "exhausted": exhausted}


def _results(runner: QueuedRunner, driver: RunDriver) -> Iterator[Any]:
    if driver.inputs is None:
        yield from runner.iter(driver.n)
        return
    with runner:
        for given in driver.inputs:
            yield runner.process(**given)


def _check_replay(position: int, result: Any, known: str, tube: Tube) -> None:
    if cid(codec.canonical(result)) == known:
        return
    fed = {edge.target_node for edge in tube.edges}
    sources = sorted(node_id for node_id in tube.nodes if node_id not in fed)
    raise RunFailedError(
        f"The run cannot be taken over: its result {position} is another one when it is replayed."
        f" A source that cannot be replayed is among {', '.join(sources)}. Its results so far stay;"
        " drive such a tube with a client of its own.",
        position=position,
        sources=sources,
    )


class _Poster:
    """Posts results as they come, as many at once as have come meanwhile."""

    def __init__(
        self, client: CoordinatorClient, run_id: str, first: int, task_id: int, token: Token
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._next = first
        self._task_id = task_id
        self._token = token
        self._results: SimpleQueue[tuple[Any] | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._work, name="noob-results", daemon=True)
        self._thread.start()

    def put(self, result: Any) -> None:
        """Take a result; raise what posting an earlier one raised."""
        if self._error is not None:
            raise self._error
        self._results.put((result,))

    def close(self) -> None:
        """Post what is left; raise what posting raised."""
        self._results.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        last = False
        while not last:
            page: list[Any] = []
            entry = self._results.get()
            while True:
                last = entry is None
                if entry is None:
                    break
                page.append(entry[0])
                if len(page) >= _LARGEST_PAGE or self._results.empty():
                    break
                entry = self._results.get()
            if page and self._error is None:
                self._post(page)

    def _post(self, page: list[Any]) -> None:
        try:
            self._client.post_results(
                self._run_id, self._next, page, task_id=self._task_id, token=self._token
            )
            self._next += len(page)
        except Exception as error:  # noqa: BLE001 - raised where the run is driven
            self._error = error


# ---- as a process of its own, which a worker can kill


def main() -> None:
    """Drive the run that standard input describes; write the frame of its outcome.

    The parent holds the pipe open: when it is gone, so is this process.
    """
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a node prints is no answer
    size = int.from_bytes(sys.stdin.buffer.read(8), "big")
    setup = codec.loads(sys.stdin.buffer.read(size))
    Thread(target=_end_with_parent, daemon=True).start()
    sys.path[:] = setup["path"]
    outcome = _drive(setup)
    try:
        frame = codec.dumps(outcome)
    except codec.CodecError as error:
        frame = codec.dumps(_failed(error))
    answer.write(frame)
    answer.flush()
    tracing.flush()
    os._exit(0)


def _drive(setup: dict[str, Any]) -> Outcome:
    from noob_cloud.serverless.find import find  # noqa: PLC0415 - after the path

    try:
        with find(setup["where"] or setup["url"], setup["token"]).client() as client:
            return Outcome(
                ok=True,
                value=drive_run(
                    setup["driver"],
                    client,
                    task_id=setup["task_id"],
                    token=setup["lease"],
                    allowed_modules=setup["allowed_modules"],
                ),
            )
    except BaseException as error:  # noqa: BLE001 - what a node raises is an outcome
        return _failed(error)


def _failed(error: BaseException) -> Outcome:
    from noob_cloud.worker.execute import outcome_of_error  # noqa: PLC0415 - loads upstream

    again = isinstance(error, (UnavailableError, LeaseLostError))
    return replace(outcome_of_error(error), retryable=again)


def _end_with_parent() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
