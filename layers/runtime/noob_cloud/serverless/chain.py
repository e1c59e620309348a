"""A contract's offers as tasks: read on from where the coordinator's checkpoint stands."""

from __future__ import annotations

import json
import logging
import os
import sys
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final

from noob_cloud.blockchain.config import BlockchainConfig
from noob_cloud.blockchain.feed import ChainFeed, finality_of
from noob_cloud.blockchain.rpc import Rpc, quantity
from noob_cloud.exceptions import ConflictError
from noob_cloud.serverless.find import DEPLOYMENT_VARIABLE, find

if TYPE_CHECKING:
    from collections.abc import Mapping

    from noob_cloud.queue import Queue

__all__ = ["ChainFunction"]

_log = logging.getLogger(__name__)
_MARGIN: Final = 15.0
"""Seconds before the end in which no more is begun."""
_PATIENCE: Final = 10.0
_PREFIX: Final = "NOOB_CLOUD_CHAIN_"
_OWN: Final = ("NETWORK", "CHAIN_ID", "CONTRACT_ADDRESS", "RPC_URL", "RPC_TIMEOUT")


class ChainFunction:
    """Reads a contract's events for as long as it may, and says how far it came.

    Any number may run at once: the checkpoint's version lets one of them submit.

    Args:
        environ: the function's environment: `NOOB_CLOUD_CHAIN_NETWORK` or `_CHAIN_ID`,
            `_CONTRACT_ADDRESS`, `_RPC_SECRET` (name of the secret with the nodes' addresses; or
            `_RPC_URL`), `_FINALITY`, `_FROM_BLOCK`, `_CHECK`; and what `serverless.find` reads.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._rpc: Rpc | None = None
        self._contract = ""

    def handle(self, seconds: float) -> dict[str, Any]:
        """Read on.

        Args:
            seconds: that are left.

        Returns:
            The last block that was read, how many events were submitted, and whether it is behind.

        Raises:
            ChainError: no node answers as it must; the next call goes on where this one was.
            NoobCloudError: the coordinator cannot be found.
        """
        until = monotonic() + seconds - _MARGIN
        with find(environ=self._environ).client(patience=_PATIENCE) as client:
            feed = self._feed(client.queue)
            behind = True
            while behind and monotonic() < until:
                try:
                    behind = feed.step()
                except ConflictError:
                    _log.info("another listener has read on meanwhile")
                    break
        told = {"block": feed.block, "submitted": feed.submitted, "left_out": feed.left_out}
        self._measure(told, self._age(feed.block))
        return {**told, "behind": behind}

    def _age(self, number: int | None) -> float | None:
        """Return the seconds since the last block that was read was made; None: none was."""
        if number is None:
            return None
        block = self._nodes().call("eth_getBlockByNumber", hex(number), False)
        if not isinstance(block, dict):
            return None
        return max(0.0, time() - quantity(block.get("timestamp"), "The node"))

    def _feed(self, queue: Queue) -> ChainFeed:
        rpc = self._nodes()
        start = self._environ.get(f"{_PREFIX}FROM_BLOCK")
        return ChainFeed(
            rpc,
            queue,
            self._contract,
            start=None if start is None else int(start),
            finality=finality_of(self._environ.get(f"{_PREFIX}FINALITY", "finalized")),
            check="none" if self._environ.get(f"{_PREFIX}CHECK") == "none" else "bloom",
        )

    def _nodes(self) -> Rpc:
        if self._rpc is None:
            told = {name: self._environ.get(_PREFIX + name) for name in _OWN}
            given: dict[str, Any] = {name.lower(): said for name, said in told.items() if said}
            secret = self._environ.get(f"{_PREFIX}RPC_SECRET")
            if secret:
                given["rpc_url"] = _secret(secret)
            config = BlockchainConfig(**given)
            if not config.contract_address:
                raise ValueError(f"No contract is named: set {_PREFIX}CONTRACT_ADDRESS.")
            self._contract = config.contract_address
            self._rpc = Rpc.of(config)
        return self._rpc

    def _measure(self, told: dict[str, int | None], age: float | None) -> None:
        """Write a line that CloudWatch takes for metrics."""
        names: dict[str, float | None] = {
            "ChainBlock": told["block"],
            "ChainEvents": told["submitted"],
            "ChainLeftOut": told["left_out"],
            "ChainAgeSeconds": age,
        }
        values = {name: value for name, value in names.items() if value is not None}
        line = {
            "_aws": {
                "Timestamp": int(time() * 1000),
                "CloudWatchMetrics": [
                    {
                        "Namespace": "noob-cloud",
                        "Dimensions": [["Deployment"]],
                        "Metrics": [{"Name": name} for name in values],
                    }
                ],
            },
            "Deployment": self._environ.get(DEPLOYMENT_VARIABLE, "-"),
            **values,
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def _secret(name: str) -> str:
    import boto3  # noqa: PLC0415 - heavy, and needed where a secret is named

    client: Any = boto3.client("secretsmanager")
    text: str = client.get_secret_value(SecretId=name)["SecretString"]
    return text.strip()
