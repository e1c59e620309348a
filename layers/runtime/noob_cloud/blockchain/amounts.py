"""Amounts of ether, exactly: a float is taken by the digits that Python prints."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation, localcontext
from typing import Final

from noob_cloud.blockchain.errors import ConfigError

__all__ = ["WEI", "Ether", "to_eth", "to_wei"]

Ether = int | float | str | Decimal
"""An amount in ether, as a user writes it: `1`, `0.001`, `"0.001"`, `Decimal("0.001")`."""
WEI: Final = 10**18
"""Wei of one ether."""
_MOST: Final = 2**128


def to_wei(amount: Ether, *, name: str = "The amount") -> int:
    """Return ether in wei.

    Args:
        amount: in ether.
        name: what it is, for the error.

    Raises:
        ConfigError: it is no number, negative, finer than a wei, or more than there can be.
    """
    try:
        with localcontext(prec=100):
            wei = Decimal(str(amount)) * WEI
    except InvalidOperation as error:
        raise ConfigError(f"{name} is {amount!r}, which is no number of ether.") from error
    if isinstance(amount, bool) or not wei.is_finite() or not 0 <= wei < _MOST:
        raise ConfigError(f"{name} is {amount!r} ether: say a number from 0 on.")
    if wei != wei.to_integral_value():
        raise ConfigError(f"{name} is {amount!r} ether, which is finer than one wei (1e-18).")
    return int(wei)


def to_eth(wei: int) -> Decimal:
    """Return wei in ether, exactly, without zeros at the end."""
    with localcontext(prec=100):
        ether = Decimal(wei).scaleb(-18).normalize()
        return ether if ether.as_tuple().exponent <= 0 else ether.quantize(Decimal(1))  # type: ignore[operator]  # finite
