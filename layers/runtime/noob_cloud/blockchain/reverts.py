"""The contract's errors, each as a class: `except reverts.StakeTooLow as error`.

Which error it is is read from the selector, which every node passes on, rather than from a node's
words. A class's name is that of the contract's error; its `values` are the error's arguments.
"""

from __future__ import annotations

from typing import Any, Final

from noob_cloud.blockchain.contract import coordinator_abi
from noob_cloud.blockchain.errors import RpcError, TransactionRevertedError, need

__all__ = ["revert"]

_TEXT: Final = bytes.fromhex("08c379a0")
_PANIC: Final = bytes.fromhex("4e487b71")
_SELECTOR: Final = 4


def __getattr__(name: str) -> type[TransactionRevertedError]:
    """Return the class of one of the contract's errors, made when it is first asked for."""
    if name.startswith("_") or name not in {
        each.name for each in coordinator_abi().errors.values()
    }:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = type(
        name,
        (TransactionRevertedError,),
        {"__module__": __name__, "__doc__": f"The contract refuses: {name}."},
    )
    globals()[name] = made
    return made


def revert(data: bytes | None, doing: str, **more: Any) -> TransactionRevertedError:
    """Return the error for what a contract reverted with.

    Args:
        data: the bytes; None or empty where the node passes none on.
        doing: what was to be done.
        more: attributes of the error.
    """
    if not data:
        return TransactionRevertedError(
            f"{doing}: the contract refuses, and does not say why (out of gas, or no contract of"
            " this kind).",
            name="",
            values={},
            **more,
        )
    selector, rest = data[:_SELECTOR], data[_SELECTOR:]
    known = coordinator_abi().errors.get(selector)
    try:
        if known is not None:
            values = known.arguments(rest)
            kind = globals().get(known.name) or __getattr__(known.name)
            told = ", ".join(f"{name} {_shown(value)}" for name, value in values.items())
            made: TransactionRevertedError = kind(
                f"{doing}: the contract refuses with {known.name}({told}).",
                name=known.name,
                values=values,
                **more,
            )
            return made
        if selector == _TEXT:
            reason = str(need("eth_abi").decode(["string"], rest)[0])
            return TransactionRevertedError(
                f"{doing}: the contract refuses: {reason[:300]}",
                name="Error",
                values={"reason": reason},
                **more,
            )
        if selector == _PANIC:
            code = int.from_bytes(rest, "big")
            return TransactionRevertedError(
                f"{doing}: the contract panics with code {code:#x}.",
                name="Panic",
                values={"code": code},
                **more,
            )
    except (RpcError, ValueError, need("eth_abi").exceptions.DecodingError):
        known = None  # said below
    return TransactionRevertedError(
        f"{doing}: the contract refuses with 0x{data[:40].hex()}, which its ABI does not have.",
        name="",
        values={"data": data},
        **more,
    )


def _shown(value: Any) -> str:
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)
