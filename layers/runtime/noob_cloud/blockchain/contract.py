"""Speak to the contract by its ABI: calls as bytes, answers and events as values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from noob_cloud.blockchain.artifact import task_coordinator
from noob_cloud.blockchain.errors import RpcError, need
from noob_cloud.cid import format_cid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Abi", "Event", "Signature", "coordinator_abi"]


@dataclass(frozen=True, slots=True)
class Signature:
    """A function, event or error: its name, its four or 32 bytes, and what it takes and gives."""

    name: str
    selector: bytes
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]

    def encode(self, values: Iterable[Any]) -> bytes:
        """Return a call of it."""
        types = [_type(each) for each in self.inputs]
        data: bytes = need("eth_abi").encode(types, list(values))
        return self.selector + data

    def decode(self, data: bytes) -> Any:
        """Return what it gives: one value, a dict of a struct, or a tuple of several.

        Raises:
            RpcError: the bytes are not that.
        """
        found = _decode([_type(each) for each in self.outputs], data, self.name)
        values = tuple(_named(each, one) for each, one in zip(self.outputs, found, strict=True))
        return values[0] if len(values) == 1 else values

    def arguments(self, data: bytes) -> dict[str, Any]:
        """Return what it was given, by name, of the bytes after the selector.

        Raises:
            RpcError: the bytes are not that.
        """
        found = _decode([_type(each) for each in self.inputs], data, self.name)
        return {
            each["name"]: _named(each, one) for each, one in zip(self.inputs, found, strict=True)
        }


@dataclass(frozen=True, slots=True)
class Event:
    """What the contract said in a transaction."""

    name: str
    values: dict[str, Any]
    """By the contract's names; cids are text."""


class Abi:
    """The functions, events and errors of a contract.

    Args:
        entries: as a compiler writes them.
    """

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        self._entries = tuple(entries)

    def _of(self, kind: str) -> list[Signature]:
        keccak = need("eth_utils").keccak
        made = []
        for entry in self._entries:
            if entry["type"] != kind:
                continue
            inputs = tuple(entry.get("inputs", ()))
            text = f"{entry['name']}({','.join(_type(each) for each in inputs)})"
            topic = keccak(text=text)
            made.append(
                Signature(
                    entry["name"],
                    topic if kind == "event" else topic[:4],
                    inputs,
                    tuple(entry.get("outputs", ())),
                )
            )
        return made

    @cached_property
    def functions(self) -> dict[str, Signature]:
        """Functions by name."""
        return {each.name: each for each in self._of("function")}

    @cached_property
    def errors(self) -> dict[bytes, Signature]:
        """Errors by selector."""
        return {each.selector: each for each in self._of("error")}

    @cached_property
    def events(self) -> dict[bytes, Signature]:
        """Events by topic."""
        return {each.selector: each for each in self._of("event")}

    @cached_property
    def constructor(self) -> Signature:
        """The constructor; its selector is empty."""
        found = next(each for each in self._entries if each["type"] == "constructor")
        return Signature("constructor", b"", tuple(found["inputs"]), ())

    def event(self, log: Mapping[str, Any]) -> Event | None:
        """Return an event as a node wrote it; None: one that is not in this ABI.

        Raises:
            RpcError: it is not what its topic says.
        """
        topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
        signature = self.events.get(topics[0]) if topics else None
        if signature is None:
            return None
        indexed = [each for each in signature.inputs if each["indexed"]]
        plain = [each for each in signature.inputs if not each["indexed"]]
        if len(topics) != len(indexed) + 1:
            raise RpcError(f"The node's event {signature.name} has {len(topics)} topics.")
        values = {
            each["name"]: _decode([_type(each)], topic, signature.name)[0]
            for each, topic in zip(indexed, topics[1:], strict=True)
        }
        found = _decode(
            [_type(each) for each in plain], bytes.fromhex(log["data"][2:]), signature.name
        )
        values.update({each["name"]: one for each, one in zip(plain, found, strict=True)})
        for name, value in values.items():
            if name.endswith("CID"):
                values[name] = format_cid(value)
        return Event(signature.name, values)


@cache
def coordinator_abi() -> Abi:
    """Return the task coordinator's."""
    return Abi(task_coordinator().abi)


def _type(entry: Mapping[str, Any]) -> str:
    kind = str(entry["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(each) for each in entry['components'])}){kind[5:]}"


def _named(entry: Mapping[str, Any], value: Any) -> Any:
    if entry["type"] != "tuple":
        return value
    parts = entry["components"]
    return {each["name"]: _named(each, one) for each, one in zip(parts, value, strict=True)}


def _decode(types: list[str], data: bytes, name: str) -> tuple[Any, ...]:
    abi = need("eth_abi")
    try:
        found: tuple[Any, ...] = abi.decode(types, data)
    except (abi.exceptions.DecodingError, OverflowError, UnicodeDecodeError) as error:
        raise RpcError(
            f"{len(data)} bytes are not what {name} gives: the address is not that of this"
            " contract, or the node is wrong."
        ) from error
    return found
