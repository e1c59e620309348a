"""The names of spans as they travel, and spans as X-Ray wants them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from noob_cloud import tracing
from noob_cloud.exceptions import NoobCloudError
from noob_cloud.tracing import context

TRACE = "5759e988bd862e3fe1be46a994272793"
SPAN = "53995c3f42cd8ad8"
XRAY = f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN};Sampled=1"


def test_xray_header_is_traceparent():
    """Lambda's variable names the same trace, span and decision."""
    assert context.from_xray(XRAY) == f"00-{TRACE}-{SPAN}-01"
    assert context.from_xray(XRAY.replace("Sampled=1", "Sampled=0")) == f"00-{TRACE}-{SPAN}-00"
    assert context.to_xray_trace_id(int(TRACE, 16)) == f"1-{TRACE[:8]}-{TRACE[8:]}"


@pytest.mark.parametrize(
    "header", [None, "", "Root=1-xyz", f"Root=1-{TRACE[:8]}-{TRACE[8:]}", "Self=1;" + "a" * 100]
)
def test_xray_header_that_names_no_span(header):
    assert context.from_xray(header) is None


@pytest.mark.parametrize(
    "said",
    [
        f"00-{0:032x}-{SPAN}-01",
        f"00-{TRACE}-{0:016x}-01",
        f"01-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE.upper()}-{SPAN}-01",
        "x" * 55,
        "",
    ],
)
def test_what_is_no_traceparent_is_left_out(said):
    assert context.parsed(said) is None


def test_a_process_started_for_a_task_goes_before_its_lambda():
    mine = f"00-{TRACE}-{1:016x}-01"
    assert context.default_parent({"TRACEPARENT": mine, "_X_AMZN_TRACE_ID": XRAY}) == mine
    assert context.default_parent({"_X_AMZN_TRACE_ID": XRAY}) == f"00-{TRACE}-{SPAN}-01"
    assert context.default_parent({}) is None


@pytest.mark.parametrize(
    ("environ", "where"),
    [
        ({}, "off"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "NOOB_CLOUD_TRACES": "off"}, "off"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, "off"),
        ({"NOOB_CLOUD_TRACES": "XRay"}, "xray"),
    ],
)
def test_where_spans_go(environ, where):
    assert tracing.mode(environ) == where


def test_a_setting_that_is_none_is_refused():
    with pytest.raises(ValueError, match="off, on, otlp, xray, not 'jaeger'"):
        tracing.mode({"NOOB_CLOUD_TRACES": "jaeger"})


def test_off_imports_nothing():
    """A client whose work is not traced loads nothing of OpenTelemetry."""
    code = (
        "import sys\nfrom noob_cloud import tracing\n"
        "from noob_cloud.queue.remote import RemoteQueue\n"
        "assert tracing.active() is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], env={}, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


def test_without_the_sdk_it_says_what_to_install(monkeypatch, caplog):
    """Where spans are asked for; an endpoint alone may be there for another program."""
    monkeypatch.setattr(tracing, "find_spec", lambda _name: None)

    with pytest.raises(NoobCloudError, match=r"noob-cloud\[traces\]"):
        tracing.check({"NOOB_CLOUD_TRACES": "otlp"})
    tracing.check({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})

    assert "noob-cloud[traces]" in caplog.text


def test_what_lambda_does_not_record_loads_nothing():
    """The decision of X-Ray comes before OpenTelemetry, whose import costs a cold start."""
    code = (
        "import sys\nfrom noob_cloud import tracing\n"
        "with tracing.submitting('x') as headers:\n    assert headers == {}\n"
        "print('opentelemetry' in sys.modules)"
    )
    environ = {"NOOB_CLOUD_TRACES": "xray", "_X_AMZN_TRACE_ID": XRAY.replace("d=1", "d=0")}
    said = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "False"


def test_spans_arrive_in_xray():
    """X-Ray's API takes the documents: one trace, each span below its parent, the error told."""
    boto3 = pytest.importorskip("boto3")
    moto = pytest.importorskip("moto")
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415 - see above

    from noob_cloud.task import Task, Token  # noqa: PLC0415 - with the others
    from noob_cloud.tracing.spans import Spans  # noqa: PLC0415 - loads OpenTelemetry
    from noob_cloud.tracing.xray import XRayExporter, document  # noqa: PLC0415 - as above

    kept = []

    class Keeping(XRayExporter):
        def export(self, spans):
            kept.extend(document(span) for span in spans)
            return super().export(spans)

    with moto.mock_aws():
        client = boto3.client("xray", region_name="eu-central-1")
        provider = sdk.TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(Keeping(client)))
        spans = Spans(provider)
        task = Task(7, "blur<i>", 3, token=Token(1, 2), run_id="r")
        claim = spans.claimed(
            f"00-{TRACE}-{SPAN}-01", node="blur", ready_at=10.0, asked_at=5.0, now=12.0
        )
        span = spans.execute(task, claim, worker_id="w1")
        spans.ended(span, "builtins.ValueError: no")
        name = f"1-{TRACE[:8]}-{TRACE[8:]}"
        found = client.batch_get_traces(TraceIds=[name])["Traces"]

    assert [len(each["Segments"]) for each in found] == [3]
    queue, claimed, executed = kept
    assert {each["trace_id"] for each in kept} == {name}
    assert (queue["parent_id"], claimed["parent_id"]) == (SPAN, SPAN)
    assert (queue["start_time"], queue["end_time"]) == (10.0, 12.0)
    assert (claimed["start_time"], claimed["end_time"]) == (10.0, 12.0)
    assert executed["parent_id"] == claimed["id"]
    assert executed["name"] == queue["name"]  # of the service
    (inner,) = executed["subsegments"]
    assert inner["name"] == "execute blur_i_"
    assert inner["fault"]
    assert inner["id"] not in {each["id"] for each in kept}
    assert executed["fault"]
    assert executed["cause"]["exceptions"][0]["message"] == "no"
    assert executed["annotations"] == {
        "noob_task_id": 7,
        "noob_node": "blur<i>",
        "noob_epoch": 3,
        "noob_attempt": 2,
        "noob_worker": "w1",
        "noob_run_id": "r",
    }


def test_xray_that_is_away_costs_no_task(caplog):
    """What cannot be sent is logged, and nothing is raised where the task runs."""
    pytest.importorskip("opentelemetry.sdk")
    from noob_cloud.tracing.xray import XRayExporter  # noqa: PLC0415 - loads OpenTelemetry

    class Away:
        def put_trace_segments(self, **_):
            raise OSError("no route")

    assert XRayExporter(Away()).export([]).name == "SUCCESS"
    assert XRayExporter(Away()).export([_span()]).name == "FAILURE"
    assert "no route" in caplog.text


def _span():
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - loads OpenTelemetry

    span = TracerProvider().get_tracer("t").start_span("s")
    span.end()
    return span
