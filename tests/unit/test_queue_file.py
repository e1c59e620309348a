"""The queue's file: refused when damaged or newer, cheap to claim from however full it is."""

from __future__ import annotations

import hashlib
import math
import pickle
import random
import sqlite3
import threading
from pathlib import Path

import pytest

from noob_cloud.codec import dumps, loads
from noob_cloud.exceptions import (
    DatabaseDamagedError,
    DatabaseVersionError,
    QueueBusyError,
    QueueError,
)
from noob_cloud.queue import Clock, Encoded, TaskQueue, database
from noob_cloud.queue.statements import SQL, Statements
from noob_cloud.task import Task, TaskStatus, Token


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound file with some tasks, closed."""
    path = tmp_path / "queue.db"
    with TaskQueue(db_path=path) as queue:
        queue.submit_many([{"node_id": "n", "epoch": e, "data": b"x" * 200} for e in range(500)])
    return path


def refuse(path: Path, error: type[QueueError], message: str) -> None:
    before = digest(path)
    with pytest.raises(error, match=message):
        TaskQueue(db_path=path)
    assert digest(path) == before


# ---- damaged, newer, foreign


def test_newer_database_is_refused(path: Path) -> None:
    """A file of a newer version is left byte for byte as it is, and the error says what to do."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    refuse(path, DatabaseVersionError, "Upgrade noob-cloud")


def test_foreign_database_is_refused(tmp_path: Path) -> None:
    """A database of something else is not written to."""
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE precious (x)")
    connection.commit()
    connection.close()
    refuse(path, DatabaseDamagedError, "something else")


@pytest.mark.parametrize(
    "content", [b"not a database at all" * 50, b"SQLite format 3\x00", b"SQLite format 3\x00" * 90]
)
def test_other_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no database is not overwritten."""
    path = tmp_path / "letter.txt"
    path.write_bytes(content)
    refuse(path, DatabaseDamagedError, "left as it is")


@pytest.mark.parametrize("seed", range(8))
def test_damaged_pages_are_refused(path: Path, seed: int) -> None:
    """Pages overwritten with noise are found when the file is opened."""
    rng = random.Random(seed)
    content = bytearray(path.read_bytes())
    for _ in range(40):
        at = rng.randrange(1024, len(content) - 64)
        content[at : at + 64] = rng.randbytes(64)
    path.write_bytes(content)
    refuse(path, DatabaseDamagedError, "damaged")


def test_truncated_file_is_refused(path: Path) -> None:
    """A file that was cut short is found when it is opened."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refuse(path, DatabaseDamagedError, "damaged")


def test_missing_table_is_refused(path: Path) -> None:
    """A file of the right version without a table is not taken for sound."""
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE lease")
    connection.close()
    refuse(path, DatabaseDamagedError, "lease")


def test_unreadable_path(tmp_path: Path) -> None:
    """A folder in the file's place is named in the error."""
    with pytest.raises(QueueError, match="cannot be read"):
        TaskQueue(db_path=tmp_path)


def test_older_database_is_migrated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each migration that the file lacks runs once, in one transaction, and the tasks stay."""
    monkeypatch.setattr(database, "MIGRATIONS", ("schema", "next_step"))
    monkeypatch.setattr(database, "VERSION", 2)
    monkeypatch.setitem(
        vars(SQL), "next_step", "CREATE TABLE added (x); INSERT INTO meta VALUES ('m', 1)"
    )
    for _ in range(2):
        with TaskQueue(db_path=path) as queue:
            assert queue.stats().ready == 500
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    assert connection.execute("SELECT count(*) FROM added").fetchone() == (0,)
    connection.close()


def test_failed_migration_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that fails is rolled back whole."""
    monkeypatch.setattr(database, "MIGRATIONS", ("schema", "next_step"))
    monkeypatch.setattr(database, "VERSION", 2)
    monkeypatch.setitem(
        vars(SQL), "next_step", "CREATE TABLE added (x); INSERT INTO nowhere VALUES (1)"
    )
    with pytest.raises(sqlite3.OperationalError):
        TaskQueue(db_path=path)
    monkeypatch.undo()
    with TaskQueue(db_path=path) as queue:
        assert queue.stats().ready == 500


def test_queue_in_the_log_of_a_killed_process(tmp_path: Path) -> None:
    """A file whose tables are still in the write-ahead log opens, and keeps its tasks."""
    path = tmp_path / "queue.db"
    queue = TaskQueue(db_path=path)
    queue.submit_task("n", 0)
    copy = tmp_path / "copy" / "queue.db"
    copy.parent.mkdir()
    for suffix in ("", "-wal"):
        Path(f"{copy}{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    queue.close()
    with TaskQueue(db_path=copy) as again:
        assert again.stats().ready == 1


def test_bad_setting() -> None:
    """`synchronous` is checked before anything is opened."""
    with pytest.raises(ValueError, match="NORMAL or FULL"):
        TaskQueue(persistent=False, synchronous="SOMETIMES")


def test_statements_are_named_once(tmp_path: Path) -> None:
    """A query that is named twice, or not at all, is an error where it is read."""
    path = tmp_path / "x.sql"
    path.write_text("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;\n")
    with pytest.raises(ValueError, match="names a twice"):
        Statements.of(path)
    with pytest.raises(AttributeError, match="no query is named nothing"):
        _ = SQL.nothing
    assert "claim" not in SQL.names()
    assert "lane_head" in SQL.names()


# ---- cost of a claim, in steps of SQLite's virtual machine and not in seconds


class Steps:
    """Counts the virtual machine's steps of one connection, in tens."""

    def __init__(self, queue: TaskQueue) -> None:
        self.count = 0
        queue._connection.set_progress_handler(self._more, 10)

    def _more(self) -> int:
        self.count += 1
        return 0

    def of(self, call: object) -> int:
        before = self.count
        assert call() is not None
        return self.count - before


def fill(queue: TaskQueue, count: int, **terms: object) -> None:
    for low in range(0, count, 20_000):
        entries = [
            {"node_id": "n", "epoch": e, **terms} for e in range(low, min(count, low + 20_000))
        ]
        queue.submit_many(entries)


def single_rows(queue: TaskQueue, count: int, lane: str) -> None:
    """Make `count` ready tasks of one row each, as single submits do, without their cost."""
    terms_id, first_key = queue._run(
        lambda: queue._ledger.words.place_of(
            next(x for x in queue._recipes.values() if lane in x.affinity)
        )
    )
    last = queue._connection.execute("SELECT max(last) FROM task").fetchone()[0]
    with queue._connection as connection:
        connection.executemany(
            "INSERT INTO task VALUES (?, 1, 1, ?, 0, 0, NULL, NULL, x'93a16e00c0')",
            ((last + i, terms_id) for i in range(1, count + 1)),
        )
        connection.executemany(
            "INSERT INTO ready VALUES (?, 1, ?, 0, 0)",
            ((first_key | last + i, terms_id) for i in range(1, count + 1)),
        )


def test_claim_behind_tasks_of_other_tags() -> None:
    """200,000 tasks that a worker may not take, all before its own, add nothing to its claim."""
    with TaskQueue(persistent=False) as queue:
        queue.submit_task("n", 0, 0, affinity_tags=["gpu"])
        queue.submit_task("n", 0)
        steps = Steps(queue)
        empty = steps.of(lambda: queue.claim_task("w"))
        single_rows(queue, 200_000, "gpu")
        queue.submit_task("n", 1, priority=3)
        full = steps.of(lambda: queue.claim_task("w"))
        assert full <= 2 * empty


def test_claim_behind_parked_tasks() -> None:
    """200,000 tasks of a key at its limit, all before another task, do not slow its claim."""
    with TaskQueue(persistent=False) as queue:
        queue.set_limit("user", concurrency=1)
        queue.submit_task("n", 0, key="user")
        queue.submit_task("n", 0)
        assert len(queue.claim_many("w", 2)) == 2
        steps = Steps(queue)
        queue.submit_task("n", 0)
        empty = steps.of(lambda: queue.claim_task("w"))
        fill(queue, 200_000, key="user", priority=0)
        queue.submit_task("n", 1, priority=3)
        full = steps.of(lambda: queue.claim_task("w"))
        assert queue.stats().parked == 200_000
        assert full <= 2 * empty


def test_claim_from_a_full_queue() -> None:
    """A claim from 200,000 ready tasks takes the steps of a claim from one."""
    with TaskQueue(persistent=False) as queue:
        queue.submit_task("n", 0, affinity_tags=["x"])
        steps = Steps(queue)
        empty = steps.of(lambda: queue.claim_task("w", ["x"]))
        single_rows(queue, 200_000, "x")
        full = steps.of(lambda: queue.claim_task("w", ["x"]))
        batch = steps.of(lambda: queue.claim_many("w", 100, ["x"]))
        assert full <= 2 * empty
        assert batch <= 100 * empty


def test_every_hot_query_searches_by_a_key() -> None:
    """No query that a submit, claim or outcome runs scans a table."""
    with TaskQueue(persistent=False) as queue:
        for name in (
            "last_task", "lane_rows", "lane_head", "drop_ready", "drop_ready_range",
            "shorten_ready", "chunk_of", "chunks_of", "lease_of", "drop_lease", "cut_lease",
            "end_single_lease", "settled_of", "dead_of", "due_delayed", "next_delayed",
            "due_queue_deadlines", "tasks_of_run_after", "find_unique",
        ):  # fmt: skip
            query = getattr(SQL, name)
            numbered = max((int(x) for x in "123" if f"?{x}" in query), default=0)
            count = numbered or query.count("?")
            plan = queue._connection.execute(f"EXPLAIN QUERY PLAN {query}", ["0"] * count)
            lines = [row[3] for row in plan]
            scans = [x for x in lines if x.startswith("SCAN") and "json_each" not in x]
            # a search for the least or greatest key reads one row of what SQLite calls a scan
            allowed = name in ("last_task", "tasks_of_run_after") or "next_" in name
            assert not scans or allowed, (name, lines)


# ---- clock


class JumpyClock(Clock):
    def __init__(self) -> None:
        self.wall_time = 1_000_000.0
        self.steady_time = 50.0
        super().__init__(lambda: self.wall_time, lambda: self.steady_time)

    def pass_time(self, seconds: float) -> None:
        self.wall_time += seconds
        self.steady_time += seconds


@pytest.mark.parametrize("jump", [-86_400.0, -3.0, 3.0, 86_400.0])
def test_leases_survive_a_clock_that_is_set(tmp_path: Path, jump: float) -> None:
    """However the wall clock is set, a lease and a delay last as long as they were to."""
    clock = JumpyClock()
    with (
        TaskQueue(db_path=tmp_path / "q.db", clock=clock) as one,
        TaskQueue(db_path=tmp_path / "q.db", clock=clock) as two,
    ):
        one.submit_task("n", 0)
        task = one.claim_task("w1")
        delayed = one.submit_task("n", 1, delay=20)
        assert task is not None
        clock.pass_time(5)
        clock.wall_time += jump
        assert two.claim_task("w2") is None
        assert one.claim_task("w2") is None
        assert not one.heartbeat([task]).lost
        clock.pass_time(15.5)
        assert getattr(two.claim_task("w2"), "task_id", None) == delayed
        clock.pass_time(40)
        again = two.claim_task("w2")
        assert again is not None
        assert (again.task_id, again.attempt) in ((task.task_id, 2), (delayed, 2))


# ---- threads share commits


def test_group_commit_of_many_threads(tmp_path: Path) -> None:
    """Threads that submit, claim and complete at once share commits and mix nothing up."""
    with TaskQueue(db_path=tmp_path / "q.db", synchronous="FULL") as queue:
        commits = []
        queue._connection.set_trace_callback(
            lambda sql: commits.append(1) if sql == "COMMIT" else None
        )
        seen: list[int] = []
        errors: list[BaseException] = []

        def work(name: int) -> None:
            try:
                for i in range(10):
                    queue.submit_task("n", name * 100 + i, data=[name, i])
                    task = queue.claim_task(f"w{name}")
                    assert task is not None
                    assert task.payload == [task.epoch // 100, task.epoch % 100]
                    queue.complete_task(task, task.epoch)
                    seen.append(task.epoch)
                    with pytest.raises(LookupError):
                        queue.get_task(10**9)
            except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
                errors.append(error)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert sorted(seen) == sorted(n * 100 + i for n in range(16) for i in range(10))
        assert queue.stats().completed == 160
        assert len(commits) < 3 * 160


def test_failing_work_does_not_spoil_its_neighbours(tmp_path: Path) -> None:
    """Work that shares a transaction with work that fails is run again by itself."""
    with TaskQueue(db_path=tmp_path / "q.db") as queue:
        first = threading.Event()
        go = threading.Event()
        done: dict[str, object] = {}

        def hold() -> None:
            def work() -> None:
                first.set()
                go.wait(10)

            queue._run(work)

        def broken() -> None:
            def work() -> None:
                queue._connection.execute("INSERT INTO meta VALUES ('half', 1)")
                raise ZeroDivisionError

            try:
                queue._run(work)
            except ZeroDivisionError as error:
                done["broken"] = error

        def sound() -> None:
            done["sound"] = queue.submit_task("n", 0)

        threads = [threading.Thread(target=hold)]
        threads[0].start()
        assert first.wait(10)
        for target in (broken, sound):
            threads.append(threading.Thread(target=target))
            threads[-1].start()
        while len(queue._commits._waiting) < 2:
            threading.Event().wait(0.001)
        go.set()
        for thread in threads:
            thread.join()
        assert isinstance(done["broken"], ZeroDivisionError)
        assert queue.get_task(done["sound"]).status is TaskStatus.READY
        found = queue._connection.execute("SELECT * FROM meta WHERE name = 'half'").fetchall()
        assert not found


def test_busy_file_is_waited_for_then_named(tmp_path: Path) -> None:
    """A file that another process holds too long gives a clear error, and works afterwards."""
    path = tmp_path / "q.db"
    with TaskQueue(db_path=path) as queue:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        queue._commits._busy_timeout = 0.05
        with pytest.raises(QueueBusyError, match="another process has held"):
            queue.submit_task("n", 0)
        other.execute("COMMIT")
        other.close()
        assert queue.submit_task("n", 0) == 1


# ---- keeping, forgetting


def test_cleanup_keeps_dead_letters_and_live_tasks() -> None:
    """Old outcomes go, with their payloads and keys; dead letters and live tasks stay."""
    with TaskQueue(persistent=False, keep_seconds=100) as queue:
        ids = queue.submit_many(
            [
                {"node_id": "n", "epoch": e, "max_retries": 0, "idempotency_key": f"k{e}"}
                for e in range(10)
            ],
            now=0.0,
        )
        done = queue.claim_many("w", 6, now=0.0)
        queue.fail_task(done[0], "boom", now=1.0)
        queue.complete_many([(t, 1) for t in done[1:]], now=1.0)
        queue.cancel_task(ids[8], now=1.0)
        assert queue.cleanup(now=50.0) == 0
        assert queue.cleanup(now=102.0) == 6
        assert queue.get_task(ids[0]).status is TaskStatus.DEAD
        assert [t.task_id for t in queue.list_tasks()] == [ids[0], *ids[6:8], ids[9]]
        again = queue.submit_task("n", 1, idempotency_key="k1", now=103.0)
        assert again not in ids
        assert queue.submit_task("n", 0, idempotency_key="k0", now=103.0) == ids[0]


def test_ids_are_never_given_twice(tmp_path: Path) -> None:
    """A late worker's id must not name a new task, even after all is cleaned away."""
    with TaskQueue(db_path=tmp_path / "q.db") as queue:
        seen: set[int] = set()
        for n in (1, 5, 1, 300):
            ids = queue.submit_many([{"node_id": "n", "epoch": e} for e in range(n)])
            assert not seen & set(ids)
            seen |= set(ids)
            queue.complete_many([(t, None) for t in queue.claim_many("w", 1000)])
            queue.cleanup(0.0, now=queue._clock.wall() + 1)
            queue.close()
        assert queue.list_tasks() == []


def test_delete_run() -> None:
    """All that a run has left goes, whatever its state; other runs stay."""
    with TaskQueue(persistent=False) as queue:
        entries = [{"node_id": "n", "epoch": e, "max_retries": 0} for e in range(8)]
        mixed = [{**x, "run_id": "a" if x["epoch"] % 2 else "b"} for x in entries]
        queue.submit_many(mixed)
        tasks = queue.claim_many("w", 5)
        queue.fail_task(tasks[0], "boom")
        queue.complete_many([(t, t.epoch) for t in tasks[1:4]])
        kept = [t.task_id for t in queue.list_tasks(run_id="b")]
        assert queue.delete_run("a") == 4
        assert queue.list_tasks(run_id="a") == []
        assert [t.task_id for t in queue.list_tasks()] == kept
        assert all(t.result == t.epoch for t in queue.list_tasks("completed"))


# ---- values


class Shelf(dict[str, bytes]):
    """A blob store as the queue wants it."""

    def put(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        self[name] = data
        return name

    def get(self, cid: str) -> bytes:
        return self[cid]


def test_large_values_lie_in_the_blob_store(tmp_path: Path) -> None:
    """A payload or result above the threshold is its cid in the file."""
    shelf = Shelf()
    path = tmp_path / "q.db"
    with TaskQueue(db_path=path, blobs=shelf, blob_threshold=1000) as queue:
        queue.submit_many([{"node_id": "n", "epoch": e, "data": b"x" * 5000} for e in range(2)])
        queue.submit_task("n", 2, data=b"small")
        for size, task in zip((5000, 5000, 5), queue.claim_many("w", 9), strict=True):
            assert len(task.payload) == size
            queue.complete_task(task, ["y" * 2000])
        assert [t.result for t in queue.list_tasks()] == [["y" * 2000]] * 3
        assert len(shelf) == 2
    with TaskQueue(db_path=path) as without, pytest.raises(QueueError, match="blobs="):
        _ = without.get_task(1).payload


def test_encoded_values_pass_through() -> None:
    """A coordinator hands frames on without decoding them."""
    frame = Encoded(dumps({"a": (1, 2)}))
    with TaskQueue(persistent=False) as queue:
        queue.submit_many([{"node_id": "n", "epoch": 0, "data": frame}])
        queue.submit_task("n", 1, data=7)
        first, second = queue.claim_many("w", 2, decode=False)
        assert isinstance(first.payload, Encoded)
        assert first.payload == frame
        assert loads(second.payload) == 7
        queue.complete_task(first, frame)
        assert queue.get_task(first.task_id).result == {"a": (1, 2)}


def test_claimed_task_behaves_as_a_task() -> None:
    """It equals, prints, pickles and hashes as the plain `Task` with its fields."""
    with TaskQueue(persistent=False) as queue:
        queue.submit_task("n", 3, data=[1], now=5.0)
        task = queue.claim_task("w", now=6.0)
        assert task is not None
        plain = Task(
            1, "n", 3, [1], status=TaskStatus.CLAIMED, token=Token(0, 1), worker_id="w",
            lease_expires_at=36.0, created_at=5.0, available_at=5.0,
        )  # fmt: skip
        assert task == plain
        assert plain == task
        assert repr(task) == repr(plain)
        copy = pickle.loads(pickle.dumps(task))
        assert type(copy) is Task
        assert copy == plain
        assert task != 1
        assert {task: 1}[task] == 1
        with pytest.raises(AttributeError):
            _ = task.nothing


def test_memory_queue_ends_with_its_close() -> None:
    """A queue in memory says that it is gone."""
    queue = TaskQueue(persistent=False)
    queue.submit_task("n", 0)
    queue.close()
    with pytest.raises(QueueError, match="in memory"):
        queue.stats()


def test_closed_file_opens_again(tmp_path: Path) -> None:
    """The next call opens the file; an id alone no longer names a lease of this object."""
    queue = TaskQueue(db_path=tmp_path / "q.db")
    queue.submit_task("n", 0)
    queue.close()
    assert queue.stats().ready == 1
    queue.close()


def test_waiting_claim_is_woken(tmp_path: Path) -> None:
    """A claim that waits gets a task that another thread, or another process, submits."""
    with TaskQueue(db_path=tmp_path / "q.db") as queue, TaskQueue(db_path=queue.path) as other:
        for submitter in (queue, other):
            timer = threading.Timer(0.02, submitter.submit_task, ("n", 0))
            timer.start()
            assert queue.claim_task("w", wait=10.0) is not None
            timer.join()
        assert queue.claim_many("w", 5, wait=0.02) == []


def test_backoff_is_bounded_and_jittered() -> None:
    """Each wait is drawn between zero and a bound that doubles up to the cap."""
    with TaskQueue(persistent=False, backoff=(1.0, 8.0), rng=random.Random(3)) as queue:
        queue.submit_task("n", 0, max_retries=20, now=0.0)
        now, waits = 0.0, []
        for _ in range(12):
            task = queue.claim_task("w", now=now)
            assert task is not None
            queue.fail_task(task, "boom", now=now)
            after = queue.get_task(task.task_id).available_at
            waits.append(after - now)
            now = after
        assert all(0 <= w <= min(8.0, 2.0**i) for i, w in enumerate(waits))
        assert len(set(waits)) == 12
        assert not math.isclose(max(waits), 8.0)
