"""The pool of the core and its twin in Python, held to the same tests."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import warnings
from itertools import pairwise
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from noob_cloud.buffers import ArenaFullError, PoolClosedError, PoolOwnerError, numa
from noob_cloud.buffers import allocator as twin_allocator
from noob_cloud.buffers import pool as twin_pool
from noob_cloud.executors.arena import Allocator as ArenaAllocator
from noob_cloud.executors.arena import SharedMemory
from noob_cloud.native import core

TWIN = SimpleNamespace(Allocator=twin_allocator.Allocator, BufferPool=twin_pool.BufferPool)
NATIVE = core if core is not None and hasattr(core, "BufferPool") else None
NEEDS_CORE = pytest.mark.skipif(NATIVE is None, reason="the Rust core is not installed")
MEGABYTE = 1 << 20

if sys.platform != "linux":
    pytest.skip("nameless shared memory is Linux's", allow_module_level=True)


@pytest.fixture(params=["python", pytest.param("native", marks=NEEDS_CORE)])
def kind(request: pytest.FixtureRequest) -> Any:
    """The module whose classes are tested."""
    return TWIN if request.param == "python" else NATIVE


@pytest.fixture
def pool(kind):
    """A pool of 4 MB that gives back all it has lent."""
    with kind.BufferPool(4 * MEGABYTE) as pool:
        yield pool


# ---- the allocator, against a model


class Regions(RuleBasedStateMachine):
    """Take and give in any order: nothing overlaps, and everything comes back."""

    start, stop = 4096, 4096 + 65_536
    kinds: tuple[Any, ...] = (TWIN,)

    def __init__(self) -> None:
        super().__init__()
        self.allocators = [kind.Allocator(self.start, self.stop) for kind in self.kinds]
        self.taken: list[tuple[int, int]] = []

    def same(self, call: Any) -> Any:
        """What every allocator does for a call, which must be the same."""
        results = []
        for allocator in self.allocators:
            try:
                results.append(call(allocator))
            except (ArenaFullError, ValueError) as error:
                results.append((type(error), str(error), getattr(error, "size", None)))
        assert all(result == results[0] for result in results), results
        return results[0]

    @rule(size=st.one_of(st.integers(1, 700), st.integers(1, 70_000)))
    def take(self, size: int) -> None:
        """A region is aligned, long enough, inside, and of a free place."""
        region = self.same(lambda allocator: allocator.take(size))
        if region[0] is ArenaFullError:
            assert self.taken or size > self.stop - self.start
            return
        offset, length = region
        assert offset % 64 == 0
        assert length % 64 == 0
        assert size <= length <= max(64, size * 5 // 4 + 80)
        assert self.start <= offset
        assert offset + length <= self.stop
        self.taken.append(region)

    @precondition(lambda self: self.taken)
    @rule(which=st.integers(0, 1 << 20))
    def give(self, which: int) -> None:
        """What was taken can be given back, once."""
        region = self.taken.pop(which % len(self.taken))
        self.same(lambda allocator: allocator.give(region))
        assert self.same(lambda allocator: allocator.give(region))[0] is ValueError

    @rule(keep=st.integers(0, 80_000))
    def trim(self, keep: int) -> None:
        """A trim names only what is free."""
        for start, stop in self.same(lambda allocator: allocator.trim(keep)):
            assert self.start + keep <= start < stop <= self.stop
            assert all(o + n <= start or stop <= o for o, n in self.taken)

    @invariant()
    def apart(self) -> None:
        """No two regions in use overlap, and the counts are right."""
        assert all(a + n <= b for (a, n), (b, _) in pairwise(sorted(self.taken)))
        stats = self.same(lambda allocator: allocator.stats())
        assert stats["in_use"] == sum(length for _, length in self.taken)
        assert stats["buffers"] == len(self.taken)
        assert stats["in_use"] <= stats["high_water"] <= stats["capacity"]
        assert max((o + n for o, n in self.taken), default=0) <= self.start + stats["touched"]

    def teardown(self) -> None:
        """When all is given back, all can be taken at once."""
        for region in self.taken:
            self.same(lambda allocator, region=region: allocator.give(region))
        whole = self.stop - self.start
        assert self.same(lambda allocator: allocator.take(whole)) == (self.start, whole)


Regions.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTwin = Regions.TestCase


class BothRegions(Regions):
    """The same calls on the core and on its twin: they must give the same regions."""

    kinds = (TWIN, NATIVE)


@NEEDS_CORE
def test_core_and_twin_are_alike():
    """The core and its twin give the same regions, errors and counts for the same calls."""
    run_state_machine_as_test(BothRegions, settings=Regions.TestCase.settings)


def test_full_says_what_there_is(kind):
    """The error says how much was wanted, what there is and what is in use."""
    allocator = kind.Allocator(0, 16_384)
    allocator.take(64)

    with pytest.raises(
        ArenaFullError, match="20032 bytes do not fit the shared arena of 16384"
    ) as e:
        allocator.take(20_000)

    assert (e.value.size, e.value.capacity) == (20_032, 16_384)
    assert "of which 64 are in use" in str(e.value)


@pytest.mark.parametrize("arguments", [(1, 64), (128, 64)])
def test_stretch_must_be_one(kind, arguments):
    """A stretch that is not aligned, or ends before it starts, is refused."""
    with pytest.raises(ValueError, match="starts at a multiple of 64"):
        kind.Allocator(*arguments)


def test_low_addresses_first(kind):
    """Used memory is used again before new pages are touched."""
    allocator = kind.Allocator(0, MEGABYTE)
    for size in [1000, 5000, 900, 70_000, 3000, 64] * 5:
        allocator.give(allocator.take(size))

    assert allocator.stats()["touched"] <= 81_920


def test_hits_and_misses(kind):
    """A class that was used before is a hit."""
    allocator = kind.Allocator(0, MEGABYTE)
    for _ in range(3):
        allocator.give(allocator.take(1000))

    assert allocator.stats()["classes"] == {1024: (2, 1)}


# ---- buffers


def test_buffer_is_writable_memory(pool):
    """A buffer has the size asked for, is writable, and is one with arrays made from it."""
    buffer = pool.take(1000)
    array = np.frombuffer(buffer, np.uint8)
    array[:] = 7

    assert (len(buffer), buffer.readonly, buffer.format) == (1000, False, "B")
    assert bytes(buffer) == b"\7" * 1000
    assert array.ctypes.data % 64 == 0


def test_released_buffer_is_used_again(pool):
    """What was released comes next."""
    with pool.take(1000) as buffer:
        place = pool.locate(buffer)
    with pool.take(1000) as buffer:
        assert pool.locate(buffer) == place

    assert pool.stats()["classes"][1024] == (1, 1)
    assert pool.stats()["in_use"] == 0


def test_collected_buffer_comes_back(pool):
    """A buffer in a cycle of garbage comes back when it is collected."""
    cycle: list[Any] = [pool.take(1000)]
    cycle.append(cycle)
    del cycle
    gc.collect()

    assert pool.stats()["buffers"] == 0


@pytest.mark.parametrize("derive", [lambda b: b[10:20], np.frombuffer, memoryview])
def test_view_keeps_the_memory(pool, derive):
    """Memory is not used again while something made from its buffer lives."""
    buffer = pool.take(1000)
    place = pool.locate(buffer)
    derived = derive(buffer) if derive is not np.frombuffer else np.frombuffer(buffer, np.uint8)
    buffer.release()
    with pool.take(1000) as other:
        assert pool.locate(other) != place
    assert pool.stats()["buffers"] == 1

    del derived
    assert pool.stats()["buffers"] == 0


def test_pool_is_bounded(pool):
    """A pool that is full says so, and works on."""
    buffers = [pool.take(MEGABYTE) for _ in range(4)]
    with pytest.raises(ArenaFullError, match="do not fit the shared arena"):
        pool.take(1)
    buffers.pop().release()

    assert len(pool.take(MEGABYTE)) == MEGABYTE


@pytest.mark.parametrize("size", [0, -1])
def test_buffer_has_bytes(pool, size):
    """There are no buffers without bytes."""
    with pytest.raises(ValueError, match="at least 1 byte"):
        pool.take(size)


def test_locate_stretches(pool):
    """The place of a slice is that of its bytes; what is not the pool's has none."""
    buffer = pool.take(1000)
    offset, size = pool.locate(buffer)

    assert size == 1000
    assert pool.locate(buffer[100:200]) == (offset + 100, 100)
    with pytest.raises(ValueError, match="none of this pool's"):
        pool.locate(bytearray(10))


def test_view_stays_inside(pool):
    """A look outside is refused."""
    assert len(pool.view(0, pool.capacity)) == pool.capacity
    for place in [(pool.capacity, 1), (1, pool.capacity), (1 << 62, 1 << 62)]:
        with pytest.raises(ValueError, match="do not lie in a pool"):
            pool.view(*place)


def test_leaks_are_named(kind):
    """Closing names what was not given back; what reads it goes on reading."""
    pool = kind.BufferPool(MEGABYTE)
    kept = [pool.take(5000), pool.take(100)]
    kept[0][:3] = b"abc"
    with pytest.warns(ResourceWarning, match="2 buffers .* of 5120, 128 bytes"):
        pool.close()

    assert pool.stats()["leaked"] == [5120, 128]
    assert bytes(kept[0][:3]) == b"abc"
    with pytest.raises(PoolClosedError):
        pool.take(1)
    with pytest.raises(PoolClosedError):
        _ = pool.fd
    pool.close()


def test_closing_in_order_warns_of_nothing(kind):
    """A pool that has all its buffers closes silently."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with kind.BufferPool(MEGABYTE) as pool:
            pool.take(1000).release()

    assert pool.stats()["leaked"] == []


def test_trim_gives_pages_back(pool):
    """Trimmed pages read as zero, used ones stay."""
    low, high = pool.take(8192), pool.take(MEGABYTE)
    low[:] = bytes([1]) * 8192
    high[:] = bytes([2]) * MEGABYTE
    place = pool.locate(high)
    high.release()

    assert pool.trim() == MEGABYTE
    assert pool.view(*place)[100] == 0
    assert low[100] == 1
    assert pool.trim() == 0


def test_prefault(kind):
    """Pages touched in advance are there, and taken first."""
    with kind.BufferPool(MEGABYTE, prefault=100_000) as pool:
        assert os.fstat(pool.fd).st_blocks * 512 >= 100_000
        assert pool.stats()["touched"] == 100_000


def test_capacity_must_be_something(kind):
    """A pool of nothing is refused."""
    with pytest.raises(ValueError, match="at least 1 byte"):
        kind.BufferPool(0)


def test_threads_share_a_pool(pool):
    """Threads never get the same memory."""
    wrong: list[int] = []

    def work(number: int) -> None:
        rng = Random(number)
        for _ in range(300):
            with pool.take(rng.randrange(1, 20_000)) as buffer:
                buffer[:] = bytes([number]) * len(buffer)
                if bytes(buffer).count(number) != len(buffer):
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert pool.stats()["in_use"] == 0


def test_arenas_use_the_core():
    """The arenas of worker processes come from the core where it is installed."""
    assert ArenaAllocator is (TWIN if NATIVE is None else NATIVE).Allocator


def test_trim_beside_takes(pool):
    """What another thread takes and writes while pages are given back is not lost."""
    wrong: list[int] = []
    done = threading.Event()

    def trim() -> None:
        while not done.is_set():
            pool.trim()

    thread = threading.Thread(target=trim)
    thread.start()
    for number in range(400):
        with pool.take(MEGABYTE // 2) as buffer:
            buffer[::4096] = bytes([1]) * (len(buffer) // 4096)
            if bytes(buffer[::4096]).count(1) != len(buffer) // 4096:
                wrong.append(number)
    done.set()
    thread.join()

    assert wrong == []


# ---- NUMA


def test_numa_says_what_it_does(kind):
    """Without a wish nothing is bound; with one node there is nothing to choose."""
    first = numa.nodes()[0]
    with kind.BufferPool(MEGABYTE) as free, kind.BufferPool(MEGABYTE, numa_node=first) as bound:
        assert free.numa == "not bound"
        if len(numa.nodes()) == 1:
            assert bound.numa == "not bound: this machine has one node"
        else:
            assert bound.numa == f"bound to node {first}"
        assert bound.stats()["numa"] == bound.numa


def test_numa_node_must_exist(kind):
    """A node that the machine lacks is an error that names those it has."""
    with pytest.raises(ValueError, match="there is no NUMA node 999; this machine has"):
        kind.BufferPool(MEGABYTE, numa_node=999)


def test_numa_nodes_are_read(monkeypatch, tmp_path):
    """The kernel's list of nodes is understood; without one there is node 0."""
    online = tmp_path / "online"
    online.write_text("0-2,5\n")
    monkeypatch.setattr(numa, "_ONLINE", online)
    assert numa.nodes() == [0, 1, 2, 5]
    online.unlink()
    assert numa.nodes() == [0]


def test_numa_binding_on_many_nodes(monkeypatch):
    """Where there is a choice, the pages are bound to the node asked for."""
    monkeypatch.setattr(numa, "nodes", lambda: [0, 1])
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(numa, "mbind", lambda _, length, node: calls.append((length, node)))
    with TWIN.BufferPool(MEGABYTE, numa_node=1) as pool:
        assert pool.numa == "bound to node 1"
        assert pool.take(1)

    assert calls == [(MEGABYTE, 1)]


def test_numa_of_the_arenas(monkeypatch):
    """The memory of worker processes follows the environment, and refuses what is no node."""
    fd = SharedMemory.create(MEGABYTE)
    monkeypatch.setenv("NOOB_CLOUD_NUMA_NODE", str(numa.nodes()[0]))
    memory = SharedMemory(fd, MEGABYTE)
    assert "node" in memory.numa
    memory.close()
    for said, message in [("first", "is the number of a NUMA node"), ("999", "no NUMA node 999")]:
        monkeypatch.setenv("NOOB_CLOUD_NUMA_NODE", said)
        with pytest.raises(ValueError, match=message):
            SharedMemory(fd, MEGABYTE)
    os.close(fd)


def test_numa_refusal_is_reported():
    """What the kernel says against a binding is raised with its number."""
    with TWIN.BufferPool(MEGABYTE) as pool, pool.take(1) as buffer:
        address = np.frombuffer(buffer, np.uint8).ctypes.data
        with pytest.raises(OSError, match="mbind to node 4000: "):
            numa.mbind(address, 4096, 4000)


# ---- other processes

CHILD = """
import sys
from noob_cloud.buffers import PoolOwnerError
from noob_cloud.buffers.pool import BufferPool as Twin
from noob_cloud.native import core
BufferPool = Twin if sys.argv[1] == "python" else core.BufferPool
fd, offset, size = map(int, sys.argv[2:])
pool = BufferPool.attach(fd)
view = pool.view(offset, size)
assert bytes(view) == b"from the parent", bytes(view)
view[:] = b"from the child!"
try:
    pool.take(1)
except PoolOwnerError:
    print("refused")
pool.close()
"""


@pytest.mark.parametrize("child", ["python", pytest.param("native", marks=NEEDS_CORE)])
def test_child_process_maps_it(pool, child):
    """Another process sees what a buffer holds, writes into it, and takes none."""
    with pool.take(15) as buffer:
        buffer[:] = b"from the parent"
        place = pool.locate(buffer)
        done = subprocess.run(
            [sys.executable, "-c", CHILD, child, *map(str, (pool.fd, *place))],
            pass_fds=[pool.fd],
            capture_output=True,
            text=True,
            check=False,
        )

        assert (done.stdout, done.stderr) == ("refused\n", "")
        assert bytes(buffer) == b"from the child!"


def test_forked_child_takes_nothing(pool):
    """A forked child sees the memory, may not take, and gives nothing back by ending."""
    buffer = pool.take(10)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = b"took one"
        try:
            buffer[:5] = b"child"
            pool.take(1)
        except PoolOwnerError:
            buffer.release()
            pool.close()
            said = b"refused"
        finally:
            os.write(write, said)
            os._exit(0)
    os.waitpid(child, 0)

    assert os.read(read, 100) == b"refused"
    assert bytes(buffer[:5]) == b"child"
    assert pool.stats()["buffers"] == 1
    os.close(read)
    os.close(write)
    buffer.release()


def test_attach_needs_memory(kind):
    """A descriptor that is closed is refused."""
    with pytest.raises(OSError, match=r"[Bb]ad file descriptor"):
        kind.BufferPool.attach(9999)
