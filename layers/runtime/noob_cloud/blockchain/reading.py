"""Read a contract's events in a range of blocks, and notice what a node leaves out of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

import msgspec

from noob_cloud.blockchain.errors import RpcError, need
from noob_cloud.blockchain.rpc import quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Block", "Event", "Log", "Nodes", "Reader", "bloom_of"]

_NODE: Final = "The node"
_BLOOM: Final = 256
_HASH: Final = 32
_LARGEST: Final = 1 << 63


class Nodes(Protocol):
    """What is asked: `rpc.Rpc`."""

    def call_many(
        self, calls: Sequence[tuple[str, Sequence[Any]]], *, kind: Any = Any
    ) -> list[Any]:
        """Return several answers, each decoded as `kind`, or None."""
        ...


class Log(msgspec.Struct, rename="camel", gc=False):
    """An event as a node writes it: hex throughout."""

    address: str
    topics: list[str]
    data: str
    block_number: str
    block_hash: str
    transaction_hash: str
    log_index: str
    removed: bool = False


class _Header(msgspec.Struct, rename="camel", gc=False):
    number: str
    hash: str
    parent_hash: str
    logs_bloom: str | None = None


class Block(NamedTuple):
    """What is read of a block."""

    number: int
    hash: str
    """In small letters, as the parent's is."""
    parent: str
    bloom: int | None
    """2,048 bits; None: the node does not say."""


class Event(NamedTuple):
    """An event and its place."""

    block: int
    log_index: int
    values: dict[str, Any]
    """Topics, data, block, block_hash, transaction and index: bytes and numbers."""


@dataclass
class Reader:
    """Reads one kind of event of one contract.

    With `check="bloom"` each block's `logsBloom` says whether it may hold the event. A block that
    may, and of which the node gave none, is asked for again by its hash. Where that brings any, the
    node left events out, and all blocks of the range that may hold one are asked for by their
    hashes. What is not noticed: a node that leaves out some of the events of one block and all of
    no other, or that does so each time it is asked. A block whose bloom has a part f of its bits
    set is asked for in vain with a chance of f**6: 2 % where half of them are.

    Args:
        rpc: The nodes.
        address: The contract's.
        topic: Of the event, 0x and 64 digits.
        batch: Most calls in one request; it halves where a node refuses.
        check: `none` where blocks have no blooms, or where headers are dear.
    """

    rpc: Nodes
    address: str
    topic: str
    batch: int = 100
    check: Literal["bloom", "none"] = "bloom"
    asked_again: int = field(default=0, init=False)
    """Blocks that were asked for by their hashes."""
    left_out: int = field(default=0, init=False)
    """Events that came only then."""

    def __post_init__(self) -> None:
        """Bring what is compared into one form."""
        self._address = _hex(self.address, 20, "the contract's address")
        self._topic = _hex(self.topic, _HASH, "the event's topic")
        self._mask = bloom_of(self._address, self._topic) if self.check == "bloom" else 0

    def blocks(self, at: Sequence[int | str]) -> list[Block | None]:
        """Return blocks by number or by name (`latest`); None: the node has it not."""
        asked = [
            ("eth_getBlockByNumber", (hex(one) if isinstance(one, int) else one, False))
            for one in at
        ]
        made = [None if each is None else _block(each) for each in self._many(asked, _Header)]
        for one, block in zip(at, made, strict=True):
            if block is not None and isinstance(one, int) and block.number != one:
                raise RpcError(f"The node answers block {block.number} when asked for {one}.")
        return made

    def read(self, low: int, high: int, memory: int) -> tuple[list[Event], list[Block]]:
        """Return the events of a range, each once and in order, and its blocks, which are linked.

        It takes these requests for n blocks, of which m are asked for again: n/batch + 1 + m/batch,
        each rounded up. Without blooms: min(n, memory)/batch + 1, and the blocks with events that
        are older than `memory`, with the first and the last one, /batch.

        Args:
            low: The first block.
            high: The last block.
            memory: How many of the newest blocks are wanted where blooms are not looked at.

        Raises:
            RpcError: What the node says does not fit together: it is asked again later.
        """
        first = low if self._mask else max(low, high - memory + 1)
        blocks = self._whole(range(first, high + 1))
        span = {"fromBlock": hex(low), "toBlock": hex(high)}
        found = self._events([span])[0]
        outside = [number for number, _ in found if not low <= number <= high]
        if outside:
            raise RpcError(f"The node gives an event of block {outside[0]}: {low} to {high} asked.")
        if self._mask:
            found |= self._missing(found, blocks)
            older = []
        else:
            marks = sorted({low, *(number for number, _ in found)})
            older = self._whole([mark for mark in marks if mark < first] + [high])
            # a hash stands for all blocks before it: the events are of the chain that has it
            if older.pop().hash != blocks[-1].hash:
                raise RpcError(f"Blocks {low} to {high} changed while they were read.")
        hashes = {block.number: block.hash for block in (*older, *blocks)}
        for (number, _), log in found.items():
            if hashes.get(number) != log.block_hash.lower():
                raise RpcError(
                    f"The node gives an event of block {log.block_hash:.80}, which is not block"
                    f" {number} of its chain."
                )
        return [_event(place, found[place]) for place in sorted(found)], [*older, *blocks]

    def _whole(self, numbers: Sequence[int]) -> list[Block]:
        """Return all of these blocks; each continues the one before where they are neighbours."""
        found = [block for block in self.blocks(numbers) if block is not None]
        if len(found) < len(numbers):
            raise RpcError(f"The node has not all blocks up to {numbers[-1]} any more.")
        for one, other in pairwise(found):
            if other.number == one.number + 1 and other.parent != one.hash:
                raise RpcError(
                    f"Block {other.number} does not follow the one before: the chain changed"
                    " while it was read."
                )
        return found

    def _missing(
        self, found: dict[tuple[int, int], Log], blocks: Iterable[Block]
    ) -> dict[tuple[int, int], Log]:
        """Return events that the node left out."""
        given = {number for number, _ in found}
        may = []
        for block in blocks:
            if block.bloom is None:
                raise RpcError(
                    f"The node gives block {block.number} without a bloom, so that events it leaves"
                    " out cannot be noticed. Where a chain has no blooms, set check to 'none'."
                )
            if block.bloom & self._mask == self._mask:
                may.append(block)
            elif block.number in given:
                raise RpcError(
                    f"The node gives an event of block {block.number}, and the block's bloom says"
                    " that it has none. Where a chain has no blooms, set check to 'none'."
                )
        more = self._by_hash([block for block in may if block.number not in given])
        if more:  # then it may have left out some of a block's events too
            more |= self._by_hash([block for block in may if block.number in given])
        self.left_out += len(more.keys() - found.keys())
        return more

    def _by_hash(self, blocks: Sequence[Block]) -> dict[tuple[int, int], Log]:
        self.asked_again += len(blocks)
        asked = [{"blockHash": block.hash} for block in blocks]
        found: dict[tuple[int, int], Log] = {}
        for block, events in zip(blocks, self._events(asked), strict=True):
            if any(number != block.number for number, _ in events):
                raise RpcError(f"The node gives events of another block than {block.number}.")
            found |= events
        return found

    def _events(self, ranges: Sequence[dict[str, str]]) -> list[dict[tuple[int, int], Log]]:
        """Return the events of each range by block and index."""
        terms = {"address": self.address, "topics": [self.topic]}
        asked = [("eth_getLogs", ({**span, **terms},)) for span in ranges]
        made = []
        for logs in self._many(asked, list[Log]):
            once: dict[tuple[int, int], Log] = {}
            for log in logs or ():
                place = _count(log.block_number), _count(log.log_index)
                if self._strange(log):
                    raise RpcError(f"The node gives an event that nobody asked for, in {place[0]}.")
                if once.setdefault(place, log) != log:
                    raise RpcError(
                        f"The node gives two events of block {place[0]} the same place, {place[1]}."
                    )
            made.append(once)
        return made

    def _strange(self, log: Log) -> bool:
        return (
            log.removed
            or not log.topics
            or log.topics[0].lower() != "0x" + self._topic.hex()
            or log.address.lower() != "0x" + self._address.hex()
        )

    def _many(self, calls: Sequence[tuple[str, Sequence[Any]]], kind: Any) -> list[Any]:
        found: list[Any] = []
        while len(found) < len(calls):
            part = calls[len(found) : len(found) + self.batch]
            try:
                found += self.rpc.call_many(part, kind=kind)
            except RpcError as error:
                if not getattr(error, "too_many", False) or len(part) == 1:
                    raise
                self.batch = max(1, len(part) // 2)
        return found


def bloom_of(*items: bytes) -> int:
    """Return the bits that a log with this address and these topics sets in its block's bloom.

    Three bits for each, by Keccak-256, as section 4.3.1 of Ethereum's yellow paper says.
    """
    keccak = need("eth_utils").keccak
    bloom = 0
    for item in items:
        digest = keccak(item)
        for at in (0, 2, 4):
            bloom |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return bloom


def _block(header: _Header) -> Block:
    name = "0x" + _hex(header.hash, _HASH, "a block's hash").hex()
    parent = "0x" + _hex(header.parent_hash, _HASH, "a block's hash").hex()
    bloom = header.logs_bloom
    bits = None if bloom is None else int.from_bytes(_hex(bloom, _BLOOM, "a block's bloom"), "big")
    return Block(_count(header.number), name, parent, bits)


def _event(place: tuple[int, int], log: Log) -> Event:
    values = {
        "topics": [_hex(topic, _HASH, "a topic") for topic in log.topics],
        "data": _hex(log.data, None, "an event's data"),
        "block": place[0],
        "block_hash": _hex(log.block_hash, _HASH, "a block's hash"),
        "transaction": _hex(log.transaction_hash, _HASH, "a transaction's hash"),
        "index": place[1],
    }
    return Event(*place, values)


def _count(text: str) -> int:
    found = quantity(text, _NODE)
    if found >= _LARGEST:
        raise RpcError(f"The node answers {text!r:.80} where a smaller number is due.")
    return found


def _hex(text: str, length: int | None, what: str) -> bytes:
    try:
        found = bytes.fromhex(text[2:])
    except ValueError:
        found = b""
    # fromhex takes spaces too
    if text[:2] == "0x" and len(text) == 2 + 2 * len(found) and length in (None, len(found)):
        return found
    raise RpcError(f"{what.capitalize()} is 0x and hex digits, not {text!r:.80}.")
