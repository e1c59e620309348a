"""Keep a lease, start its tasks, hand them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noob_cloud.queue.interface import HeartbeatReply
from noob_cloud.queue.statements import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from noob_cloud.queue.ledger import Ledger, Piece
    from noob_cloud.task import Token

RELEASED = "released"
"""Why a task is tried again that was handed back."""
Run = tuple[int, int, "Token | None"]
"""Neighbouring tasks [low, high] under one token."""


def runs(ids: list[int], tokens: list[Token | None]) -> list[Run]:
    """Join neighbouring ids with equal tokens; the ids go up."""
    if not ids:
        return []
    low, high, token = ids[0], ids[-1], tokens[0]
    if high - low == len(ids) - 1 and tokens.count(token) == len(ids):
        return [(low, high, token)]
    found: list[Run] = []
    high = low
    for task_id, other in zip(ids[1:], tokens[1:], strict=True):
        if task_id == high + 1 and other == token:
            high = task_id
        elif task_id != high:
            found.append((low, high, token))
            low = high = task_id
            token = other
    found.append((low, high, token))
    return found


def start(ledger: Ledger, wanted: Iterable[Run], lease_seconds: float, now: float) -> list[int]:
    """Mark tasks as running, their run timeout counted from now; return the ids that are lost.

    It is a sign of life, worth another lease of the length that was asked for at the claim.
    """
    lost: list[int] = []
    for low, high, token in wanted:
        for piece in ledger.held(low, high, token):
            if isinstance(piece, int):
                lost.append(piece)
            elif piece.row.started_at is None:
                timeout = ledger.words.terms(piece.row.terms).timeout_seconds
                asked = piece.row.expires_at - piece.row.granted_at
                expires = now + min(lease_seconds, timeout, max(asked, 0.0))
                _isolate(ledger, piece)
                ledger.execute(SQL.start_lease, (piece.low, now, expires, now + timeout))
                ledger.remind(expires)
    return lost


def heartbeat(
    ledger: Ledger, wanted: Iterable[Run], lease_seconds: float, now: float
) -> HeartbeatReply:
    """Extend leases; a row is written only when half of its lease has passed."""
    lost: list[int] = []
    for low, high, token in wanted:
        for piece in ledger.held(low, high, token):
            if isinstance(piece, int):
                lost.append(piece)
                continue
            row = piece.row
            expires = min(now + lease_seconds, row.deadline)
            if expires - row.expires_at >= lease_seconds / 2 or row.granted_at > now:
                _isolate(ledger, piece)
                ledger.execute(SQL.extend_lease, (piece.low, expires))
    cancelled = frozenset(x for x in lost if ledger.is_cancelled(x))
    return HeartbeatReply(frozenset(lost), cancelled)


def release(ledger: Ledger, wanted: Iterable[Run], now: float = 0.0) -> list[int]:
    """Hand tasks back: ready at once, no attempt counted; return the ids that are lost."""
    lost: list[int] = []
    for low, high, token in wanted:
        for piece in ledger.held(low, high, token):
            if isinstance(piece, int):
                lost.append(piece)
                continue
            row = piece.row
            ledger.end(piece)
            terms, key = ledger.again(piece, RELEASED, now)
            ledger.make_ready(key, piece.n, terms, row.claims, row.tries)
    return lost


def _isolate(ledger: Ledger, piece: Piece) -> None:
    """Give these tasks a lease row of their own."""
    row = piece.row
    if piece.n < row.n:
        ledger.carve(piece)
        ledger.execute(SQL.add_lease, row._replace(id=piece.low, n=piece.n, key=piece.key))
