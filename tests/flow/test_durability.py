"""What a coordinator acknowledged survives its machine, and two never acknowledge at once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from noob_cloud.coordinator.durability import Durability, LeaseTakenError, ReplicaError, restore
from noob_cloud.exceptions import LeaseLostError, UnavailableError
from noob_cloud.queue import TaskQueue
from noob_cloud.queue.remote import RemoteQueue

from .coordinator_processes import OWNER, Coordinator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from noob_cloud.coordinator.durability import Place

LEASE = 1.0
SLOW = (pytest.mark.slow, pytest.mark.by_command)
ROUNDS = int(os.environ.get("NOOB_CLOUD_TEST_KILLS", "20"))
"""200 by hand: the more random moments, the better."""
MANY = 100_000_000
"""Tasks: more than there are."""


@pytest.fixture
def start(place: Place, tmp_path: Path) -> Iterator[Callable[..., Coordinator]]:
    """Start coordinators of one replica, each with a disk of its own; all end at the end."""
    made: list[Coordinator] = []

    def begin(*, port: int | None = None, wait: bool = True, **more: object) -> Coordinator:
        folder = tmp_path / f"machine-{len(made)}"
        folder.mkdir()
        url = f"s3://{place.bucket}/{place.prefix}?endpoint_url={place.endpoint_url}"
        settings = {"replica": url, "replica_lease_seconds": LEASE} | more
        coordinator = Coordinator(folder, **settings, **({"port": port} if port else {}))
        if port:
            coordinator.url = f"http://127.0.0.1:{port}"
        made.append(coordinator)
        if wait:
            coordinator.start()
        return coordinator

    yield begin
    for coordinator in made:
        if coordinator.process is not None and coordinator.process.poll() is None:
            coordinator.process.send_signal(signal.SIGCONT)
            coordinator.kill()


def queue(coordinator: Coordinator, patience: float = 60.0) -> RemoteQueue:
    return RemoteQueue(coordinator.url, OWNER, patience=patience)


def litestream_of(coordinator: Coordinator) -> psutil.Process:
    assert coordinator.process is not None
    (found,) = psutil.Process(coordinator.process.pid).children()
    assert "replicate" in found.cmdline()
    return found


@pytest.mark.timeout(max(600, 20 * ROUNDS))
def test_no_acknowledged_task_is_lost_with_the_machine(start):
    """Killed at random moments under load, disk wiped, by a successor elsewhere."""
    rng = random.Random(5)
    coordinator = start()
    port = coordinator.port
    stop, going = Event(), Event()
    acknowledged: dict[int, tuple[int, int]] = {}

    def submit(number: int) -> None:
        with queue(coordinator) as remote:
            count = 0
            while going.wait() and not stop.is_set():
                batch = [
                    {"node_id": f"client-{number}", "epoch": count + i, "data": [number, count + i]}
                    for i in range(rng.randint(1, 20))
                ]
                for task_id in remote.submit_many(batch):
                    acknowledged[task_id] = (number, count)
                    count += 1

    clients = [Thread(target=submit, args=(number,)) for number in range(3)]
    for client in clients:
        client.start()
    try:
        for round_ in range(ROUNDS):
            going.set()
            time.sleep(rng.uniform(0.05, 0.8))
            copying = litestream_of(coordinator)
            coordinator.kill()
            copying.wait(10)  # it dies with its coordinator, as everything on that machine does
            shutil.rmtree(coordinator.folder)
            coordinator = start(port=port)
            going.clear()  # who was cut off goes on; the rest waits while the tasks are counted
            before = set(acknowledged)
            with queue(coordinator) as remote:
                lost = before - {task.task_id for task in remote.list_tasks(limit=MANY)}
            assert not lost, f"round {round_}: {len(lost)} of {len(before)} are lost"
    finally:
        stop.set()
        going.set()
        for client in clients:
            client.join(60)
    with queue(coordinator) as remote:
        found = {task.task_id: task for task in remote.list_tasks(limit=MANY)}
    assert len(acknowledged) > ROUNDS * 10
    for task_id, (number, epoch) in acknowledged.items():
        assert (found[task_id].node_id, found[task_id].epoch) == (f"client-{number}", epoch)
    # a request that was cut off and sent again counts once: no epoch of a client twice
    assert len({(task.node_id, task.epoch) for task in found.values()}) == len(found)


def test_a_hand_over_loses_nothing_and_is_quick(start):
    """SIGTERM: what was committed is copied, and the successor need not wait for the lease."""
    one = start(replica_lease_seconds=60)
    with queue(one) as remote:
        remote.submit_many([{"node_id": "a", "epoch": i, "data": i} for i in range(5000)])
    begun = time.monotonic()
    assert one.stop() == 0
    shutil.rmtree(one.folder)
    two = start(replica_lease_seconds=60)
    assert time.monotonic() - begun < 30
    with queue(two) as remote:
        assert remote.stats().ready == 5000


def test_large_values_are_in_s3_too(start):
    """A value that is kept by its cid survives as its task does."""
    one = start()
    value = bytes(range(256)) * 20_000
    with queue(one) as remote:
        task_id = remote.submit_task("a", 0, data=value)
    one.kill()
    shutil.rmtree(one.folder)
    two = start()
    with queue(two) as remote:
        assert remote.get_task(task_id).payload == value


def test_a_coordinator_that_was_stopped_past_its_lease_acknowledges_nothing(start):
    """Suspended while a successor takes over, it wakes up, answers nobody, and ends."""
    one = start()
    with queue(one) as remote:
        remote.submit_task("before", 0)
    assert one.process is not None
    one.process.send_signal(signal.SIGSTOP)
    two = start()
    with queue(two) as remote:
        remote.submit_task("after", 0)
        one.process.send_signal(signal.SIGCONT)
        late = queue(one, patience=0.0)
        with pytest.raises(UnavailableError):
            late.submit_task("late", 0)
        late.close()
        assert one.process.wait(30) != 0
        assert "took over" in (one.folder / "coordinator.log").read_text()
        assert sorted(task.node_id for task in remote.list_tasks()) == ["after", "before"]
        remote.submit_task("still", 0)


class Wire:
    """The way to S3 of one machine, which can be cut."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        self._target = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.is_cut = False
        self._open: set[socket.socket] = set()
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                here = self._listening.accept()[0]
                if self.is_cut:
                    here.close()
                    continue
                there = socket.create_connection(self._target)
                self._open |= {here, there}
                for one, other in ((here, there), (there, here)):
                    Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        for end in (one, other):
            self._open.discard(end)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def cut(self) -> None:
        self.is_cut = True
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self._listening.close()


def test_a_coordinator_that_is_cut_off_from_s3_acknowledges_nothing(start, place: Place):
    """Clients reach it, S3 does not: its successor has what it acknowledged, and no more."""
    wire = Wire(place.endpoint_url)
    url = f"s3://{place.bucket}/{place.prefix}?endpoint_url={wire.url}"
    one = start(replica=url)
    with queue(one) as remote:
        remote.submit_task("before", 0)
    wire.cut()
    with queue(one, patience=0.0) as late, pytest.raises(UnavailableError):
        late.submit_task("cut off", 0)
    two = start()
    with queue(two) as remote, queue(one, patience=0.0) as late:
        remote.submit_task("after", 0)
        wire.is_cut = False
        with pytest.raises(UnavailableError):
            late.submit_task("late", 0)
        assert one.process is not None
        assert one.process.wait(30) != 0
        assert sorted(task.node_id for task in remote.list_tasks()) == ["after", "before"]
        remote.submit_task("still", 0)
    two.kill()
    shutil.rmtree(two.folder)
    with queue(start()) as remote:  # and its replica is whole
        assert [task.node_id for task in remote.list_tasks()] == ["before", "after", "still"]
    wire.close()


def test_a_disk_of_an_earlier_epoch_is_not_used_again(start):
    """A machine that comes back with its old disk serves what its successor acknowledged."""
    one = start()
    with queue(one) as remote:
        remote.submit_task("first", 0)
    one.kill()
    two = start()
    with queue(two) as remote:
        remote.submit_task("second", 0)
    two.kill()
    one.start()
    with queue(one) as remote:
        assert [task.node_id for task in remote.list_tasks()] == ["first", "second"]
        remote.submit_task("third", 0)
    one.kill()
    shutil.rmtree(one.folder)
    with queue(start()) as remote:
        found = [task.node_id for task in remote.list_tasks()]
    assert found == ["first", "second", "third"]


def test_the_second_of_two_waits(start, tmp_path: Path, place: Place):
    """While one renews its lease, another does not begin."""
    one = start()
    with (
        pytest.raises(LeaseTakenError, match="keeps renewing it"),
        Durability(place, tmp_path / "other", seconds=LEASE, patience=3 * LEASE),
    ):
        raise AssertionError
    with queue(one) as remote:
        assert remote.submit_task("a", 0) == 1


def test_leases_outlast_an_outage(start):
    """A worker that went on working while nobody coordinated may settle its task."""
    one = start()
    port = one.port
    with queue(one) as remote:
        remote.submit_many([{"node_id": "a", "epoch": i} for i in range(2)])
        kept = remote.claim_task("worker", lease_seconds=3.0)
        gone = remote.claim_task("other", lease_seconds=0.2)
    time.sleep(0.5)
    one.kill()
    time.sleep(3.0)
    two = start(port=port)
    with queue(two) as remote:
        remote.complete_task(kept, "done")
        assert remote.get_task(kept.task_id).result == "done"
        with pytest.raises(LeaseLostError):
            remote.complete_task(gone, "late")
        assert two.process is not None
        again = remote.claim_task("third", wait=5.0)
        assert again.token.epoch > kept.token.epoch


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(2 * LEASE, id="two leases"), pytest.param(60.0, id="a minute", marks=SLOW)],
)
def test_s3_away_for_a_while_is_ridden_out(start, place: Place, seconds: float):
    """Without S3 nothing is acknowledged; when it is back, everything goes on by itself."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - one of our own, to be stopped

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    place.client.create_bucket(Bucket="goes-away")
    url = f"s3://goes-away/x?endpoint_url=http://{host}:{port}"
    one = start(replica=url)
    with queue(one) as remote, queue(one, patience=0.0) as hasty:
        remote.submit_task("before", 0)
        server.stop()
        with pytest.raises(UnavailableError):
            hasty.submit_task("while it is away", 0)
        time.sleep(seconds)
        with pytest.raises(UnavailableError, match="503"):
            hasty.submit_task("while the lease is out", 0)
        again = ThreadedMotoServer(port=port, verbose=False)
        again.start()
        remote.submit_task("after", 0)
        assert {"before", "after"} <= {task.node_id for task in remote.list_tasks()}
        again.stop()


def test_litestream_is_started_again(start):
    """Killed by somebody, it comes back; until then nothing is acknowledged."""
    one = start()
    with queue(one) as remote:
        remote.submit_task("before", 0)
        litestream_of(one).kill()
        remote.submit_task("after", 0)
    one.kill()
    shutil.rmtree(one.folder)
    with queue(start()) as remote:
        assert [task.node_id for task in remote.list_tasks()] == ["before", "after"]


def test_a_local_acknowledgement_says_so(start):
    """`ack="local"` answers after the local commit, and its header tells."""
    import httpx  # noqa: PLC0415 - to see the header

    for ack in ("local", "replicated"):
        one = start(ack=ack)
        reply = httpx.get(f"{one.url}/workers", headers={"Authorization": f"Bearer {OWNER}"})
        assert reply.headers["noob-ack"] == ack
        assert "noob-ack" not in httpx.get(f"{one.url}/health").headers
        assert one.stop() == 0


def test_a_point_in_time_can_be_restored(place: Place, tmp_path: Path):
    """To a new file, which is checked; an existing one is never overwritten."""
    from datetime import UTC, datetime  # noqa: PLC0415 - only here

    with Durability(place, tmp_path / "served", seconds=5.0) as durable:
        with TaskQueue(persistent=True, db_path=durable.path) as local:
            local.submit_task("early", 0)
            run(durable)
            time.sleep(1.1)
            between = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            time.sleep(1.1)
            local.submit_task("late", 0)
            run(durable)
        epoch = durable.epoch
    target = tmp_path / "then.db"
    restore(place, epoch, target, timestamp=between)
    with TaskQueue(persistent=True, db_path=target) as then:
        assert [task.node_id for task in then.list_tasks()] == ["early"]
    with pytest.raises(ReplicaError, match="exists"):
        restore(place, epoch, target)
    with pytest.raises(ReplicaError, match="cannot be restored"):
        restore(place, 77, tmp_path / "none.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["served", "then.db"]


def run(durable: Durability) -> None:
    """Cross the barrier once."""
    import asyncio  # noqa: PLC0415 - only here

    asyncio.run(durable.barrier().cross())


def test_old_epochs_are_forgotten(place: Place, tmp_path: Path):
    """Those that no kept point in time needs are deleted; the newest two stay."""
    for _ in range(4):
        with Durability(place, tmp_path, seconds=5.0) as durable:
            last = durable.epoch
    assert list(place.marked()) == [1, 2, 3, 4]
    with Durability(place, tmp_path, seconds=5.0) as durable:
        durable._forget()
        assert list(place.marked()) == [1, 2, 3, 4, 5]
        durable._kept_hours = -1.0
        durable._forget()
    assert list(place.marked()) == [last, last + 1]


def test_nothing_of_it_is_left_after_an_interrupt(start, place: Place, tmp_path: Path):
    """Ctrl-C while it waits for the lease ends it at once."""
    start()
    url = f"s3://{place.bucket}/{place.prefix}?endpoint_url={place.endpoint_url}"
    waiting = subprocess.Popen(
        [sys.executable, "-m", "noob_cloud.coordinator"],
        env={
            **os.environ,
            "NOOB_CLOUD_REPLICA": url,
            "NOOB_CLOUD_DB_PATH": str(tmp_path / "queue.db"),
            "NOOB_CLOUD_PORT": "0",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None
    lines: Any = iter(waiting.stderr.readline, "")
    assert any("holds the lease" in line for line in lines)
    waiting.send_signal(signal.SIGINT)
    waiting.communicate(timeout=20)
    assert waiting.returncode == 130
