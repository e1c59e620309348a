"""A chain inside this process, that answers like a node: eth-tester behind JSON-RPC.

eth-tester is not made for threads, so one lock stands around each request.
"""

from __future__ import annotations

import threading
import time
from ast import literal_eval
from typing import TYPE_CHECKING, Any, Final

import msgspec

from noob_cloud.blockchain.errors import need, same_recursion_limit

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EmbeddedEndpoint"]

_TAGS: Final = frozenset(("latest", "earliest", "pending", "safe", "finalized"))
_REVERTED: Final = 3


class _RefusedError(Exception):
    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.body = {"code": code, "message": message, **({"data": data} if data else {})}


class EmbeddedEndpoint:
    """A chain in this process. It is mined at each transaction, and all its blocks are final.

    Args:
        automine: mine a block for each transaction; else `evm_mine` does.
    """

    name = "eth-tester"

    def __init__(self, *, automine: bool = True) -> None:
        need("eth", "localchain")
        tester = need("eth_tester", "localchain")
        self._exceptions = need("eth_tester.exceptions", "localchain")
        with same_recursion_limit():
            backend = tester.PyEVMBackend()
        self.chain = tester.EthereumTester(backend, auto_mine_transactions=automine)
        self.chain_id = int(self.chain.backend.chain.chain_id)
        self.keys = tuple(
            f"0x{bytes(key.to_bytes()).hex()}" for key in self.chain.backend.account_keys
        )
        """Private keys of accounts that have a million ether each."""
        self._lock = threading.Lock()
        self._methods: dict[str, Callable[..., Any]] = {
            "eth_chainId": lambda: hex(self.chain_id),
            "net_version": lambda: str(self.chain_id),
            "web3_clientVersion": lambda: "eth-tester",
            "eth_accounts": lambda: list(self.chain.get_accounts()),
            "eth_blockNumber": self._height,
            "eth_getBlockByNumber": self._block,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBalance": lambda who, at="latest": hex(self.chain.get_balance(who, _at(at))),
            "eth_getTransactionCount": lambda who, at="latest": hex(
                self.chain.get_nonce(who, _at(at))
            ),
            "eth_getCode": lambda who, at="latest": self.chain.get_code(who, _at(at)),
            "eth_getStorageAt": lambda who, slot, at="latest": self.chain.get_storage_at(
                who, int(slot, 16), _at(at)
            ),
            "eth_call": lambda call, at="latest": self.chain.call(self._call(call), _at(at)),
            "eth_estimateGas": lambda call, at="latest": hex(  # noqa: ARG005 - a node's
                self.chain.estimate_gas(self._call(call))
            ),
            "eth_gasPrice": lambda: hex(2 * 10**9),
            "eth_maxPriorityFeePerGas": lambda: hex(10**9),
            "eth_sendRawTransaction": self.chain.send_raw_transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getTransactionByHash": self._transaction,
            "eth_getLogs": self._logs,
            "evm_mine": lambda count="0x1": self.chain.mine_blocks(int(count, 16)),
            "evm_increaseTime": self._advance,
            "evm_snapshot": lambda: hex(self.chain.take_snapshot()),
            "evm_revert": lambda which: self.chain.revert_to_snapshot(int(which, 16)) is None,
        }

    def post(self, body: bytes) -> bytes:
        """Answer a request, or a batch of them."""
        asked = msgspec.json.decode(body)
        with self._lock:
            answer = (
                [self._answer(one) for one in asked]
                if isinstance(asked, list)
                else self._answer(asked)
            )
        return msgspec.json.encode(answer)

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            reply["result"] = self._do(request["method"], request["params"])
        except _RefusedError as error:
            reply["error"] = error.body
        return reply

    def _do(self, name: str, params: list[Any]) -> Any:
        method = self._methods.get(name)
        if method is None:
            raise _RefusedError(-32601, f"eth-tester has no {name}")
        errors = self._exceptions
        try:
            return method(*params)
        except errors.TransactionFailed as error:
            text = _reverted(error)
            raise _RefusedError(_REVERTED, "execution reverted", text) from error
        except errors.TransactionNotFound:
            return None
        except errors.BlockNotFound as error:
            raise _RefusedError(-32001, "header not found") from error
        except Exception as error:
            told = " ".join(str(part) for part in error.args) or type(error).__name__
            raise _RefusedError(-32000, told[:500]) from error

    def _height(self) -> str:
        return hex(self.chain.get_block_by_number("latest")["number"])

    def _block(self, at: str, full: bool = False) -> Any:  # noqa: FBT001, FBT002 - a node's
        try:
            return _json(self.chain.get_block_by_number(_at(at), full))
        except self._exceptions.BlockNotFound:
            return None

    def _block_by_hash(self, which: str, full: bool = False) -> Any:  # noqa: FBT001, FBT002
        try:
            return _json(self.chain.get_block_by_hash(which, full))
        except self._exceptions.BlockNotFound:
            return None

    def _receipt(self, which: str) -> Any:
        found = self.chain.get_transaction_receipt(which)
        return None if found["block_number"] is None else _json(found)

    def _transaction(self, which: str) -> Any:
        return _json(self.chain.get_transaction_by_hash(which))

    def _logs(self, wanted: dict[str, Any]) -> Any:
        if "blockHash" in wanted:
            block = self.chain.get_block_by_hash(wanted["blockHash"])
            first = last = block["number"]
        else:
            first, last = _at(wanted.get("fromBlock", "latest")), _at(wanted.get("toBlock"))
            height = self.chain.get_block_by_number("latest")["number"]
            first, last = (
                min(each, height) if isinstance(each, int) else height for each in (first, last)
            )
        found = self.chain.get_logs(
            from_block=first,
            to_block=last,
            address=wanted.get("address"),
            topics=wanted.get("topics"),
        )
        return [{**_json(log), "removed": False} for log in found if log["type"] == "mined"]

    def _advance(self, seconds: str | int) -> str:
        by = int(seconds, 16) if isinstance(seconds, str) else seconds
        now = max(self.chain.get_block_by_number("latest")["timestamp"], int(time.time()))
        self.chain.time_travel(now + by)
        return hex(by)

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        """Return a call in eth-tester's words."""
        sender = call.get("from") or self.chain.get_accounts()[0]
        made: dict[str, Any] = {
            "from": sender,
            "data": call.get("data", call.get("input", "0x")),
            "value": int(call.get("value", "0x0"), 16),
        }
        if call.get("to"):
            made["to"] = call["to"]
        made["gas"] = int(call.get("gas", hex(20_000_000)), 16)
        return made


def _reverted(error: BaseException) -> str | None:
    """Return what a contract reverted with, as a node does, or in words."""
    data: Any = error
    while isinstance(data, BaseException):
        data = data.args[0] if data.args else None
    if isinstance(data, str) and data.startswith(("b'", 'b"')):
        data = literal_eval(data)  # eth-tester writes bytes as Python does
    return "0x" + data.hex() if isinstance(data, bytes) else data


def _at(tag: str | None) -> Any:
    """Return a block's number, or its tag: every block is final here."""
    if tag is None or tag in ("safe", "finalized"):
        return "latest"
    return tag if tag in _TAGS else int(tag, 16)


def _json(value: Any, key: str = "") -> Any:
    """Return what eth-tester says as a node writes it: camelCase, numbers in hex."""
    if isinstance(value, dict) or hasattr(value, "items"):
        made = {}
        for name, item in value.items():
            head, *rest = name.split("_")
            camel = head + "".join(part.capitalize() for part in rest)
            camel = "miner" if camel == "coinbase" else camel
            made[camel] = _json(item, camel)
        if "type" in made and made["type"] == "mined":
            del made["type"]
        return made
    if isinstance(value, (list, tuple)):
        return [_json(item, key) for item in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"0x{value:0512x}" if key == "logsBloom" else hex(value)
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return value
