"""Tasks and workers as the contract shows them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from noob_cloud.blockchain.amounts import to_eth
from noob_cloud.cid import DIGEST_SIZE, format_cid, parse_cid
from noob_cloud.exceptions import DecodeError

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = ["ChainTask", "ChainWorker", "Terms", "to_digest"]

_HEX: Final = 2 + 2 * DIGEST_SIZE


class TaskState(StrEnum):
    """Where a task stands on the chain."""

    NONE = "none"
    OPEN = "open"
    CLAIMED = "claimed"
    SUBMITTED = "submitted"
    CHALLENGED = "challenged"
    VERIFIED = "verified"


_STATES: Final = tuple(TaskState)


@dataclass(frozen=True, slots=True)
class ChainTask:
    """A task on the chain."""

    cid: str
    state: TaskState
    generation: int
    """How often the cid has been bought before."""
    reward_wei: int
    fee_wei: int
    expires_at: int
    """Unix time from when nobody may claim it."""
    deadline: int
    """Unix time when the present state ends."""
    worker: str | None
    lock_wei: int
    """Stake behind the claim."""
    result_cid: str | None
    challenger: str | None
    bond_wei: int
    dispute_id: int

    @property
    def reward_eth(self) -> Decimal:
        """What its worker earns, in ether."""
        return to_eth(self.reward_wei)

    @classmethod
    def read(cls, digest: bytes, found: dict[str, Any]) -> ChainTask:
        """Return a task by the contract's answer."""
        result: bytes = found["resultCID"]
        return cls(
            cid=format_cid(digest),
            state=_STATES[found["state"]],
            generation=found["generation"],
            reward_wei=found["reward"],
            fee_wei=found["fee"],
            expires_at=found["expiresAt"],
            deadline=found["deadline"],
            worker=_somebody(found["worker"]),
            lock_wei=found["lock"],
            result_cid=format_cid(result) if any(result) else None,
            challenger=_somebody(found["challenger"]),
            bond_wei=found["bond"],
            dispute_id=found["disputeID"],
        )


@dataclass(frozen=True, slots=True)
class ChainWorker:
    """A worker on the chain."""

    address: str
    stake_wei: int
    """All of it: free, locked and unbonding."""
    locked_wei: int
    unbonding_wei: int
    unbonding_ends: int
    """Unix time from when it may take that."""
    reputation: int
    """Fees of the tasks that it was paid for, in gwei; halved by each slash."""

    @property
    def registered(self) -> bool:
        """Whether it has any stake."""
        return self.stake_wei > 0

    @property
    def stake_eth(self) -> Decimal:
        """All its stake, in ether."""
        return to_eth(self.stake_wei)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a contract's maker has fixed for as long as it lives, in wei and seconds."""

    min_stake: int = 10**16
    min_reward: int = 10**12
    min_bond: int = 10**16
    max_lock: int = 10**18
    lock_multiple: int = 10
    """A claim locks so many times the reward."""
    task_lifetime: int = 7 * 86_400
    claim_period: int = 3_600
    challenge_period: int = 86_400
    ruling_period: int = 3 * 86_400
    unbonding_period: int = 7 * 86_400

    def values(self) -> tuple[int, ...]:
        """Return them as the constructor takes them."""
        return (
            self.min_stake,
            self.min_reward,
            self.min_bond,
            self.max_lock,
            self.lock_multiple,
            self.task_lifetime,
            self.claim_period,
            self.challenge_period,
            self.ruling_period,
            self.unbonding_period,
        )


def to_digest(which: str | bytes) -> bytes:
    """Return the contract's bytes32 of a cid, which may be given as text, as 0x hex or as bytes.

    Raises:
        DecodeError: it is none of these.
    """
    if isinstance(which, bytes | bytearray) and len(which) == DIGEST_SIZE:
        return bytes(which)
    if isinstance(which, str) and which.startswith("0x") and len(which) == _HEX:
        try:
            return bytes.fromhex(which[2:])
        except ValueError as error:
            raise DecodeError(f"{which!r} is not 32 bytes in hex.") from error
    return parse_cid(which)  # type: ignore[arg-type]  # refuses what is no text


def _somebody(address: str) -> str | None:
    return None if int(address, 16) == 0 else address
