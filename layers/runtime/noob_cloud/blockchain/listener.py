"""Follow a contract's events and submit one task for each, whatever the chain does meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import msgspec

from noob_cloud.blockchain.errors import ChainError, RpcAnswerError, RpcError
from noob_cloud.blockchain.reading import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from noob_cloud.blockchain.reading import Block, Event, Nodes
    from noob_cloud.queue.checkpoints import Checkpoint

__all__ = ["ChainListener", "ReorgTooDeepError", "Target"]

_MOST: Final = 4_000
"""Tasks of one commit, where they are of several blocks."""


class ReorgTooDeepError(ChainError):
    """The chain changed further back than the listener remembers."""


class Target(Protocol):
    """Where tasks go: `TaskQueue`, or `RemoteQueue`."""

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


class _State(msgspec.Struct, array_like=True):
    blocks: list[tuple[int, str]]
    """Numbers and hashes of the last blocks that were read, ascending, without a gap."""


@dataclass
class ChainListener:
    """Follow one kind of event of one contract.

    What the chain takes back is cancelled, unless it has its outcome: that stays. A task that runs
    is cancelled as by `cancel_task`: its worker learns of it in a heartbeat's reply.

    Args:
        rpc: The nodes.
        queue: Where tasks go.
        address: The contract's.
        topic: Of the event, 0x and 64 digits.
        name: The checkpoint's.
        finality: How many blocks a block needs, itself included; or `safe`, or `finalized`.
        start: First block that is read.
        span: Most blocks of one question; it halves where a node refuses, and grows by quarters.
        memory: Blocks that are remembered: the deepest reorg that can be undone.
        task: Arguments of `submit_task` for each event.
        check: Whether events that a node leaves out are looked for; see `reading.Reader`.
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
    check: Literal["bloom", "none"] = "bloom"

    def __post_init__(self) -> None:
        """Begin with the whole span."""
        self._width = self.span
        self.reader = Reader(self.rpc, self.address, self.topic, check=self.check)
        self.block: int | None = None
        """The last block that was read, as far as this object knows."""
        self.submitted = 0
        """Events that this object has submitted."""

    def step(self) -> bool:
        """Undo what left the chain, or read the next blocks; False: there was nothing to do.

        Raises:
            ReorgTooDeepError: None of the remembered blocks is on the chain any more.
            RpcError: A node fails, or what it says does not fit together; ask again.
            ConflictError: Another listener of this name moved on meanwhile.
        """
        held = self.queue.checkpoint(self.name)
        blocks = msgspec.json.decode(held.state, type=_State).blocks if held.version else []
        self.block = blocks[-1][0] if blocks else None
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
        wide = high - low + 1
        try:
            events, chain = self.reader.read(low, high, self.memory)
        except (RpcAnswerError, RpcError) as error:
            refused = isinstance(error, RpcAnswerError) or getattr(error, "too_large", False)
            if wide == 1 or not refused:
                raise
            self._width = wide // 2
            return True
        if len(events) > _MOST and wide > 1:
            self._width = max(1, wide * _MOST // len(events))
            return True
        self._width = min(self.span, max(self._width, wide + wide // 4 + 1))
        if blocks and chain[0].parent != blocks[-1][1]:
            raise RpcError(f"Block {low} does not follow the one before: the chain has changed.")
        self._commit(held.version, [*blocks, *[(each.number, each.hash) for each in chain]], events)
        return True

    def _commit(
        self,
        version: int,
        blocks: list[tuple[int, str]],
        events: list[Event],
        undo_above: int | None = None,
    ) -> None:
        blocks = blocks[-self.memory :]
        terms = {"node_id": "chain_event", "epoch": 0, **(self.task or {})}
        tasks = [(event.block, {**terms, "data": event.values}) for event in events]
        self.queue.move_checkpoint(
            self.name,
            version,
            msgspec.json.encode(_State(blocks)),
            tasks,
            undo_above=undo_above,
            forget_below=blocks[0][0] if blocks else 0,
        )
        self.block = blocks[-1][0] if blocks else None
        self.submitted += len(events)

    def _last(self) -> int:
        if isinstance(self.finality, str):
            (block,) = self.reader.blocks([self.finality])
            return -1 if block is None else block.number
        (block,) = self.reader.blocks(["latest"])
        return -1 if block is None else block.number - self.finality + 1

    def _still_there(self, blocks: list[tuple[int, str]]) -> list[tuple[int, str]] | None:
        """Return the remembered blocks that are on the chain; None: the node does not know yet."""
        if not blocks:
            return blocks
        newest = self.reader.blocks([blocks[-1][0]])[0]
        if newest is not None and newest.hash == blocks[-1][1]:
            return blocks
        found = self.reader.blocks([number for number, _ in blocks])
        count = _first_changed(blocks, found)
        if count is None:
            return None  # the node lags behind, and has not another chain
        if not count and blocks[0][0] == self.start:
            return []
        if not count:
            raise ReorgTooDeepError(
                f"None of the {len(blocks)} blocks up to {blocks[-1][0]} that listener"
                f" {self.name!r} remembers is on the chain any more. If the node is right, begin"
                " anew under another name; if it only lags behind, wait."
            )
        return blocks[:count]


def _first_changed(blocks: Sequence[tuple[int, str]], found: Sequence[Block | None]) -> int | None:
    for place, ((_, known), block) in enumerate(zip(blocks, found, strict=True)):
        if block is not None and block.hash != known:
            return place
    return None
