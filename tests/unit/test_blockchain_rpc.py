"""Nodes that lie, stall, overflow or die; and what they answer in all their dialects."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from noob_cloud.blockchain.account import Account
from noob_cloud.blockchain.config import BlockchainConfig
from noob_cloud.blockchain.errors import (
    ConfigError,
    DisagreementError,
    RpcAnswerError,
    RpcError,
    TransactionRevertedError,
    WrongChainError,
)
from noob_cloud.blockchain.localchain import embedded_chain
from noob_cloud.blockchain.receipts import Receipt
from noob_cloud.blockchain.reverts import revert
from noob_cloud.blockchain.rpc import HttpEndpoint, Rpc, shown
from noob_cloud.blockchain.transactions import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Node:
    """A node that answers what it is told to, by method."""

    def __init__(self, name: str = "node", **answers: Any) -> None:
        self.name = name
        self.answers = {"eth_chainId": "0x1", **answers}
        self.asked: list[str] = []

    def post(self, body: bytes) -> bytes:
        asked = msgspec.json.decode(body)
        many = asked if isinstance(asked, list) else [asked]
        replies = [self.reply(one) for one in many]
        return msgspec.json.encode(replies if isinstance(asked, list) else replies[0])

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request["method"])
        answer = self.answers.get(request["method"])
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, dict) and "code" in answer:
            return {"id": request["id"], "error": answer}
        return {"id": request["id"], "result": answer}


@contextmanager
def served(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A node behind HTTP that does what it wants."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            answer(self)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v2/secret-key"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asked_over_http(url: str) -> None:
    with Rpc([HttpEndpoint(url, timeout=0.3, max_bytes=100_000)], 1) as rpc:
        rpc.call("eth_blockNumber")


# ---- hostile and broken nodes


def test_wrong_chain() -> None:
    """A node of another chain is found out before anything else is asked of it."""
    node = Node(eth_chainId="0x89")
    with pytest.raises(WrongChainError, match=r"chain 137; chain_id says 1. Nothing was sent"):
        Rpc([node], 1).call("eth_sendRawTransaction", "0x00")
    assert node.asked == ["eth_chainId"]


def test_huge_answer() -> None:
    """An answer is read up to the limit only; the way out is named."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.wfile.write(b" " * 65_536)
        except OSError:
            return

    with served(answer) as url, pytest.raises(RpcError, match="more than 100,000 bytes") as caught:
        asked_over_http(url)
    assert caught.value.too_large


def test_node_that_drips() -> None:
    """A byte now and then does not keep a request alive: the limit is for the whole of it."""
    stop = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            while not stop.wait(0.02):
                request.wfile.write(b" ")
                request.wfile.flush()
        except OSError:
            return

    with served(answer) as url:
        with pytest.raises(RpcError, match=r"has not answered within 0.3 s \(rpc_timeout\)"):
            asked_over_http(url)
        stop.set()


def test_node_that_says_nothing() -> None:
    """A node that accepts and keeps silent is left after the limit."""
    stop = threading.Event()

    with served(lambda _: bool(stop.wait(10)) and None) as url:
        with pytest.raises(RpcError, match="has not answered within"):
            asked_over_http(url)
        stop.set()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (502, b"<html>Bad gateway</html>", "answers HTTP 502"),
        (200, b"<html>", "what is no JSON-RPC"),
        (200, b"[" * 90_000, "what is no JSON-RPC"),
        (200, b'{"id": 77, "result": "0x1"}', "does not answer eth_chainId"),
        (200, b'{"id": 1, "result": "one"}', "where a number is due"),
        (200, b'{"id": 1, "result": null}', "where a number is due"),
        (429, b'{"id": 1, "error": {"code": 429, "message": "slow down"}}', "asked too much"),
    ],
)
def test_nonsense(status: int, body: bytes, said: str) -> None:
    """What is no answer to the question is said to be none, without the address's key."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.end_headers()
        request.wfile.write(body)

    with served(answer) as url, pytest.raises(RpcError, match=said) as caught:
        asked_over_http(url)
    assert "secret-key" not in str(caught.value)


def test_nobody_there() -> None:
    """A refused connection names the host, and not the path, where a key may stand."""
    with pytest.raises(RpcError, match=r"http://127.0.0.1:1 cannot be reached") as caught:
        asked_over_http("http://127.0.0.1:1/v2/secret-key")
    assert "secret-key" not in repr(caught.value)
    assert shown("https://user:pass@host.example/v2/KEY?k=1") == "https://host.example"


def test_wrong_hash() -> None:
    """A node that answers another hash for a transaction is not believed."""
    with embedded_chain() as chain:
        real = chain.rpc.endpoints[0]

        class Liar(Node):
            def post(self, body: bytes) -> bytes:
                if b"eth_sendRawTransaction" not in body:
                    return real.post(body)
                found = msgspec.json.decode(body)
                return msgspec.json.encode({"id": found["id"], "result": "0x" + "66" * 32})

        with (
            Account(chain.config(), rpc=Rpc([Liar()], chain.chain_id)) as account,
            pytest.raises(RpcError, match="whose hash is 0x"),
        ):
            account.transact([Message(account.address, gas=21_000)], "pay")


def test_receipt_of_another_transaction() -> None:
    """A receipt has to be of the transaction that was asked for, and whole."""
    with pytest.raises(RpcError, match="answers the receipt of 0xbb"):
        Receipt.read({"transactionHash": "0xbb"}, "0xaa")
    with pytest.raises(RpcError, match="is not one"):
        Receipt.read({"transactionHash": "0xaa"}, "0xaa")


# ---- several nodes


def test_failover() -> None:
    """Where a node fails the next is asked, and the failed one comes last for a while."""
    dead = Node("dead", eth_blockNumber=RpcError("dead cannot be reached."))
    good = Node("good", eth_blockNumber="0x5")
    rpc = Rpc([dead, good], 1)

    assert [rpc.call("eth_blockNumber") for _ in range(3)] == ["0x5"] * 3
    assert dead.asked.count("eth_blockNumber") == 1

    good.answers["eth_blockNumber"] = RpcError("good cannot be reached.")
    with pytest.raises(RpcError, match=r"None of 2 nodes answers. .*good .*dead "):
        rpc.call("eth_blockNumber")


def test_refusal_is_an_answer() -> None:
    """What a node refuses is not asked of the next: it would refuse it too."""
    first = Node("first", eth_call={"code": 3, "message": "execution reverted", "data": "0x1234"})
    second = Node("second")
    with pytest.raises(RpcAnswerError, match="first refuses eth_call") as caught:
        Rpc([first, second], 1).call("eth_call", {})
    assert caught.value.revert == b"\x12\x34"
    assert second.asked == []


def test_agreement() -> None:
    """A block counts when enough nodes name its hash; who names another is named."""
    same = {"hash": "0xaa"}
    one, two = Node("one", eth_getBlockByNumber=same), Node("two", eth_getBlockByNumber=same)
    liar = Node("liar", eth_getBlockByNumber={"hash": "0xbb"})
    late = Node("late")
    Rpc([one, liar, two], 1).agreed_hash(5, "0xaa", 2)
    with pytest.raises(DisagreementError, match="0xaa by a receipt, 0xbb by liar"):
        Rpc([one, liar], 1).agreed_hash(5, "0xaa", 2)
    with pytest.raises(RpcError, match="1 of 2 nodes that have to agree on block 5"):
        Rpc([one, late], 1).agreed_hash(5, "0xaa", 2)


def test_batch_keeps_its_order() -> None:
    """Answers are found by their ids, whatever order a node gives them in."""

    class Shuffling(Node):
        def post(self, body: bytes) -> bytes:
            asked = msgspec.json.decode(body)
            if isinstance(asked, dict):
                return super().post(body)
            answers = [{"id": one["id"], "result": one["params"][0]} for one in asked]
            return msgspec.json.encode(answers[::-1])

    rpc = Rpc([Shuffling()], 1)
    assert rpc.call_many([("echo", [n]) for n in range(20)]) == list(range(20))
    assert rpc.requests == 2


def test_no_node() -> None:
    """Without a node's address one is told how to set it."""
    with pytest.raises(ConfigError, match="set rpc_url"):
        Rpc.of(BlockchainConfig(chain_id=1))


# ---- reverts in the dialects of nodes

TOO_LOW = bytes.fromhex("00000000000000000000000000000000000000000000000000000000000000ff") * 2


@pytest.mark.parametrize(
    "data",
    ["0x1234", "Reverted 0x1234", {"data": "0x1234"}, {"originalError": {"data": "0x1234"}}],
)
def test_where_nodes_put_what_a_contract_reverts_with(data: Any) -> None:
    """geth, Parity, Hardhat and Ganache each put it in another place."""
    node = Node(eth_call={"code": -32000, "message": "VM Exception", "data": data})
    answer = Rpc([node], 1).call_many([("eth_call", [])], errors=True)[0]
    assert answer.revert == b"\x12\x34"


def test_revert_is_decoded_by_its_selector() -> None:
    """An error of the contract is a class with values; require and panic are said in words."""
    from noob_cloud.blockchain import reverts  # noqa: PLC0415 - its classes are made when asked for
    from noob_cloud.blockchain.contract import coordinator_abi  # noqa: PLC0415 - see above

    selector = next(s for s, e in coordinator_abi().errors.items() if e.name == "StakeTooLow")
    made = revert(selector + TOO_LOW, "claim")
    assert isinstance(made, reverts.StakeTooLow)
    assert made.values == {"required": 255, "stake": 255}
    assert "StakeTooLow(required 255, stake 255)" in str(made)

    text = bytes.fromhex("08c379a0") + (32).to_bytes(32, "big") + (2).to_bytes(32, "big")
    assert "refuses: no" in str(revert(text + b"no".ljust(32, b"\0"), "claim"))
    panic = revert(bytes.fromhex("4e487b71") + (17).to_bytes(32, "big"), "claim")
    assert panic.values == {"code": 17}


@pytest.mark.parametrize("data", [None, b"", b"\x01", b"\x01\x02\x03\x04", b"\x08\xc3\x79\xa0xx"])
def test_revert_that_nobody_can_read(data: bytes | None) -> None:
    """What cannot be decoded is an error all the same, with the bytes in it."""
    made = revert(data, "claim")
    assert type(made) is TransactionRevertedError
    assert "the contract refuses" in str(made)


def test_web3_takes_blocks_of_poa_chains() -> None:
    """Polygon's blocks have more extraData than web3.py takes by itself."""
    pytest.importorskip("web3")
    from noob_cloud.blockchain.web3 import web3_of  # noqa: PLC0415 - loads web3

    block = {"number": "0x1", "hash": "0x" + "11" * 32, "extraData": "0x" + "00" * 97}
    made = web3_of(Rpc([Node(eth_getBlockByNumber=block)], 1))
    assert len(made.eth.get_block(1)["proofOfAuthorityData"]) == 97
