"""Every blob store keeps the promises of `noob_cloud.blobs.interface.BlobStore`."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from noob_cloud.blobs import BlobStore, FolderStore, MemoryStore, collect, open_store
from noob_cloud.cid import cid
from noob_cloud.exceptions import BlobCorruptError, BlobError, BlobNotFoundError, DecodeError

ABSENT = cid(b"never stored")


@pytest.fixture(params=["memory", "folder", "s3"])
def store(request, tmp_path, monkeypatch) -> BlobStore:
    if request.param == "memory":
        return open_store("memory:")
    if request.param == "folder":
        return open_store(f"file://{tmp_path}/blobs")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    url = request.getfixturevalue("s3_url")
    store = open_store(
        f"s3://bucket-{tmp_path.name.replace('_', '-')}/some/prefix?endpoint_url={url}"
    )
    store._client.create_bucket(Bucket=store.bucket)
    return store


def damage(store: BlobStore, name: str) -> None:
    """Change the stored bytes behind the store's back."""
    if isinstance(store, MemoryStore):
        store._blobs[name] = (b"damaged", 0.0)
    elif isinstance(store, FolderStore):
        store._path(name).write_bytes(b"damaged")
    else:
        store._client.put_object(Bucket=store.bucket, Key=store._key(name), Body=b"damaged")


def test_store_keeps_the_protocol(store) -> None:
    """Every store is a BlobStore."""
    assert isinstance(store, BlobStore)


@pytest.mark.parametrize("data", [b"", b"x", bytes(100_000)], ids=["empty", "one", "large"])
def test_put_then_get(store, data) -> None:
    """What was put comes back under its cid."""
    name = store.put(data)

    assert name == cid(data)
    assert store.get(name) == data
    assert store.has(name)
    assert store.stat(name).size == len(data)


def test_put_parts(store) -> None:
    """Parts are stored as the bytes they are one after the other."""
    name = store.put([b"ab", memoryview(b"cd")])

    assert name == cid(b"abcd")
    assert store.get(name) == b"abcd"


def test_put_twice_is_stored_once(store) -> None:
    """Equal bytes are one blob."""
    assert store.put(b"same") == store.put(bytearray(b"same"))
    assert [blob.cid for blob in store.list()] == [cid(b"same")]


def test_absent_blob(store) -> None:
    """A blob that is not there is a BlobNotFoundError that names it, and a KeyError's kin."""
    for call in (store.get, store.stat, lambda name: store.get_range(name, 0, 1)):
        with pytest.raises(BlobNotFoundError, match=ABSENT) as caught:
            call(ABSENT)
        assert isinstance(caught.value, LookupError)
    assert not store.has(ABSENT)
    assert not store.delete(ABSENT)


def test_what_is_no_cid(store) -> None:
    """A name that is no cid never reaches the store: no path is made of it."""
    for name in ("../../etc/passwd", "", ABSENT.upper(), ABSENT[:-1]):
        for call in (store.get, store.stat, store.has, store.delete):
            with pytest.raises(DecodeError):
                call(name)


def test_damaged_blob(store) -> None:
    """Bytes that are not what their cid names are refused, not returned."""
    name = store.put(b"sound bytes")
    damage(store, name)

    with pytest.raises(BlobCorruptError, match=name):
        store.get(name)
    store.delete(name)
    store.put(b"sound bytes")
    assert store.get(name) == b"sound bytes"


def test_get_range(store) -> None:
    """A range is what a slice of the bytes is."""
    data = bytes(range(256))
    name = store.put(data)

    for start, length in ((0, 10), (10, 0), (250, 100), (256, 1), (1000, 5), (0, 256)):
        assert store.get_range(name, start, length) == data[start : start + length]
    for start, length in ((-1, 1), (0, -1)):
        with pytest.raises(ValueError, match="range"):
            store.get_range(name, start, length)


def test_list(store) -> None:
    """Every blob is listed with its size and the time it was put."""
    before = time.time() - 2
    names = {store.put(bytes([n]) * n) for n in range(1, 8)}
    listed = list(store.list())

    assert {blob.cid for blob in listed} == names
    assert {blob.size for blob in listed} == set(range(1, 8))
    assert all(before <= blob.stored_at <= time.time() + 2 for blob in listed)


def test_delete(store) -> None:
    """A deleted blob is gone, and deleting it again says so."""
    name = store.put(b"short-lived")

    assert store.delete(name)
    assert not store.delete(name)
    assert not store.has(name)


def test_delete_leaves_a_young_blob(store) -> None:
    """`stored_before` spares a blob that was put at that time or later."""
    name = store.put(b"young")

    assert not store.delete(name, stored_before=time.time() - 60)
    assert store.get(name) == b"young"
    assert store.delete(name, stored_before=time.time() + 60)


def test_collect_by_reachability(store) -> None:
    """What nothing refers to goes after the grace period; the rest stays."""
    live, dead = store.put(b"live"), store.put(b"dead blob")
    now = time.time()

    assert collect(store, [live], grace_seconds=60, now=now).young == 1
    result = collect(store, [live], grace_seconds=60, now=now + 120)

    assert (result.removed, result.removed_bytes, result.kept, result.young) == (1, 9, 1, 0)
    assert store.has(live)
    assert not store.has(dead)


def test_collect_refuses_a_negative_grace(store) -> None:
    """A negative grace period would remove what is being written."""
    with pytest.raises(ValueError, match="grace"):
        collect(store, [], grace_seconds=-1)


def test_many_threads_put_the_same(store) -> None:
    """Concurrent writers of equal bytes all succeed and leave one blob."""
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: store.put(b"shared" * 1000), range(32)))

    assert len(names) == 1
    assert len(list(store.list())) == 1
    assert store.get(names.pop()) == b"shared" * 1000


# ---- what one store promises besides


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_putting_again_makes_young(kind, tmp_path) -> None:
    """A blob put again survives the collection that would have removed it."""
    store = MemoryStore() if kind == "memory" else FolderStore(tmp_path)
    name = store.put(b"again", now=1000.0)
    store.put(b"again", now=5000.0)

    assert store.stat(name).stored_at == 5000.0
    assert collect(store, [], grace_seconds=100, now=5050.0).young == 1
    assert collect(store, [], grace_seconds=100, now=5101.0).removed == 1


def test_s3_makes_young_by_copying(s3_url, monkeypatch) -> None:
    """S3 notes a time only when it writes: an old blob is copied onto itself."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    store = open_store(f"s3://refreshed?endpoint_url={s3_url}")
    store._client.create_bucket(Bucket="refreshed")
    calls = []
    monkeypatch.setattr(store._client, "copy_object", lambda **call: calls.append(call["Key"]))
    name = store.put(b"old")

    store.put(b"old", now=time.time() + 1)
    assert not calls
    store.put(b"old", now=time.time() + 3600)
    assert calls == [name]


def test_s3_errors_name_the_place(s3_url, monkeypatch) -> None:
    """A missing bucket or an unreachable server is a BlobError that says where."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    with pytest.raises(BlobError, match="s3://no-such-bucket/"):
        open_store(f"s3://no-such-bucket?endpoint_url={s3_url}").put(b"x")
    with pytest.raises(BlobError, match="could not be reached"):
        open_store("s3://bucket?endpoint_url=http://127.0.0.1:9").put(b"x")


def test_folder_leaves_no_half_a_blob(tmp_path) -> None:
    """A write that fails leaves neither a blob nor a temporary file."""
    store = FolderStore(tmp_path)
    name = cid(b"ab")

    with pytest.raises(TypeError):
        store._write(store._path(name), [b"a", 1], None)

    assert not store.has(name)
    assert not list(store.list())
    assert not list((tmp_path / ".new").iterdir())


def test_folder_replaces_a_cut_blob(tmp_path) -> None:
    """A blob cut short behind the store's back is mended by putting it again."""
    store = FolderStore(tmp_path)
    name = store.put(b"whole")
    store._path(name).write_bytes(b"who")

    store.put(b"whole")

    assert store.get(name) == b"whole"


def test_folder_replaces_a_damaged_blob(tmp_path) -> None:
    """Putting a blob again repairs a copy of the same size whose bytes have changed."""
    store = FolderStore(tmp_path)
    name = store.put(b"sound")
    store._path(name).write_bytes(b"souns")

    store.put(b"sound")

    assert store.get(name) == b"sound"


def test_folder_lists_nothing_strange(tmp_path) -> None:
    """Files of other names are not blobs; a folder that is not there is empty."""
    assert not list(FolderStore(tmp_path / "absent").list())
    store = FolderStore(tmp_path)
    store.put(b"x")
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "notes.txt").write_text("mine")

    assert len(list(store.list())) == 1


def test_open_store(tmp_path) -> None:
    """Each kind of URL opens its store, another is refused with the list of kinds."""
    assert isinstance(open_store("memory:"), MemoryStore)
    assert open_store(f"file://{tmp_path}/a%20b").root == Path(f"{tmp_path}/a b")
    assert open_store(tmp_path).root == tmp_path
    assert open_store(str(tmp_path)).root == tmp_path
    for url in ("ftp://host/x", "s3://", "file://elsewhere/x", ""):
        with pytest.raises(ValueError, match="memory:"):
            open_store(url)
