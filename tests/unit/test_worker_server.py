"""The worker server's routes, without a network: what each answers, and to whom."""

from __future__ import annotations

import os
import pickle
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from noob_cloud_testtubes.case import chain, node, result

from noob_cloud import codec
from noob_cloud.identity import Identity, TokenBook
from noob_cloud.task import Outcome, StageCall
from noob_cloud.tubes import TubeSource
from noob_cloud.worker.replies import FRAME
from noob_cloud.worker.server import create_app
from noob_cloud.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OWNER = {"Authorization": "Bearer the-owner-of-this-worker"}
CLIENT = {"Authorization": "Bearer a-client-of-this-worker"}
PULLER = {"Authorization": "Bearer a-puller-with-wrong-role"}
BOOK = TokenBook(
    {
        "the-owner-of-this-worker": Identity("owner", "admin"),
        "a-client-of-this-worker": Identity("client", "client"),
        "a-puller-with-wrong-role": Identity("puller", "worker"),
    }
)
GATE = Event()
STARTED = Event()


def gated(value: int) -> int:
    """A node that waits until the test opens the gate."""
    STARTED.set()
    while not GATE.wait(0.01):
        continue
    return value


SPEC = chain(
    "worker-server",
    a=node("double", "value=src.index"),
    bad=node("fail_at", "value=src.index", params={"at": 3}),
    slow=node(f"{__name__}.gated", "value=src.index"),
    both=node("add", "left=src.index", "right=src.index"),
    odd=node("containers", "value=src.index"),
    out=result("a=a.value"),
)
MODULES = ("noob_cloud_testnodes", __name__.partition(".")[0], __name__)


@pytest.fixture
def source() -> TubeSource:
    return TubeSource.of(SPEC)


@pytest.fixture
def settings(source: TubeSource) -> WorkerSettings:
    return WorkerSettings(
        tokens=BOOK,
        worker_id="w1",
        tags=frozenset({"gpu", "cuda"}),
        tube=source,
        allowed_modules=MODULES,
        max_tasks=2,
        max_body=100_000,
        drain_seconds=0.2,
        isolate=False,
    )


@pytest.fixture
def client(settings: WorkerSettings) -> Iterator[TestClient]:
    GATE.clear()
    STARTED.clear()
    ended: list[bool] = []
    app = create_app(settings, on_shutdown=lambda: ended.append(True))
    app.state.ended = ended
    with TestClient(app, headers=OWNER) as made:
        yield made
        GATE.set()


def frame_of(source: TubeSource, name: str, *values: Any, **more: Any) -> bytes:
    return codec.dumps(
        StageCall(
            source.cid, (name,), tuple(range(len(values))), tuple((v,) for v in values), **more
        )
    )


def execute(client: TestClient, frame: bytes, **query: Any) -> Any:
    return client.post("/execute", content=frame, params=query, headers={"Content-Type": FRAME})


def until(condition: Callable[[], bool]) -> None:
    end = monotonic() + 10
    while not condition():
        assert monotonic() < end, "it did not come to pass"
        Event().wait(0.01)


class Running:
    """A call that runs in another thread until the gate opens."""

    def __init__(self, client: TestClient, source: TubeSource, **query: Any) -> None:
        self.answers: list[Any] = []
        frame = frame_of(source, "slow", 1)
        self.thread = Thread(
            target=lambda: self.answers.append(execute(client, frame, **query)), daemon=True
        )
        self.thread.start()
        assert STARTED.wait(10)

    @property
    def answer(self) -> Any:
        self.thread.join(10)
        return self.answers[0]


# ---- looking


def test_health_needs_no_token(client: TestClient) -> None:
    """Anyone may ask whether the worker is well."""
    answer = client.get("/health", headers={"Authorization": ""})

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "worker_id": "w1",
        "tags": ["cuda", "gpu"],
        "max_tasks": 2,
        "active": 0,
    }


def test_metrics_as_text_and_json(client: TestClient, source: TubeSource) -> None:
    """Prometheus reads text; `Accept: application/json` gets JSON."""
    execute(client, frame_of(source, "a", 1))
    execute(client, frame_of(source, "bad", 3))

    text = client.get("/metrics").text
    shown = client.get("/metrics", headers={"Accept": "application/json"}).json()

    assert 'noob_cloud_worker_tasks_total{outcome="completed"} 1.0' in text
    assert 'noob_cloud_worker_tasks_total{outcome="failed"} 1.0' in text
    assert (shown["completed_tasks"], shown["failed_tasks"]) == (1, 1)
    assert shown["task_seconds"] > 0


def test_tasks_lists_what_runs(client: TestClient, source: TubeSource) -> None:
    """A running call is listed by its id and label."""
    running = Running(client, source, task_id="run-7", label="slow node")

    (shown,) = client.get("/tasks").json()
    GATE.set()

    assert (shown["task_id"], shown["label"]) == ("run-7", "slow node")
    assert running.answer.status_code == 200
    assert client.get("/tasks").json() == []


# ---- executing


def test_execute_a_frame(client: TestClient, source: TubeSource) -> None:
    """A frame of a call is answered with a frame of its outcome."""
    answer = execute(client, frame_of(source, "a", 1, 2))

    assert answer.headers["content-type"] == FRAME
    outcome = codec.loads(answer.content)
    assert isinstance(outcome, Outcome)
    assert outcome.value == [(2,), (4,)]


def test_what_a_node_raises_is_an_outcome(client: TestClient, source: TubeSource) -> None:
    """A node that raises is no error of the server: 200, and the error inside."""
    answer = execute(client, frame_of(source, "bad", 3))

    outcome = codec.loads(answer.content)
    assert answer.status_code == 200
    assert not outcome.ok
    assert outcome.error_type == "noob_cloud_testnodes.BadTileError"


@pytest.mark.parametrize(
    ("inputs", "value"), [({"left": 6, "right": 7}, 13), ([6, 7], 13), ({"left": 6}, 7)]
)
def test_execute_by_hand(client: TestClient, inputs: Any, value: int) -> None:
    """JSON names a node of the preloaded tube and its slots."""
    answer = client.post("/execute", json={"node_id": "both", "epoch": 4, "inputs": inputs})

    shown = answer.json()
    assert (shown["ok"], shown["value"], shown["epoch"]) == (True, value, 4)


def test_by_hand_shows_what_json_lacks(client: TestClient) -> None:
    """Values that JSON has no form for are shown, not refused."""
    answer = client.post("/execute", json={"node_id": "odd", "inputs": [2]})

    assert answer.status_code == 200
    assert answer.json()["ok"]


def test_by_hand_error_has_its_traceback(client: TestClient) -> None:
    """What the node raised is in the answer, with where."""
    shown = client.post("/execute", json={"node_id": "bad", "inputs": [3]}).json()

    assert not shown["ok"]
    assert shown["message"] == "no tile 3"
    assert "fail_at" in shown["traceback"]


def test_by_hand_unknown_node(client: TestClient) -> None:
    """An unknown node is 404, and the known ones are named."""
    answer = client.post("/execute", json={"node_id": "nope"})

    assert answer.status_code == 404
    assert answer.json()["error"] == "NodeNotFoundError"
    assert "both" in answer.json()["message"]


def test_unknown_tube(client: TestClient) -> None:
    """A tube that has not been here is 404: its cid and what to do are said."""
    answer = execute(client, codec.dumps(StageCall("bafkother", ("a",), (0,), ((1,),))))

    assert answer.status_code == 404
    assert answer.json()["error"] == "TubeNotFoundError"
    assert "/load_tube" in answer.json()["message"]
    assert answer.json()["tube"] == "bafkother"


# ---- bad input


def test_pickle_does_not_run(client: TestClient, tmp_path: Path) -> None:
    """A pickle in the body is bytes that are no frame; nothing of it runs."""
    mark = tmp_path / "it-ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(mark),))

    body = pickle.dumps(Evil())
    for route in ("/execute", "/load_tube"):
        answer = client.post(route, content=body, headers={"Content-Type": FRAME})
        assert answer.status_code == 422
        assert answer.json()["error"] == "DecodeError"
    text = codec.dumps({"node_id": "a", "tube": "t", "inputs": "pck__" + body.hex()})
    assert execute(client, text).status_code == 404

    assert not mark.exists()


def test_body_too_large(client: TestClient) -> None:
    """A body over the limit is refused, said to be too long or found to be."""
    for content in (b"x" * 100_001, iter([b"x" * 60_000, b"x" * 60_000])):
        answer = client.post("/execute", content=content, headers={"Content-Type": FRAME})
        assert answer.status_code == 413
        assert answer.json()["error"] == "LimitError"
        assert answer.json()["limit"] == 100_000


@pytest.mark.parametrize("kind", ["text/plain", "application/x-python-pickle", ""])
def test_other_media_types(client: TestClient, kind: str) -> None:
    """What is neither a frame nor JSON is refused by name."""
    answer = client.post("/execute", content=b"x", headers={"Content-Type": kind})

    assert answer.status_code == 415
    assert FRAME in answer.json()["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"NCF", b"{}", b"[1]", b"null", b'{"node_id": 3}', b'{"node_id": "a", "more": 1}'],
)
def test_malformed_json(client: TestClient, body: bytes) -> None:
    """JSON that is not a call is refused, and the field is named."""
    answer = client.post("/execute", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422
    assert answer.json()["message"]


@pytest.mark.parametrize(
    "value",
    [None, 3, {"a": 1}, {"tube": "t", "node_id": "a", "rm": 1}, Outcome(ok=True), {"node_id": "a"}],
)
def test_frame_of_something_else(client: TestClient, value: Any) -> None:
    """A frame that holds no call is refused."""
    assert execute(client, codec.dumps(value)).status_code == 422


def test_call_with_wrong_fields(client: TestClient, source: TubeSource) -> None:
    """A call that does not fit its tube is an outcome that says so, never a failure of ours."""
    for call in (
        StageCall(source.cid, ("nope",), (0,), ((1,),)),
        StageCall(source.cid, (), (0,), ((1,),)),
        StageCall(source.cid, ("a",), (0, 1), ((1,),)),
        StageCall(source.cid, ("a",), (0,), ((1, 2, 3),)),
        StageCall(source.cid, ("a",), ("x",), ((1,),)),
        StageCall(source.cid, ("src",), (0,), ((),)),
    ):
        answer = execute(client, codec.dumps(call))
        assert answer.status_code == 200
        assert not codec.loads(answer.content).ok


@pytest.mark.parametrize(
    "query", [{"timeout": 0}, {"timeout": -1}, {"timeout": "x"}, {"task_id": ""}]
)
def test_bad_query(client: TestClient, source: TubeSource, query: dict[str, Any]) -> None:
    """A query out of range is refused by name."""
    answer = execute(client, frame_of(source, "a", 1), **query)

    assert answer.status_code == 422
    assert next(iter(query)) in answer.json()["message"]


# ---- tubes


def test_load_tube(client: TestClient) -> None:
    """A tube that is sent can be run by its cid."""
    other = TubeSource.of(chain("sent", twice=node("double", "value=src.index")))
    answer = client.post("/load_tube", content=other.document, headers={"Content-Type": FRAME})

    assert answer.json() == {"cid": other.cid, "nodes": ["src", "twice"]}
    assert codec.loads(execute(client, frame_of(other, "twice", 4)).content).value == [(8,)]


@pytest.mark.parametrize("part", ["extends", "nested"])
def test_load_tube_reads_no_file_of_the_worker(
    client: TestClient, tmp_path: Path, part: str
) -> None:
    """What a specification extends or nests by name is refused before it is looked for."""
    secret = tmp_path / "secret.yaml"
    secret.write_text(
        "noob_id: testing-secret\nnoob_model: noob.tube.TubeSpecification\nnoob_version: 1003.0.2\n"
        "nodes:\n  password-hunter2:\n    type: itertools.count\n"
    )
    spec: dict[str, Any] = {"noob_id": "testing-thief", "nodes": {}}
    if part == "extends":
        spec["extends"] = str(secret)
    else:
        spec["nodes"]["a"] = {"type": "tube", "params": {"tube": str(secret)}}
    answer = client.post("/load_tube", json={"spec": spec})
    assert answer.status_code == 422
    assert "hunter2" not in answer.text


def test_load_tube_by_hand(client: TestClient) -> None:
    """A specification as JSON does as well, and its nodes can be called."""
    spec = chain("json", twice=node("double", "value=src.index"))
    cid = client.post("/load_tube", json={"spec": spec}).json()["cid"]

    shown = client.post("/execute", json={"node_id": "twice", "inputs": [3], "tube": cid}).json()

    assert shown["value"] == 6


def test_forbidden_import(client: TestClient) -> None:
    """A tube that names a module outside the allow-list is 403 before anything is imported."""
    evil = TubeSource.of({"noob_id": "evil", "nodes": {"a": {"type": "os.getcwd"}}})
    answer = client.post("/load_tube", content=evil.document, headers={"Content-Type": FRAME})

    assert answer.status_code == 403
    assert answer.json()["error"] == "TubeRefusedError"
    assert "--allow-module os" in answer.json()["message"]
    assert execute(client, frame_of(evil, "a", 1)).status_code == 404


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"noob_id": "x"},
        {"noob_id": "x", "nodes": 3},
        {"noob_id": "x", "nodes": {"a": {}}},
        {"noob_id": "x", "nodes": {"a": {"type": "noob_cloud_testnodes.nothing_here"}}},
        {
            "noob_id": "x",
            "nodes": {"a": {"type": "noob_cloud_testnodes.double", "depends": ["b.c"]}},
        },
    ],
)
def test_load_tube_that_is_none(client: TestClient, spec: Any) -> None:
    """What is no tube, or does not load, is refused with the reason; an empty tube is one."""
    answer = client.post("/load_tube", json={"spec": spec})

    assert answer.status_code in ({200, 422} if not spec.get("nodes") else {422})
    if answer.status_code == 422:
        assert answer.json()["message"]


# ---- limits, cancellation, shutdown


def test_one_too_many_is_429(client: TestClient, source: TubeSource) -> None:
    """The call beyond --max-tasks is turned away and told when to come again."""
    first, second = (Running(client, source, task_id=f"t{n}") for n in range(2))
    until(lambda: client.get("/health").json()["active"] == 2)

    answer = execute(client, frame_of(source, "a", 1))
    GATE.set()

    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["max_tasks"] == 2
    assert first.answer.status_code == second.answer.status_code == 200
    assert execute(client, frame_of(source, "a", 1)).status_code == 200


def test_same_id_twice_is_409(client: TestClient, source: TubeSource) -> None:
    """Two running calls cannot have one id."""
    running = Running(client, source, task_id="same")

    assert execute(client, frame_of(source, "a", 1), task_id="same").status_code == 409
    GATE.set()
    assert running.answer.status_code == 200


def test_cancel_stops_the_node(client: TestClient, source: TubeSource) -> None:
    """A cancelled call is answered at once, with the error, and its place is free."""
    running = Running(client, source, task_id="run-7:12")
    begun = monotonic()

    answer = client.post("/cancel/run-7:12")

    assert answer.json() == {"task_id": "run-7:12", "cancelled": True}
    outcome = codec.loads(running.answer.content)
    assert outcome.error_type == "noob_cloud.exceptions.TaskCancelledError"
    assert monotonic() - begun < 5
    assert client.get("/health").json()["active"] == 0


def test_cancel_unknown(client: TestClient) -> None:
    """Cancelling what does not run is 404."""
    answer = client.post("/cancel/nothing")

    assert answer.status_code == 404
    assert answer.json()["error"] == "TaskNotFoundError"


def test_timeout_stops_the_node(client: TestClient, source: TubeSource) -> None:
    """A call that runs longer than its timeout is stopped and says so."""
    outcome = codec.loads(execute(client, frame_of(source, "slow", 1), timeout=0.2).content)

    assert outcome.error_type == "noob_cloud.exceptions.TaskTimeoutError"


def test_shutdown_drains(client: TestClient, source: TubeSource) -> None:
    """After POST /shutdown running calls end and new ones are turned away."""
    running = Running(client, source, task_id="last")

    assert client.post("/shutdown").status_code == 202
    refused = execute(client, frame_of(source, "a", 1))
    GATE.set()

    assert refused.status_code == 503
    assert "retry-after" in refused.headers
    assert client.get("/health").json()["status"] == "draining"
    assert codec.loads(running.answer.content).ok
    until(lambda: client.app.state.ended)  # type: ignore[attr-defined]


# ---- who


ROUTES = [
    ("get", "/metrics"),
    ("get", "/tasks"),
    ("post", "/execute"),
    ("post", "/load_tube"),
    ("post", "/cancel/x"),
    ("post", "/shutdown"),
]


@pytest.mark.parametrize(("method", "route"), ROUTES)
@pytest.mark.parametrize(
    "header", ["", "Bearer wrong-token-entirely", "Basic dXNlcjpwYXNz", "Bearer"]
)
def test_everything_wants_an_identity(
    client: TestClient, method: str, route: str, header: str
) -> None:
    """Without a known token every route but /health is 401, before the body is looked at."""
    answer = client.request(method, route, headers={"Authorization": header})

    assert answer.status_code == 401
    assert answer.json()["error"] == "AuthenticationError"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_a_worker_token_is_not_for_this(client: TestClient, method: str, route: str) -> None:
    """A token that claims from a queue may not send work."""
    answer = client.request(method, route, headers=PULLER)

    assert answer.status_code == 403
    assert answer.json()["error"] == "ForbiddenError"


def test_a_client_may_not_shut_down(client: TestClient) -> None:
    """Only an admin ends the worker."""
    assert client.post("/shutdown", headers=CLIENT).status_code == 403
    assert client.get("/tasks", headers=CLIENT).status_code == 200


def test_unknown_paths_and_methods(client: TestClient) -> None:
    """Errors of the framework have the same shape."""
    assert client.get("/nope").json()["error"] == "HTTPError"
    assert client.put("/execute").status_code == 405


def test_openapi_has_examples(client: TestClient) -> None:
    """Every route is documented, with its errors and an example."""
    document = client.get("/openapi.json").json()

    assert set(document["paths"]) == {
        "/health",
        "/metrics",
        "/tasks",
        "/execute",
        "/load_tube",
        "/cancel/{task_id}",
        "/shutdown",
    }
    assert "429" in document["paths"]["/execute"]["post"]["responses"]
    assert "example" in document["components"]["schemas"]["ErrorBody"]
