"""A listener submits each event of the canonical chain once, whatever the chain and nodes do."""

from __future__ import annotations

import json
import os
from collections import Counter
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from noob_cloud.blockchain.errors import RpcError
from noob_cloud.blockchain.listener import ChainListener, ReorgTooDeepError
from noob_cloud.blockchain.reading import bloom_of
from noob_cloud.blockchain.rpc import Rpc
from noob_cloud.exceptions import ConflictError
from noob_cloud.queue import TaskQueue
from noob_cloud.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from noob_cloud.task import Task

ADDRESS = "0x" + "ab" * 20
TOPIC = "0x" + "cd" * 32
HISTORIES = int(os.environ.get("NOOB_CLOUD_TEST_CHAIN_HISTORIES", "100"))


class Killed(BaseException):
    """The process ends here."""


class ModelChain:
    """A chain behind a node that answers badly when told to: an `Endpoint` of the real Rpc."""

    name = "model"

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.blocks: list[dict[str, Any]] = []
        self.trouble = 0.0
        self.refuses = 1000
        self.leaves_out = 0.0
        self.final = 0
        self.made = 0
        self.asked: Counter[str] = Counter()
        self.mine(1)

    def mine(self, count: int) -> None:
        """Add blocks with up to three events each."""
        for _ in range(count):
            self.made += 1
            number = len(self.blocks)
            name = "0x" + sha256(b"%d" % self.made).hexdigest()
            logs = [self._log(number, name, index) for index in range(self.rng.randrange(4))]
            parent = self.blocks[-1]["hash"] if self.blocks else "0x" + "00" * 32
            bloom = bloom_of(bytes.fromhex(ADDRESS[2:]), bytes.fromhex(TOPIC[2:])) if logs else 0
            self.blocks.append(
                {
                    "number": hex(number),
                    "hash": name,
                    "parentHash": parent,
                    "logsBloom": f"0x{bloom:0512x}",
                    "logs": logs,
                }
            )

    def _log(self, number: int, name: str, index: int) -> dict[str, Any]:
        return {
            "address": ADDRESS,
            "topics": [TOPIC],
            "data": "0x",
            "blockNumber": hex(number),
            "blockHash": name,
            "transactionHash": name,
            "logIndex": hex(index),
            "removed": False,
        }

    def reorg(self, depth: int) -> None:
        """Replace the last blocks, and add one."""
        depth = min(depth, len(self.blocks) - 1 - self.final)
        del self.blocks[len(self.blocks) - depth :]
        self.mine(depth + 1)

    def events(self) -> set[tuple[str, int]]:
        """Every event on the chain."""
        logs = [log for block in self.blocks for log in block["logs"]]
        return {(log["blockHash"], int(log["logIndex"], 16)) for log in logs}

    def post(self, body: bytes) -> bytes:
        """Answer a request."""
        asked = json.loads(body)
        if self.rng.random() < self.trouble / 10:
            raise RpcError("the node cannot be reached")
        answers = [self._answer(one) for one in (asked if isinstance(asked, list) else [asked])]
        return json.dumps(answers if isinstance(asked, list) else answers[0]).encode()

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.asked[asked["method"]] += 1
        if self.rng.random() < self.trouble / 60:
            self.reorg(self.rng.randrange(1, 5))
        given = {"jsonrpc": "2.0", "id": asked["id"]}
        if asked["method"] == "eth_chainId":
            return given | {"result": "0x1"}
        if asked["method"] == "eth_getBlockByNumber":
            return given | {"result": self._block(asked["params"][0])}
        assert asked["method"] == "eth_getLogs"
        logs = self._logs(asked["params"][0])
        if len(logs) > self.refuses:
            return given | {"error": {"code": -32005, "message": "more than 12 results"}}
        return given | {"result": logs}

    def _block(self, named: str) -> dict[str, Any] | None:
        places = {"latest": len(self.blocks) - 1, "safe": self.final, "finalized": self.final}
        place = places[named] if named in places else int(named, 16)
        return self.blocks[place] if place < len(self.blocks) else None

    def _logs(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        if "blockHash" in wanted:
            found = [block for block in self.blocks if block["hash"] == wanted["blockHash"]]
            return found[0]["logs"] if found else []
        low, high = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
        blocks = [block for block in self.blocks[low : high + 1] if block["logs"]]
        logs = [log for block in blocks for log in block["logs"]]
        if self.rng.random() < self.trouble:
            logs = logs + self.rng.sample(logs, len(logs) // 2)
            self.rng.shuffle(logs)
        if blocks and self.rng.random() < self.leaves_out:
            gone = self.rng.choice(blocks)  # all of one block, and some of the others
            logs = [x for x in logs if x not in gone["logs"] and self.rng.random() < 0.8]
        return logs


class Dying:
    """A queue whose caller is killed before or after the commit."""

    def __init__(self, queue: TaskQueue, rng: Random) -> None:
        self.queue = queue
        self.rng = rng
        self.checkpoint = queue.checkpoint

    def move_checkpoint(self, *args: Any, **options: Any) -> list[int]:
        chance = self.rng.random()
        if chance < 0.1:
            raise Killed
        ids = self.queue.move_checkpoint(*args, **options)
        if chance > 0.9:
            raise Killed
        return ids


@pytest.fixture
def queue() -> Iterator[TaskQueue]:
    """A queue in memory."""
    found = TaskQueue(persistent=False)
    yield found
    found.close()


def in_queue(queue: TaskQueue) -> list[tuple[str, int]]:
    """The events whose tasks wait, in order."""
    return [event_of(task) for task in queue.list_tasks(TaskStatus.READY, limit=10_000)]


def event_of(task: Task) -> tuple[str, int]:
    return "0x" + task.payload["block_hash"].hex(), task.payload["index"]


def listener(chain: ModelChain, queue: Any, **options: Any) -> ChainListener:
    return ChainListener(Rpc([chain], 1), queue, ADDRESS, TOPIC, **options)


def catch_up(follower: ChainListener) -> None:
    while follower.step():
        continue


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_random_history(seed: int, queue: TaskQueue) -> None:
    """Reorgs, errors, repeated and missing logs and deaths leave exactly the canonical events.

    Meanwhile a worker works: what it has finished stays, and of what it holds nothing is lost.
    """
    rng = Random(seed)
    chain = ModelChain(rng)
    dying = Dying(queue, rng)
    finished: set[tuple[str, int]] = set()
    for _ in range(25):
        chain.mine(rng.randrange(6))
        if rng.random() < 0.3:
            chain.reorg(rng.randrange(1, 21))
        chain.trouble = rng.choice([0.0, 0.3])
        chain.leaves_out = rng.choice([0.0, 0.3])
        follower = listener(chain, dying, span=rng.choice([1, 7, 100]))
        try:
            for _ in range(rng.randrange(4)):
                follower.step()
        except (RpcError, Killed):
            pass  # it begins again
        task = queue.claim_task("w") if rng.random() < 0.2 else None
        if task is not None and rng.random() < 0.5:
            queue.complete_task(task, 1)
            finished.add(event_of(task))
    chain.trouble = 0.0
    catch_up(listener(chain, queue))

    tasks = queue.list_tasks(limit=10_000)
    found = [event_of(task) for task in tasks if task.status is not TaskStatus.CANCELLED]

    assert len(found) == len(set(found))
    assert set(found) == chain.events() | finished


def test_two_listeners(queue: TaskQueue) -> None:
    """Who lost the race to move the checkpoint is told, and submits nothing."""
    queue.move_checkpoint("chain", 0, b"a", [(1, {"node_id": "n", "epoch": 0})])

    with pytest.raises(ConflictError, match="version 1, not 0"):
        queue.move_checkpoint("chain", 0, b"b", [(1, {"node_id": "n", "epoch": 0})])

    assert queue.stats().ready == 1
    assert queue.checkpoint("chain").state == b"a"


def test_checkpoint_outlives_the_process(tmp_path: Path) -> None:
    """A checkpoint is in the queue's file."""
    first = TaskQueue(db_path=tmp_path / "q.db")
    first.move_checkpoint("chain", 0, b"a")
    first.close()
    again = TaskQueue(db_path=tmp_path / "q.db")

    assert again.checkpoint("chain").version == 1
    again.close()


def test_finished_task_stays(queue: TaskQueue) -> None:
    """A task that has its outcome keeps it when its block leaves the chain."""
    queue.move_checkpoint("chain", 0, b"a", [(5, {"node_id": "n", "epoch": 0})])
    task = queue.claim_task("w")
    assert task is not None
    queue.complete_task(task, 1)

    queue.move_checkpoint("chain", 1, b"b", undo_above=4)

    assert queue.get_task(task.task_id).status is TaskStatus.COMPLETED


def test_range_shrinks(queue: TaskQueue) -> None:
    """A node that refuses long answers is asked for fewer blocks."""
    chain = ModelChain(Random(1))
    chain.mine(100)
    chain.refuses = 12

    catch_up(listener(chain, queue))

    assert set(in_queue(queue)) == chain.events()


def test_missing_events_are_asked_for_again(queue: TaskQueue) -> None:
    """A node that leaves out all events of a block is asked for each block that may have some."""
    chain = ModelChain(Random(6))
    chain.mine(50)
    chain.leaves_out = 1.0
    follower = listener(chain, queue)

    catch_up(follower)

    assert set(in_queue(queue)) == chain.events()
    assert follower.reader.left_out


def test_what_is_asked(queue: TaskQueue) -> None:
    """A range of 200 blocks takes 200 headers and one question for events, in four requests."""
    chain = ModelChain(Random(7))
    chain.mine(199)
    rpc = Rpc([chain], 1)
    follower = ChainListener(rpc, queue, ADDRESS, TOPIC)
    before = rpc.requests

    assert follower.step()

    assert chain.asked == {"eth_chainId": 1, "eth_getBlockByNumber": 201, "eth_getLogs": 1}
    assert rpc.requests - before == 1 + 1 + 2 + 1  # chain id, newest block, headers, events


def test_without_blooms(queue: TaskQueue) -> None:
    """Where a chain has no blooms only the newest headers are read, and those of events."""
    chain = ModelChain(Random(8))
    chain.mine(500)
    for block in chain.blocks:
        del block["logsBloom"]

    catch_up(listener(chain, queue, check="none", memory=10))

    assert set(in_queue(queue)) == chain.events()


def test_block_without_a_bloom(queue: TaskQueue) -> None:
    """Where blooms are looked at, a block without one could hide events: it is refused."""
    chain = ModelChain(Random(8))
    chain.mine(5)
    del chain.blocks[3]["logsBloom"]
    chain.blocks[3]["logs"] = []

    with pytest.raises(RpcError, match="block 3 without a bloom"):
        listener(chain, queue).step()

    assert queue.stats().ready == 0


@pytest.mark.parametrize("finality", ["safe", "finalized"])
def test_named_finality(queue: TaskQueue, finality: Any) -> None:
    """Only what the node calls safe or final is read, and no reorg above it is noticed."""
    chain = ModelChain(Random(9))
    chain.mine(40)
    chain.final = 25
    catch_up(listener(chain, queue, finality=finality))
    before = in_queue(queue)

    chain.reorg(10)
    catch_up(listener(chain, queue, finality=finality))

    assert in_queue(queue) == before
    assert set(before) == {place for place in chain.events() if _number(chain, place) <= 25}


def _number(chain: ModelChain, place: tuple[str, int]) -> int:
    return next(int(b["number"], 16) for b in chain.blocks if b["hash"] == place[0])


def test_a_block_with_more_than_one_commit_takes(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A range with too many events is read in parts, and a block is never parted."""
    monkeypatch.setattr("noob_cloud.blockchain.listener._MOST", 2)
    chain = ModelChain(Random(10))
    chain.mine(30)

    catch_up(listener(chain, queue))

    assert set(in_queue(queue)) == chain.events()


def test_letters_of_hex(queue: TaskQueue) -> None:
    """Large and small letters are the same number."""
    chain = ModelChain(Random(11))
    chain.mine(10)
    for block in chain.blocks:
        for log in block["logs"]:
            log["address"] = "0x" + log["address"][2:].upper()
            log["topics"] = ["0x" + topic[2:].upper() for topic in log["topics"]]
            log["blockHash"] = "0x" + log["blockHash"][2:].upper()

    catch_up(listener(chain, queue))

    assert {name for name, _ in in_queue(queue)} <= {block["hash"] for block in chain.blocks}
    assert len(in_queue(queue)) == len(chain.events())


def test_node_that_lags(queue: TaskQueue) -> None:
    """A node without the newest blocks is waited for: nothing is cancelled."""
    chain = ModelChain(Random(2))
    chain.mine(20)
    catch_up(listener(chain, queue))
    before = in_queue(queue)
    del chain.blocks[15:]

    assert not listener(chain, queue).step()
    assert in_queue(queue) == before


def test_confirmations(queue: TaskQueue) -> None:
    """Only blocks with enough confirmations are read."""
    chain = ModelChain(Random(3))
    chain.mine(20)

    catch_up(listener(chain, queue, finality=5))

    assert max(task.payload["block"] for task in queue.list_tasks()) <= 16


def test_reorg_too_deep(queue: TaskQueue) -> None:
    """A chain that changed below all that is remembered is an error, and nothing is cancelled."""
    chain = ModelChain(Random(4))
    chain.mine(40)
    catch_up(listener(chain, queue, memory=10))
    before = in_queue(queue)
    chain.reorg(20)

    with pytest.raises(ReorgTooDeepError, match="10 blocks up to 40"):
        listener(chain, queue, memory=10).step()

    assert in_queue(queue) == before


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"blockHash": "0x" + "11" * 32}, "not block"),
        ({"address": "0x" + "11" * 20}, "nobody asked"),
        ({"blockNumber": "0xffff"}, "of block 65535"),
        ({"blockNumber": "many"}, "where a number is due"),
        ({"topics": 7}, "not what was asked for"),
        ({"topics": []}, "nobody asked"),
        ({"data": "0xzz"}, "hex digits"),
        ({"transactionHash": "0x11"}, "hex digits"),
        ({"logIndex": hex(1 << 70)}, "smaller number"),
        ({"removed": True}, "nobody asked"),
    ],
)
def test_hostile_node(queue: TaskQueue, part: dict[str, Any], message: str) -> None:
    """An answer that does not fit the question is an error, and submits nothing."""
    chain = ModelChain(Random(5))
    chain.mine(5)
    next(block for block in chain.blocks if block["logs"])["logs"][0].update(part)

    with pytest.raises(RpcError, match=message):
        listener(chain, queue).step()

    assert queue.stats().ready == 0
