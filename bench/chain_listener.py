"""The chain's listener: events a second from a node's JSON into the queue.

    python bench/chain_listener.py [--json] [--blocks 400] [--events 50] [--rounds 5]

A node's answers lie ready as bytes, so that its own speed and the network's do not count. Ours
checks each block's header and bloom, and commits tasks and checkpoint together into a file (WAL,
NORMAL). The peer, in turns, reads the same events as web3.py's documentation does,
`contract.events.X().get_logs()`, checks no block, and submits the same values to the same queue.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

from eth_abi import encode
from web3 import Web3
from web3.providers.base import JSONBaseProvider

from noob_cloud.blockchain.artifact import task_coordinator
from noob_cloud.blockchain.contract import coordinator_abi
from noob_cloud.blockchain.listener import ChainListener
from noob_cloud.blockchain.reading import bloom_of
from noob_cloud.blockchain.rpc import Rpc
from noob_cloud.queue import TaskQueue

TARGET = 10_000
SPAN = 50
ADDRESS = Web3.to_checksum_address("0x" + "ab" * 20)
TOPIC = next(
    topic for topic, event in coordinator_abi().events.items() if event.name == "TaskSubmitted"
)


class ReadyNode:
    """Answers that were written down before: an `Endpoint`."""

    name = "ready"

    def __init__(self, blocks: int, events: int) -> None:
        bloom = f"0x{bloom_of(bytes.fromhex(ADDRESS[2:]), TOPIC):0512x}"
        (found,) = [x for x in task_coordinator().abi if x.get("name") == "TaskSubmitted"]
        plain = [each["type"] for each in found["inputs"] if not each["indexed"]]
        indexed = sum(each["indexed"] for each in found["inputs"])
        data = "0x" + encode(plain, [_value(kind) for kind in plain]).hex()
        names = ["0x" + sha256(b"%d" % number).hexdigest() for number in range(blocks)]
        self.last = blocks - 1
        self.headers = [
            {
                "number": hex(number),
                "hash": names[number],
                "parentHash": names[number - 1] if number else "0x" + "00" * 32,
                "logsBloom": bloom,
            }
            for number in range(blocks)
        ]
        self.logs = {
            low: json.dumps(
                [
                    {
                        "address": ADDRESS.lower(),
                        "topics": ["0x" + TOPIC.hex()]
                        + ["0x" + f"{number * events + index + 1:064x}"]
                        + ["0x" + f"{1:064x}"] * (indexed - 1),
                        "data": data,
                        "blockNumber": hex(number),
                        "blockHash": names[number],
                        "transactionHash": names[number],
                        "transactionIndex": hex(index),
                        "logIndex": hex(index),
                        "removed": False,
                    }
                    for number in range(low, min(low + SPAN, blocks))
                    for index in range(events)
                ]
            )
            for low in range(0, blocks, SPAN)
        }
        self.texts = [json.dumps(header) for header in self.headers]

    def post(self, body: bytes) -> bytes:
        """Answer."""
        asked = json.loads(body)
        if isinstance(asked, list):
            return ("[" + ",".join(map(self._answer, asked)) + "]").encode()
        return self._answer(asked).encode()

    def _answer(self, asked: dict[str, Any]) -> str:
        method, params = asked["method"], asked["params"]
        if method == "eth_getLogs":
            found = self.logs[int(params[0]["fromBlock"], 16)]
        elif method == "eth_getBlockByNumber":
            number = self.last if params[0] == "latest" else int(params[0], 16)
            found = self.texts[number] if number <= self.last else "null"
        else:
            found = '"0x1"'
        return f'{{"jsonrpc":"2.0","id":{asked["id"]},"result":{found}}}'


class ReadyProvider(JSONBaseProvider):
    """The same for web3."""

    def __init__(self, node: ReadyNode) -> None:
        super().__init__()
        self.node = node

    def make_request(self, method: Any, params: Any) -> Any:
        """Answer, decoded as web3 decodes it."""
        return self.decode_rpc_response(self.node.post(self.encode_rpc_request(method, params)))


def _value(kind: str) -> Any:
    return b"\x01" * 32 if kind == "bytes32" else "0x" + "11" * 20 if kind == "address" else 1


def ours(node: ReadyNode, queue: TaskQueue) -> float:
    """Seconds."""
    listener = ChainListener(Rpc([node], 1), queue, ADDRESS, "0x" + TOPIC.hex(), span=SPAN)
    start = perf_counter()
    while listener.step():
        pass
    return perf_counter() - start


def peer(node: ReadyNode, queue: TaskQueue) -> float:
    """Seconds."""
    web3 = Web3(ReadyProvider(node))
    contract = web3.eth.contract(address=ADDRESS, abi=task_coordinator().abi)
    start = perf_counter()
    for low in range(0, node.last + 1, SPAN):
        found = contract.events.TaskSubmitted().get_logs(
            from_block=low, to_block=min(low + SPAN - 1, node.last)
        )
        queue.submit_many(
            [
                {
                    "node_id": "chain_event",
                    "epoch": 0,
                    "data": {
                        "arguments": dict(log["args"]),
                        "block": log["blockNumber"],
                        "block_hash": bytes(log["blockHash"]),
                        "transaction": bytes(log["transactionHash"]),
                        "index": log["logIndex"],
                    },
                }
                for log in found
            ]
        )
    return perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--blocks", type=int, default=400)
    parser.add_argument("--events", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    node, count = ReadyNode(options.blocks, options.events), options.blocks * options.events
    rates: dict[str, list[float]] = {"ours": [], "web3": []}
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(options.rounds):
            for name, work in (("ours", ours), ("web3", peer)):
                queue = TaskQueue(db_path=str(Path(folder) / f"{name}-{round_}.db"))
                seconds = work(node, queue)
                ready = queue.stats().ready
                if ready != count:
                    raise SystemExit(f"{name} submitted {ready} of {count} events")
                rates[name].append(count / seconds)
                queue.close()
    median = {name: statistics.median(found) for name, found in rates.items()}
    ratios = [a / b for a, b in zip(rates["ours"], rates["web3"], strict=True)]
    if options.json:
        print(json.dumps({"events/s": rates, "ratios": ratios}))
        return
    print(f"ours   {median['ours']:>9,.0f} events/s  (target {TARGET:,})")
    print(f"web3   {median['web3']:>9,.0f} events/s")
    print(f"ratio  {statistics.median(ratios):.1f}x  ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
