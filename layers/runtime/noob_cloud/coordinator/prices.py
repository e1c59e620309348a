"""What a worker costs: the table `prices.toml`, with its date and where its figures come from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from noob_cloud.coordinator.pools import PoolSettings

_HOUR = 3600.0
_MIB_A_GB = 1024.0


@dataclass(frozen=True)
class Prices:
    """A table of prices, of one region and one day."""

    date: str
    region: str
    currency: str
    source: dict[str, str]
    table: dict[str, Any]

    @classmethod
    def load(cls, path: Path | None = None) -> Prices:
        """Read a table; without a path the one that comes with noob-cloud.

        Raises:
            ValueError: it is not TOML, or says no date.
            OSError: it cannot be read.
        """
        given = resources.files(__package__).joinpath("prices.toml") if path is None else path
        try:
            table = tomllib.loads(given.read_text(encoding="utf-8"))
            date, region, currency = (str(table[x]) for x in ("date", "region", "currency"))
            return cls(date, region, currency, dict(table.get("source", {})), table)
        except KeyError as error:
            raise ValueError(f"The prices in {given} lack {error}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"The prices in {given} are not TOML: {error}") from error

    def a_second(self, pool: PoolSettings, memory: float | None) -> float:
        """Return what one worker of a pool costs in a second, with `memory` MiB.

        Raises:
            ValueError: the table has no such price; the message says how to give one.
        """
        if pool.price is not None:
            return pool.price / _HOUR
        gigabytes = (memory or 0.0) / _MIB_A_GB
        try:
            if pool.kind == "lambda":
                return float(self.table["lambda"]["gb_second"][pool.architecture]) * gigabytes
            if pool.kind == "fargate":
                table = self.table["fargate"]
                hour = float(table["vcpu_hour"][pool.architecture]) * (pool.vcpu or 0.0)
                hour += float(table["gb_hour"][pool.architecture]) * gigabytes
                hour *= float(table["spot_factor"]) if pool.spot else 1.0
                return (hour + self._address(pool)) / _HOUR
            if pool.kind == "ec2":
                hour = float(self.table["ec2"][pool.instance])
                return (hour + self._address(pool)) / _HOUR
        except KeyError as error:
            raise ValueError(
                f"The prices of {self.date} know no {error} for the pool {pool.name}; give it"
                " `price = ...`, money for a worker-hour."
            ) from error
        return 0.0  # a machine of one's own

    def a_start(self, pool: PoolSettings) -> float:
        """Return what one start costs besides."""
        if pool.kind != "lambda" or pool.price is not None:
            return 0.0
        return float(self.table.get("lambda", {}).get("request", 0.0))

    def _address(self, pool: PoolSettings) -> float:
        return float(self.table.get("public_ipv4", {}).get("hour", 0.0)) if pool.public_ip else 0.0
