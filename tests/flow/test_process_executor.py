"""ProcessExecutor with real processes, signals and deaths."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import BrokenExecutor, CancelledError, wait
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from noob_cloud.exceptions import LimitError, RemoteError, TaskTimeoutError, WorkerLostError
from noob_cloud.executors import ProcessExecutor
from noob_cloud.executors.process import WorkerStartError

if TYPE_CHECKING:
    from collections.abc import Iterator

MEGABYTE = 1 << 20
KEPT: list[np.ndarray] = []


def echo(value):
    return value


def nap(seconds, value=None):
    time.sleep(seconds)
    return value


def die():
    os._exit(3)


def die_once(path):
    """Kill this process the first time; what the file says afterwards."""
    marker = Path(path)
    if not marker.exists():
        marker.write_text("died")
        os.kill(os.getpid(), signal.SIGKILL)
    return marker.read_text()


def append_line(path, text="x", seconds=0.0):
    with Path(path).open("a") as file:
        file.write(f"{text}\n")
    time.sleep(seconds)


def leave_a_note(path):
    try:
        Path(path).with_suffix(".started").write_text("yes")
        time.sleep(60)
    finally:
        Path(path).write_text("cleaned up")


def stubborn():
    while True:
        try:
            time.sleep(60)
        except BaseException:  # noqa: BLE001 - that is the point
            continue


def keep(array):
    KEPT.append(array)
    return len(KEPT)


def kept_sums():
    return [float(array.sum()) for array in KEPT]


def fill(array):
    array[:] = 7
    return float(array.sum())


def set_flag(value):
    os.environ["NOOB_CLOUD_TEST_FLAG"] = value


def get_flag():
    return os.environ.get("NOOB_CLOUD_TEST_FLAG")


def fail_to_start():
    raise OSError("no disk")


class Unloadable:
    """Pickles, but cannot be loaded."""

    def __reduce__(self):
        return (fail_to_load, ())


def fail_to_load():
    raise OSError("cannot be loaded")


def make_unloadable():
    return Unloadable()


def inner(count):
    with ProcessExecutor(1) as executor:
        return sum(executor.map(echo, range(count)))


@pytest.fixture
def executor() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(2) as executor:
        yield executor


def eventually(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# ---- workers that die


def test_worker_killed_mid_call(executor, tmp_path):
    """The call that a killed worker ran is tried again elsewhere."""
    assert executor.submit(die_once, str(tmp_path / "a")).result(30) == "died"


def test_worker_that_always_dies():
    """When the retries are used up the call fails, and says how the worker ended."""
    with ProcessExecutor(2, max_retries=2) as executor:
        future = executor.submit(die)
        others = [executor.submit(echo, n) for n in range(50)]

        with pytest.raises(WorkerLostError, match=r"exit code 3; it was tried 3 time"):
            future.result(30)
        assert [other.result(30) for other in others] == list(range(50))


def test_no_retries(tmp_path):
    """Without retries a call never starts twice."""
    with ProcessExecutor(1, max_retries=0) as executor:
        future = executor.submit(append_line, str(tmp_path / "log"), "once", 30)
        eventually((tmp_path / "log").exists)
        os.kill(executor.worker_pids()[0], signal.SIGKILL)

        with pytest.raises(WorkerLostError, match="signal 9"):
            future.result(30)
    assert (tmp_path / "log").read_text() == "once\n"


def test_unstarted_calls_move(tmp_path):
    """Calls that were with a dying worker and had not started run elsewhere, each once."""
    log = str(tmp_path / "log")
    with ProcessExecutor(1, max_retries=0) as executor:
        wait([executor.submit(nap, 0) for _ in range(100)])  # short, so they travel in batches
        blocked = executor.submit(append_line, str(tmp_path / "blocked"), "x", 30)
        eventually((tmp_path / "blocked").exists)
        futures = [executor.submit(append_line, log, str(n)) for n in range(20)]
        os.kill(executor.worker_pids()[0], signal.SIGKILL)

        with pytest.raises(WorkerLostError):
            blocked.result(30)
        assert not wait(futures, timeout=30).not_done
    assert Path(log).read_text().split() == [str(n) for n in range(20)]


def test_kills_at_random(executor):
    """Whatever dies when, every call has its result."""
    futures = [executor.submit(nap, 0.002, n) for n in range(400)]
    for _ in range(4):
        eventually(executor.worker_pids)
        os.kill(executor.worker_pids()[0], signal.SIGKILL)
        time.sleep(0.05)

    assert [future.result(60) for future in futures] == list(range(400))


def test_idle_worker_dies(executor):
    """A worker that dies idle is replaced when it is needed."""
    executor.submit(echo, 1).result(30)
    for pid in executor.worker_pids():
        os.kill(pid, signal.SIGKILL)

    assert executor.submit(echo, 2).result(30) == 2


def test_initializer(executor):
    """Each worker is initialised before its first call."""
    with ProcessExecutor(2, initializer=set_flag, initargs=("up",)) as initialised:
        assert initialised.submit(get_flag).result(30) == "up"


def test_initializer_fails():
    """When workers cannot start, calls fail with the reason instead of waiting."""
    with ProcessExecutor(2, initializer=fail_to_start) as executor:
        future = executor.submit(echo, 1)

        with pytest.raises(WorkerStartError, match="no disk") as caught:
            future.result(30)
        assert isinstance(caught.value, BrokenExecutor)
        with pytest.raises(WorkerStartError):
            executor.submit(echo, 2)


def test_workers_die_at_start():
    """Workers that die before they are ready are not started for ever."""
    with ProcessExecutor(1, initializer=die) as executor, pytest.raises(WorkerStartError):
        executor.submit(echo, 1).result(60)


# ---- cancelling, timeouts


def test_kill_running_call(executor, tmp_path):
    """A running call is left through its `finally` clauses; the executor goes on."""
    note = tmp_path / "note.txt"
    future = executor.submit(leave_a_note, str(note))
    eventually(note.with_suffix(".started").exists)

    assert executor.kill(future)

    with pytest.raises(CancelledError):
        future.result(0)
    eventually(note.exists)
    assert not executor.kill(future)
    assert executor.submit(echo, 1).result(30) == 1


def test_kill_stubborn_call(executor):
    """A call that will not leave is killed."""
    future = executor.submit(stubborn)
    eventually(lambda: future.running() and executor.worker_pids())
    time.sleep(0.2)
    pids = executor.worker_pids()

    assert executor.kill(future)

    eventually(lambda: not all(alive(pid) for pid in pids))


def test_cancel_running():
    """With `cancel_running`, cancelling reaches a call that runs."""
    with ProcessExecutor(1, cancel_running=True) as executor:
        future = executor.submit(nap, 60)
        eventually(future.running)

        assert future.cancel()
        assert executor.submit(echo, 1).result(30) == 1


def test_killing_spares_the_others(tmp_path):
    """Calls that were with the killed one run elsewhere without a retry being counted."""
    with ProcessExecutor(1, max_retries=0) as executor:
        wait([executor.submit(nap, 0) for _ in range(50)])
        long = executor.submit(nap, 60)
        others = [executor.submit(nap, 0, n) for n in range(10)]
        eventually(long.running)

        executor.kill(long)

        assert [other.result(30) for other in others] == list(range(10))


def test_timeout(executor):
    """A call that runs longer than its timeout fails; its worker is replaced."""
    call = _timed(executor, nap, (60,), 0.2)
    start = time.monotonic()

    with pytest.raises(TaskTimeoutError, match=r"0\.2 s"):
        call.result(30)
    assert time.monotonic() - start < 10
    assert executor.submit(echo, 1).result(30) == 1


def test_timeout_counts_from_start():
    """Waiting for a worker does not count as running."""
    with ProcessExecutor(1) as executor:
        calls = [_timed(executor, nap, (0.15, n), 0.5) for n in range(6)]

        assert [call.result(30) for call in calls] == list(range(6))


def _timed(executor, function, args, seconds):
    from noob_cloud.executors.process_call import Call  # noqa: PLC0415 - as submit_call does

    call = Call(executor._pool, function, args)
    call.timeout = seconds
    executor._pool.submit([call])
    return call


# ---- fairness and bounds


def test_nothing_waits_behind_a_long_call(executor):
    """A call that turns out long holds up neither what is behind it nor results before it."""
    wait([executor.submit(nap, 0) for _ in range(100)])
    futures = [executor.submit(nap, 3 if n == 3 else 0, n) for n in range(60)]
    long = futures.pop(3)

    done = wait(futures, timeout=2.5)

    assert not done.not_done
    assert not long.done()
    assert long.result(30) == 3


def test_long_calls_use_all_workers(executor):
    """Long calls run side by side."""
    wait([executor.submit(nap, 0.05) for _ in range(4)])
    start = time.monotonic()
    wait([executor.submit(nap, 0.3) for _ in range(4)])

    assert time.monotonic() - start < 1.1


def test_max_pending():
    """Submitting waits while too many calls are under way."""
    with ProcessExecutor(1, max_pending=4) as executor:
        futures = []
        for number in range(30):
            futures.append(executor.submit(nap, 0.002, number))
            assert sum(not future.done() for future in futures) <= 5

        assert [future.result(30) for future in futures] == list(range(30))


def test_priority():
    """What is critical goes before what waits."""
    with ProcessExecutor(1) as executor:
        order = []
        blocker = executor.submit(nap, 0.3)
        eventually(blocker.running)
        for priority in (3, 2, 0):
            call = _prioritised(executor, priority)
            call.add_done_callback(lambda _, priority=priority: order.append(priority))
        blocker.result(30)
        eventually(lambda: len(order) == 3)

    assert order == [0, 2, 3]


def _prioritised(executor, priority):
    from noob_cloud.executors.process_call import Call  # noqa: PLC0415 - as submit_call does

    call = Call(executor._pool, nap, (0.01,))
    call.priority = priority
    executor._pool.submit([call])
    return call


def test_submit_many(executor):
    """Many calls at once have a future each."""
    futures = executor.submit_many(echo, [(n,) for n in range(500)])

    assert [future.result(30) for future in futures] == list(range(500))
    assert executor.submit_many(echo, []) == []


# ---- large values


def test_arrays_both_ways(executor):
    """Large arrays come back as they went, alone, in lists, and many at once."""
    arrays = [np.random.default_rng(n).random(40_000 * (n + 1)) for n in range(12)]

    for array, again in zip(arrays, executor.map(echo, arrays), strict=True):
        assert (array == again).all()
        assert again.flags.writeable
    assert all(
        (a == b).all()
        for a, b in zip(arrays, executor.submit(echo, arrays).result(30), strict=True)
    )


def test_large_bytes_and_text(executor):
    """Large values without buffers come back too."""
    values = [b"x" * (5 * MEGABYTE), "é" * MEGABYTE, list(range(100_000))]

    assert [executor.submit(echo, value).result(30) for value in values] == values


def test_changed_argument_is_its_own(executor):
    """A call may change its argument; the caller's array stays."""
    array = np.zeros(200_000)

    assert executor.submit(fill, array).result(30) == 1_400_000
    assert not array.any()


def test_kept_arguments_stay():
    """An array that a worker keeps is not overwritten by later calls."""
    with ProcessExecutor(1) as executor:
        for number in range(1, 5):
            executor.submit(keep, np.full(50_000, number, dtype=float)).result(30)
        for _ in range(50):
            executor.submit(echo, np.zeros(60_000)).result(30)

        assert executor.submit(kept_sums).result(30) == [50_000.0 * n for n in range(1, 5)]


def test_arena_full_of_kept_arguments():
    """A worker that keeps so much that nothing fits is replaced."""
    with ProcessExecutor(1, arena_bytes=4 * MEGABYTE) as executor:
        for _ in range(12):
            assert executor.submit(keep, np.zeros(100_000)).result(30)


def test_more_than_the_arena(executor):
    """Calls that fit the arena only a few at a time all run."""
    with ProcessExecutor(2, arena_bytes=4 * MEGABYTE) as small:
        wait([small.submit(echo, np.zeros(10)) for _ in range(100)])
        futures = [small.submit(echo, np.full(130_000, n)) for n in range(40)]

        assert [int(future.result(30)[0]) for future in futures] == list(range(40))


def test_too_large_for_the_arena():
    """An argument or result that can never fit is a clear error."""
    with ProcessExecutor(1, arena_bytes=MEGABYTE) as executor:
        with pytest.raises(LimitError, match="do not fit"):
            executor.submit(echo, np.zeros(MEGABYTE)).result(30)
        with pytest.raises(LimitError, match="do not fit"):
            executor.submit(np.zeros, MEGABYTE).result(30)
        assert executor.submit(echo, 1).result(30) == 1


def test_unloadable_values(executor):
    """What cannot be loaded, there or here, is the error of its call alone."""
    wait([executor.submit(echo, n) for n in range(50)])
    there = [executor.submit(echo, Unloadable() if n == 5 else n) for n in range(10)]
    with pytest.raises(OSError, match="cannot be loaded"):
        there[5].result(30)
    assert [f.result(30) for n, f in enumerate(there) if n != 5] == [0, 1, 2, 3, 4, 6, 7, 8, 9]

    here = executor.submit(make_unloadable)
    with pytest.raises(RemoteError, match="cannot be loaded"):
        here.result(30)
    assert executor.submit(echo, 1).result(30) == 1


def test_executor_in_a_worker(executor):
    """A call may use an executor of its own."""
    assert executor.submit(inner, 20).result(60) == 190


def test_result_in_a_callback(executor):
    """A callback may wait for another call."""
    seen = []
    arrived = threading.Event()

    def more(_):
        seen.append(executor.submit(echo, 5).result(20))
        arrived.set()

    executor.submit(nap, 0.1).add_done_callback(more)

    assert arrived.wait(30)
    assert seen == [5]


def test_forgotten_executor():
    """An executor that is let go without shutdown finishes its calls and its workers end."""
    executor = ProcessExecutor(1)
    future = executor.submit(nap, 0.2, 1)
    executor.submit(echo, 1).result(30)
    pids = executor.worker_pids()
    del executor
    gc.collect()

    assert future.result(30) == 1
    eventually(lambda: not any(alive(pid) for pid in pids))


# ---- scripts


def script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text))
    return [sys.executable, str(path)]


def shared_memory():
    return {path.name for path in Path("/dev/shm").iterdir()}


def test_script_with_own_functions(tmp_path):
    """A guarded script's own functions and classes work in the workers."""
    command = script(
        tmp_path,
        """
        from dataclasses import dataclass
        from noob_cloud.executors import ProcessExecutor

        @dataclass
        class Point:
            x: int

        def move(point):
            return Point(point.x + 1)

        if __name__ == "__main__":
            with ProcessExecutor(2) as executor:
                print(executor.submit(move, Point(1)).result(30))
        """,
    )

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.stdout, done.stderr) == ("Point(x=2)\n", "")


def test_script_without_guard(tmp_path):
    """Without a guard importable functions just work, and the script's own say what is wrong."""
    command = script(
        tmp_path,
        """
        import math
        from noob_cloud.executors import ProcessExecutor

        def own():
            return 1

        executor = ProcessExecutor(1)
        print(executor.submit(math.sqrt, 16).result(30))
        try:
            executor.submit(own).result(30)
        except RuntimeError as error:
            print(error)
        """,
    )

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout.startswith("4.0\n")
    assert "if __name__ == '__main__':" in done.stdout
    assert done.stderr == ""


def test_script_without_shutdown(tmp_path):
    """A script that ends without shutdown finishes what it submitted."""
    command = script(
        tmp_path,
        """
        import time
        from noob_cloud.executors import ProcessExecutor

        executor = ProcessExecutor(1)
        executor.submit(time.sleep, 0.2).add_done_callback(lambda f: print("done", flush=True))
        """,
    )

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


BUSY = """
    import os, signal, sys, time
    import numpy as np
    from noob_cloud.executors import ProcessExecutor

    signal.signal(signal.SIGINT, signal.default_int_handler)
    {open}
    futures = [executor.submit(time.sleep, 60) for _ in range(5)]
    executor.submit_many(np.sum, [(np.zeros(200_000),) for _ in range(5)])
    while len(executor.worker_pids()) < 2:
        time.sleep(0.01)
    print(*executor.worker_pids(), flush=True)
    futures[0].result()
"""


def start_busy(tmp_path, opening="executor = ProcessExecutor(2)"):
    process = subprocess.Popen(
        script(tmp_path, BUSY.format(open=opening)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    return process, pids


def test_parent_killed(tmp_path):
    """When the parent is killed its workers end, busy as they are, and nothing is left."""
    before = shared_memory()
    process, pids = start_busy(tmp_path)

    process.kill()
    process.communicate(timeout=30)

    eventually(lambda: not any(alive(pid) for pid in pids))
    assert shared_memory() <= before


@pytest.mark.parametrize("group", [True, False], ids=["terminal", "parent-only"])
def test_ctrl_c(tmp_path, group):
    """Ctrl-C ends the script at once; no worker and no memory is left, nor a word from a worker."""
    before = shared_memory()
    process, pids = start_busy(tmp_path)
    start = time.monotonic()

    (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)

    assert time.monotonic() - start < 10
    assert process.returncode in (1, 130, -signal.SIGINT)
    assert errors.count("Traceback") == 1
    assert "KeyboardInterrupt" in errors
    assert not any(alive(pid) for pid in pids)
    assert shared_memory() <= before


def test_ctrl_c_in_with_block(tmp_path):
    """Ctrl-C inside a `with` block kills what runs and raises on."""
    text = textwrap.dedent(BUSY.format(open="with ProcessExecutor(2) as executor:"))
    head, _, body = text.partition("with ProcessExecutor(2) as executor:\n")
    path = tmp_path / "block.py"
    path.write_text(f"{head}with ProcessExecutor(2) as executor:\n{textwrap.indent(body, '    ')}")
    process = subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pids = [int(word) for word in process.stdout.readline().split()]

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)

    assert "KeyboardInterrupt" in errors
    assert not any(alive(pid) for pid in pids)


def test_interrupt_and_go_on(executor):
    """An interrupt while waiting leaves the executor usable."""
    future = executor.submit(nap, 0.5, 1)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            future.result(30)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)

    assert future.result(30) == 1
    assert executor.submit(echo, 2).result(30) == 2


def test_no_descriptor_left():
    """Executors that come and go leave no descriptor and no thread."""
    with ProcessExecutor(2) as executor:
        executor.submit(echo, 1).result(30)
    gc.collect()
    before, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    for _ in range(3):
        with ProcessExecutor(2) as executor:
            executor.submit(echo, np.zeros(100_000)).result(30)
    gc.collect()

    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert threading.active_count() == threads
