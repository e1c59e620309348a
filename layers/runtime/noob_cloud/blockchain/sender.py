"""Send transactions in the order of their nonces, those of many threads in one request.

A thread puts what it wants sent into a line; whoever is first in it sends for all that stand there
(flat combining), so that nothing overtakes and forty threads cost as many requests as one.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from noob_cloud.blockchain.errors import ChainError, RpcAnswerError, RpcError, WrongChainError
from noob_cloud.blockchain.nonces import NonceBook
from noob_cloud.blockchain.rpc import quantity
from noob_cloud.blockchain.transactions import Message, Signed, sign

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from noob_cloud.blockchain.fees import Fee, FeeMarket
    from noob_cloud.blockchain.keys import Signer
    from noob_cloud.blockchain.rpc import Rpc

__all__ = ["Sender"]

_BATCH: Final = 200
"""Transactions of one request."""
_TRIES: Final = 5
_KNOWN: Final = ("already known", "alreadyknown", "known transaction", "already imported")
_NONCE_TAKEN: Final = (
    "nonce too low",
    "nonce is too low",
    "invalid nonce",
    "underpriced",
    "oldnonce",
)
_FILL_GAS: Final = 21_000


@dataclass(eq=False)
class _Turn:
    """What one thread wants sent."""

    messages: list[Message]
    sent: list[Signed] = field(default_factory=list)
    error: BaseException | None = None
    done: bool = False


class Sender:
    """Signs and sends for one key. Threads may share it.

    Args:
        rpc: of the chain.
        signer: whose key it is.
        fees: what is offered.
        nonce_file: where what was sent is remembered; None: in memory.
    """

    def __init__(
        self, rpc: Rpc, signer: Signer, fees: FeeMarket, *, nonce_file: str | Path | None = None
    ) -> None:
        self._rpc = rpc
        self._signer = signer
        self._fees = fees
        self._nonce_file = nonce_file
        self._line: list[_Turn] = []
        self._line_lock = threading.Lock()
        self._head = threading.Lock()
        self._book: NonceBook | None = None
        self._left_over: list[Signed] = []

    @property
    def address(self) -> str:
        """Who pays."""
        return self._signer.address

    def close(self) -> None:
        """Close the nonces' file."""
        with self._head:
            if self._book is not None:
                self._book.close()
                self._book = None

    def send(self, messages: Sequence[Message]) -> list[Signed]:
        """Send transactions; return them as they were signed, in order.

        They are remembered before they are sent. Where no node can be reached they are returned all
        the same: whoever waits for them sends them again.

        Raises:
            RpcAnswerError: a node refuses one of them; those before it were sent.
            FeeCeilingError: the chain's fee is above the ceiling; nothing was sent.
        """
        turn = _Turn(list(messages))
        with self._line_lock:
            self._line.append(turn)
        with self._head:
            while not turn.done:
                self._serve()
        if turn.error is not None:
            raise turn.error
        return turn.sent

    def resend(self, signed: Sequence[Signed]) -> None:
        """Send again what a node may have forgotten; what it knows it knows."""
        for start in range(0, len(signed), _BATCH):
            calls = [
                ("eth_sendRawTransaction", (each.raw,)) for each in signed[start : start + _BATCH]
            ]
            self._rpc.call_many(calls, errors=True)

    def replace(self, signed: Signed) -> Signed:
        """Offer more for a transaction that waits too long, under the same nonce.

        Raises:
            FeeCeilingError: that would be above the ceiling.
            RpcAnswerError: the node takes no replacement: it may have been mined.
        """
        fee = signed.fee.raised(self._fees.now(), self._fees.ceiling)
        made = self._sign(signed.message, signed.nonce, fee)
        book = self._open()
        book.keep(made)
        try:
            self._rpc.call("eth_sendRawTransaction", made.raw)
        except RpcAnswerError as error:
            if not _says(error, _KNOWN):
                book.drop(made)
                raise
        return made

    def take_left_over(self) -> list[Signed]:
        """Return, once, what an earlier process has sent and not seen confirmed.

        It was sent again when this one began.
        """
        taken, self._left_over = self._left_over, []
        return taken

    def settled(self, nonces: Sequence[int]) -> None:
        """Take note that transactions are confirmed."""
        self._open().settle(nonces)

    # ---- at the head of the line

    def _serve(self) -> None:
        """Send for those who stand in line."""
        with self._line_lock:
            turns: list[_Turn] = []
            count = 0
            while self._line and (not turns or count + len(self._line[0].messages) <= _BATCH):
                turns.append(self._line.pop(0))
                count += len(turns[-1].messages)
        try:
            self._send(turns)
        except BaseException as error:
            for turn in turns:
                if not turn.done:
                    turn.error, turn.done = error, True
            if not isinstance(error, (ChainError, OSError)):
                raise

    def _send(self, turns: list[_Turn]) -> None:
        fee = self._fees.now()
        book = self._open()
        messages = [message for turn in turns for message in turn.messages]
        made = book.take(
            len(messages),
            lambda first: [
                self._sign(message, first + index, fee) for index, message in enumerate(messages)
            ],
        )
        outcomes: list[RpcAnswerError | None] = [None] * len(made)
        for start in range(0, len(made), _BATCH):
            part = made[start : start + _BATCH]
            outcomes[start : start + len(part)] = self._post(part)
        self._mend(book, made, outcomes)
        at = 0
        for turn in turns:
            count = len(turn.messages)
            turn.sent = made[at : at + count]
            turn.error = next((each for each in outcomes[at : at + count] if each), None)
            turn.done = True
            at += count

    def _post(self, signed: Sequence[Signed]) -> list[RpcAnswerError | None]:
        """Send; return the refusals, each in its place."""
        calls = [("eth_sendRawTransaction", (each.raw,)) for each in signed]
        try:
            answers = self._rpc.call_many(calls, errors=True)
        except RpcError as error:
            if isinstance(error, WrongChainError):
                raise
            return [None] * len(signed)  # who waits for them sends them again
        refused: list[RpcAnswerError | None] = []
        for each, answer in zip(signed, answers, strict=True):
            if isinstance(answer, RpcAnswerError):
                refused.append(None if _says(answer, _KNOWN) else answer)
                continue
            if str(answer).lower() != each.hash:
                raise RpcError(
                    f"The node answers hash {str(answer)[:80]!r} for a transaction whose hash is"
                    f" {each.hash}. It is not to be trusted; whether it passed it on is unknown.",
                    transaction=each.hash,
                )
            refused.append(None)
        return refused

    def _mend(
        self, book: NonceBook, made: list[Signed], outcomes: list[RpcAnswerError | None]
    ) -> None:
        """Leave no gap where a node refused: sign anew, give the nonce back, or fill it."""
        for index in reversed(range(len(made))):
            refusal = outcomes[index]
            if refusal is None:
                continue
            if _says(refusal, _NONCE_TAKEN):
                continue
            if not book.give_back(made[index].nonce):
                self._fill(book, made[index])
        for index, refusal in enumerate(outcomes):
            if refusal is not None and _says(refusal, _NONCE_TAKEN):
                outcomes[index] = self._again(book, made, index, refusal)

    def _again(
        self, book: NonceBook, made: list[Signed], index: int, refusal: RpcAnswerError
    ) -> RpcAnswerError | None:
        """Sign under a later nonce what somebody else with this key was faster than."""
        for _ in range(_TRIES):
            lost = made[index]
            if self._rpc.call("eth_getTransactionByHash", lost.hash) is not None:
                return None  # it was this very one: a node took it and another one answered
            book.drop(lost)
            book.reach(max(self._count("pending"), lost.nonce + 1))
            fee = self._fees.now()
            message = lost.message
            made[index] = book.take(1, lambda n: [self._sign(message, n, fee)])[0]  # noqa: B023 - called at once
            again = self._post([made[index]])[0]
            if again is None:
                return None
            refusal = again
            if not _says(refusal, _NONCE_TAKEN):
                if not book.give_back(made[index].nonce):
                    self._fill(book, made[index])
                return refusal
        return refusal

    def _fill(self, book: NonceBook, refused: Signed) -> None:
        """Use up a nonce that later ones wait behind, by sending nothing to oneself."""
        book.drop(refused)
        made = self._sign(Message(self.address, gas=_FILL_GAS), refused.nonce, refused.fee)
        book.keep(made)
        self._post([made])

    def _open(self) -> NonceBook:
        """Return the book; the first time, learn what the chain knows and send again the rest."""
        if self._book is None:
            genesis = self._rpc.call("eth_getBlockByNumber", "0x0", False)
            hashed = genesis.get("hash", "") if isinstance(genesis, dict) else ""
            account = f"{self._rpc.chain_id}:{hashed}:{self.address.lower()}"
            book = NonceBook(account, self._nonce_file)
            mined, pending = self._count("latest"), self._count("pending")
            book.settle_below(mined)
            book.reach(pending)
            self._left_over = book.unsettled()
            self.resend(self._left_over)
            self._book = book
        return self._book

    def _count(self, at: str) -> int:
        return quantity(self._rpc.call("eth_getTransactionCount", self.address, at), "The node")

    def _sign(self, message: Message, nonce: int, fee: Fee) -> Signed:
        return sign(message, signer=self._signer, chain_id=self._rpc.chain_id, nonce=nonce, fee=fee)


def _says(error: RpcAnswerError, words: tuple[str, ...]) -> bool:
    told = error.reason.lower()
    return any(word in told for word in words)
