"""What goes wrong between us, a node and the contract."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from noob_cloud.exceptions import NoobCloudError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ChainError",
    "ConfigError",
    "DisagreementError",
    "ExtraMissingError",
    "FeeCeilingError",
    "InsufficientFundsError",
    "NetworkRetiredError",
    "NotMinedError",
    "ReadOnlyError",
    "RpcAnswerError",
    "RpcError",
    "TransactionRevertedError",
    "WrongChainError",
    "need",
    "same_recursion_limit",
]


class ChainError(NoobCloudError):
    """The chain, or a node of it, could not do what was asked."""


class ExtraMissingError(ChainError, ImportError):
    """A package that the chain needs is not installed: pip install 'noob-cloud[chain]'."""


class ConfigError(ChainError, ValueError):
    """The settings of the chain are wrong."""


class NetworkRetiredError(ChainError, RuntimeError):
    """This network was shut down."""


class ReadOnlyError(ChainError, PermissionError):
    """There is no key to sign with: without one the chain is only read."""


class RpcError(ChainError, ConnectionError):
    """No node could be reached, or none answered as it must."""


class WrongChainError(RpcError):
    """The node is one of another chain."""


class DisagreementError(RpcError):
    """Nodes do not agree on a block's hash."""


class RpcAnswerError(ChainError, RuntimeError):
    """The node refused the call; `code`, `reason` and `revert` (bytes or None) are what it said."""

    code: int
    reason: str
    revert: bytes | None


class FeeCeilingError(ChainError, RuntimeError):
    """The chain's fee is above the ceiling that was set."""


class InsufficientFundsError(ChainError, RuntimeError):
    """The account has less ether than the transaction costs."""


class NotMinedError(ChainError, TimeoutError):
    """The transaction was not mined, or not confirmed, in time; it may still be."""


class TransactionRevertedError(ChainError, RuntimeError):
    """The contract refused: `name` is its error's, `values` are the error's arguments.

    Each error of the contract has a class of its own in `noob_cloud.blockchain.reverts`.
    """

    name: str
    values: dict[str, Any]


@contextmanager
def same_recursion_limit() -> Iterator[None]:
    """Undo what py-evm and py_ecc do when they are imported: they raise the limit to 100,000.

    A deeply nested document from the network would then end the process, where it should raise
    RecursionError.
    """
    before = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def need(module: str, extra: str = "chain") -> Any:
    """Return a module of an extra.

    Raises:
        ExtraMissingError: it is not installed; the message says what to install.
    """
    try:
        with same_recursion_limit():
            return import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        if missing == "noob_cloud":
            raise
        raise ExtraMissingError(
            f"The chain needs {missing}, which is not installed: pip install 'noob-cloud[{extra}]'",
            module=missing,
            extra=extra,
        ) from error
