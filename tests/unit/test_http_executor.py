"""What an executor makes of a worker server's answers, the bad ones above all."""

from __future__ import annotations

import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
from noob_cloud_testtubes.case import chain, node

from noob_cloud import codec
from noob_cloud.exceptions import (
    AuthenticationError,
    CodeMismatchError,
    DecodeError,
    ForbiddenError,
    LimitError,
    NoWorkerError,
    TubeRefusedError,
    UnavailableError,
    WorkerError,
    WorkerLostError,
)
from noob_cloud.executors.http import HttpExecutor
from noob_cloud.executors.worker_client import WorkerClient
from noob_cloud.executors.worker_config import WorkerConfig
from noob_cloud.plan import Stage
from noob_cloud.task import Outcome, StageCall
from noob_cloud.tubes import TubeSource
from noob_cloud.worker.execute import outcome_of_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCE = TubeSource.of(chain("http", a=node("double", "value=src.index")))
CALL = StageCall(SOURCE.cid, ("a",), (0,), ((1,),))
OK = codec.dumps(Outcome(ok=True, value=[(2,)], duration=0.5))
Said = tuple[int, bytes | dict[str, Any], dict[str, str]]


def failing(error: Exception) -> bytes:
    return codec.dumps(outcome_of_error(error, node_id="a", epoch=0))


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Script:
    """A worker server that says what the test wants it to."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Said]] = {}
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        self.before: Callable[[str], None] | None = None
        """Called before an answer, but for /health."""
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                script.reply(self)

            def do_POST(self) -> None:
                script.bodies.append(self.rfile.read(int(self.headers["Content-Length"] or 0)))
                script.reply(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def config(self) -> WorkerConfig:
        return WorkerConfig(host="127.0.0.1", port=self.server.server_port, token="t", max_tasks=2)

    def say(self, route: str, status: int, body: bytes | dict[str, Any], **headers: str) -> None:
        """Answer once; the last answer of a route is repeated."""
        self.answers.setdefault(route, []).append((status, body, headers))

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        route = handler.path.partition("?")[0]
        self.asked.append(route)
        if route != "/health" and self.before is not None:
            self.before(route)
        said = self.answers.get(route) or [DEFAULTS[route]]
        status, body, headers = said.pop(0) if len(said) > 1 else said[0]
        if status == 0:  # hang up without a word
            handler.close_connection = True
            return
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def count(self, route: str) -> int:
        return self.asked.count(route)


DEFAULTS: dict[str, Said] = {
    "/health": (200, {"status": "ok", "max_tasks": 2}, {}),
    "/load_tube": (200, {"cid": SOURCE.cid, "nodes": ["a"]}, {}),
    "/execute": (200, OK, {}),
}


@pytest.fixture
def script() -> Iterator[Script]:
    made = Script()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def pool(script: Script) -> Iterator[HttpExecutor]:
    with HttpExecutor(
        [script.config], patience=0.5, health_interval=60.0, circuit_breaker_threshold=10
    ) as made:
        yield made


def submit(pool: HttpExecutor, **more: Any) -> Any:
    return pool.submit_call(CALL, tube=SOURCE, **more)


def test_sends_the_tube_once(script: Script, pool: HttpExecutor) -> None:
    """The tube goes before the first call, and not again."""
    future = submit(pool)

    assert future.result(10) == [(2,)]
    assert submit(pool).result(10) == [(2,)]
    assert script.count("/load_tube") == 1
    assert future.duration == 0.5
    assert future.worker_id == script.config.worker_id


def test_sends_the_tube_again_to_a_worker_that_forgot(script: Script, pool: HttpExecutor) -> None:
    """A worker that was restarted says 404, gets the tube and then the call."""
    submit(pool).result(10)
    script.say("/execute", 404, {"error": "TubeNotFoundError", "message": "which?"})
    script.say("/execute", 200, OK)

    assert submit(pool).result(10) == [(2,)]
    assert script.count("/load_tube") == 2


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, {"error": "TubeRefusedError", "message": "no os here"}, TubeRefusedError),
        (422, {"error": "DecodeError", "message": "no tube"}, DecodeError),
        (413, {"error": "LimitError", "message": "too large"}, DecodeError),
    ],
)
def test_refused_tube(
    script: Script, pool: HttpExecutor, status: int, body: dict[str, Any], kind: type[Exception]
) -> None:
    """A tube that no worker takes is an error with the worker's reason."""
    script.say("/load_tube", status, body)

    with pytest.raises(kind, match=body["message"]):
        submit(pool).result(10)
    assert script.count("/execute") == 0


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, WorkerError), (413, LimitError), (415, WorkerError), (422, WorkerError)],
)
def test_the_call_is_at_fault(
    script: Script, pool: HttpExecutor, status: int, kind: type[Exception]
) -> None:
    """An answer that says that the call is wrong is not tried again."""
    script.say("/execute", status, {"error": "X", "message": "wrong"})

    with pytest.raises(kind, match="wrong"):
        submit(pool).result(10)
    assert script.count("/execute") == 1


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (403, ForbiddenError)])
def test_refused_token(
    script: Script, pool: HttpExecutor, status: int, kind: type[Exception]
) -> None:
    """A worker that refuses our token is not asked again; the reason is the cause."""
    script.say("/execute", status, {"error": "X", "message": "who are you"})

    with pytest.raises(NoWorkerError, match="who are you") as raised:
        submit(pool).result(10)
    assert isinstance(raised.value.__cause__, kind)
    assert pool.metrics["workers"][script.config.worker_id]["state"].startswith("refuses us")


@pytest.mark.parametrize("status", [429, 503, 409])
@pytest.mark.parametrize("after", ["0.05", "soon", "-1", "nan"])
def test_busy_worker_is_asked_later(
    script: Script, pool: HttpExecutor, status: int, after: str
) -> None:
    """A worker that has no place now gets the call when it said, and nothing is held against it."""
    script.say("/execute", status, {"error": "X", "message": "full"}, Retry_After=after)
    script.say("/execute", 200, OK)

    assert submit(pool).result(10) == [(2,)]
    worker = pool.metrics["workers"][script.config.worker_id]
    assert (worker["busy"], worker["lost"], worker["breaker"]) == (1, 0, "closed")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"oops"),
        (502, b"<html>"),
        (404, b"<html>"),
        (422, b"[" * 100_000),
        (200, b"no frame"),
        (200, codec.dumps(3)),
        (200, codec.dumps(Outcome(ok=True, value=[]))),
        (200, codec.dumps(Outcome(ok=True, value=[3]))),
        (200, codec.dumps(Outcome(ok=True, value={"a": (2,)}))),
    ],
)
def test_worker_that_makes_no_sense(
    script: Script, pool: HttpExecutor, status: int, body: bytes
) -> None:
    """An answer that is none counts against the worker; the call is tried again."""
    script.say("/execute", status, body)
    script.say("/execute", 200, OK)

    assert submit(pool).result(10) == [(2,)]
    assert pool.metrics["workers"][script.config.worker_id]["lost"] == 1


def test_worker_that_hangs_up(script: Script, pool: HttpExecutor) -> None:
    """A connection that is closed without an answer is tried anew, and then held against it."""
    for _ in range(2):
        script.say("/execute", 0, b"")
    script.say("/execute", 200, OK)

    assert submit(pool).result(10) == [(2,)]
    assert pool.metrics["workers"][script.config.worker_id]["lost"] == 1


def test_gives_up_after_max_retries(script: Script) -> None:
    """A call that loses every worker it is given to fails with the last reason."""
    script.say("/execute", 500, {"error": "X", "message": "oops"})
    with HttpExecutor([script.config], max_retries=2, health_interval=60.0) as pool:
        with pytest.raises(WorkerLostError, match="oops"):
            submit(pool).result(10)
        assert script.count("/execute") == 3


def test_breaker_opens(script: Script) -> None:
    """After the threshold the worker is left alone; nobody waits for longer than patience."""
    script.say("/execute", 500, {"error": "X", "message": "oops"})
    with HttpExecutor(
        [script.config],
        circuit_breaker_threshold=2,
        max_retries=9,
        patience=0.3,
        health_interval=60.0,
    ) as pool:
        with pytest.raises(NoWorkerError, match="is open"):
            submit(pool).result(10)
        assert script.count("/execute") == 2


def test_half_open_breaker_closes(script: Script) -> None:
    """After the recovery time one call is tried; when it succeeds the worker is used again."""
    script.say("/execute", 500, {"error": "X", "message": "oops"})
    script.say("/execute", 200, OK)
    with HttpExecutor(
        [script.config],
        circuit_breaker_threshold=1,
        circuit_breaker_recovery=0.2,
        health_interval=60.0,
    ) as pool:
        assert submit(pool).result(10) == [(2,)]
        assert pool.metrics["workers"][script.config.worker_id]["breaker"] == "closed"
        assert pool.metrics["retried"] == 1


@pytest.mark.parametrize(
    ("error", "asked"),
    [(ValueError("no"), 1), (CodeMismatchError("other code"), 1), (WorkerLostError("died"), 4)],
)
def test_what_came_of_the_call(
    script: Script, pool: HttpExecutor, error: Exception, asked: int
) -> None:
    """A node's error comes home; other code is tried elsewhere; a dead process again."""
    script.say("/execute", 200, failing(error))

    with pytest.raises(type(error), match=str(error)):
        submit(pool).result(10)
    assert script.count("/execute") == asked


def test_retries_of_the_stage(script: Script, pool: HttpExecutor) -> None:
    """With retries a node's error is tried again, after a pause."""
    script.say("/execute", 200, failing(ValueError("no")))
    script.say("/execute", 200, OK)
    stage = Stage(0, ("a",), (0,), (1,), remote=True, why="", level=0, retries=1)

    assert submit(pool, stage=stage).result(10) == [(2,)]
    assert pool.metrics["failed"] == 1


def test_shutdown_cancels_what_waits(script: Script) -> None:
    """With cancel_futures what waits is cancelled; afterwards nothing is taken."""
    script.say("/execute", 429, {"error": "X", "message": "full"}, Retry_After="30")
    pool = HttpExecutor([script.config], health_interval=60.0, patience=60.0)
    futures = [submit(pool) for _ in range(3)]
    pool.shutdown(cancel_futures=True)

    assert all(future.cancelled() for future in futures)
    assert all(future.cancel() for future in futures)
    with pytest.raises(RuntimeError, match="after shutdown"):
        submit(pool)


def test_done_future_cannot_be_cancelled(pool: HttpExecutor) -> None:
    """A call that has its result is not cancelled any more."""
    future = submit(pool)
    future.result(10)

    assert not future.cancel()


def test_no_workers() -> None:
    """An executor without workers says what to give it."""
    with pytest.raises(NoWorkerError, match="WorkerConfig"):
        HttpExecutor([])


def test_unused_executor_shuts_down(script: Script) -> None:
    """An executor that was never used has nothing to end."""
    HttpExecutor([script.config]).shutdown()

    assert script.asked == []


# ---- the client


def test_kept_connection_that_was_closed(script: Script) -> None:
    """A request that meets a connection closed meanwhile is made again on a new one."""
    client = WorkerClient(script.config)
    client.health()
    (connection,) = client._idle
    connection.sock.close()

    assert client.health()["status"] == "ok"
    client.close()


def test_connections_are_kept(script: Script) -> None:
    """One after the other, requests share a connection; an answer may forbid that."""
    client = WorkerClient(script.config)
    client.health()
    (first,) = client._idle
    client.health()
    assert client._idle == [first]

    script.say("/health", 200, {"status": "ok"}, Connection="close")
    client.health()
    assert client._idle == []


def test_unwell_worker(script: Script) -> None:
    """A worker whose health is anything but 200 is not well."""
    script.say("/health", 500, {"error": "X", "message": "oops"})

    with pytest.raises(UnavailableError, match="500"):
        WorkerClient(script.config).health()


def test_worker_that_says_nothing(script: Script) -> None:
    """A worker that does not answer in time is named, with the time."""
    waiting = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # never serves
    config = WorkerConfig(host="127.0.0.1", port=waiting.server_port, token="t", worker_id="mute")
    client = WorkerClient(config)
    with pytest.raises(UnavailableError, match=r"mute in 0\.1 s") as raised:
        client.request("GET", "/health", wait=0.1)
    assert raised.value.data["timed_out"]

    found: list[Exception] = []
    thread = Thread(target=lambda: found.append(_caught(client.health)))
    thread.start()
    while not client._busy:
        thread.join(0.01)
    client.abort()
    thread.join(10)

    assert isinstance(found[0], UnavailableError)
    waiting.server_close()


def _caught(work: Callable[[], Any]) -> Exception:
    try:
        work()
    except UnavailableError as error:
        return error
    return AssertionError("nothing was raised")


@pytest.mark.parametrize("body", [b"hello", b"{}", b"[" * 100_000, b'{"status": "up"}'])
def test_another_server_at_the_address(script: Script, body: bytes) -> None:
    """What answers /health in its own way is no worker, and gets no call."""
    script.say("/health", 200, body)
    with (
        HttpExecutor([script.config], patience=0.1) as pool,
        pytest.raises(NoWorkerError, match="unreachable"),
    ):
        submit(pool).result(10)
    assert script.count("/execute") == 0


def test_one_worker_fails_a_call_and_the_other_is_dead(script: Script) -> None:
    """The call goes back to the first; it does not wait for one that never comes."""
    script.say("/execute", 500, b"oops")
    script.say("/execute", 200, OK)
    dead = WorkerConfig(host="127.0.0.1", port=free_port(), token="t")
    with HttpExecutor([script.config, dead], patience=0.5) as pool:
        assert submit(pool).result(10) == [(2,)]


def test_shutdown_does_not_wait_for_a_worker_that_hangs(script: Script) -> None:
    """Calls that are cancelled at the end are given up, though their worker says nothing."""
    begun, over = Event(), Event()

    def hang(_: Any) -> None:
        begun.set()
        over.wait(60)

    script.before = hang
    pool = HttpExecutor([script.config], health_interval=60.0)
    future = submit(pool)
    assert begun.wait(10)
    pool.shutdown(cancel_futures=True)
    assert future.cancelled()
    assert not over.is_set()
    over.set()
