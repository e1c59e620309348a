"""Requests that dribble, never end, or lie about their length; and answers that get lost."""

from __future__ import annotations

import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

import httpx
import pytest
import uvicorn

sys.path.insert(0, str(Path(__file__).parent))
from coordinator_processes import OWNER, coordinator, until

from noob_cloud.coordinator import CoordinatorSettings, create_app
from noob_cloud.coordinator.connection import Connection
from noob_cloud.coordinator.transport import Transport
from noob_cloud.queue.remote import RemoteQueue
from noob_cloud.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

BEARER = f"Authorization: Bearer {OWNER}\r\n".encode()
SECONDS = 30.0
"""A test fails if the coordinator has not hung up by then."""


class Hasty(Connection):
    """Has little patience."""

    head_seconds = 0.3
    body_seconds = 0.3
    slowest = 1 << 30


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = Event()

    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets=sockets)
        self.listening.set()


@contextmanager
def serving(connection: type[Connection]) -> Iterator[int]:
    app = create_app(CoordinatorSettings(token=OWNER, db_path=None, max_body=1_000_000))
    config = uvicorn.Config(
        app, port=0, log_level="critical", access_log=False, http=connection, ws="none"
    )
    server = _Server(config)
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    assert server.listening.wait(10)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        app.coordinator.drain()
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def hasty() -> Iterator[int]:
    with serving(Hasty) as port:
        yield port


@pytest.fixture(scope="module")
def patient() -> Iterator[int]:
    with serving(Connection) as port:
        yield port


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=SECONDS)


def everything(link: socket.socket) -> bytes:
    """What comes until the other side hangs up."""
    found = b""
    try:
        while data := link.recv(65536):
            found += data
    except ConnectionResetError:
        pass  # it hung up while bytes of ours were under way
    return found


def test_connection_that_says_nothing(hasty: int) -> None:
    """It is closed."""
    with connect(hasty) as link:
        assert everything(link) == b""


@pytest.mark.parametrize("head", [b"G", b"GET /health HTTP/1.1\r\nHost: x\r\n", b"\r\n"])
def test_head_that_does_not_end(hasty: int, head: bytes) -> None:
    """Whatever of it has come, it is not waited for any longer; nobody has said who he is."""
    with connect(hasty) as link:
        link.sendall(head)
        assert b" 200 " not in everything(link)


def test_head_that_dribbles(hasty: int) -> None:
    """A byte now and then wins no time."""
    with connect(hasty) as link:
        link.sendall(b"GET /health HTTP/1.1\r\nX: ")
        link.settimeout(0.05)
        while True:
            try:
                link.sendall(b"a")
                if not link.recv(1):
                    break
            except TimeoutError:
                continue
            except OSError:
                break


def test_head_that_is_too_long(patient: int) -> None:
    """It is refused before all of it is in memory."""
    with connect(patient) as link:
        link.sendall(b"GET /health HTTP/1.1\r\n")
        try:
            for _ in range(1000):
                link.sendall(b"X: " + b"a" * 8000 + b"\r\n")
        except OSError:
            pass  # it has hung up
        else:
            assert b" 431 " in everything(link)


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_body_that_does_not_end(hasty: int, kind: str) -> None:
    """It is said why, and the connection is closed."""
    said = b"Content-Length: 100\r\n" if kind == "length" else b"Transfer-Encoding: chunked\r\n"
    with connect(hasty) as link:
        link.sendall(b"POST /tasks HTTP/1.1\r\nHost: x\r\n" + BEARER + said + b"\r\n")
        if kind == "chunked":
            link.sendall(b'5\r\n{"tas\r\n')
        assert b" 408 " in everything(link)


def test_body_of_someone_unknown_is_not_waited_for(hasty: int) -> None:
    """Whoever has no token is told so at once, and cannot keep the connection by sending on."""
    with connect(hasty) as link:
        link.sendall(b"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert b" 401 " in link.recv(65536)
        link.settimeout(0.05)
        while True:
            try:
                link.sendall(b"a")
                if not link.recv(65536):
                    break
            except TimeoutError:
                continue
            except OSError:
                break


def test_slow_request_among_others(hasty: int) -> None:
    """A poll that waits longer than a body may take is no slow body."""
    with httpx.Client(base_url=f"http://127.0.0.1:{hasty}", timeout=SECONDS) as client:
        headers = {"Authorization": f"Bearer {OWNER}"}
        for _ in range(2):
            answer = client.post("/claims", json={"worker_id": "w", "wait": 1.0}, headers=headers)
            assert answer.json() == {"tasks": []}


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: -5\r\n",
        b"Content-Length: ten\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: nonsense\r\n",
        b"Content-Length: 99999999999999999999999999\r\n",
    ],
)
def test_wrong_lengths(patient: int, head: bytes) -> None:
    """What could be read in two ways is read in none."""
    with connect(patient) as link:
        link.sendall(b"POST /tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + BEARER + head)
        link.sendall(b"\r\nhello")
        assert b" 200 " not in everything(link)
    assert httpx.get(f"http://127.0.0.1:{patient}/health").status_code == 200


def test_worker_that_hangs_up_by_hand(tmp_path: Path) -> None:
    """It is forgotten at once, not at the end of its poll, and no task is leased to it."""
    with coordinator(tmp_path) as made, made.client() as client:
        waiting = lambda: client.queue._json("GET", "/stats")["waiting_claims"]  # noqa: E731
        body = b'{"worker_id": "gone", "wait": 25}'
        head = b"POST /claims HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + BEARER
        link = connect(made.port)
        link.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        until(lambda: waiting() == 1)
        link.close()
        until(lambda: waiting() == 0, 10)
        task_id = client.queue.submit_task("n", 0)
        assert client.queue.get_task(task_id).status is TaskStatus.READY


def test_request_that_is_sent_again_on_another_connection_says_so() -> None:
    """The first may have been served before the connection broke, and its outcome be settled."""
    heads: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answers in (1, 1):
            link, _ = listener.accept()
            with link:
                for _ in range(answers):
                    heads.append(link.recv(65536))
                    link.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                if len(heads) == 1:
                    heads.append(link.recv(65536))  # served, and killed before it answered

    thread = Thread(target=serve, daemon=True)
    thread.start()
    transport = Transport(f"http://127.0.0.1:{listener.getsockname()[1]}", token=OWNER)
    transport.send("POST", "/outcomes", b"x")
    transport.send("POST", "/outcomes", b"y")
    thread.join(SECONDS)
    transport.close()
    listener.close()
    assert [b"noob-again" in head.lower() for head in heads] == [False, False, True]


def test_failure_that_is_long_and_no_text(patient: int) -> None:
    """It reaches the dead-letter list all the same, its beginning and its end."""
    with RemoteQueue(f"http://127.0.0.1:{patient}", OWNER) as queue:
        task_id = queue.submit_task("n", 0, max_retries=0, affinity_tags=["long"])
        task = queue.claim_task("w", ["long"])
        assert task is not None
        queue.fail_task(task, "no file \udcff", "begin" + "x" * 2_000_000 + "end")
        found = queue.get_task(task_id)
        assert found.error == "no file \\udcff"
        assert found.traceback is not None
        assert found.traceback.startswith("beginx")
        assert found.traceback.endswith("xend")
        assert len(found.traceback) < 200_000


def test_heartbeat_of_more_than_a_request_holds(patient: int) -> None:
    """It is several requests, and so is handing back."""
    with RemoteQueue(f"http://127.0.0.1:{patient}", OWNER) as queue:
        ids = queue.submit_many(
            {"node_id": "n", "epoch": i, "affinity_tags": ["many"]} for i in range(10_500)
        )
        held = queue.claim_many("w", 10_000, ["many"]) + queue.claim_many("w", 500, ["many"])
        assert [task.task_id for task in held] == ids
        assert queue.heartbeat(held).lost == frozenset()
        queue.release(held)
        ready = queue._json("GET", "/stats")["queue"]["ready_by_tags"]
        assert ready["many"] == 10_500
