"""Open the queue's file: create it, migrate it, or refuse it and leave it as it is."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING

from noob_cloud.exceptions import DatabaseDamagedError, DatabaseVersionError, QueueError
from noob_cloud.queue.statements import SQL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPLICATION_ID = 0x6E6F6F62
"""`noob`, in the header of every queue file."""
MIGRATIONS = ("schema",)
"""Named queries: the n-th brings a file of version n to version n + 1."""
VERSION = len(MIGRATIONS)
CHECKED_SIZE = 64 * 1024 * 1024
"""Files up to this many bytes are checked page by page when they are opened (0.2 s at most)."""
PAGE_SIZE = 1024
"""Of a new file. A commit of one task rewrites five pages, so small ones make it cheaper."""
HEAD = 100
"""Bytes of SQLite's header."""
_MAGIC = b"SQLite format 3\x00"


def connect(
    path: Path | None,
    *,
    synchronous: str = "NORMAL",
    exclusive: bool = False,
    cache_mib: int = 32,
) -> sqlite3.Connection:
    """Return a connection to a sound, current database at `path`; None means in memory.

    Raises:
        DatabaseVersionError: A newer noob-cloud wrote the file.
        DatabaseDamagedError: The file is damaged, or belongs to something else.
    """
    if synchronous.upper() not in {"OFF", "NORMAL", "FULL", "EXTRA"}:
        raise ValueError(f"synchronous is NORMAL or FULL, not {synchronous!r}")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        examine(path)
    try:
        connection = _open(path, synchronous, exclusive=exclusive, cache_mib=cache_mib)
    except sqlite3.DatabaseError as error:
        raise DatabaseDamagedError(f"{path} cannot be opened: {error}", path=str(path)) from error
    try:
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _open(
    path: Path | None, synchronous: str, *, exclusive: bool, cache_mib: int
) -> sqlite3.Connection:
    connection = sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=0.0,  # commit.py asks again by itself
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        if path is not None:
            if exclusive:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            _use_wal(connection)
            connection.execute("PRAGMA wal_autocheckpoint = 10000")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA secure_delete = OFF")  # some builds overwrite what is deleted
        connection.execute(f"PRAGMA cache_size = {-1024 * cache_mib}")
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    give_up = monotonic() + 30
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > give_up:
                raise
            sleep(0.005)
        else:
            return


def examine(path: Path) -> None:
    """Raise if the file is not one that this version may write to; only read it.

    A missing or empty file is fine: it will be created.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except FileNotFoundError:
        return
    except OSError as error:
        raise QueueError(f"{path} cannot be read: {error}", path=str(path)) from error
    if not head:
        return
    if not head.startswith(_MAGIC) or len(head) < HEAD:
        raise DatabaseDamagedError(
            f"{path} is not a SQLite database, or its first page is damaged; it is left as it is."
            " Restore a copy, or name another db_path.",
            path=str(path),
        )
    _check_marks(path, int.from_bytes(head[68:72]), int.from_bytes(head[60:64]), final=False)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as reader:
            _examine_inside(path, reader)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise DatabaseDamagedError(
            f"{path} is damaged: {error}; it is left as it is", path=str(path)
        ) from error


def _examine_inside(path: Path, reader: sqlite3.Connection) -> None:
    reader.execute("PRAGMA busy_timeout = 30000")
    application = reader.execute("PRAGMA application_id").fetchone()[0]
    version = reader.execute("PRAGMA user_version").fetchone()[0]
    tables = {row[0] for row in reader.execute("SELECT name FROM sqlite_master")}
    _check_marks(path, application, version, final=bool(tables))
    if path.stat().st_size <= CHECKED_SIZE:
        found = reader.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)
    if version == VERSION and not tables >= _tables():
        raise sqlite3.DatabaseError(f"tables are missing: {sorted(_tables() - tables)}")


def _check_marks(path: Path, application: int, version: int, *, final: bool) -> None:
    """Compare the marks in a header; until `final`, zero may mean that they are in the log yet."""
    if application != APPLICATION_ID and (application or final):
        raise DatabaseDamagedError(
            f"{path} is a database of something else; it is left as it is", path=str(path)
        )
    if version > VERSION:
        raise DatabaseVersionError(
            f"{path} has version {version} and this noob-cloud knows versions up to {VERSION};"
            " it is left as it is. Upgrade noob-cloud to open it.",
            path=str(path),
            version=version,
        )


def _tables() -> set[str]:
    return {line.split()[2] for line in SQL.schema.splitlines() if line.startswith("CREATE TABLE")}


def _migrate(connection: sqlite3.Connection, path: Path | None) -> None:
    if connection.execute("PRAGMA user_version").fetchone()[0] == VERSION:
        return
    connection.execute("PRAGMA busy_timeout = 30000")
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for name in MIGRATIONS[version:]:
            for statement in _split(getattr(SQL, name)):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.OperationalError):
            connection.execute("ROLLBACK")
        raise
    if path is not None:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA busy_timeout = 0")


def _split(script: str) -> Iterator[str]:
    statement = ""
    for piece in script.split(";"):
        statement += f"{piece};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
