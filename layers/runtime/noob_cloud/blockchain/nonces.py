"""Hand out nonces: none twice, none left out, also across threads, processes and restarts.

A nonce is handed out together with its signed transaction, in one commit; so whatever has a nonce
can be sent again after a crash, and nothing is ever sent under a nonce that may be given again.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from noob_cloud.blockchain.errors import ConfigError
from noob_cloud.blockchain.fees import Fee
from noob_cloud.blockchain.transactions import Message, Signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["NonceBook"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS next (
    account TEXT PRIMARY KEY,
    nonce INTEGER NOT NULL CHECK (nonce >= 0)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sent (
    account TEXT NOT NULL,
    nonce INTEGER NOT NULL,
    hash TEXT NOT NULL,
    raw TEXT NOT NULL,
    max_fee TEXT NOT NULL,
    tip TEXT NOT NULL,
    receiver TEXT,
    data BLOB NOT NULL,
    value TEXT NOT NULL,
    gas INTEGER NOT NULL,
    PRIMARY KEY (account, nonce, hash)
) WITHOUT ROWID;
"""
_INSERT: Final = "INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SET_NEXT: Final = (
    "INSERT INTO next VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET nonce = excluded.nonce"
)


class NonceBook:
    """The nonces of one account on one chain, and what was sent under those not yet confirmed.

    Args:
        account: names the account and the chain, genesis and all: a local chain that begins anew
            is another one.
        path: of the file; None: in memory. Several accounts and processes may share a file.

    Raises:
        ConfigError: the file cannot be used.
    """

    def __init__(self, account: str, path: str | Path | None = None) -> None:
        self._account = account
        self._lock = threading.RLock()
        try:
            if path is not None:
                Path(path).expanduser().parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(
                ":memory:" if path is None else Path(path).expanduser(),
                check_same_thread=False,
                isolation_level=None,
                timeout=30.0,
            )
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"The nonce_file {path} cannot be used: {error}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    @contextmanager
    def _commit(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield self._file
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")

    @property
    def next(self) -> int:
        """The nonce that is handed out next."""
        with self._lock:
            found = self._file.execute(
                "SELECT nonce FROM next WHERE account = ?", (self._account,)
            ).fetchone()
        return int(found[0]) if found else 0

    def reach(self, pending: int) -> None:
        """Hand out no nonce below `pending`: the chain has seen them."""
        with self._commit() as file:
            file.execute(_SET_NEXT, (self._account, max(self.next, pending)))

    def take(self, count: int, sign: Callable[[int], Sequence[Signed]]) -> list[Signed]:
        """Hand out nonces and keep what is signed for them, in one commit.

        Args:
            count: how many.
            sign: is given the first, and returns the transactions of all.
        """
        with self._commit() as file:
            first = self.next
            made = list(sign(first))
            if [each.nonce for each in made] != list(range(first, first + count)):
                raise ValueError(f"sign did not use the nonces {first} to {first + count - 1}")
            file.executemany(_INSERT, [self._row(each) for each in made])
            file.execute(_SET_NEXT, (self._account, first + count))
        return made

    def keep(self, signed: Signed) -> None:
        """Keep a further transaction under a nonce that was handed out: its replacement."""
        with self._commit() as file:
            file.execute(_INSERT, self._row(signed))

    def give_back(self, nonce: int) -> bool:
        """Take back the newest nonce, under which nothing was sent that a node has taken.

        Returns:
            Whether that was possible: not where a later one is out already.
        """
        with self._commit() as file:
            if nonce != self.next - 1:
                return False
            file.execute("DELETE FROM sent WHERE account = ? AND nonce = ?", (self._account, nonce))
            file.execute(_SET_NEXT, (self._account, nonce))
        return True

    def drop(self, signed: Signed) -> None:
        """Forget one transaction, that no node takes."""
        with self._commit() as file:
            file.execute(
                "DELETE FROM sent WHERE account = ? AND nonce = ? AND hash = ?",
                (self._account, signed.nonce, signed.hash),
            )

    def settle(self, nonces: Sequence[int]) -> None:
        """Forget what was sent under nonces that are confirmed."""
        with self._commit() as file:
            file.executemany(
                "DELETE FROM sent WHERE account = ? AND nonce = ?",
                [(self._account, nonce) for nonce in nonces],
            )

    def settle_below(self, nonce: int) -> None:
        """Forget what was sent under nonces below one."""
        with self._commit() as file:
            file.execute("DELETE FROM sent WHERE account = ? AND nonce < ?", (self._account, nonce))

    def unsettled(self) -> list[Signed]:
        """Return what was sent under nonces not known to be confirmed, by nonce, oldest first."""
        with self._lock:
            rows = self._file.execute(
                "SELECT nonce, hash, raw, max_fee, tip, receiver, data, value, gas FROM sent"
                " WHERE account = ? ORDER BY nonce, length(max_fee), max_fee",
                (self._account,),
            ).fetchall()
        return [
            Signed(
                hash=made,
                raw=raw,
                nonce=nonce,
                fee=Fee(int(most), int(tip)),
                message=Message(receiver, bytes(data), int(value), gas),
            )
            for nonce, made, raw, most, tip, receiver, data, value, gas in rows
        ]

    def _row(self, signed: Signed) -> tuple[object, ...]:
        message, fee = signed.message, signed.fee
        return (
            self._account,
            signed.nonce,
            signed.hash,
            signed.raw,
            str(fee.max_fee),  # wei do not fit 64 bits
            str(fee.tip),
            message.to,
            message.data,
            str(message.value),
            message.gas,
        )
