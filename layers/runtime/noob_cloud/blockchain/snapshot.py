"""Read many tasks of the contract at once, at a block that is deep enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from noob_cloud.blockchain.contract import coordinator_abi
from noob_cloud.blockchain.errors import RpcAnswerError, RpcError
from noob_cloud.blockchain.rpc import quantity
from noob_cloud.blockchain.views import ChainTask, to_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noob_cloud.blockchain.ethereum import EthereumTaskCoordinator

__all__ = ["Reader"]

_BATCH: Final = 100


class Reader:
    """Reads the contract in batches.

    Args:
        coordinator: which contract; its settings say how deep a block has to be.
    """

    def __init__(self, coordinator: EthereumTaskCoordinator) -> None:
        self._coordinator = coordinator
        self._rpc = coordinator.rpc

    def settled_block(self) -> str:
        """Return the newest block that counts, as nodes take it."""
        finality = self._coordinator.config.finality
        if isinstance(finality, str):
            return finality
        if finality <= 1:
            return "latest"
        height = quantity(self._rpc.call("eth_blockNumber"), "The node")
        return hex(max(0, height - finality + 1))

    def tasks(
        self, wanted: Sequence[tuple[str, int | None]], *, block: str = "latest"
    ) -> list[ChainTask]:
        """Return purchases of tasks.

        Args:
            wanted: cids, and which purchase; None: the latest.
            block: a tag, or a number in hex.
        """
        calls = [
            ("getTask", (to_digest(cid),))
            if generation is None
            else ("getTaskAt", (to_digest(cid), generation))
            for cid, generation in wanted
        ]
        answers = self._call(calls, block)
        return [
            ChainTask.read(to_digest(cid), answer)
            for (cid, _), answer in zip(wanted, answers, strict=True)
        ]

    def shares(self, wanted: Sequence[tuple[str, int]], submitter: str) -> list[int]:
        """Return what somebody has put into purchases of tasks, reward and fee, in wei."""
        calls = [("shareOf", (to_digest(cid), generation, submitter)) for cid, generation in wanted]
        return [reward + fee for reward, fee in self._call(calls, "latest")]

    def _call(self, calls: Sequence[tuple[str, tuple[Any, ...]]], block: str) -> list[Any]:
        functions = coordinator_abi().functions
        found: list[Any] = []
        for start in range(0, len(calls), _BATCH):
            part = calls[start : start + _BATCH]
            asked = [
                (
                    "eth_call",
                    (
                        {
                            "to": self._coordinator.contract_address,
                            "data": "0x" + functions[name].encode(arguments).hex(),
                        },
                        block,
                    ),
                )
                for name, arguments in part
            ]
            answers = self._rpc.call_many(asked)
            for (name, _), answer in zip(part, answers, strict=True):
                if isinstance(answer, RpcAnswerError) or not isinstance(answer, str):
                    raise RpcError(f"The node does not answer {name}.")
                found.append(functions[name].decode(bytes.fromhex(answer[2:])))
        return found
