"""The spans of a task's five steps, made with OpenTelemetry."""

from __future__ import annotations

import os
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from noob_cloud.exceptions import NoobCloudError
from noob_cloud.tracing.context import default_parent, from_xray, parsed, written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

    from noob_cloud.task import Task

__all__ = ["Spans"]

_NAME: Final = "noob_cloud"
_SERVICE: Final = "noob-cloud"
_FLUSH_MILLISECONDS: Final = 3_000
_NANOSECONDS: Final = 1e9


class _Ids(RandomIdGenerator):
    """Ids that X-Ray takes as well: a trace's begins with the time, in seconds."""

    def generate_trace_id(self) -> int:
        return int(time.time()) << 96 | random.getrandbits(96)


class Spans:
    """Makes spans, and gives them to a provider.

    Args:
        provider: OpenTelemetry's.
        ours: whether it is this object's to end.
    """

    def __init__(self, provider: trace.TracerProvider, *, ours: bool = True) -> None:
        self._provider = provider
        self._ours = ours
        self._tracer = provider.get_tracer(_NAME)

    @classmethod
    def to(cls, where: str) -> Self:
        """Send spans somewhere: `otlp`, `xray`, or `on` for the program's own provider.

        A program that has set up a provider of its own keeps it, wherever it sends spans to.

        Raises:
            NoobCloudError: OpenTelemetry's exporter is not installed.
        """
        own = trace.get_tracer_provider()
        if where == "on" or isinstance(own, TracerProvider):
            return cls(own, ours=False)
        name = os.environ.get("OTEL_SERVICE_NAME") or _SERVICE
        provider = TracerProvider(
            resource=Resource.create({SERVICE_NAME: name}), id_generator=_Ids()
        )
        provider.add_span_processor(BatchSpanProcessor(_exporter(where)))
        return cls(provider)

    def flush(self) -> None:
        """Send what has ended, within a few seconds: somebody waits for it."""
        force = getattr(self._provider, "force_flush", None)
        if force is not None:
            force(_FLUSH_MILLISECONDS)

    def close(self) -> None:
        """Send what has ended, and end the provider if it is ours."""
        if self._ours and isinstance(self._provider, TracerProvider):
            self._provider.shutdown()

    # ---- the client

    @contextmanager
    def submit(self, what: str, **attributes: Any) -> Iterator[str]:
        """Cover a request that submits; yield what it carries as `traceparent`."""
        parent = _context(None if _current() else default_parent())
        with self._tracer.start_as_current_span(
            f"submit {what}",
            context=parent,
            kind=trace.SpanKind.PRODUCER,
            attributes=_named(attributes),
        ) as span:
            yield _written(span)

    # ---- the coordinator

    def claimed(
        self,
        parent: str,
        *,
        node: str,
        ready_at: float,
        asked_at: float,
        now: float,
        **attributes: Any,
    ) -> str:
        """Tell of tasks that were claimed: how long they waited, and how long the claim took.

        Args:
            parent: `traceparent` of their submission.
            node: of the first of them.
            ready_at: Unix time since which they could be claimed.
            asked_at: Unix time at which the worker asked.
            now: Unix time.
            attributes: of both spans.

        Returns:
            `traceparent` of the claim, for whoever executes them.
        """
        context, told = _context(parent), _named({"node": node, **attributes})
        waited = self._tracer.start_span(
            f"queue {node}", context=context, attributes=told, start_time=_ns(ready_at)
        )
        waited.end(_ns(max(now, ready_at)))
        claim = self._tracer.start_span(
            f"claim {node}",
            context=context,
            attributes=told,
            start_time=_ns(min(now, max(asked_at, ready_at))),
        )
        claim.end(_ns(now))
        return _written(claim)

    # ---- the worker

    def execute(self, task: Task, parent: str, *, worker_id: str) -> Span:
        """Begin the execution of a task; the caller ends it with `ended`."""
        invocation = parsed(from_xray(os.environ.get("_X_AMZN_TRACE_ID")))
        links = [] if invocation is None else [trace.Link(_remote(invocation))]
        epoch = task.epoch
        attributes = {
            "task_id": task.task_id,
            "node": task.node_id,
            "epoch": epoch if isinstance(epoch, int) else str(epoch),
            "attempt": task.attempt,
            "worker": worker_id,
            "run_id": task.run_id,
        }
        return self._tracer.start_span(
            f"execute {task.node_id}",
            context=_context(parent),
            kind=trace.SpanKind.CONSUMER,
            attributes=_named(attributes),
            links=links,
        )

    @staticmethod
    def written(span: Span) -> str:
        """Return a span's `traceparent`."""
        return _written(span)

    @staticmethod
    def ended(span: Span, error: str | None) -> None:
        """End an execution, with what went wrong."""
        if error is not None:
            span.set_status(trace.Status(trace.StatusCode.ERROR, error))
        span.end()

    def outcome(self, parent: str, *, since: float, status: str) -> None:
        """Tell that the queue has an outcome, which was there `since` a Unix time."""
        span = self._tracer.start_span(
            f"outcome {status}",
            context=_context(parent),
            kind=trace.SpanKind.CLIENT,
            attributes=_named({"status": status}),
            start_time=_ns(since),
        )
        span.end()


def _exporter(where: str) -> SpanExporter:
    if where == "xray":
        from noob_cloud.tracing.xray import XRayExporter  # noqa: PLC0415 - loads boto3

        return XRayExporter()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - heavy
            OTLPSpanExporter,
        )
    except ImportError as error:
        raise NoobCloudError(
            "Traces are to be sent by OTLP, and OpenTelemetry's exporter is not installed:"
            " pip install 'noob-cloud[traces]', or set NOOB_CLOUD_TRACES=off."
        ) from error
    return OTLPSpanExporter()


def _current() -> bool:
    return trace.get_current_span().get_span_context().is_valid


def _context(parent: str | None) -> Context | None:
    names = parsed(parent)
    if names is None:
        return None
    return trace.set_span_in_context(trace.NonRecordingSpan(_remote(names)))


def _remote(names: tuple[int, int, int]) -> trace.SpanContext:
    trace_id, span_id, flags = names
    return trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(flags))


def _written(span: Span) -> str:
    told = span.get_span_context()
    return written(told.trace_id, told.span_id, told.trace_flags)


def _named(attributes: dict[str, Any]) -> dict[str, Any]:
    return {f"noob.{name}": value for name, value in attributes.items() if value is not None}


def _ns(seconds: float) -> int:
    return int(seconds * _NANOSECONDS)
