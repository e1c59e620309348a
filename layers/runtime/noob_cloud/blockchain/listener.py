"""Follow a contract's events and submit one task for each, whatever the chain does meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import msgspec

from noob_cloud.blockchain.errors import ChainError, RpcAnswerError, RpcError
from noob_cloud.blockchain.rpc import quantity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from noob_cloud.queue.checkpoints import Checkpoint

__all__ = ["ChainListener", "Log", "Nodes", "ReorgTooDeepError", "Target"]

_NODE: Final = "The node"


class ReorgTooDeepError(ChainError):
    """The chain changed further back than the listener remembers."""


class Nodes(Protocol):
    """What is asked: `rpc.Rpc`."""

    def call(self, method: str, *params: Any) -> Any:
        """Return an answer."""
        ...

    def call_many(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Return several answers."""
        ...


class Target(Protocol):
    """Where tasks go: `TaskQueue`."""

    def checkpoint(self, name: str) -> Checkpoint:
        """Return how far the listener has come."""
        ...

    def move_checkpoint(
        self,
        name: str,
        expected: int,
        state: bytes,
        tasks: Sequence[tuple[int, Mapping[str, Any]]] = (),
        *,
        undo_above: int | None = None,
        forget_below: int = 0,
    ) -> list[int]:
        """Submit and move on in one commit."""
        ...


class Log(msgspec.Struct, rename="camel"):
    """An event as a node writes it: hex throughout."""

    address: str
    topics: list[str]
    data: str
    block_number: str
    block_hash: str
    transaction_hash: str
    log_index: str
    removed: bool = False


class _Block(msgspec.Struct, rename="camel"):
    number: str
    hash: str
    parent_hash: str


class _State(msgspec.Struct, array_like=True):
    blocks: list[tuple[int, str]]
    """Numbers and hashes of the last blocks that were read, ascending, without a gap."""


@dataclass
class ChainListener:
    """Follow one contract.

    Args:
        rpc: The nodes.
        queue: Where tasks go.
        address: The contract's.
        topic: Of the event, 0x and 64 digits.
        name: The checkpoint's.
        finality: How many blocks a block needs, itself included; or `safe`, or `finalized`.
        start: First block that is read.
        span: Most blocks of one question; it halves where a node refuses, and grows again.
        memory: Blocks that are remembered: the deepest reorg that can be undone.
        task: Arguments of `submit_task` for each event.
    """

    rpc: Nodes
    queue: Target
    address: str
    topic: str
    name: str = "chain"
    finality: int | Literal["safe", "finalized"] = 1
    start: int = 0
    span: int = 2000
    memory: int = 64
    task: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Begin with the whole span."""
        self._width = self.span

    def step(self) -> bool:
        """Undo what left the chain, or read the next blocks; False: there was nothing to do.

        Raises:
            ReorgTooDeepError: None of the remembered blocks is on the chain any more.
            RpcError: A node fails, or what it says does not fit together; ask again.
        """
        held = self.queue.checkpoint(self.name)
        blocks = msgspec.json.decode(held.state, type=_State).blocks if held.version else []
        kept = self._still_there(blocks)
        if kept is None:
            return False
        if len(kept) < len(blocks):
            self._commit(held.version, kept, [], undo_above=blocks[len(kept)][0] - 1)
            return True
        low = blocks[-1][0] + 1 if blocks else self.start
        high = min(self._last(), low + self._width - 1)
        if high < low:
            return False
        try:
            logs, chain = self._read(low, high)
        except (RpcAnswerError, RpcError) as error:
            if high == low or not (
                isinstance(error, RpcAnswerError) or getattr(error, "too_large", False)
            ):
                raise
            self._width = max(1, (high - low + 1) // 2)
            return True
        self._width = min(self.span, self._width * 2)
        self._link(blocks, chain, logs)
        new = [(quantity(block.number, _NODE), block.hash) for block in chain]
        self._commit(held.version, [*blocks, *new], logs)
        return True

    def _commit(
        self,
        version: int,
        blocks: list[tuple[int, str]],
        logs: list[Log],
        undo_above: int | None = None,
    ) -> None:
        blocks = blocks[-self.memory :]
        terms = {"node_id": "chain_event", "epoch": 0, **(self.task or {})}
        tasks = [(int(log.block_number, 16), {**terms, "data": _payload(log)}) for log in logs]
        self.queue.move_checkpoint(
            self.name,
            version,
            msgspec.json.encode(_State(blocks)),
            tasks,
            undo_above=undo_above,
            forget_below=blocks[0][0] if blocks else 0,
        )

    def _last(self) -> int:
        named = self.finality if isinstance(self.finality, str) else "latest"
        block = self.rpc.call("eth_getBlockByNumber", named, False)
        if block is None:
            return -1
        behind = 0 if isinstance(self.finality, str) else self.finality - 1
        return quantity(_as(block, _Block).number, _NODE) - behind

    def _headers(self, numbers: Sequence[int]) -> list[_Block | None]:
        asked = [("eth_getBlockByNumber", (hex(number), False)) for number in numbers]
        found = self.rpc.call_many(asked) if asked else []
        made = [None if each is None else _as(each, _Block) for each in found]
        for number, block in zip(numbers, made, strict=True):
            if block is not None and quantity(block.number, _NODE) != number:
                raise RpcError(f"The node answers block {block.number} when asked for {number}.")
        return made

    def _still_there(self, blocks: list[tuple[int, str]]) -> list[tuple[int, str]] | None:
        """Return the remembered blocks that are on the chain; None: the node does not know yet."""
        if not blocks:
            return blocks
        newest = self._headers([blocks[-1][0]])[0]
        if newest is not None and newest.hash == blocks[-1][1]:
            return blocks
        found = self._headers([number for number, _ in blocks])
        changed = [
            place
            for place, ((_, known), block) in enumerate(zip(blocks, found, strict=True))
            if block is not None and block.hash != known
        ]
        if not changed:
            return None  # the node lags behind, and has not another chain
        count = changed[0]
        if not count and blocks[0][0] == self.start:
            return []
        if not count:
            raise ReorgTooDeepError(
                f"None of the {len(blocks)} blocks up to {blocks[-1][0]} that listener"
                f" {self.name!r} remembers is on the chain any more. If the node is right, begin"
                " anew under another name; if it only lags behind, wait."
            )
        return blocks[:count]

    def _read(self, low: int, high: int) -> tuple[list[Log], list[_Block]]:
        wanted = {
            "fromBlock": hex(low),
            "toBlock": hex(high),
            "address": self.address,
            "topics": [self.topic],
        }
        before = self._headers([high])[0]
        logs = _as(self.rpc.call("eth_getLogs", wanted), list[Log])
        first = max(low, high - self.memory + 1)
        marks = {int(log.block_number, 16) for log in logs if _is_hex(log.block_number)}
        outside = sorted(mark for mark in marks if not low <= mark <= high)
        if outside or len(marks) > high - low + 1:
            raise RpcError(f"The node gives an event of block {outside[0]}: {low} to {high} asked.")
        older = [mark for mark in sorted({low, *marks}) if mark < first]
        found = self._headers([*older, *range(first, high + 1)])
        chain = [block for block in found if block is not None]
        # a hash stands for all blocks before it: the events are of the chain that has it
        if len(chain) < len(found) or before is None or before.hash != chain[-1].hash:
            raise RpcError(f"Blocks {low} to {high} changed while they were read.")
        return self._checked(logs, chain), chain[len(older) :]

    def _checked(self, logs: list[Log], chain: list[_Block]) -> list[Log]:
        """Return each event once, in the chain's order."""
        hashes = {int(block.number, 16): block.hash for block in chain}
        once: dict[tuple[int, int], Log] = {}
        for log in logs:
            number = quantity(log.block_number, _NODE)
            if log.address.lower() != self.address.lower() or log.topics[:1] != [self.topic]:
                raise RpcError(f"The node gives an event that nobody asked for, in {number}.")
            if log.removed or hashes.get(number) != log.block_hash:
                raise RpcError(
                    f"The node gives an event of block {log.block_hash:.80}, which is not block"
                    f" {number} of its chain."
                )
            once[number, quantity(log.log_index, _NODE)] = log
        return [once[place] for place in sorted(once)]

    def _link(self, blocks: list[tuple[int, str]], chain: list[_Block], logs: list[Log]) -> None:
        """Check that what was read is one chain that continues the remembered one."""
        before = blocks[-1] if blocks else None
        for block in chain:
            number = int(block.number, 16)
            if before and before[0] == number - 1 and block.parent_hash != before[1]:
                raise RpcError(
                    f"Block {number} does not follow the one before: the chain changed while"
                    f" {len(logs)} events were read."
                )
            before = (number, block.hash)


def _payload(log: Log) -> dict[str, Any]:
    return {
        "topics": [bytes.fromhex(topic[2:]) for topic in log.topics],
        "data": bytes.fromhex(log.data[2:]),
        "block": int(log.block_number, 16),
        "block_hash": bytes.fromhex(log.block_hash[2:]),
        "transaction": bytes.fromhex(log.transaction_hash[2:]),
        "index": int(log.log_index, 16),
    }


def _is_hex(text: str) -> bool:
    quantity(text, _NODE)
    return True


def _as(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise RpcError(f"The node's answer is not what was asked for: {error}") from error
