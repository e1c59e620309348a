"""What a worker says of a task in the trace that the task belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Self

from noob_cloud import codec, tracing
from noob_cloud.worker import child
from noob_cloud.worker.execute import failure_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.trace import Span

    from noob_cloud.task import Task
    from noob_cloud.tracing.spans import Spans
    from noob_cloud.worker.child import Reply
    from noob_cloud.worker.held import Held

__all__ = ["Traced", "tell_outcomes"]


@dataclass(frozen=True, slots=True)
class Traced:
    """An execution that is part of a trace."""

    spans: Spans
    span: Span
    name: str
    """Its `traceparent`, for what it submits itself."""

    @classmethod
    def begin(cls, task: Task, worker_id: str) -> Self | None:
        """Begin the span of an execution; None: the task is not traced, or nothing is here."""
        parent = tracing.parent_of(task)
        if parent is None:
            return None
        spans = tracing.active()
        if spans is None:
            return None
        span = spans.execute(task, parent, worker_id=worker_id)
        return cls(spans, span, spans.written(span))

    def end(self, reply: Reply, stopped: str | None) -> tuple[str, float]:
        """End it; return its `traceparent` and the time."""
        self.spans.ended(self.span, stopped or _error_of(reply))
        return self.name, time()


def tell_outcomes(held: Iterable[Held], status: str) -> None:
    """Say that the queue has taken, or refused, what came of tasks."""
    for one in held:
        spans = None if one.trace is None else tracing.active()
        if spans is not None and one.trace is not None:
            spans.outcome(one.trace[0], since=one.trace[1], status=status)


def _error_of(reply: Reply) -> str | None:
    kind, body = reply
    if kind == child.OUTCOME:
        return None
    if kind in (child.ERROR, child.RAISED):
        return failure_of(codec.loads(body))[0]
    return body.decode(errors="replace")
