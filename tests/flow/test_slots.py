"""Child processes that run calls: reused, stopped, killed, replaced."""

from __future__ import annotations

import os
import signal
import time
from threading import Event, Thread, Timer
from typing import TYPE_CHECKING, Any

import pytest
from noob_cloud_testtubes.case import chain, node, result

from noob_cloud import codec
from noob_cloud.task import Outcome, StageCall
from noob_cloud.tubes import TubeSource
from noob_cloud.worker import child
from noob_cloud.worker.slots import ProcessSlots, Stop, slots
from noob_cloud.worker.threads import ThreadSlots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPEC = chain(
    "slots",
    a=node("double", "value=src.index"),
    pid=node("process_id", "value=src.index"),
    slow=node("linger", "value=src.index", params={"seconds": 60}),
    die=node(f"{__name__}.die", "value=src.index"),
    stubborn=node(f"{__name__}.stubborn", "value=src.index"),
    odd=node(f"{__name__}.no_place", "value=src.index"),
    out=result("a=a.value"),
)
SOURCE = TubeSource.of(SPEC)


def die(value: int) -> int:
    os._exit(value)


def stubborn(value: int) -> int:
    """Goes on whatever is raised in it."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: BLE001 - that is what it is for
            continue
    return value


def no_place(value: int) -> Any:
    """A value that has no place in the wire format."""
    return Event()


@pytest.fixture(scope="module", params=["processes", "threads"])
def places(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = slots(2, isolate=request.param == "processes", allowed_modules=None)
    made.warm()
    made.load(SOURCE.document)
    yield made
    made.close()


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessSlots]:
    made = ProcessSlots(2, allowed_modules=None)
    made.load(SOURCE.document)
    yield made
    made.close()


def frame(name: str, *values: Any, tube: str = SOURCE.cid) -> bytes:
    epochs = tuple(range(len(values)))
    return codec.dumps(StageCall(tube, (name,), epochs, tuple((value,) for value in values)))


def run(places: Any, name: str, *values: Any, timeout: float | None = 30.0) -> Outcome:
    kind, body = places.run(frame(name, *values), timeout=timeout, stop=Stop())
    assert kind in (child.OUTCOME, child.ERROR)
    outcome: Outcome = codec.loads(body)
    return outcome


def in_thread(work: Callable[[], Any]) -> tuple[Thread, list[Any]]:
    found: list[Any] = []
    thread = Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    return thread, found


# ---- processes and threads alike


def test_runs_a_call(places: Any) -> None:
    """A frame goes in, the frame of its outcome comes out."""
    assert run(places, "a", 1, 2).value == [(2,), (4,)]


def test_timeout(places: Any) -> None:
    """A call is stopped at its timeout and says so; the place is free again."""
    begun = time.monotonic()
    outcome = run(places, "slow", 1, timeout=0.2)

    assert outcome.error_type == "noob_cloud.exceptions.TaskTimeoutError"
    if isinstance(places, ProcessSlots):
        assert time.monotonic() - begun < 10
    assert run(places, "a", 1).ok


def test_stop_before_it_begins(places: Any) -> None:
    """A call that is stopped before it begins is not begun."""
    stop = Stop()
    stop("no longer wanted")
    kind, body = places.run(frame("slow", 1), timeout=30.0, stop=stop)

    outcome = codec.loads(body)
    assert kind == child.ERROR
    assert outcome.error_type == "noob_cloud.exceptions.TaskCancelledError"
    assert outcome.message == "no longer wanted"


def test_unknown_tube(places: Any) -> None:
    """A tube that has not been here is named."""
    answer = places.run(frame("a", 1, tube="bafkother"), timeout=30.0, stop=Stop())

    assert answer == (child.UNKNOWN, b"bafkother")


def test_malformed(places: Any) -> None:
    """Bytes that are no frame, or a frame of something else, are malformed."""
    for body in (b"", b"NCF", codec.dumps(3), codec.dumps({"node_id": "a"})):
        assert places.run(body, timeout=30.0, stop=Stop())[0] == child.MALFORMED
    assert places.load(b"x")[0] == child.MALFORMED


def test_value_without_a_place(places: Any) -> None:
    """A result that the wire format has no place for is an error that says so."""
    outcome = run(places, "odd", 1)

    assert outcome.error_type == "noob_cloud.exceptions.EncodeError"
    assert not outcome.retryable


# ---- tasks of a queue


def task(name: str, value: Any, *, tube: str | None = SOURCE.cid) -> bytes:
    return child.task_body(tube=tube, node_id=name, epoch=3, payload=codec.dumps(value))


def test_task_is_answered_with_its_value(places: Any) -> None:
    """A queue's task gives the value alone, as its result is kept."""
    call = StageCall(SOURCE.cid, ("a",), (0,), ((4,),))
    for body, value in ((task("a", call), [(8,)]), (task("a", {"value": 5}), 10)):
        kind, answer = places.run(body, timeout=30.0, stop=Stop(), kind=child.TASK)
        assert (kind, codec.loads(answer)) == (child.OUTCOME, value)


def test_task_whose_result_has_no_place(places: Any) -> None:
    """It settles a run's task like what a node raises."""
    call = StageCall(SOURCE.cid, ("odd",), (0,), ((4,),))
    kind, answer = places.run(task("odd", call), timeout=30.0, stop=Stop(), kind=child.TASK)

    assert kind == child.RAISED
    assert codec.loads(answer).error_type == "noob_cloud.exceptions.EncodeError"


def test_task_by_hand_needs_a_tube(places: Any) -> None:
    """Without a tube of its own a worker says what it lacks."""
    kind, why = places.run(task("a", 1, tube=None), timeout=30.0, stop=Stop(), kind=child.TASK)

    assert kind == child.MALFORMED
    assert b"--tube" in why


# ---- processes only


def test_child_is_reused(processes: ProcessSlots) -> None:
    """One child runs call after call; a second is started only for a second call at once."""
    assert run(processes, "pid", 1).value == run(processes, "pid", 1).value


def test_new_child_knows_the_tubes(processes: ProcessSlots) -> None:
    """A child that replaces another is given the tubes that were loaded."""
    ((before,),) = run(processes, "pid", 1).value
    os.kill(before, signal.SIGKILL)
    time.sleep(0.05)  # for the signal to arrive
    lost = run(processes, "pid", 1)
    ((after,),) = run(processes, "pid", 1).value

    assert lost.error_type == "noob_cloud.exceptions.WorkerLostError"
    assert "SIGKILL" in (lost.message or "")
    assert after != before


def test_exit_code_is_told(processes: ProcessSlots) -> None:
    """A node that ends its process is an error with the exit code, and nothing else dies."""
    outcome = run(processes, "die", 7)

    assert "exit code 7" in (outcome.message or "")
    assert outcome.retryable
    assert run(processes, "a", 1).ok


def test_stop_while_it_runs(processes: ProcessSlots) -> None:
    """A running call is stopped from another thread, soon."""
    stop = Stop()
    Timer(0.3, stop).start()
    begun = time.monotonic()
    _kind, body = processes.run(frame("slow", 1), timeout=30.0, stop=stop)

    assert codec.loads(body).error_type == "noob_cloud.exceptions.TaskCancelledError"
    assert time.monotonic() - begun < 10


def test_stubborn_node_is_killed(processes: ProcessSlots) -> None:
    """A node that swallows every exception is killed all the same."""
    begun = time.monotonic()

    assert not run(processes, "stubborn", 1, timeout=0.2).ok
    assert time.monotonic() - begun < 20
    assert run(processes, "a", 1).ok


def test_stop_after_the_end_changes_nothing(processes: ProcessSlots) -> None:
    """Stopping a call that has ended does not reach the next one."""
    stop = Stop()
    processes.run(frame("a", 1), timeout=30.0, stop=stop)
    stop()
    stop()

    assert run(processes, "a", 1).ok


def test_limit_is_kept(processes: ProcessSlots) -> None:
    """No more children than places, however many calls there are."""
    work = [in_thread(lambda: run(processes, "pid", 1)) for _ in range(6)]
    for thread, _found in work:
        thread.join(60)

    assert all(found[0].ok for _thread, found in work)
    assert len(processes.pids) <= 2


def test_close_ends_what_runs() -> None:
    """Closing kills the children, with what they run."""
    made = ProcessSlots(1, allowed_modules=None)
    made.load(SOURCE.document)
    thread, found = in_thread(lambda: run(made, "slow", 1))
    while not made.pids:
        time.sleep(0.01)
    time.sleep(0.3)  # for the call to begin
    made.close()
    thread.join(20)

    assert not found[0].ok
    assert made.pids == []


def test_refused_module_is_not_kept() -> None:
    """A tube outside the allow-list is an error in every child."""
    made = ProcessSlots(1, allowed_modules=["somewhere_else"])
    try:
        kind, body = made.load(SOURCE.document)
        assert kind == child.ERROR
        assert codec.loads(body).error_type == "noob_cloud.exceptions.TubeRefusedError"
        assert made.run(frame("a", 1), timeout=30.0, stop=Stop())[0] == child.UNKNOWN
    finally:
        made.close()


def test_threads_forget_what_hangs_in_c() -> None:
    """A thread inside C code is answered for at its timeout; its exception comes when it can."""
    made = ThreadSlots(1, allowed_modules=None)
    made.load(SOURCE.document)
    spec = chain("hang", a=node("linger", "value=src.index", params={"seconds": 40}))
    source = TubeSource.of(spec)
    made.load(source.document)
    begun = time.monotonic()
    _kind, body = made.run(frame("a", 1, tube=source.cid), timeout=0.1, stop=Stop())

    assert codec.loads(body).error_type == "noob_cloud.exceptions.TaskTimeoutError"
    assert time.monotonic() - begun < 30
    made.close()
