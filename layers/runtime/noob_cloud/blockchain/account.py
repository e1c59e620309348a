"""One key on one chain: try a transaction, send it, wait for it, and say why it was refused."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

from noob_cloud.blockchain.amounts import to_eth
from noob_cloud.blockchain.errors import InsufficientFundsError, ReadOnlyError, RpcAnswerError
from noob_cloud.blockchain.fees import FeeMarket, with_safety
from noob_cloud.blockchain.keys import load_signer
from noob_cloud.blockchain.receipts import Watch
from noob_cloud.blockchain.reverts import revert
from noob_cloud.blockchain.rpc import Rpc, quantity
from noob_cloud.blockchain.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from noob_cloud.blockchain.config import BlockchainConfig
    from noob_cloud.blockchain.errors import ChainError
    from noob_cloud.blockchain.keys import Signer
    from noob_cloud.blockchain.receipts import Receipt
    from noob_cloud.blockchain.transactions import Message, Signed

__all__ = ["Account"]

_BATCH: Final = 100


class Account:
    """The chain as one key sees it; without a key it is only read. Threads may share it.

    Args:
        config: which chain, and which key.
        rpc: asks the chain; None: the nodes of `config`.
        signer: signs; None: the key of `config`.
    """

    def __init__(
        self, config: BlockchainConfig, *, rpc: Rpc | None = None, signer: Signer | None = None
    ) -> None:
        self.config = config
        self.rpc = Rpc.of(config) if rpc is None else rpc
        self._own_rpc = rpc is None
        self._signer = load_signer(config) if signer is None else signer
        self.fees = FeeMarket(self.rpc, config)
        self._lock = threading.Lock()
        self._sender: Sender | None = None
        self._watch: Watch | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Account({self.address or 'read only'}, chain {self.rpc.chain_id})"

    def close(self) -> None:
        """Close connections and the nonces' file."""
        if self._sender is not None:
            self._sender.close()
        if self._own_rpc:
            self.rpc.close()

    @property
    def address(self) -> str | None:
        """Whose key it is; None: there is none."""
        return None if self._signer is None else self._signer.address

    def own_address(self) -> str:
        """Return whose key it is.

        Raises:
            ReadOnlyError: there is none.
        """
        if self._signer is None:
            raise ReadOnlyError(
                "There is no key to sign with, so the chain is only read: set private_key,"
                " keystore, kms_key_id or secret_id (in the environment:"
                " NOOB_CLOUD_CHAIN_PRIVATE_KEY and so on)."
            )
        return self._signer.address

    def _out(self) -> tuple[Sender, Watch]:
        self.own_address()
        with self._lock:
            if self._sender is None or self._watch is None:
                assert self._signer is not None  # noqa: S101 - own_address has looked
                self._sender = Sender(
                    self.rpc, self._signer, self.fees, nonce_file=self.config.nonce_file
                )
                self._watch = Watch(self.rpc, self._sender, self.config)
            return self._sender, self._watch

    # ---- reading

    def balance(self, address: str | None = None) -> Decimal:
        """Return the ether of an account, one's own by default."""
        who = address or self.own_address()
        return to_eth(quantity(self.rpc.call("eth_getBalance", who, "latest"), "The node"))

    def read(self, to: str, data: bytes, doing: str) -> bytes:
        """Return what a contract answers without a transaction.

        Raises:
            TransactionRevertedError: it refuses.
        """
        call = {"to": to, "data": "0x" + data.hex()}
        if self.address:
            call["from"] = self.address
        try:
            return bytes.fromhex(self.rpc.call("eth_call", call, "latest")[2:])
        except RpcAnswerError as error:
            raise self._said(error, doing) from error

    # ---- transactions

    def transact(
        self, messages: Sequence[Message], doing: str, *, wait: bool = True
    ) -> list[Receipt]:
        """Do transactions, and return their receipts when they are confirmed.

        Those without a gas limit are tried on the node first, so that what the contract would
        refuse costs nothing.

        Args:
            messages: what they do.
            doing: in words, for errors.
            wait: for the receipts; else return an empty list once they are sent.

        Raises:
            TransactionRevertedError: the contract refuses one of them.
            InsufficientFundsError: the account has too little ether.
            NotMinedError: they are not confirmed in time.
            FeeCeilingError: the chain asks more than the ceiling.
        """
        sent = self.send(messages, doing)
        return self.wait(sent, doing) if wait else []

    def send(self, messages: Sequence[Message], doing: str) -> list[Signed]:
        """Send transactions, and return them as they were signed."""
        sender, _ = self._out()
        try:
            return sender.send(self._with_gas(messages, doing))
        except RpcAnswerError as error:
            raise self._said(error, doing) from error

    def wait(self, sent: Sequence[Signed], doing: str) -> list[Receipt]:
        """Return the receipts of transactions that were sent."""
        _, watch = self._out()
        receipts = watch.wait(sent)
        for signed, receipt in zip(sent, receipts, strict=True):
            if not receipt.succeeded:
                raise self._why(signed, receipt, doing)
        return receipts

    def tried(self, messages: Sequence[Message], doing: str) -> list[Message]:
        """Return messages with a limit of gas, by trying those that have none.

        Raises:
            TransactionRevertedError: the contract would refuse one of them.
        """
        return self._with_gas(messages, doing)

    def _with_gas(self, messages: Sequence[Message], doing: str) -> list[Message]:
        open_ones = [index for index, each in enumerate(messages) if not each.gas]
        made = list(messages)
        for start in range(0, len(open_ones), _BATCH):
            part = open_ones[start : start + _BATCH]
            calls = [("eth_estimateGas", (self._call(messages[index]),)) for index in part]
            answers = self.rpc.call_many(calls, errors=True)
            for index, answer in zip(part, answers, strict=True):
                if isinstance(answer, RpcAnswerError):
                    raise self._said(answer, doing) from answer
                gas = with_safety(quantity(answer, "The node"))
                made[index] = replace(messages[index], gas=gas)
        return made

    def _call(self, message: Message) -> dict[str, Any]:
        call = {
            "from": self.own_address(),
            "data": "0x" + message.data.hex(),
            "value": hex(message.value),
        }
        if message.to:
            call["to"] = message.to
        return call

    def _why(self, signed: Signed, receipt: Receipt, doing: str) -> ChainError:
        """Return the reason of a transaction that was mined and refused, by doing it again."""
        call = {**self._call(signed.message), "gas": hex(signed.message.gas)}
        data: bytes | None = None
        try:
            self.rpc.call("eth_call", call, hex(receipt.block_number))
        except RpcAnswerError as error:
            data = error.revert
        return revert(data, doing, transaction=receipt.hash)

    def _said(self, error: RpcAnswerError, doing: str) -> ChainError:
        """Return what a node's refusal means."""
        told = error.reason.lower()
        if error.revert or "revert" in told:
            return revert(error.revert, doing)
        if "insufficient" in told or "does not have enough" in told or "cannot afford" in told:
            return InsufficientFundsError(
                f"{doing}: {self.address} has {self.balance():f} {self.config.known.currency}, too"
                " little for the value and the fee. Send it some.",
                address=self.address,
            )
        return error
