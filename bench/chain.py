"""The chain's client: transactions mined a second with one key, against anvil on this machine.

    python bench/chain.py [--json] [--count 2000] [--rounds 3]

The peer is web3.py as its documentation uses it: count, sign, send and wait, one request each. It
is measured in the same run, on the same node.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING

from eth_account import Account as Reference
from web3 import Web3

from noob_cloud.blockchain.account import Account
from noob_cloud.blockchain.ethereum import (
    EthereumTaskCoordinator,
    Terms,
    create_task_cid,
    deploy,
    to_digest,
)
from noob_cloud.blockchain.fees import Fee
from noob_cloud.blockchain.keys import LocalSigner
from noob_cloud.blockchain.localchain import anvil_chain
from noob_cloud.blockchain.transactions import Message, sign

if TYPE_CHECKING:
    from noob_cloud.blockchain.localchain import LocalChain

TARGET = 300.0
PAY = Message("0x" + "77" * 20, value=1, gas=21_000)


def signing(key: str) -> dict[str, float]:
    """Microseconds of one signature, ours and eth-account's."""
    signer, fee = LocalSigner(bytes.fromhex(key[2:])), Fee(10**10, 10**9)
    start = perf_counter()
    for nonce in range(500):
        sign(PAY, signer=signer, chain_id=31337, nonce=nonce, fee=fee)
    ours = (perf_counter() - start) / 500
    fields = {"chainId": 31337, "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9}
    fields |= {"gas": 21_000, "value": 1, "to": PAY.to}
    start = perf_counter()
    for nonce in range(500):
        Reference.sign_transaction({**fields, "nonce": nonce}, key)
    return {"sign, us": ours * 1e6, "eth-account, us": (perf_counter() - start) / 500 * 1e6}


def batches(chain: LocalChain, count: int) -> float:
    """One thread, 200 transactions a request."""
    with Account(chain.config(), rpc=chain.rpc) as account:
        start = perf_counter()
        account.transact([PAY] * count, "pay")
        return count / (perf_counter() - start)


def threads(chain: LocalChain, count: int) -> float:
    """Forty threads that send one after the other and wait for each."""
    with Account(chain.config(), rpc=chain.rpc) as account, ThreadPoolExecutor(40) as pool:
        start = perf_counter()
        list(pool.map(lambda _: account.transact([PAY], "pay"), range(count)))
        return count / (perf_counter() - start)


def tasks(chain: LocalChain, count: int) -> float:
    """`submitTask` for so many tasks, a transaction each, tried before they are sent."""
    address, _ = deploy(chain.config(), terms=Terms(), rpc=chain.rpc)
    config = chain.config(contract_address=address)
    with EthereumTaskCoordinator(config, rpc=chain.rpc) as coordinator:
        reward = 10**15
        cids = [to_digest(create_task_cid(("task", index))) for index in range(count)]
        start = perf_counter()
        messages = [
            coordinator.message("submitTask", cid, reward, value=reward * 102 // 100)
            for cid in cids
        ]
        coordinator.account.transact(messages, "submitTask")
        return count / (perf_counter() - start)


def web3_py(chain: LocalChain, count: int) -> float:
    """web3.py's way."""
    web3 = Web3(Web3.HTTPProvider(chain.url))
    own = Reference.from_key(chain.keys[0])
    start = perf_counter()
    for _ in range(count):
        fields = {
            "to": Web3.to_checksum_address(PAY.to),
            "value": 1,
            "gas": 21_000,
            "chainId": chain.chain_id,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 10**9,
            "nonce": web3.eth.get_transaction_count(own.address),
        }
        made = web3.eth.send_raw_transaction(own.sign_transaction(fields).raw_transaction)
        web3.eth.wait_for_transaction_receipt(made, poll_latency=0.002)
    return count / (perf_counter() - start)


def main() -> int:
    """Measure in interleaved rounds; return 1 where the target is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    with anvil_chain() as chain:
        for _ in range(options.rounds):
            found.setdefault("one thread, tx/s", []).append(batches(chain, options.count))
            found.setdefault("40 threads, tx/s", []).append(threads(chain, options.count // 2))
            found.setdefault("submitTask, tx/s", []).append(tasks(chain, options.count // 4))
            found.setdefault("web3.py, tx/s", []).append(web3_py(chain, options.count // 20))
            for name, value in signing(chain.keys[0]).items():
                found.setdefault(name, []).append(value)
    medians = {name: statistics.median(values) for name, values in found.items()}
    if options.json:
        print(json.dumps(medians))
    else:
        print(f"anvil, one key, {options.count} transactions, {options.rounds} rounds")
        for name, value in medians.items():
            print(f"{name:32}{value:12,.1f}")
        ratio = medians["one thread, tx/s"] / medians["web3.py, tx/s"]
        print(f"{'one thread / web3.py':32}{ratio:12,.1f}")
    return int(medians["one thread, tx/s"] < TARGET)


if __name__ == "__main__":
    sys.exit(main())
