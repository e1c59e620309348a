"""The parts of ProcessExecutor, without processes."""

from __future__ import annotations

import copyreg
import operator
import os
import pickle
import threading
from concurrent.futures import CancelledError, wait
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noob_cloud.exceptions import LimitError, RemoteError
from noob_cloud.executors import ProcessExecutor, process_boot
from noob_cloud.executors.arena import REVOKED, STARTED, Allocator, ArenaFullError, SharedMemory
from noob_cloud.executors.channel import (
    BOOT,
    BROKEN,
    CALLS,
    DEFINE,
    HELLO,
    PARTIAL,
    REPLY,
    FrameReader,
    pack,
    unpack_borrowed,
    unpack_copied,
    write,
)
from noob_cloud.executors.process_call import ARGS, CHUNK, KWARGS, STARRED_CHUNK, Call, settle_many
from noob_cloud.executors.process_cost import Cost, Costs
from noob_cloud.executors.process_error import rebuild
from noob_cloud.executors.process_link import LEAVE_SECONDS, Batch
from noob_cloud.executors.process_watch import leave
from noob_cloud.executors.process_worker import Server

MEGABYTE = 1 << 20


# ---- arena


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3000)), max_size=60))
def test_allocator_never_overlaps(steps):
    """Regions in use never overlap; all is free again when all is given back."""
    allocator = Allocator(4096, 4096 + 16_384)
    taken: list[tuple[int, int]] = []
    for take, number in steps:
        if take or not taken:
            try:
                taken.append(allocator.take(number))
            except ArenaFullError:
                assert taken
        else:
            allocator.give(taken.pop(number % len(taken)))
        ordered = sorted(taken)
        assert all(a + n <= b for (a, n), (b, _) in pairwise(ordered))
        assert allocator.used == sum(size for _, size in taken)
    for region in taken:
        allocator.give(region)

    assert allocator.take(16_384) == (4096, 16_384)


def test_allocator_says_what_does_not_fit():
    """The error says how much was wanted and what there is."""
    with pytest.raises(LimitError, match="20032 bytes do not fit the shared arena of 16384"):
        Allocator(0, 16_384).take(20_000)


@pytest.fixture
def memory():
    fd = SharedMemory.create(8 * MEGABYTE)
    memory = SharedMemory(fd, 8 * MEGABYTE)
    os.close(fd)
    yield memory
    memory.close()


# ---- frames


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def send_through(pipe, memory, value):
    frame, region = pack(REPLY, value, memory.view, memory.to_parent, count=3)
    write(pipe[1], frame)
    reader = FrameReader(pipe[0])
    assert reader.fill()
    received = reader.next()
    assert received is not None
    assert reader.next() is None
    return received, region


@pytest.mark.parametrize(
    "value",
    [None, {"a": (1, 2.5)}, "x" * 100_000, b"y" * MEGABYTE, [b"z" * 9000] * 3],
    ids=["none", "dict", "text", "bytes", "list"],
)
def test_frame_round_trip(pipe, memory, value):
    """A value comes out as it went in, inline or through the arena."""
    (kind, flags, count, regions, payload), _ = send_through(pipe, memory, value)

    assert (kind, count) == (REPLY, 3)
    assert unpack_copied(flags, regions, payload, memory.view) == value


def test_array_is_copied_home(pipe, memory):
    """An array that came home has nothing to do with the arena any more."""
    array = np.arange(100_000)
    (_, flags, _, regions, payload), region = send_through(pipe, memory, array)
    again = unpack_copied(flags, regions, payload, memory.view)
    memory.view[region[0] : region[0] + region[1]] = bytes(region[1])

    assert regions == 1
    assert (again == array).all()
    assert again.flags.writeable


def test_borrowed_array_is_held(pipe, memory):
    """As long as anything sees a borrowed array, its memory counts as held."""
    (_, flags, _, regions, payload), _ = send_through(pipe, memory, np.arange(100_000))
    array, borrowed = unpack_borrowed(flags, regions, payload, memory.view)
    part = array[5:10]
    del array

    assert borrowed is not None
    assert borrowed.held()
    assert part.tolist() == [5, 6, 7, 8, 9]
    del part
    assert not borrowed.held()
    del borrowed


def test_array_that_is_not_contiguous(pipe, memory):
    """An array with gaps travels too."""
    array = np.arange(200_000).reshape(400, 500)[::2, ::3]
    (_, flags, _, regions, payload), _ = send_through(pipe, memory, array)

    assert (unpack_copied(flags, regions, payload, memory.view) == array).all()


def test_reader_puts_frames_together(pipe, memory):
    """Frames may arrive in pieces of any size."""
    frames = b"".join(pack(REPLY, n, memory.view, memory.to_parent)[0] for n in range(5))
    reader = FrameReader(pipe[0])
    seen = []
    for start in range(0, len(frames), 7):
        write(pipe[1], frames[start : start + 7])
        assert reader.fill()
        while (frame := reader.next()) is not None:
            seen.append(pickle.loads(frame[4]))

    assert seen == list(range(5))


# ---- futures


class Home:
    """A pool that never receives anything."""

    def pump(self, until, timeout):
        del until, timeout

    def withdraw(self, call):
        done = call.mark_cancelled()
        call.announce()
        return done


def test_future_settled_before_it_is_watched():
    """A future that nobody watched has no condition, and its result."""
    call = Call(Home(), operator.add, (1, 2))
    assert call.start()

    settle_many([(call, 3, None)])

    assert call._made is None
    assert call.result() == 3
    assert call.exception() is None
    assert not call.cancel()


def test_future_settled_once():
    """Only the first outcome counts."""
    call = Call(Home(), operator.add, (1, 2))
    called = []
    call.add_done_callback(called.append)

    call.settle(1, None)
    call.settle(2, ValueError("late"))

    assert call.result() == 1
    assert called == [call]


def test_future_cancelled():
    """A cancelled future stays cancelled, and those who wait are told."""
    call = Call(Home(), operator.add, (1, 2))
    waiting = threading.Thread(target=wait, args=([call],))
    waiting.start()

    assert call.cancel()
    assert call.cancel()
    waiting.join(10)

    assert not waiting.is_alive()
    call.settle(1, None)
    assert not call.start()
    with pytest.raises(CancelledError):
        call.result()


def test_future_told_while_it_is_watched():
    """Installing a waiter and settling at the same time never loses the news."""
    for _ in range(200):
        calls = [Call(Home(), operator.add, ()) for _ in range(4)]
        thread = threading.Thread(target=settle_many, args=([(c, 1, None) for c in calls],))
        thread.start()
        assert not wait(calls, timeout=10).not_done
        thread.join()


# ---- costs


def call_of(fn=operator.add, mode=ARGS, args=()):
    call = Call(Home(), fn, args)
    call.mode = mode
    return call


def test_batches_follow_cost():
    """Nothing is known: one. Short calls: many, at most a fair share. Long ones: one."""
    costs = Costs(batch_seconds=0.002)
    call = call_of()
    cost = costs.of(call)

    assert costs.batch(cost, call, fair=1000) == 1
    cost.note([call], 1, 0.00001)
    assert costs.batch(cost, call, fair=1000) == 200
    assert costs.batch(cost, call, fair=10) == 10
    for _ in range(20):
        cost.note([call], 1, 0.5)
    assert costs.batch(cost, call, fair=1000) == 1


def test_a_slow_first_call_is_forgotten():
    """One slow call, which imported something, does not keep batches small for long."""
    costs = Costs(batch_seconds=0.002)
    call = call_of()
    cost = costs.of(call)
    cost.note([call], 1, 1.0)
    for _ in range(12):
        cost.note([call], 1, 0.00001)

    assert costs.batch(cost, call, fair=1000) > 50


def test_chunks_cost_by_item():
    """What a chunk costs grows with its items."""
    costs = Costs(batch_seconds=0.002)
    small, large = call_of(mode=CHUNK, args=[1] * 10), call_of(mode=CHUNK, args=[1] * 100)
    cost = costs.of(small)
    cost.note([small], 1, 0.0001)

    assert costs.of(large) is cost
    assert costs.batch(cost, small, fair=1000) == 20
    assert costs.batch(cost, large, fair=1000) == 2


def test_large_calls_make_small_batches():
    """Calls that fill the arena travel few at a time."""
    costs = Costs(batch_seconds=0.002)
    call = call_of()
    cost = costs.of(call)
    cost.note([call], 1, 1e-7)
    cost.too_large(100)

    assert costs.batch(cost, call, fair=1000) <= 50


# ---- the worker's loop, in this process


class Wired:
    """A server in a thread, and the parent's ends of its pipes."""

    def __init__(self, memory):
        self.memory = memory
        source, self.sink = os.pipe()
        self.source, sink = os.pipe()
        self.reader = FrameReader(self.source)
        self.server = Server(source, sink, memory)
        self.thread = threading.Thread(target=self.server.serve)
        self.thread.start()
        self.fds = [source, sink, self.source]

    def send(self, kind, value, count=0):
        write(self.sink, pack(kind, value, self.memory.view, self.memory.to_worker, count=count)[0])

    def receive(self):
        while (frame := self.reader.next()) is None:
            assert self.reader.fill()
        kind, flags, _, regions, payload = frame
        return kind, unpack_copied(flags, regions, payload, self.memory.view)

    def call(self, mode, function, items):
        self.send(CALLS, (0, mode, function, items), count=len(items))
        return self.receive()

    def close(self):
        os.close(self.sink)
        self.thread.join(10)
        for fd in self.fds:
            os.close(fd)


@pytest.fixture
def wired(memory):
    wired = Wired(memory)
    yield wired
    wired.close()


def fail(value):
    raise ValueError(f"no {value}")


class OddError(Exception):
    """Cannot be loaded: its arguments are not those of its constructor."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


@pytest.fixture(autouse=True)
def _pickled_as_written(monkeypatch):
    """Dask, imported by another test, teaches pickle to load any exception."""
    monkeypatch.delitem(copyreg.dispatch_table, OddError, raising=False)


def fail_oddly():
    raise OddError(1, 2)


class Unpicklable:
    def __reduce__(self):
        raise TypeError("not this one")


def test_serve_calls(wired):
    """Each shape of arguments gives results in order, and the calls are counted."""
    assert wired.call(ARGS, operator.add, [(1, 2), (3, 4)])[1][:2] == ([3, 7], None)
    assert wired.call(KWARGS, int, [(("11",), {"base": 2})])[1][:2] == ([3], None)
    assert wired.call(CHUNK, abs, [[-1, -2], [-3]])[1][:2] == ([[1, 2], [3]], None)
    assert wired.call(STARRED_CHUNK, operator.add, [[(1, 2)]])[1][:2] == ([[3]], None)
    assert wired.memory.control[STARTED] == 6


def test_serve_defined_function(wired):
    """A function that goes by its name is sent once."""
    wired.send(DEFINE, (1, ("operator", None), pickle.dumps(operator.add)))
    for _ in range(2):
        wired.send(CALLS, (1, ARGS, None, [(1, 2)]), count=1)
        assert wired.receive()[1][0] == [3]


def test_serve_errors(wired):
    """A call that raises has its error; its neighbours have their results."""
    kind, (results, errors, *_) = wired.call(ARGS, fail, [("luck",), ("fun",)])
    error = rebuild(errors[1][1])

    assert kind == REPLY
    assert results == [None, None]
    assert isinstance(error, ValueError)
    assert str(error) == "no fun"
    assert "in fail" in str(error.__cause__)


def test_serve_partial_chunk(wired):
    """A chunk that raises tells what came before."""
    _, (results, errors, *_) = wired.call(CHUNK, operator.inv, [[1, 2, "x", 4]])

    assert results == [[-2, -3]]
    assert isinstance(rebuild(errors[0][1]), TypeError)


def test_serve_odd_exception(wired):
    """An exception that cannot be loaded comes home as a RemoteError that names it."""
    _, (_, errors, *_) = wired.call(ARGS, fail_oddly, [()])
    error = rebuild(errors[0][1])

    assert isinstance(error, RemoteError)
    assert "OddError: 1 and 2" in str(error)


def test_serve_unpicklable_result(wired):
    """The one result that cannot be sent has the error; the others arrive."""
    wired.send(CALLS, (0, ARGS, operator.call, [(int,), (Unpicklable,), (str,)]), count=3)

    answers = [wired.receive() for _ in range(4)]

    assert [kind for kind, _ in answers] == [PARTIAL] * 3 + [REPLY]
    assert [value[0] for _, value in answers] == [[0], [None], [""], []]
    assert "not this one" in str(rebuild(answers[1][1][1][0][1]))


def test_serve_result_too_large(wired):
    """A result that does not fit the arena is an error that says so."""
    wired.send(CALLS, (0, ARGS, bytes, [(9 * MEGABYTE,)]), count=1)

    error = rebuild(wired.receive()[1][1][0][1])

    assert isinstance(error, LimitError)
    assert wired.receive()[0] == REPLY


def test_serve_unloadable_arguments(wired):
    """When a frame cannot be loaded, nothing of it has run, and the answer says why."""
    payload = pickle.dumps((0, ARGS, None, [(OddError(1, 2),)]))
    frame = pack(CALLS, None, wired.memory.view, wired.memory.to_worker, count=1)[0]
    head = bytearray(frame[:12])
    head[:4] = len(payload).to_bytes(4, "little")
    write(wired.sink, bytes(head) + payload)

    _, (results, errors, *_) = wired.receive()

    assert results == []
    assert errors[0][0] == -1
    assert isinstance(rebuild(errors[0][1]), TypeError)
    assert wired.call(ARGS, abs, [(-1,)])[1][0] == [1]


def test_serve_revoked(wired):
    """Calls that were revoked are not started, and counted."""
    wired.memory.control[REVOKED] = 2

    _, (results, _, _, skipped, *_) = wired.call(ARGS, abs, [(-1,), (-2,), (-3,)])

    assert (results, skipped) == ([1], 2)
    wired.memory.revoke(None)
    assert wired.call(ARGS, abs, [(-4,)])[1][0] == [4]
    assert wired.memory.control[STARTED] == 4


def test_serve_kept_argument(wired):
    """A worker that keeps an argument says so, and later that it let go."""
    kept = []
    wired.server._functions[1] = kept.append
    array = np.arange(100_000)
    wired.send(CALLS, (1, ARGS, None, [(array,)]), count=1)
    *_, keep, released = wired.receive()[1]
    assert keep
    assert released is None
    assert (kept[0] == array).all()

    kept.clear()

    assert wired.call(ARGS, abs, [(-1,)])[1][-1] == [1]


def test_serve_flush(wired):
    """Asked to, a worker sends what it has before a long call."""
    ready, go = threading.Event(), threading.Event()
    wired.server._functions[1] = lambda n: (ready.set(), go.wait(10)) and n if n == 2 else n
    wired.send(CALLS, (1, ARGS, None, [(0,), (1,), (2,), (3,)]), count=4)
    assert ready.wait(10)

    wired.server.on_flush()
    wired.server.on_flush()

    assert wired.receive() == (PARTIAL, ([0, 1], None, 0.0, 0, False, None))
    go.set()
    kind, (results, *_) = wired.receive()
    assert (kind, results) == (REPLY, [2, 3])


def test_serve_boot_failure(wired):
    """An initializer that raises ends the worker, which says why."""
    setup = process_boot.setup(fail, ("luck",))
    setup["main"] = {}
    before = (list(process_boot.sys.path), list(process_boot.sys.meta_path))
    main = process_boot.sys.modules["__main__"]
    try:
        wired.send(BOOT, setup)
        kind, text = wired.receive()
    finally:
        process_boot.sys.path[:], process_boot.sys.meta_path[:] = before
        process_boot.sys.modules["__main__"] = main

    assert kind == BROKEN
    assert "no luck" in text
    assert HELLO != BROKEN


# ---- the executor's arguments


@pytest.mark.parametrize("arguments", [{"max_workers": 0}, {"max_pending": 0}])
def test_rejects_numbers_out_of_range(arguments):
    """A number out of range is named."""
    with pytest.raises(ValueError, match=next(iter(arguments))):
        ProcessExecutor(**arguments)


def test_rejects_initializer():
    """An initializer must be callable."""
    with pytest.raises(TypeError, match="initializer"):
        ProcessExecutor(1, initializer="no")


def test_kill_wants_own_future():
    """Only an executor's own futures can be killed."""
    executor = ProcessExecutor(1)
    with pytest.raises(ValueError, match="not of this executor"):
        executor.kill(Call(Home(), operator.add, ()))
    executor.shutdown()


class Busy:
    """A worker that has one batch, as `leave` looks at it."""

    def __init__(self, *calls, running=None):
        self.inflight = [Batch(list(calls), Cost(), 1, 1)]
        self.leave_at = 1.0
        self._running = running

    def current(self):
        return self._running, 0.0


def test_worker_leaves_what_was_cancelled():
    """A worker ends for a cancelled call only when that call still runs after a moment."""
    wanted, cancelled = call_of(), call_of()
    cancelled.mark_cancelled()

    assert leave(Busy(cancelled, running=cancelled), 0.5) == 0.5
    assert leave(Busy(cancelled, running=cancelled), 1.0) == 0.0
    assert leave(Busy(wanted, cancelled, running=wanted), 1.0) == LEAVE_SECONDS

    done = Busy(wanted, running=wanted)
    assert leave(done, 1.0) is None
    assert done.leave_at is None
