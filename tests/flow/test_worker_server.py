"""Worker servers as processes: killed, hanging, lying, told to end."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import noob_cloud_testnodes as nodes
import pytest
from noob_cloud_testtubes.case import chain, node, result
from tests.conformance.servers import TOKEN, environment, process, worker_server

from noob_cloud import codec
from noob_cloud.exceptions import (
    AuthenticationError,
    CodeMismatchError,
    NoWorkerError,
    TaskTimeoutError,
    TubeRefusedError,
)
from noob_cloud.executors.http import HttpExecutor
from noob_cloud.executors.worker_config import WorkerConfig
from noob_cloud.plan import Stage
from noob_cloud.task import StageCall
from noob_cloud.tubes import TubeSource

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = ("-m", "noob_cloud.runner.worker_server")
FRAME = "application/vnd.noob-cloud.frame"
SPEC = chain(
    "flow-worker",
    a=node("double", "value=src.index"),
    bad=node("fail_at", "value=src.index", params={"at": 3}),
    slow=node("linger", "value=src.index", params={"seconds": 60}),
    some=node("linger", "value=src.index", params={"seconds": 0.3}),
    where=node("whereabouts", "value=src.index"),
    pid=node("process_id", "value=src.index"),
    out=result("a=a.value"),
)
SOURCE = TubeSource.of(SPEC)


def call_of(
    name: str, *values: Any, source: TubeSource = SOURCE, code: str | None = None
) -> StageCall:
    return StageCall(
        source.cid,
        (name,),
        tuple(range(len(values))),
        tuple((value,) for value in values),
        code,
    )


def stage(name: str, **more: Any) -> Stage:
    return Stage(0, (name,), (0,), (1,), remote=True, why="", level=0, **more)


def until(condition: Any, patience: float = 20.0) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(word) for word in listed.stdout.split() if _is_child(int(word))]


def _is_child(pid: int) -> bool:
    with suppress(OSError):
        return b"noob_cloud.worker.child" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WorkerConfig, WorkerConfig]]:
    """Two workers that stay, the second with a GPU by our own list."""
    folder = tmp_path_factory.mktemp("pair")
    with (
        worker_server(folder, "one", max_tasks=2) as (one, _),
        worker_server(folder, "two", tags="gpu", max_tasks=2) as (two, _),
    ):
        yield one, two


def executor(*configs: WorkerConfig, **options: Any) -> HttpExecutor:
    return HttpExecutor(list(configs), **{"health_interval": 0.3, "patience": 5.0, **options})


# ---- the way it should be


def test_calls_come_back(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """Calls are spread over the workers and answered with their values."""
    with executor(*pair) as pool:
        futures = [pool.submit_call(call_of("where", n), tube=SOURCE) for n in range(12)]
        places = {future.result(60)[0][0] for future in futures}

        assert places == {"one", "two"}
        assert pool.capacity == 4
        assert pool.metrics["completed"] == 12
        assert futures[0].duration is not None


def test_errors_come_home(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """What a node raises is raised here, with node, epoch and remote traceback, untried again."""
    with executor(*pair) as pool:
        with pytest.raises(nodes.BadTileError) as raised:
            pool.submit_call(call_of("bad", 1, 3), tube=SOURCE).result(60)

        assert raised.value.node_id == "bad"  # type: ignore[attr-defined]
        assert raised.value.epoch == 1  # type: ignore[attr-defined]
        assert "fail_at" in str(raised.value.__cause__)
        assert pool.metrics["retried"] == 0


def test_retries_of_the_placement(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """A node that the placement gives retries is tried again before its error comes home."""
    with executor(*pair) as pool:
        future = pool.submit_call(call_of("bad", 3), tube=SOURCE, stage=stage("bad", retries=2))
        with pytest.raises(nodes.BadTileError):
            future.result(60)

        assert pool.metrics["retried"] == 2


def test_tags_are_hard(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """A tagged stage goes to a worker with the tag alone; without one the tag is named."""
    with executor(*pair) as pool:
        gpu = stage("where", affinity=frozenset({"gpu"}))
        futures = [pool.submit_call(call_of("where", n), tube=SOURCE, stage=gpu) for n in range(6)]
        assert {future.result(60)[0][0] for future in futures} == {"two"}

        tpu = stage("where", required=frozenset({"gpu", "tpu"}))
        with pytest.raises(NoWorkerError, match="tpu"):
            pool.submit_call(call_of("where", 1), tube=SOURCE, stage=tpu)


def test_functions_do_not_travel(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """Only stages of tubes are sent; a function is refused and told why."""
    with executor(*pair) as pool, pytest.raises(TypeError, match="only stages of a tube travel"):
        pool.submit(print, "code")


def test_cancel_stops_the_node(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """Cancelling a future ends the process in which its node runs, and frees the place."""
    with executor(pair[0]) as pool:
        future = pool.submit_call(call_of("slow", 1), tube=SOURCE)
        until(lambda: _tasks(pair[0]))
        begun = time.monotonic()

        assert future.cancel()
        until(lambda: not _tasks(pair[0]))

        assert future.cancelled()
        assert time.monotonic() - begun < 5
        assert pool.submit_call(call_of("a", 4), tube=SOURCE).result(60) == [(8,)]


def test_caller_that_hangs_up(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """Nobody waits for the answer any more, so the node is stopped and the place is free."""
    with executor(pair[0]) as pool:  # so that the worker knows the tube
        assert pool.submit_call(call_of("a", 4), tube=SOURCE).result(60) == [(8,)]
    headers = {"Authorization": f"Bearer {pair[0].token}", "Content-Type": FRAME}
    frame = codec.dumps(call_of("slow", 1))
    with httpx.Client(headers=headers) as client, pytest.raises(httpx.ReadTimeout):
        client.post(f"{pair[0].url}/execute", content=frame, timeout=1.0)

    until(lambda: not _tasks(pair[0]))


def test_head_that_does_not_end(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """A request that nobody has signed yet is bounded."""
    url = httpx.URL(pair[0].url)
    with socket.create_connection((url.host, url.port or 80), timeout=60) as link:
        with suppress(OSError):  # it may hang up before all is sent
            link.sendall(b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 20_000)
        with suppress(ConnectionResetError):
            assert b" 431 " in link.recv(65536)


def _tasks(config: WorkerConfig) -> list[Any]:
    header = {"Authorization": f"Bearer {config.token}"}
    found: list[Any] = httpx.get(f"{config.url}/tasks", headers=header, timeout=5).json()
    return found


# ---- workers that fail


def test_killed_worker(tmp_path: Path, pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """What a worker had when it was killed with -9 is run by another; nothing stays behind."""
    with worker_server(tmp_path, "mortal", max_tasks=4) as (config, server):
        with executor(config, pair[0]) as pool:
            futures = [pool.submit_call(call_of("some", n), tube=SOURCE) for n in range(12)]
            until(lambda: _tasks(config))
            left = children_of(server.pid)
            server.kill()

            assert [future.result(60) for future in futures] == [[(n,)] for n in range(12)]
            assert pool.metrics["workers"]["mortal"]["lost"] > 0
            assert pool.metrics["workers"]["mortal"]["breaker"] == "open"
        assert left
        until(lambda: not any(alive(pid) for pid in left))


def test_killed_child(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """A node whose process dies takes nothing with it: its call is run again, the worker stays."""
    with executor(pair[0]) as pool:
        ((pid,),) = pool.submit_call(call_of("pid", 1), tube=SOURCE).result(60)
        future = pool.submit_call(call_of("some", 5), tube=SOURCE)
        until(lambda: _tasks(pair[0]))
        os.kill(pid, signal.SIGKILL)

        assert future.result(60) == [(5,)]
        assert pool.metrics["workers"]["one"]["breaker"] == "closed"


def test_hanging_node(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """A node that hangs is stopped at its timeout; the worker takes the next call."""
    with executor(pair[0]) as pool:
        future = pool.submit_call(call_of("slow", 1), tube=SOURCE, stage=stage("slow", timeout=0.5))
        with pytest.raises(TaskTimeoutError, match=r"0\.5 seconds"):
            future.result(60)

        assert pool.submit_call(call_of("a", 4), tube=SOURCE).result(60) == [(8,)]


def test_hanging_worker(tmp_path: Path, pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """A worker that stops answering is left alone; its calls go to another, its breaker opens."""
    with (
        worker_server(tmp_path, "frozen", max_tasks=2) as (config, server),
        executor(config, pair[0], circuit_breaker_threshold=2) as pool,
    ):
        futures = [pool.submit_call(call_of("some", n), tube=SOURCE) for n in range(4)]
        until(lambda: _tasks(config))
        server.send_signal(signal.SIGSTOP)
        try:
            assert [future.result(60) for future in futures] == [[(n,)] for n in range(4)]
            assert pool.metrics["workers"]["frozen"]["breaker"] == "open"
        finally:
            server.send_signal(signal.SIGCONT)
        until(lambda: pool.metrics["workers"]["frozen"]["breaker"] != "open", 30)


def test_lying_worker_gets_nothing(tmp_path: Path, pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """A worker that says it has a GPU gets no GPU call: what its user lists decides."""
    with worker_server(tmp_path, "liar", tags="gpu") as (config, _):
        assert httpx.get(f"{config.url}/health", timeout=5).json()["tags"] == ["gpu"]
        honest = WorkerConfig(host=config.host, port=config.port, token=TOKEN, worker_id="liar")
        gpu = stage("where", affinity=frozenset({"gpu"}))
        with executor(honest, pair[1]) as pool:
            futures = [
                pool.submit_call(call_of("where", n), tube=SOURCE, stage=gpu) for n in range(6)
            ]
            assert {future.result(60)[0][0] for future in futures} == {"two"}
        with executor(honest) as pool, pytest.raises(NoWorkerError, match="gpu"):
            pool.submit_call(call_of("where", 1), tube=SOURCE, stage=gpu)


def test_wrong_token(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """A token that the worker does not know is an error that says so, at once."""
    wrong = WorkerConfig(host=pair[0].host, port=pair[0].port, token="not-the-right-token")
    with executor(wrong) as pool, pytest.raises(NoWorkerError, match="not known") as raised:
        pool.submit_call(call_of("a", 1), tube=SOURCE).result(60)

    assert isinstance(raised.value.__cause__, AuthenticationError)


def test_forbidden_import(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """A tube outside the allow-list is refused by every worker, and the error names the module."""
    evil = TubeSource.of({"noob_id": "evil", "nodes": {"a": {"type": "os.getpid"}}})
    call = StageCall(evil.cid, ("a",), (0,), ((),))
    with executor(*pair) as pool, pytest.raises(TubeRefusedError, match="--allow-module"):
        pool.submit_call(call, tube=evil).result(60)


def test_other_code(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """A call made for other code than the workers have is not run."""
    with executor(*pair) as pool, pytest.raises(CodeMismatchError):
        pool.submit_call(call_of("a", 1, code="bafkother"), tube=SOURCE).result(60)


def test_pickle_does_not_run(pair: tuple[WorkerConfig, WorkerConfig], tmp_path: Path) -> None:
    """A pickle in a body, or in a value, is data."""
    mark = tmp_path / "it-ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(mark),))

    header = {"Authorization": f"Bearer {TOKEN}", "Content-Type": FRAME}
    for route in ("execute", "load_tube"):
        answer = httpx.post(
            f"{pair[0].url}/{route}", content=pickle.dumps(Evil()), headers=header, timeout=30
        )
        assert answer.status_code == 422
    with executor(pair[0]) as pool:
        text = "pck__" + pickle.dumps(Evil()).hex()
        assert pool.submit_call(call_of("a", text), tube=SOURCE).result(60) == [(text * 2,)]
    assert not mark.exists()


def test_body_too_large(tmp_path: Path) -> None:
    """A body over the worker's limit is an error that names the limit, at once."""
    arguments = ["-m", "noob_cloud.runner.worker_server", "--port", "0", "--max-body", "1"]
    with process(*arguments, "--allow-module", "noob_cloud_testnodes", log=tmp_path / "log") as _:
        url = announced(tmp_path / "log")
        config = WorkerConfig(host="127.0.0.1", port=int(url.rpartition(":")[2]), token=TOKEN)
        with executor(config) as pool, pytest.raises(OverflowError, match="limit is 1048576"):
            pool.submit_call(call_of("a", b"x" * 2_000_000), tube=SOURCE).result(60)


def announced(log: Path) -> str:
    """The address that a server on port 0 has printed."""
    until(lambda: "listens on http" in log.read_text())
    line = next(line for line in log.read_text().splitlines() if "listens on http" in line)
    return line.rpartition(" ")[2]


# ---- starting and ending


def test_nobody_answers() -> None:
    """Where no worker can be reached the call fails, soon, and says what each worker's state is."""
    nowhere = WorkerConfig(host="127.0.0.1", port=1, token=TOKEN, worker_id="nowhere")
    with executor(nowhere, patience=0.3) as pool, pytest.raises(NoWorkerError, match="nowhere is"):
        pool.submit_call(call_of("a", 1), tube=SOURCE).result(60)


def test_full_worker_is_waited_for(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """A worker that answers 429 gets the call later; nothing is lost, its breaker stays closed."""
    eager = WorkerConfig(host=pair[0].host, port=pair[0].port, token=TOKEN, max_tasks=8)
    with executor(eager) as pool:
        futures = [pool.submit_call(call_of("some", n), tube=SOURCE) for n in range(8)]

        assert [future.result(60) for future in futures] == [[(n,)] for n in range(8)]
        (worker,) = pool.metrics["workers"].values()
        assert worker["busy"] > 0
        assert worker["breaker"] == "closed"


def test_sigterm_finishes_what_runs(tmp_path: Path) -> None:
    """At SIGTERM a worker ends its running calls, answers them, and leaves with status 0."""
    with (
        worker_server(tmp_path, "leaving") as (config, server),
        executor(config) as pool,
    ):
        future = pool.submit_call(call_of("some", 7), tube=SOURCE)
        until(lambda: _tasks(config))
        left = children_of(server.pid)
        server.send_signal(signal.SIGTERM)

        assert future.result(60) == [(7,)]
        assert server.wait(20) == 0
        assert not any(alive(pid) for pid in left)


def test_shutdown_route_ends_the_process(tmp_path: Path) -> None:
    """POST /shutdown ends the process once it is idle."""
    with worker_server(tmp_path, "told") as (config, server):
        header = {"Authorization": f"Bearer {TOKEN}"}
        assert httpx.post(f"{config.url}/shutdown", headers=header, timeout=5).status_code == 202
        assert server.wait(20) == 0


def test_the_users_command_line(tmp_path: Path) -> None:
    """The document's flags: a tube of the user's own beside its module, tags, id, limit."""
    (tmp_path / "my_nodes.py").write_text("def greet(name: str) -> str:\n    return 'hi ' + name\n")
    (tmp_path / "pipeline.yaml").write_text(
        "noob_id: pipeline\nnoob_model: noob.tube.TubeSpecification\nnoob_version: 1003.0.2\n"
        "nodes:\n  greet:\n    type: my_nodes.greet\n    params: {name: you}\n"
    )
    log = tmp_path / "log"
    arguments = ["--host", "0.0.0.0", "--port", "0", "--tube", str(tmp_path / "pipeline.yaml")]
    arguments += ["--max-tasks", "20", "--worker-id", "gpu-worker-1", "--tags", "gpu,cuda"]
    with process("-m", "noob_cloud.runner.worker_server", *arguments, log=log):
        url = announced(log).replace("0.0.0.0", "127.0.0.1")
        until(lambda: _answers(url))
        health = httpx.get(f"{url}/health", timeout=5).json()
        shown = httpx.post(
            f"{url}/execute",
            json={"node_id": "greet", "epoch": 1},
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=30,
        ).json()

    assert (health["worker_id"], health["max_tasks"]) == ("gpu-worker-1", 20)
    assert health["tags"] == ["cuda", "gpu"]
    assert shown["value"] == "hi you"


def _answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health", timeout=2).is_success
    return False


def test_without_a_token_stays_at_home(tmp_path: Path) -> None:
    """Without a token the worker makes one, says it once, and listens on loopback only."""
    log = tmp_path / "log"
    with log.open("wb") as output:
        environ = {**environment(), "NOOB_CLOUD_TOKEN": ""}
        started = subprocess.Popen(
            [sys.executable, *SERVER, "--host", "0.0.0.0", "--port", "0"],
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = announced(log)
        until(lambda: _answers(url))
        text = log.read_text()
        token = next(line for line in text.splitlines() if "shown once" in line).split()[-1]

        assert url.startswith("http://127.0.0.1:")
        assert "NOOB_CLOUD_TOKEN" in text
        header = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{url}/tasks", timeout=5).status_code == 401
        assert httpx.get(f"{url}/tasks", headers=header, timeout=5).status_code == 200
    finally:
        started.terminate()
        started.wait(20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tube", "no-such-tube.yaml"], "no-such-tube"),
        (["--max-tasks", "0"], "less than 1"),
        (["--token", "short"], "16"),
        (["--token-file", "no-such-file.toml"], "no-such-file.toml"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str) -> None:
    """A wrong flag ends the command with status 2 and a sentence, not a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "noob_cloud.runner.worker_server", "--port", "0", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_port_taken(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """A port that is in use is named."""
    done = subprocess.run(
        [sys.executable, "-m", "noob_cloud.runner.worker_server", "--port", str(pair[0].port)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{pair[0].port}" in done.stderr


def test_frame_of_unknown_class(pair: tuple[WorkerConfig, WorkerConfig]) -> None:
    """A frame that names a class which is not registered there is malformed, and no more."""
    body = bytearray(codec.dumps(call_of("a", 1)))
    body[-3:] = b"\xff\xff\xff"
    answer = httpx.post(
        f"{pair[0].url}/execute",
        content=bytes(body),
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": FRAME},
        timeout=30,
    )

    assert answer.status_code == 422
