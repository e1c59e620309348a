"""A listener submits each event of the canonical chain once, whatever the chain and nodes do."""

from __future__ import annotations

import os
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from noob_cloud.blockchain.errors import RpcAnswerError, RpcError
from noob_cloud.blockchain.listener import ChainListener, ReorgTooDeepError
from noob_cloud.exceptions import ConflictError
from noob_cloud.queue import TaskQueue
from noob_cloud.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ADDRESS = "0x" + "ab" * 20
TOPIC = "0x" + "cd" * 32
HISTORIES = int(os.environ.get("NOOB_CLOUD_TEST_CHAIN_HISTORIES", "100"))


class Killed(BaseException):
    """The process ends here."""


class ModelChain:
    """A chain that answers as a node does, and badly when it is told to."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.blocks: list[dict[str, Any]] = []
        self.trouble = 0.0
        self.most = 1000
        self.made = 0
        self.mine(1)

    def mine(self, count: int) -> None:
        """Add blocks with up to three events each."""
        for _ in range(count):
            self.made += 1
            number = len(self.blocks)
            name = "0x" + sha256(b"%d" % self.made).hexdigest()
            logs = [self._log(number, name, index) for index in range(self.rng.randrange(4))]
            parent = self.blocks[-1]["hash"] if self.blocks else "0x" + "00" * 32
            self.blocks.append(
                {"number": hex(number), "hash": name, "parentHash": parent, "logs": logs}
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
        depth = min(depth, len(self.blocks) - 1)
        del self.blocks[len(self.blocks) - depth :]
        self.mine(depth + 1)

    def events(self) -> set[tuple[str, int]]:
        """Every event on the chain."""
        logs = [log for block in self.blocks for log in block["logs"]]
        return {(log["blockHash"], int(log["logIndex"], 16)) for log in logs}

    def call_many(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        return [self.call(method, *params) for method, params in calls]

    def call(self, method: str, *params: Any) -> Any:
        if self.rng.random() < self.trouble / 20:
            self.reorg(self.rng.randrange(1, 5))
        if self.rng.random() < self.trouble / 10:
            raise RpcError("the node cannot be reached")
        if method == "eth_getBlockByNumber":
            place = len(self.blocks) - 1 if params[0] == "latest" else int(params[0], 16)
            return self.blocks[place] if place < len(self.blocks) else None
        assert method == "eth_getLogs"
        low, high = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
        logs = [log for block in self.blocks[low : high + 1] for log in block["logs"]]
        if len(logs) > self.most:
            raise RpcAnswerError("query returned too many results", code=-32005)
        if self.rng.random() < self.trouble:
            logs = logs + self.rng.sample(logs, len(logs) // 2)
            self.rng.shuffle(logs)
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
    tasks = queue.list_tasks(TaskStatus.READY, limit=10_000)
    return [("0x" + task.payload["block_hash"].hex(), task.payload["index"]) for task in tasks]


def listener(chain: ModelChain, queue: Any, **options: Any) -> ChainListener:
    return ChainListener(chain, queue, ADDRESS, TOPIC, **options)


def catch_up(follower: ChainListener) -> None:
    while follower.step():
        continue


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_random_history(seed: int, queue: TaskQueue) -> None:
    """Reorgs, errors, repeated logs and deaths leave exactly the canonical events."""
    rng = Random(seed)
    chain = ModelChain(rng)
    dying = Dying(queue, rng)
    for _ in range(25):
        chain.mine(rng.randrange(6))
        if rng.random() < 0.3:
            chain.reorg(rng.randrange(1, 21))
        chain.trouble = rng.choice([0.0, 0.3])
        follower = listener(chain, dying, span=rng.choice([1, 7, 100]))
        try:
            for _ in range(rng.randrange(4)):
                follower.step()
        except (RpcError, Killed):
            continue
    chain.trouble = 0.0
    catch_up(listener(chain, queue))

    found = in_queue(queue)

    assert len(found) == len(set(found))
    assert set(found) == chain.events()


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
    chain.most = 12

    catch_up(listener(chain, queue))

    assert set(in_queue(queue)) == chain.events()


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
