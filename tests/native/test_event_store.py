"""The event store of the core, held against a dict of lists, in memory and through files."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noob_cloud import codec
from noob_cloud.native import core

if core is None:
    pytest.skip("the Rust core is not installed", allow_module_level=True)


def bounded(folder: Path, max_events: int = 4) -> Any:
    return core.FastEventStore(
        max_events=max_events, folder=folder, dumps=codec.dumps, loads=codec.loads
    )


def files(folder: Path) -> list[str]:
    """The names of all files in a folder, and in those in it."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_columns_are_numbered_once():
    store = core.FastEventStore()
    assert [store.column("a", "value"), store.column("b", "value")] == [0, 1]
    assert store.column("a", "value") == 0
    assert store.columns() == [("a", "value"), ("b", "value")]


def test_what_was_added_is_there_in_its_order():
    store = core.FastEventStore()
    value, n = store.column("a", "value"), store.column("a", "n")
    store.add(3, value, "x")
    store.add(1, n, 7)
    store.add_batch(3, n, [1, 2])
    store.add_batch(3, value, (item for item in "yz"))
    assert store.get(3, value) == ["x", "y", "z"]
    assert store.events(3) == [(value, "x"), (n, 1), (n, 2), (value, "y"), (value, "z")]
    assert store.get_batch([1, 2, 3], n) == [[7], [], [1, 2]]
    assert store.values(n) == [(1, 7), (3, 1), (3, 2)]
    assert (len(store), store.epochs()) == (6, [1, 3])
    assert store.clear(3)
    assert not store.clear(3)
    assert store.get(3, value) == []
    assert store.stats() == {"resident": 1, "spilled": 0, "file_bytes": 0}


@pytest.mark.parametrize(
    ("work", "error"),
    [
        (lambda s: s.add(0, 9, 1), KeyError),
        (lambda s: s.add(0, 1 << 40, 1), KeyError),
        (lambda s: s.add(-1, 0, 1), OverflowError),
        (lambda s: s.add("0", 0, 1), TypeError),
        (lambda s: s.add_batch(0, 0, 1), TypeError),
        (lambda s: s.get(0, 9), KeyError),
        (lambda s: s.cid(5), KeyError),
        (lambda _: core.FastEventStore(max_events=0), ValueError),
        (lambda _: core.FastEventStore(max_events=5), ValueError),
        (lambda _: core.FastEventStore(dumps=codec.dumps), ValueError),
        (lambda _: core.FastEventStore(loads=codec.loads), ValueError),
    ],
)
def test_misuse_is_told(work, error):
    store = core.FastEventStore()
    store.column("a", "value")
    with pytest.raises(error):
        work(store)
    assert len(store) == 0


def test_the_least_recently_used_goes_to_a_file_and_comes_back(tmp_path: Path):
    store = bounded(tmp_path / "spill")
    value = store.column("a", "value")
    for epoch in range(4):
        store.add_batch(epoch, value, [(epoch, 0), (epoch, 1)])
    assert store.stats()["resident"] == 4
    assert store.stats()["spilled"] == 4
    assert store.cid(0).startswith("bafkr4i")
    assert store.cid(3) is None
    assert files(tmp_path) == ["epoch-0.events", "epoch-1.events"]
    assert store.get(0, value) == [(0, 0), (0, 1)]
    assert store.cid(0) is None
    assert store.cid(2) is not None
    assert store.values(value) == [(epoch, (epoch, i)) for epoch in range(4) for i in range(2)]
    assert len(store) == 8
    assert store.stats()["resident"] <= 4
    for epoch in range(4):
        assert store.clear(epoch)
    assert files(tmp_path) == []
    del store
    assert list((tmp_path / "spill").iterdir()) == []


def test_a_file_that_was_changed_is_refused(tmp_path: Path):
    store = bounded(tmp_path, 1)
    value = store.column("a", "value")
    store.add(0, value, "secret")
    store.add(1, value, "x")
    (path,) = tmp_path.rglob("epoch-0.events")
    path.write_bytes(path.read_bytes().replace(b"secret", b"public"))
    with pytest.raises(OSError, match="its BLAKE3 digest differs"):
        store.get(0, value)


def test_a_value_that_cannot_be_encoded_stays_in_memory(tmp_path: Path):
    store = bounded(tmp_path, 1)
    value = store.column("a", "value")
    store.add(0, value, object())
    with pytest.raises(codec.EncodeError):
        store.add(1, value, "x")
    assert len(store.get(0, value)) == 1
    assert store.get(1, value) == ["x"]


def test_values_are_let_go():
    class Thing:
        """Something that can be watched."""

    store = core.FastEventStore()
    value = store.column("a", "value")
    thing = Thing()
    watch = weakref.ref(thing)
    before = sys.getrefcount(thing)
    store.add_batch(0, value, [thing, thing])
    assert sys.getrefcount(thing) == before + 2
    assert store.get(0, value)[0] is thing
    store.clear(0)
    assert sys.getrefcount(thing) == before
    thing.store = store  # type: ignore[attr-defined]
    store.add(0, value, thing)
    del thing, store
    gc.collect()
    assert watch() is None


def test_a_value_may_come_back_to_the_store_when_it_is_dropped():
    store = core.FastEventStore()
    value = store.column("a", "value")

    class Echo:
        def __del__(self) -> None:
            store.add(9, value, "gone")

    store.add(0, value, Echo())
    store.clear(0)
    assert store.get(9, value) == ["gone"]


def test_threads_share_it(tmp_path: Path):
    store = bounded(tmp_path, 200)
    value = store.column("a", "value")

    def add(number: int) -> None:
        for index in range(500):
            store.add(index % 20, value, (number, index))

    threads = [Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found for _, found in store.values(value)) == [
        (number, index) for number in range(4) for index in range(500)
    ]


def test_an_epoch_that_changed_while_it_was_decoded_is_not_put_back_as_it_was(tmp_path: Path):
    """Whoever decodes a file that was read, added to and written again reads it anew."""
    busy: list[int] = []

    def loads(data: bytes) -> Any:
        found = codec.loads(data)
        if not busy:
            busy.append(1)
            store.add(0, value, "new")  # recalls epoch 0 as well
            store.add(2, value, "two")  # sends it to its file again
            assert store.cid(0) is not None
        return found

    store = core.FastEventStore(max_events=1, folder=tmp_path, dumps=codec.dumps, loads=loads)
    value = store.column("a", "value")
    store.add(0, value, "old")
    store.add(1, value, "one")

    assert store.get(0, value) == ["old", "new"]
    assert len(store) == 4


def test_an_epoch_that_began_anew_while_it_was_encoded_keeps_its_events(tmp_path: Path):
    """What was encoded is not what the epoch holds now: it stays in memory."""
    busy: list[int] = []

    def dumps(given: Any) -> bytes:
        if not busy:
            busy.append(1)
            store.clear(0)
            store.add(0, value, "new")
        return codec.dumps(given)

    store = core.FastEventStore(max_events=1, folder=tmp_path, dumps=dumps, loads=codec.loads)
    value = store.column("a", "value")
    store.add(0, value, "old")
    store.add(1, value, "one")

    assert store.get(0, value) == ["new"]
    assert store.get(1, value) == ["one"]


def test_stores_may_share_a_folder(tmp_path: Path):
    """Each keeps its files in a folder of its own, and takes it along when it goes."""
    one, two = bounded(tmp_path, 1), bounded(tmp_path, 1)
    for store, name in ((one, "one"), (two, "two")):
        value = store.column("a", "value")
        store.add(0, value, name)
        store.add(1, value, name)
    assert one.get(0, value) == ["one"]
    del one, store
    assert two.get(0, value) == ["two"]
    del two
    assert list(tmp_path.iterdir()) == []


def test_a_forked_process_leaves_the_files_alone(tmp_path: Path):
    """It reads what was spilled, is refused when it would write, and removes nothing."""
    store = bounded(tmp_path, 1)
    value = store.column("a", "value")
    store.add(0, value, "zero")
    store.add(1, value, "one")
    found, told = os.pipe()
    child = os.fork()
    if not child:
        with os.fdopen(told, "w") as to:
            try:
                to.write(str(store.get(0, value)))
            except OSError as error:
                to.write(str(error))
            del store
        os._exit(0)
    os.close(told)
    with os.fdopen(found) as answer:
        assert f"of process {os.getpid()}" in answer.read()
    os.waitpid(child, 0)
    assert store.get(0, value) == ["zero"]


@pytest.mark.parametrize("wrong", [((), ()), ((9,), ("x",)), ((0, 0), ("x", "y"))])
def test_a_codec_that_gives_back_something_else_is_told(tmp_path: Path, wrong: Any):
    """Nothing is lost: the file stays."""
    store = core.FastEventStore(
        max_events=1, folder=tmp_path, dumps=codec.dumps, loads=lambda _: wrong
    )
    value = store.column("a", "value")
    store.add(0, value, "x")
    store.add(1, value, "y")
    with pytest.raises(ValueError, match="loads did not give back the 1 events of epoch 0"):
        store.get(0, value)
    assert files(tmp_path) == ["epoch-0.events"]


steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "batch", "get", "clear"]),
        st.integers(0, 5),
        st.integers(0, 2),
        st.integers(0, 3),
    ),
    max_size=60,
)


@given(steps, st.one_of(st.none(), st.integers(1, 12)))
def test_it_holds_what_a_dict_of_lists_does(steps, max_events):
    with TemporaryDirectory() as folder:
        store = core.FastEventStore() if max_events is None else bounded(Path(folder), max_events)
        columns = [store.column(name, "value") for name in "abc"]
        model: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for number, (what, epoch, column, count) in enumerate(steps):
            if what == "add":
                store.add(epoch, columns[column], number)
                model[epoch].append((column, number))
            elif what == "batch":
                store.add_batch(epoch, columns[column], [number] * count)
                model[epoch] += [(column, number)] * count
            elif what == "get":
                wanted = [value for found, value in model[epoch] if found == column]
                assert store.get(epoch, columns[column]) == wanted
            else:
                store.clear(epoch)
                model.pop(epoch, None)
            assert len(store) == sum(map(len, model.values()))
        for epoch, events in model.items():
            assert store.events(epoch) == events
