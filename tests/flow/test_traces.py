"""One trace of a run, across the processes of its client, the coordinator and a worker."""

from __future__ import annotations

import gzip
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

import pytest

from .coordinator_processes import OWNER, TUBES, coordinator, log, until, worker

pytest.importorskip("opentelemetry.sdk")
service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

CLIENT = """
import sys
from noob_cloud import tracing
from noob_cloud.queue.remote import RemoteQueue
from opentelemetry import trace
url, token, count = sys.argv[1:4]
queue = RemoteQueue(url, token)
tracing.active()
ids = queue.submit_many(
    [{"node_id": f"node-{n}", "epoch": n, "data": {}, "max_retries": 0} for n in range(int(count))]
)
queue.wait_settled(ids, timeout=30)
tracing.flush()
"""
RUN = """
import sys
from noob_cloud import tracing
from noob_cloud.coordinator.client import CoordinatorClient
from noob_cloud.tubes import TubeSource
url, token = sys.argv[1:3]
N = "noob_cloud_testnodes."
tube = {
    "noob_id": "testing-traces",
    "nodes": {
        "src": {"type": N + "counter"},
        "double": {"type": N + "double", "depends": [{"value": "src.index"}]},
        "out": {"type": "return", "depends": [{"value": "double.value"}]},
    },
}
with CoordinatorClient(url, token) as client:
    *_, last = client.watch_run(client.submit_run(TubeSource.of(tube), n=2), timeout=40)
    assert last.status == "completed", last
tracing.flush()
"""


class Receiver:
    """Takes spans by OTLP, as a collector does."""

    def __init__(self):
        self.spans = []
        lock = Lock()
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                sent = service.ExportTraceServiceRequest.FromString(body)
                for resource in sent.resource_spans:
                    names = {x.key: x.value.string_value for x in resource.resource.attributes}
                    for scope in resource.scope_spans:
                        with lock:
                            spans.extend((names["service.name"], span) for span in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver(monkeypatch):
    made = Receiver()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    yield made
    made.close()


def client(code, *arguments, **environment):
    subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "OTEL_SERVICE_NAME": "client", **environment},
        check=True,
        timeout=90,
    )


def kinds(spans):
    return Counter(span.name.partition(" ")[0] for _, span in spans)


def attributes(span):
    return {
        x.key: x.value.int_value if x.value.HasField("int_value") else x.value.string_value
        for x in span.attributes
    }


def test_one_trace_across_processes(receiver, tmp_path, monkeypatch):
    """Submit, queue, claim, execute and outcome of tasks are one trace, each below the other."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "coordinator")
    with coordinator(tmp_path) as made:
        monkeypatch.setenv("OTEL_SERVICE_NAME", "worker")
        with worker(made, "w1"):
            client(CLIENT, made.url, OWNER, "3")
            until(lambda: kinds(receiver.spans)["outcome"] == 3)
        made.stop()
        until(lambda: kinds(receiver.spans)["claim"] >= 1)

    spans = receiver.spans
    assert len({span.trace_id for _, span in spans}) == 1, log(made, "w1")
    by_id = {span.span_id: (name, span) for name, span in spans}
    for name, span in spans:
        kind = span.name.partition(" ")[0]
        assert name == {"submit": "client", "queue": "coordinator", "claim": "coordinator"}.get(
            kind, "worker"
        )
        above = by_id[span.parent_span_id][1].name.partition(" ")[0] if span.parent_span_id else ""
        assert above == {"submit": "", "execute": "claim", "outcome": "execute"}.get(kind, "submit")
        assert span.end_time_unix_nano >= span.start_time_unix_nano
    executed = [attributes(span) for _, span in spans if span.name.startswith("execute")]
    assert {(x["noob.node"], x["noob.epoch"]) for x in executed} == {
        (f"node-{n}", n) for n in range(3)
    }
    assert {(x["noob.worker"], x["noob.attempt"]) for x in executed} == {("w1", 1)}
    # no worker has these nodes: the spans say what went wrong
    assert all(span.status.code == 2 for _, span in spans if span.name.startswith("execute"))


def test_a_run_without_client_is_one_trace(receiver, tmp_path, monkeypatch):
    """The stages that a run's driver submits belong to the trace of who submitted the run."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "coordinator")
    with coordinator(tmp_path) as made, worker(made, "w1"):
        client(
            RUN,
            made.url,
            OWNER,
            PYTHONPATH=str(TUBES),
            TRACEPARENT=f"00-{7:032x}-{9:016x}-01",
        )
        until(lambda: kinds(receiver.spans)["outcome"] >= 2)

    assert {span.trace_id for _, span in receiver.spans} == {(7).to_bytes(16, "big")}
    first = next(span for _, span in receiver.spans if span.name == "submit run")
    assert first.parent_span_id == (9).to_bytes(8, "big")
    driven = {span.span_id for _, span in receiver.spans if span.name == "execute noob_cloud:drive"}
    assert {span.parent_span_id for _, span in receiver.spans if span.name.startswith("submit")} - {
        first.parent_span_id
    } == driven


def test_a_trace_that_is_not_recorded_costs_nothing(receiver, tmp_path):
    """What the sampler left out is not written down by the coordinator, nor told by the worker."""
    with coordinator(tmp_path) as made, worker(made, "w1"):
        client(CLIENT, made.url, OWNER, "2", TRACEPARENT=f"00-{7:032x}-{9:016x}-00")
        made.stop()

    with sqlite3.connect(tmp_path / "queue.db") as database:
        assert database.execute("SELECT count(*) FROM trace").fetchone() == (0,)
    assert receiver.spans == []
