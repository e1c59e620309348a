"""Follow the events by which a contract offers tasks, into a queue, for `ChainWorker`."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from tenacity import (
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from noob_cloud.blockchain.contract import coordinator_abi
from noob_cloud.blockchain.errors import RpcAnswerError, RpcError, WrongChainError
from noob_cloud.blockchain.listener import ChainListener, ReorgTooDeepError
from noob_cloud.blockchain.rpc import quantity
from noob_cloud.blockchain.worker import OFFERS, TAG
from noob_cloud.exceptions import ConflictError, QueueBusyError, QueueFullError, UnavailableError

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from noob_cloud.blockchain.listener import Target
    from noob_cloud.blockchain.rpc import Rpc

__all__ = ["ChainFeed", "finality_of"]

_log = logging.getLogger(__name__)
_BACK: Final = 10_000
"""Blocks before the newest that are read at the first start."""
_DEEPEST: Final = 10_000
_PASSING: Final = (
    *(RpcError, RpcAnswerError, UnavailableError),
    *(ConflictError, QueueBusyError, QueueFullError),
)
_LONGEST_WAIT: Final = 60.0
"""Seconds between two tries while the chain or the coordinator is away."""
_TERMS: Final[dict[str, Any]] = {
    "required_tags": [TAG],
    "timeout_seconds": 6 * 3600.0,  # with it, one attempt waits for its claim's confirmations
    "max_retries": 20,
}


class ChainFeed:
    """A listener for each kind of event after which a task may be claimed.

    Args:
        rpc: the nodes.
        queue: where tasks go.
        address: the contract's.
        start: first block that is read, where nothing was read before; None: 10,000 back.
        finality: how many blocks a block needs, itself included; or `safe`, or `finalized`.
        poll_seconds: between looks.
        check: whether events that a node leaves out are looked for; see `reading.Reader`.
    """

    def __init__(
        self,
        rpc: Rpc,
        queue: Target,
        address: str,
        *,
        start: int | None = None,
        finality: int | Literal["safe", "finalized"] = 1,
        poll_seconds: float = 2.0,
        check: Literal["bloom", "none"] = "bloom",
    ) -> None:
        if start is None:
            start = max(0, quantity(rpc.call("eth_blockNumber"), "The node") - _BACK)
        self._poll = poll_seconds
        self._over = threading.Event()
        self.listeners = [
            ChainListener(
                rpc,
                queue,
                address,
                "0x" + topic.hex(),
                name=f"chain-{rpc.chain_id}-{address.lower()}-{event.name}",
                finality=finality,
                start=start,
                task=_TERMS,
                check=check,
            )
            for topic, event in coordinator_abi().events.items()
            if event.name in OFFERS
        ]

    @property
    def block(self) -> int | None:
        """The last block that has been read for every kind of event; None: none has."""
        known = [listener.block for listener in self.listeners]
        return None if None in known else min(number for number in known if number is not None)

    @property
    def submitted(self) -> int:
        """Events that this feed has submitted."""
        return sum(listener.submitted for listener in self.listeners)

    @property
    def left_out(self) -> int:
        """Events that a node left out at first."""
        return sum(listener.reader.left_out for listener in self.listeners)

    def step(self) -> bool:
        """Read the next blocks; False: there were none."""
        more = [listener.step() for listener in self.listeners]
        return any(more)

    def run(self, *, until: Literal["stopped", "read"] = "stopped") -> None:
        """Follow until `stop`; while no node or no coordinator can be asked, wait and try again.

        Args:
            until: `read`: return when all there is has been read.

        Raises:
            WrongChainError: the node is one of another chain.
            ReorgTooDeepError: the chain changed further back than is remembered.
        """
        trying = Retrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_random_exponential(multiplier=self._poll, max=_LONGEST_WAIT),
            stop=stop_when_event_set(self._over),
            sleep=sleep_using_event(self._over),
            before_sleep=_say,
            reraise=True,
        )
        while not self._over.is_set():
            try:
                more = trying(self.step)
            except Exception as error:
                if self._over.is_set() and _may_pass(error):
                    return
                raise
            if not more and until == "read":
                return
            if not more:
                self._over.wait(self._poll)

    def stop(self) -> None:
        """Follow no more."""
        self._over.set()


def finality_of(text: str) -> int | Literal["safe", "finalized"]:
    """Return what a setting says of finality.

    Raises:
        ValueError: it is neither a depth nor a name.
    """
    if text in ("safe", "finalized"):
        return cast("Literal['safe', 'finalized']", text)
    if text.isdecimal() and 1 <= int(text) <= _DEEPEST:
        return int(text)
    raise ValueError(f"finality is {text!r:.40}: it is 1 to {_DEEPEST}, safe, or finalized")


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, (WrongChainError, ReorgTooDeepError)):
        return False
    # a conflict: another listener of this name was faster, and has submitted what this one read
    return isinstance(error, _PASSING)


def _say(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _log.warning("the chain cannot be followed now: %s", error)
