"""A `concurrent.futures.Executor` on a deployed kit: stages of tubes, and plain functions."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, CancelledError, Future
from dataclasses import replace
from itertools import count
from threading import Condition
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import uuid4

from noob_cloud import codec
from noob_cloud.blobs.by_cid import ByCid
from noob_cloud.deployment import Deployment
from noob_cloud.exceptions import TaskFailedError, TaskNotFoundError
from noob_cloud.executors.queue import QueueExecutor, refuse
from noob_cloud.executors.serverless_function import tube_of, unwrapped
from noob_cloud.executors.serverless_future import TaskFuture
from noob_cloud.executors.serverless_outbox import Entry, Outbox
from noob_cloud.queue.interface import Encoded
from noob_cloud.worker.function import FunctionCall

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from noob_cloud.plan import Stage
    from noob_cloud.queue.interface import Queue
    from noob_cloud.task import StageCall, Task
    from noob_cloud.tubes import TubeSource

__all__ = ["ServerlessExecutor"]

T = TypeVar("T")
_LARGE: Final = 64 * 1024
"""Bytes above which a value travels by its cid."""
_WHOLE: Final = 4 * 1024 * 1024
"""Bytes above which a call of many small values does."""
_WATCHED: Final = 5_000
"""Tasks in one question for outcomes."""
_FIRST_POLL, _LONGEST_POLL = 0.05, 2.0
"""Seconds that one question may wait: new tasks are asked after when it has been answered."""
_FAREWELL_SECONDS: Final = 5.0
"""How long a request may take to come back before what it submits is left alone."""


class ServerlessExecutor(QueueExecutor):
    """Run functions, and stages of tubes, on the workers of a deployed kit.

    A function is called by its name from the code that is deployed there, so it stands at the top
    level of a module that workers may import; what it takes and gives travels in the wire format.
    A future of this executor may be an argument, also inside a list, tuple or dict: the call then
    waits for it, and a large result goes from worker to worker without coming here. Values above
    64 KiB travel by their cid, each once. `cancel` stops what runs, too.

    Args:
        deployment: the name of a deployed kit, a `Deployment`, or the URL of a coordinator.
        run_id: names what is submitted, for `noob-cloud status`; for stages of a tube the same
            name resumes the run.
        affinity_tags: a function runs on a worker with any of these.
        required_tags: a function runs on a worker with all of these.
        memory: bytes that a function needs: it goes to a pool whose workers have them.
        timeout_seconds: longest run of one attempt.
        max_retries: further attempts after the loss of a worker. What a function raises comes
            home at once.
        queue: instead of the deployment's; for tests.

    Raises:
        DeploymentNotFoundError: there is no such deployment.
    """

    def __init__(
        self,
        deployment: Deployment | str | None = None,
        *,
        run_id: str | None = None,
        affinity_tags: Iterable[str] = (),
        required_tags: Iterable[str] = (),
        memory: int | None = None,
        timeout_seconds: float = 300.0,
        max_retries: int = 3,
        queue: Queue | None = None,
    ) -> None:
        if queue is None:
            if deployment is None:
                raise TypeError(
                    'say where: ServerlessExecutor("NAME") of a deployed kit, or the URL of a'
                    " coordinator"
                )
            queue = Deployment.of(deployment).queue()
        super().__init__(
            queue,
            run_id=run_id or uuid4().hex,
            timeout_seconds=timeout_seconds,
            max_retries=max_retries,
        )
        self._terms: dict[str, Any] = {
            "run_id": self._run_id,
            "affinity_tags": sorted(affinity_tags),
            "required_tags": sorted(required_tags),
            "memory": memory,
            "timeout_seconds": timeout_seconds,
            "max_retries": max_retries,
        }
        self._outbox = Outbox(self._send)
        self._tubes: dict[Callable[..., Any], TubeSource] = {}
        self._stored: set[str] = set()
        self._numbers = count()
        self._moved = Condition()
        self._unsent: set[TaskFuture] = set()
        self._closing = False
        self._trouble: Exception | None = None
        self._poll = _FIRST_POLL
        self._turn = 0
        self._asked = -1

    @property
    def run_id(self) -> str:
        """What everything of this executor is submitted under."""
        return self._run_id

    # ---- functions

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call `fn(*args, **kwargs)` on a worker; the arguments may be futures.

        Raises:
            TypeError: workers could not find the function; the message says what to do.
            RuntimeError: the executor has been shut down, or is a `BrokenExecutor`.
        """
        fn, args, kwargs = unwrapped(fn, args, kwargs)
        tube = self._tubes.get(fn)
        if tube is None:
            tube = self._tubes[fn] = tube_of(fn)
        future = TaskFuture(tube.types[0])
        with self._moved:
            if self._trouble is not None:
                raise BrokenExecutor(
                    f"this executor has lost its coordinator ({self._trouble}); make a new one"
                ) from self._trouble
            if self._closing or self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._unsent.add(future)
        inputs = {id(found): found for found in _futures_in((args, kwargs))}
        left = len(inputs)
        if not left:
            self._post(future, tube, args, kwargs)
            return future

        def one_done(_done: Future[Any]) -> None:
            nonlocal left
            with self._moved:
                left -= 1
                ready = left == 0
            if ready:
                self._post(future, tube, args, kwargs)

        for found in inputs.values():
            found.add_done_callback(one_done)
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[T]:
        """Call `fn` for each item on the workers; yield the results in the order of the items.

        Args:
            fn: the function.
            iterables: its arguments, as in `map`.
            timeout: seconds from now after which the iterator raises TimeoutError.
            chunksize: for other executors; here tasks travel together by themselves.
        """
        if chunksize < 1:
            raise ValueError(f"chunksize is {chunksize}; it must be 1 or more")
        return super().map(fn, *iterables, timeout=timeout)

    def _post(
        self, future: TaskFuture, tube: TubeSource, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Put a call whose arguments are all there into the outbox."""
        error: Exception | None = None
        if not future.cancelled():
            try:
                self._outbox.put(self._entry(future, tube, args, kwargs))
            except CancelledError:  # of an argument
                future.cancel()
            except Exception as wrong:  # noqa: BLE001 - it is this call's error, and no other's
                error = wrong
            else:
                return
        if error is not None:
            refuse([future], error)
        self._left_behind([future])

    def _entry(
        self, future: TaskFuture, tube: TubeSource, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Entry:
        args, kwargs = _replaced(args), _replaced(kwargs)
        call = FunctionCall(tube.cid, tube.code, args, kwargs)
        frame = Encoded(codec.dumps(call))
        if len(frame) > _LARGE:
            args = tuple([self._by_cid(value) for value in args])
            kwargs = {name: self._by_cid(value) for name, value in kwargs.items()}
            frame = self._whole(Encoded(codec.dumps(replace(call, args=args, kwargs=kwargs))))
        self._store(tube.document, tube.cid)
        submission = {
            "node_id": tube.types[0],
            "epoch": next(self._numbers),
            "data": frame,
            **self._terms,
        }
        return Entry(submission, future, len(frame))

    def _send(self, batch: Sequence[Entry]) -> None:
        """Submit calls in one request; in the outbox's thread."""
        entries = [entry for entry in batch if not entry.future.cancelled()]
        futures = [entry.future for entry in entries]
        try:
            self._check_watched()
            if entries:
                ids = self._queue.submit_many([entry.submission for entry in entries])
                for task_id, future in zip(ids, futures, strict=True):
                    future.task_id = task_id
                self._expect(ids, None, futures)
                self._poll = _FIRST_POLL
        except Exception as error:  # noqa: BLE001 - whoever waits for a future must learn of it
            refuse(futures, error)
        self._left_behind([entry.future for entry in batch])

    def _check_watched(self) -> None:
        if self._trouble is not None:
            raise self._trouble

    def _left_behind(self, futures: Iterable[TaskFuture]) -> None:
        with self._moved:
            self._unsent.difference_update(futures)
            over = self._closing and not self._unsent
            self._moved.notify_all()
        if over:
            self._outbox.close()
            super().shutdown(wait=False)

    # ---- stages

    def _submission(self, call: StageCall, stage: Stage | None) -> dict[str, Any]:
        submission = super()._submission(call, stage)
        call = submission["data"]
        frame = Encoded(codec.dumps(call))
        if len(frame) > _LARGE:
            inputs = tuple([tuple(map(self._by_cid, row)) for row in call.inputs])
            frame = self._whole(Encoded(codec.dumps(replace(call, inputs=inputs))))
        return {**submission, "data": frame}

    # ---- large values

    def _by_cid(self, value: Any) -> Any:
        """Return what stands for a value in a call: itself, or its cid if it is large."""
        frame = codec.dumps(value)
        return value if len(frame) <= _LARGE else ByCid(self._store(frame))

    def _whole(self, frame: Encoded) -> Encoded:
        """Return what stands for a whole call: of many values that are not large it may be."""
        return frame if len(frame) <= _WHOLE else Encoded(codec.dumps(ByCid(self._store(frame))))

    def _store(self, data: bytes, cid: str | None = None) -> str:
        from noob_cloud.cid import cid as cid_of_bytes  # noqa: PLC0415 - loads blake3

        name = cid or cid_of_bytes(data)
        if name not in self._stored:
            self._queue.blobs.put(bytes(data))
            self._stored.add(name)
        return name

    # ---- outcomes

    def _deliver(self, future: Future[Any], task: Task) -> None:
        if isinstance(future, TaskFuture):
            if task.run_id == self._run_id:
                future.settle(task)
            else:
                future.set_exception(_lost(task.task_id))
        else:
            super()._deliver(future, task)

    def _chosen(self, wanted: list[int]) -> list[int]:
        """Ask after the oldest each time, and after a part of the others in turn."""
        if len(wanted) <= _WATCHED:
            return wanted
        rest = len(wanted) - _WATCHED
        self._turn = self._turn + _WATCHED if self._turn + _WATCHED < rest else 0
        first = _WATCHED + self._turn
        return wanted[:_WATCHED] + wanted[first : first + _WATCHED]

    def _ask(self, watched: list[int]) -> list[Task]:
        found = self._queue.wait_settled(watched, timeout=self._poll, at_least=1)
        if self._poll >= _LONGEST_POLL and not found:
            self._check_known(watched)
        self._poll = _FIRST_POLL if found else min(2 * self._poll, _LONGEST_POLL)
        return found

    def _check_known(self, watched: list[int]) -> None:
        """Ask after one of the tasks by its id: a coordinator that began anew has none of them."""
        self._asked = (self._asked + 1) % len(watched)
        task_id = watched[self._asked]
        try:
            self._queue.get_task(task_id, decode=False)
        except TaskNotFoundError:
            with self._changed:
                futures = self._futures.pop(task_id, [])
                self._submissions.pop(task_id, None)
            refuse(futures, _lost(task_id))

    def _cancel(self, task_ids: Collection[int]) -> None:
        cancel_many = getattr(self._queue, "cancel_many", None)
        if cancel_many is None or len(task_ids) == 1:
            super()._cancel(task_ids)
        elif task_ids:
            cancel_many(task_ids)

    def _abandon(self, error: Exception) -> None:
        self._trouble = error
        super()._abandon(error)

    # ---- the end

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard library's signature
        """Take no more; with `wait` return when all is done, with `cancel_futures` stop it.

        Ctrl-C while it waits cancels what is left.
        """
        with self._moved:
            self._closing = True
            unsent = list(self._unsent)
        if cancel_futures:
            self._cancel_all(unsent, wait=wait)
            return
        if unsent and not wait:
            return  # the last of them closes the rest
        try:
            with self._moved:
                self._moved.wait_for(lambda: not self._unsent)
            self._outbox.close()
            super().shutdown(wait=wait)
        except KeyboardInterrupt:
            self._cancel_all(unsent, wait=True)
            raise

    def _cancel_all(self, unsent: Iterable[TaskFuture], *, wait: bool) -> None:
        for future in unsent:
            future.cancel()
        self._outbox.close()
        self._outbox.flush(_FAREWELL_SECONDS)  # what is being sent now is cancelled below
        super().shutdown(wait=wait, cancel_futures=True)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for what was submitted; cancel it where the block was interrupted."""
        interrupted = kind is not None and not issubclass(kind, Exception)
        self.shutdown(wait=True, cancel_futures=interrupted)


def _lost(task_id: int) -> TaskFailedError:
    return TaskFailedError(
        f"the coordinator does not know task {task_id} any more: its queue began anew, or has"
        " forgotten the outcome; submit the call again",
        task_id=task_id,
    )


def _futures_in(value: Any) -> Iterator[Future[Any]]:
    if isinstance(value, Future):
        yield value
    elif type(value) in (list, tuple):
        for item in value:
            yield from _futures_in(item)
    elif type(value) is dict:
        for item in value.values():
            yield from _futures_in(item)


def _replaced(value: Any) -> Any:
    """Return arguments with what stands for its result in the place of each future."""
    if isinstance(value, TaskFuture):
        return value.as_input()
    if isinstance(value, Future):
        return value.result()
    if type(value) in (list, tuple):
        return type(value)(map(_replaced, value))
    if type(value) is dict:
        return {key: _replaced(item) for key, item in value.items()}
    return value
