"""The contract as compiled: its words for a client, and what a deployment sends."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

__all__ = ["Artifact", "task_coordinator"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled contract. `contracts/build.py` writes it; CI compiles it again and compares."""

    abi: tuple[dict[str, Any], ...]
    """Functions, events and errors, as the Ethereum ABI has them."""
    bytecode: str
    """What a deployment sends, before the constructor's arguments: hexadecimal with 0x."""
    deployed_bytecode: str
    """What stands on the chain, with zeros for the immutable values: hexadecimal with 0x."""
    compiler: dict[str, Any]
    """Versions and settings that give these bytes."""


@cache
def task_coordinator() -> Artifact:
    """The TaskCoordinator, read at the first call."""
    text = files("noob_cloud.blockchain").joinpath("abi", "TaskCoordinator.json").read_bytes()
    return msgspec.json.decode(text, type=Artifact)
