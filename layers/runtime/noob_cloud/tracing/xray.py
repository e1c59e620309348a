"""Spans as X-Ray's documents, sent by its own API.

X-Ray takes OTLP only in accounts whose traces go to CloudWatch Logs, and a collector would be one
more container beside each of ours: this takes neither, in every account.
https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

from noob_cloud.tracing.context import to_xray_trace_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["XRayExporter", "document"]

_log = logging.getLogger(__name__)
_TOGETHER: Final = 50
"""Documents in one request."""
_NO_NAME: Final = re.compile(r"[^\w\s.:/%&#=+\\@-]")
_LONGEST_NAME: Final = 200
_LONGEST_TEXT: Final = 1_000
_NANOSECONDS: Final = 1e9
_ALL_BITS: Final = (1 << 64) - 1


class XRayExporter(SpanExporter):
    """Sends spans to X-Ray.

    Args:
        client: boto3's; by default one of the environment's credentials and region.
    """

    def __init__(self, client: Any = None) -> None:
        self._client = client

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; what X-Ray does not take is logged, and is gone."""
        documents = [json.dumps(document(span)) for span in spans]
        try:
            for first in range(0, len(documents), _TOGETHER):
                part = documents[first : first + _TOGETHER]
                answer = self._xray().put_trace_segments(TraceSegmentDocuments=part)
                refused = answer.get("UnprocessedTraceSegments") or []
                if refused:
                    _log.warning(
                        "X-Ray refuses %d of %d spans: %s", len(refused), len(part), refused[0]
                    )
        except Exception as error:  # noqa: BLE001 - a trace must never cost a task
            _log.warning("%d spans could not be sent to X-Ray: %s", len(documents), error)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def _xray(self) -> Any:
        if self._client is None:
            import boto3  # noqa: PLC0415 - heavy, and in the thread that sends
            from botocore.config import Config  # noqa: PLC0415 - as above

            quick = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2})
            self._client = boto3.client("xray", config=quick)
        return self._client


def document(span: ReadableSpan) -> dict[str, Any]:
    """Return a span as a segment of its service, below its parent; its name is the subsegment's.

    X-Ray draws its map by the names of segments: services, not nodes of tubes.
    """
    context = span.context
    assert context is not None  # noqa: S101 - one that has ended has it
    times = {
        "start_time": (span.start_time or 0) / _NANOSECONDS,
        "end_time": (span.end_time or 0) / _NANOSECONDS,
    }
    inner = f"{context.span_id ^ _ALL_BITS:016x}"
    made: dict[str, Any] = {
        "name": _named(span.resource.attributes.get("service.name")),
        "subsegments": [{"name": _named(span.name), "id": inner, **times}],
        "id": f"{context.span_id:016x}",
        "trace_id": to_xray_trace_id(context.trace_id),
        **times,
        "annotations": {
            key.replace(".", "_"): value
            if isinstance(value, bool | int | float)
            else str(value)[:_LONGEST_TEXT]
            for key, value in (span.attributes or {}).items()
        },
    }
    if span.parent is not None:
        made["parent_id"] = f"{span.parent.span_id:016x}"
    if span.status.status_code is StatusCode.ERROR:
        said = (span.status.description or "")[:_LONGEST_TEXT]
        kind, _, message = said.partition(": ")
        made["fault"] = made["subsegments"][0]["fault"] = True
        made["cause"] = {"exceptions": [{"id": made["id"], "type": kind, "message": message}]}
    links = [each.context for each in span.links]
    if links:
        made["links"] = [
            {"trace_id": to_xray_trace_id(x.trace_id), "id": f"{x.span_id:016x}"} for x in links
        ]
    return made


def _named(name: object) -> str:
    return _NO_NAME.sub("_", str(name))[:_LONGEST_NAME]
