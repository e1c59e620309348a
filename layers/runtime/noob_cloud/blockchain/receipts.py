"""Wait until transactions are mined and confirmed, and replace those that are stuck.

Threads that wait look together: one request serves all of them.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from noob_cloud.blockchain.amounts import to_eth
from noob_cloud.blockchain.errors import (
    ChainError,
    DisagreementError,
    FeeCeilingError,
    NotMinedError,
    RpcAnswerError,
    RpcError,
    WrongChainError,
)
from noob_cloud.blockchain.rpc import quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from noob_cloud.blockchain.config import BlockchainConfig
    from noob_cloud.blockchain.rpc import Rpc
    from noob_cloud.blockchain.sender import Sender
    from noob_cloud.blockchain.transactions import Signed

__all__ = ["Receipt", "Watch"]

_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a transaction."""

    hash: str
    """Of the transaction that was mined: of a replacement, where there was one."""
    block_number: int
    block_hash: str
    gas_used: int
    gas_price: int
    """Wei that were paid for a gas."""
    succeeded: bool
    """False: the contract refused; only the fee was paid."""
    contract_address: str | None
    """Of the contract that it made, if it made one."""
    logs: tuple[dict[str, Any], ...] = field(repr=False)
    """Events, as the node wrote them."""

    @property
    def fee_eth(self) -> Decimal:
        """What the transaction cost, in ether."""
        return to_eth(self.gas_used * self.gas_price)

    @classmethod
    def read(cls, found: dict[str, Any], expected: str) -> Receipt:
        """Return a receipt as a node wrote it.

        Raises:
            RpcError: it is another transaction's, or none.
        """
        try:
            if str(found["transactionHash"]).lower() != expected:
                raise RpcError(
                    f"The node answers the receipt of {str(found['transactionHash'])[:80]} for"
                    f" {expected}.",
                    transaction=expected,
                )
            return cls(
                hash=expected,
                block_number=quantity(found["blockNumber"], "The node"),
                block_hash=str(found["blockHash"]).lower(),
                gas_used=quantity(found["gasUsed"], "The node"),
                gas_price=quantity(found.get("effectiveGasPrice") or "0x0", "The node"),
                succeeded=quantity(found.get("status", "0x1"), "The node") == 1,
                contract_address=found.get("contractAddress"),
                logs=tuple(found.get("logs") or ()),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise RpcError(f"The node's receipt of {expected} is not one.") from error


@dataclass(eq=False)
class _Entry:
    """A nonce that somebody waits for."""

    sent: list[Signed]
    since: float
    receipt: Receipt | None = None
    done: bool = False
    gone_since: float | None = None
    """Since when the chain says that the nonce is used, and none of ours was it."""
    error: ChainError | None = None
    orphan: bool = False
    """Nobody waits for it: an earlier process sent it. Later ones are behind it all the same."""


class Watch:
    """Looks for receipts for as many as wait.

    Args:
        rpc: of the chain.
        sender: sends again, and replaces.
        config: with the confirmations and times.
        clock: seconds that only go on.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        rpc: Rpc,
        sender: Sender,
        config: BlockchainConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rpc = rpc
        self._sender = sender
        self._config = config
        self._finality = config.finality
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._entries: dict[int, _Entry] = {}
        self._resent = clock()
        self._looked = -1.0

    def wait(self, signed: Sequence[Signed], *, timeout: float | None = None) -> list[Receipt]:
        """Return the receipts of transactions, in order, when all are confirmed.

        A receipt may be of one that the contract refused: see `Receipt.succeeded`.

        Raises:
            NotMinedError: they are not within `timeout` (`receipt_timeout`) seconds; they still may
                be. Or another transaction of the same key took the nonce.
            DisagreementError: nodes name different hashes for the block.
            RpcError: no node can be reached for so long.
        """
        limit = self._config.patience if timeout is None else timeout
        begun = self._clock()
        with self._lock:
            entries = [
                self._entries.setdefault(each.nonce, _Entry([each], begun)) for each in signed
            ]
            for each in self._sender.take_left_over():
                found = self._entries.setdefault(each.nonce, _Entry([], begun, orphan=True))
                found.sent.append(each)
        pause = min(0.02, self._config.poll_interval)
        trouble: RpcError | None = None
        disputed: float | None = None
        while True:
            try:
                self._look_once(pause)
                trouble = disputed = None
            except WrongChainError:
                raise
            except RpcError as error:
                trouble = error
                if isinstance(error, DisagreementError):
                    disputed = self._clock() if disputed is None else disputed
                    if self._clock() - disputed > self._config.stuck_after:
                        raise  # no node was merely late
            failed = next((entry.error for entry in entries if entry.error), None)
            if failed is not None:
                self._forget(signed)
                raise failed
            if all(entry.done for entry in entries):
                self._forget(signed)
                return [entry.receipt for entry in entries if entry.receipt is not None]
            if self._clock() - begun > limit:
                raise trouble or self._late(entries, limit)
            self._sleep(pause)
            pause = min(pause * 1.5, self._config.poll_interval)

    def _late(self, entries: list[_Entry], limit: float) -> NotMinedError:
        waiting = [entry for entry in entries if not entry.done]
        mined = sum(entry.receipt is not None for entry in waiting)
        first = waiting[0].sent[-1]
        return NotMinedError(
            f"{len(waiting)} of {len(entries)} transactions are not confirmed after {limit:g} s"
            f" ({mined} of them are mined); the first is {first.hash}, nonce {first.nonce}. They"
            " still may be: nothing was lost.",
            hashes=[entry.sent[-1].hash for entry in waiting],
        )

    def _forget(self, signed: Sequence[Signed]) -> None:
        with self._lock:
            for each in signed:
                self._entries.pop(each.nonce, None)

    # ---- one look for all

    def _look_once(self, interval: float) -> None:
        with self._looking:
            if self._clock() - self._looked < interval / 2:
                return  # somebody else just has
            with self._lock:
                entries = {n: entry for n, entry in self._entries.items() if not entry.done}
            if entries:
                try:
                    self._look(entries)
                finally:
                    self._looked = self._clock()

    def _look(self, entries: dict[int, _Entry]) -> None:
        tag = "finalized" if self._finality == "finalized" else "latest"
        count, head = self._rpc.call_many(
            [
                ("eth_getTransactionCount", (self._sender.address, "latest")),
                ("eth_getBlockByNumber", (tag, False)),
            ],
            errors=True,
        )
        for answer in (count, head):
            if isinstance(answer, RpcAnswerError):
                raise RpcError(str(answer)) from answer  # such as: no block is final yet
        mined = quantity(count, "The node")
        height = quantity(head.get("number"), "The node") if isinstance(head, dict) else -1
        self._find({n: e for n, e in entries.items() if n < mined and e.receipt is None})
        self._confirm([e for e in entries.values() if e.receipt is not None], height)
        self._hurry({n: e for n, e in entries.items() if n >= mined})

    def _find(self, entries: dict[int, _Entry]) -> None:
        asked = [(entry, each) for entry in entries.values() for each in entry.sent]
        for start in range(0, len(asked), _BATCH):
            part = asked[start : start + _BATCH]
            answers = self._rpc.call_many(
                [("eth_getTransactionReceipt", (each.hash,)) for _, each in part], errors=True
            )
            for (entry, each), answer in zip(part, answers, strict=True):
                if isinstance(answer, dict):
                    entry.receipt, entry.gone_since = Receipt.read(answer, each.hash), None
        now = self._clock()
        for nonce, entry in entries.items():
            if entry.receipt is not None:
                continue
            entry.gone_since = now if entry.gone_since is None else entry.gone_since
            if now - entry.gone_since > self._config.stuck_after:
                entry.error = NotMinedError(
                    f"Another transaction of {self._sender.address} was mined under nonce {nonce},"
                    f" in place of {entry.sent[-1].hash}: somebody else uses this key too.",
                    hashes=[entry.sent[-1].hash],
                )

    def _confirm(self, entries: list[_Entry], height: int) -> None:
        """Settle those whose block is deep enough, and still the chain's."""
        wanted = 1 if isinstance(self._finality, str) else self._finality
        ready = [e for e in entries if e.receipt and height - e.receipt.block_number + 1 >= wanted]
        if wanted == 1 and self._finality == 1 and self._config.agreement == 1:
            self._settle(ready)
            return
        numbers = sorted({entry.receipt.block_number for entry in ready if entry.receipt})
        if not numbers:
            return
        blocks = self._rpc.call_many(
            [("eth_getBlockByNumber", (hex(number), False)) for number in numbers]
        )
        hashes = {
            number: str(block.get("hash", "")).lower() if isinstance(block, dict) else ""
            for number, block in zip(numbers, blocks, strict=True)
        }
        good = []
        for entry in ready:
            receipt = entry.receipt
            if receipt is None:
                continue
            if hashes[receipt.block_number] != receipt.block_hash:
                entry.receipt = None  # its block was replaced: look again
                continue
            good.append(entry)
        if self._config.agreement > 1:
            for number in sorted({entry.receipt.block_number for entry in good if entry.receipt}):
                self._rpc.agreed_hash(number, hashes[number], self._config.agreement)
        self._settle(good)

    def _settle(self, entries: list[_Entry]) -> None:
        self._sender.settled([entry.sent[0].nonce for entry in entries])
        for entry in entries:
            entry.done = True
            if entry.orphan:
                with self._lock:
                    self._entries.pop(entry.sent[0].nonce, None)

    def _hurry(self, waiting: dict[int, _Entry]) -> None:
        """Send again what waits too long, and offer more for the first: the rest is behind it."""
        now = self._clock()
        if not waiting or now - self._resent < self._config.stuck_after:
            return
        late = {n: e for n, e in waiting.items() if now - e.since >= self._config.stuck_after}
        if not late:
            return
        self._resent = now
        self._sender.resend([late[nonce].sent[-1] for nonce in sorted(late)])
        first = late[min(late)]
        try:
            first.sent.append(self._sender.replace(first.sent[-1]))
        except (FeeCeilingError, RpcAnswerError):
            return  # it waits as it is
        first.since = now
