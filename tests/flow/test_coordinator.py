"""Real coordinators and workers: killed, restarted, lied to, and sent nonsense."""

from __future__ import annotations

import pickle
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import coordinator_processes as processes
from coordinator_processes import OWNER, coordinator, log, until, worker

from noob_cloud.codec.limits import DEFAULT
from noob_cloud.exceptions import (
    AuthenticationError,
    ForbiddenError,
    LeaseLostError,
    TaskStateError,
    UnavailableError,
)
from noob_cloud.task import TaskStatus
from noob_cloud.tubes import TubeSource

if TYPE_CHECKING:
    from collections.abc import Iterator

BEARER = {"Authorization": f"Bearer {OWNER}"}
NODES = "noob_cloud_testnodes."


def spec(**nodes: Any) -> TubeSource:
    return TubeSource.of(
        {"noob_id": "testing-flow", "nodes": {"src": {"type": NODES + "counter"}, **nodes}}
    )


def doubled(**more: Any) -> TubeSource:
    double = {"type": NODES + "double", "depends": [{"value": "src.index"}]}
    out = {"type": "return", "depends": "a.value"}
    return spec(a=double, out=out, **more)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Coordinator]:
    with coordinator(tmp_path_factory.mktemp("coordinator"), max_body=1_000_000) as started:
        yield started


# ---- who may come in, and with what


@pytest.mark.parametrize("path", ["/tasks", "/runs", "/metrics", "/openapi.json", "/docs", "/none"])
def test_every_route_wants_a_token(made: processes.Coordinator, path: str) -> None:
    """Without a token, or with a wrong one, there is an error and nothing else."""
    for headers in ({}, {"Authorization": "Bearer wrong-token-0123456789"}):
        answer = httpx.get(made.url + path, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"] == "AuthenticationError"


def test_health_wants_none(made: processes.Coordinator) -> None:
    """Whether it lives may be asked by anyone."""
    assert httpx.get(f"{made.url}/health").json()["status"] == "ok"


def test_wrong_token_is_raised_at_home(made: processes.Coordinator) -> None:
    """The client raises what the coordinator answered, by its class."""
    with (
        made.client("wrong-token-0123456789") as client,
        pytest.raises(AuthenticationError, match="not known"),
    ):
        client.queue.submit_task("n", 0)


def test_roles(made: processes.Coordinator) -> None:
    """A client's token claims nothing, a worker's cancels no run."""
    with made.client("client-token-0123456789") as client, pytest.raises(ForbiddenError):
        client.queue.claim_task("w")
    with made.client("worker-token-0123456789") as client, pytest.raises(ForbiddenError):
        client.cancel_run("run-1")


def test_lying_about_tags(made: processes.Coordinator) -> None:
    """A worker that claims with a tag which its token lacks gets no such task."""
    with made.client() as client:
        task_id = client.queue.submit_task("n", 0, affinity_tags=["gpu"])
    with made.client("worker-token-0123456789") as liar:
        assert liar.queue.claim_task("liar", ["gpu"]) is None
        assert liar.queue.claim_task("liar", ["*"]) is None
    with made.client("gpu-token-0123456789") as honest:
        task = honest.queue.claim_task("honest", ["gpu"])
        assert task is not None
        assert task.task_id == task_id
        honest.queue.complete_task(task)


def test_body_too_large(made: processes.Coordinator) -> None:
    """A body over the limit is refused, said to be large or found to be."""
    body = b'{"tasks": [], "once": "' + b"x" * 1_100_000 + b'"}'
    headers = {**BEARER, "Content-Type": "application/json"}
    said = httpx.post(f"{made.url}/tasks", content=body, headers=headers)
    assert said.status_code == 413
    assert said.json()["limit"] == 1_000_000

    parts = (body[i : i + 65536] for i in range(0, len(body), 65536))
    try:
        found = httpx.post(f"{made.url}/tasks", content=parts, headers=headers)
    except httpx.WriteError:
        return  # it answered and hung up before all was sent
    assert found.status_code == 413


class _Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("path", ["/tasks", "/claims", "/outcomes", "/heartbeats", "/settled"])
def test_pickle_is_not_executed(made: processes.Coordinator, path: str, tmp_path: Path) -> None:
    """A pickle in the body is an error, whatever it is said to be; it never runs."""
    harm = tmp_path / "harm"
    body = pickle.dumps(_Harm(harm))
    for kind in ("application/vnd.noob-cloud.frame", "application/json"):
        answer = httpx.post(made.url + path, content=body, headers={**BEARER, "Content-Type": kind})
        assert answer.status_code in (400, 422)
        assert set(answer.json()) >= {"error", "message"}
    assert not harm.exists()


def test_unknown_tube(made: processes.Coordinator) -> None:
    """A run of a tube that nobody sent is refused and says what to do."""
    body = {"tube": "bafkr4i" + "a" * 50, "n": 1}
    answer = httpx.post(f"{made.url}/runs", json=body, headers=BEARER)

    assert answer.status_code == 404
    assert "/tubes" in answer.json()["message"]


def test_blob_is_verified_and_read_by_range(made: processes.Coordinator) -> None:
    """Bytes are kept under their own cid alone, and read in part."""
    with made.client() as client:
        cid = client.blobs.put(b"0123456789")
        assert client.blobs.get(cid) == b"0123456789"
        assert client.blobs.get_range(cid, 2, 3) == b"234"
        assert client.blobs.has(cid)
    url = f"{made.url}/blobs/{cid}"
    assert httpx.put(url, content=b"other", headers=BEARER).status_code == 422
    part = httpx.get(url, headers={**BEARER, "Range": "bytes=8-"})
    assert (part.status_code, part.content) == (206, b"89")
    assert part.headers["content-range"] == "bytes 8-9/10"
    assert httpx.get(url, headers={**BEARER, "Range": "bytes=99-"}).status_code == 416


# ---- waiting


def test_long_poll_is_woken_by_a_submit(made: processes.Coordinator) -> None:
    """A worker that waits gets a task as soon as there is one, not at its next poll."""
    with made.client() as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.queue.claim_task, "waits", ["poll"], wait=20.0)
        until(lambda: httpx.get(f"{made.url}/stats", headers=BEARER).json()["waiting_claims"] == 1)
        start = time.monotonic()
        task_id = client.queue.submit_task("n", 0, affinity_tags=["poll"])
        task = waiting.result(10)

        assert task is not None
        assert task.task_id == task_id
        assert time.monotonic() - start < 0.9
        client.queue.complete_task(task)


def test_worker_that_hangs_up_takes_no_task(made: processes.Coordinator) -> None:
    """A task is not leased to a worker that has gone while it waited."""
    connection = HTTPConnection("127.0.0.1", made.port)
    body = b'{"worker_id": "gone", "tags": ["lost"], "wait": 20}'
    connection.request("POST", "/claims", body, {**BEARER, "Content-Type": "application/json"})
    with made.client("owner-token-0123456789") as client:
        until(lambda: httpx.get(f"{made.url}/stats", headers=BEARER).json()["waiting_claims"] == 1)
        connection.close()
        until(lambda: httpx.get(f"{made.url}/stats", headers=BEARER).json()["waiting_claims"] == 0)
        task_id = client.queue.submit_task("n", 0, affinity_tags=["lost"])
        assert client.queue.get_task(task_id).status is TaskStatus.READY
        assert client.queue.cancel_task(task_id)


def test_events_are_followed(made: processes.Coordinator) -> None:
    """A dead letter is an event; the feed goes on where the follower was."""
    with made.client() as client:
        last = client.events()[1]
        task_id = client.queue.submit_task("n", 0, affinity_tags=["dies"], max_retries=0)
        task = client.queue.claim_task("w", ["dies"])
        assert task is not None
        client.queue.fail_task(task, "it broke", "Traceback ...")
        found, last = client.events(last, wait=5.0)
        while found[-1]["kind"] != "task.dead":
            found, last = client.events(last, wait=5.0)

        assert found[-1]["task_id"] == task_id
        assert client.queue.redrive([task_id]) == [task_id]
        assert client.queue.cancel_task(task_id)


# ---- crashes


def test_request_that_is_sent_again_happens_once(tmp_path: Path) -> None:
    """The same request after a crash adds no task, and an outcome is not refused."""
    from noob_cloud.coordinator import wire  # noqa: PLC0415 - to send the same bytes twice

    with coordinator(tmp_path) as made, made.client() as client:
        body = wire.Submit([wire.Group(wire.Options(), "n", [0, 1])], "request-1")
        first = client.queue._post("/tasks", body, wire.Submitted)
        made.kill()
        made.start()
        assert client.queue._post("/tasks", body, wire.Submitted).ids == first.ids
        assert client.queue.stats().live == 2

        task = client.queue.claim_task("w")
        assert task is not None
        token = (task.token.epoch, task.token.attempt)
        done = wire.to_frame(wire.Outcomes("w", [wire.Done(token, [task.task_id], [7])]))
        headers = {**BEARER, "Content-Type": wire.FRAME_TYPE}
        for again in ({}, {"Noob-Again": "1"}):
            answer = httpx.post(f"{made.url}/outcomes", content=done, headers=headers | again)
            assert answer.status_code == 200
            settled = wire.from_frame(wire.Settled, answer.content, DEFAULT)
            assert settled.refused == []
        answer = httpx.post(f"{made.url}/outcomes", content=done, headers=headers)
        settled = wire.from_frame(wire.Settled, answer.content, DEFAULT)
        assert settled.refused == [task.task_id]


def test_two_workers_share_a_run(tmp_path: Path) -> None:
    """A run without a client gives what the tube gives, in order, in pages and by cid."""
    with (
        coordinator(tmp_path) as made,
        worker(made, "w1"),
        worker(made, "w2"),
        made.client() as client,
    ):
        run_id = client.submit_run(doubled(), n=250)
        *_, last = client.watch_run(run_id, timeout=60)

        assert last.status == "completed", (last, log(made, "w1"), log(made, "w2"))
        assert list(client.run_results(run_id)) == [2 * i for i in range(250)]
        assert len(client.run_cids(run_id)) == 250
        page = httpx.get(f"{made.url}/runs/{run_id}/results?page=2&size=100", headers=BEARER).json()
        assert [x["value"] for x in page["results"]] == [2 * i for i in range(200, 250)]
        blob = client.blobs.get(page["results"][0]["cid"])
        assert processes.decode(blob) == 400
        assert client.submit_run(doubled(), n=250, run_id=run_id) == run_id
        assert len(client.runs()) == 1


def test_run_survives_coordinator_and_driver(tmp_path: Path) -> None:
    """Killed in the middle of a run, the coordinator and the driver are replaced; all is right."""
    slow = {"type": NODES + "linger", "depends": [{"value": "src.index"}]}
    slow["params"] = {"seconds": 0.1}
    tube = spec(a=slow, out={"type": "return", "depends": "a.value"})
    with coordinator(tmp_path) as made, made.client() as client:
        with worker(made, "w1") as first, worker(made, "w2"):
            run_id = client.submit_run(tube, n=120)
            until(lambda: client.run(run_id).done >= 5, 40)
            made.kill()
            made.start()
            before = client.run(run_id).done
            driver = client.queue.get_task(client.run(run_id).task_id).worker_id
            if driver == "w1/driver":
                first.send_signal(signal.SIGKILL)
            until(lambda: client.run(run_id).done > before or before == 120, 60)
            *_, last = client.watch_run(run_id, timeout=60)

        assert last.status == "completed", (last, log(made, "w1"), log(made, "w2"))
        assert list(client.run_results(run_id)) == list(range(120))


def test_run_that_fails_and_is_cancelled(tmp_path: Path) -> None:
    """What a node raises ends the run, with its traceback; a cancelled run stops."""
    fails = {"type": NODES + "fail_at", "depends": [{"value": "src.index"}]}
    refused = {"noob_id": "testing-refused", "nodes": {"a": {"type": "os.getcwd"}}}
    with coordinator(tmp_path) as made, worker(made, "w1"), made.client() as client:
        failing = client.submit_run(
            spec(a=fails, out={"type": "return", "depends": "a.value"}), n=9
        )
        *_, last = client.watch_run(failing, timeout=60)
        assert last.status == "failed", log(made, "w1")
        assert "BadTileError" in (last.error or "")
        assert "fail_at" in (last.traceback or "")
        assert list(client.run_results(failing)) == [0, 1]

        *_, last = client.watch_run(client.submit_run(TubeSource.of(refused), n=1), timeout=60)
        assert last.status == "failed"
        assert "TubeRefusedError" in (last.error or "")

        endless = client.submit_run(doubled())
        until(lambda: client.run(endless).done > 3, 40)
        assert client.cancel_run(endless)
        *_, last = client.watch_run(endless, timeout=20)
        assert last.status == "cancelled"
        assert not client.cancel_run(endless)
        with pytest.raises(TaskStateError, match="was cancelled"):
            client.queue.submit_task("n", 0, run_id=endless)
        token = client.queue.get_task(last.task_id).token
        with pytest.raises(LeaseLostError):
            client.post_results(endless, 0, [1], task_id=last.task_id, token=token)


def test_sigterm_answers_who_waits(tmp_path: Path) -> None:
    """Told to stop, it lets polls go at once, ends well, and its clients wait for the next one."""
    with (
        coordinator(tmp_path) as made,
        made.client() as client,
        made.client(patience=0.0) as hasty,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(client.queue.claim_task, "waits", wait=15.0)
        until(lambda: httpx.get(f"{made.url}/stats", headers=BEARER).json()["waiting_claims"] == 1)
        start = time.monotonic()
        assert made.stop() in (0, -signal.SIGTERM)
        assert time.monotonic() - start < 5
        with pytest.raises(UnavailableError, match="noob-cloud coordinator"):
            hasty.queue.stats()
        made.start()
        task_id = client.queue.submit_task("n", 0)
        task = waiting.result(20)
        assert task is not None
        assert task.task_id == task_id
