"""The pools of a deployment, as its settings say them: where workers are had, and for how much."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path  # noqa: TC003 - Pydantic reads the annotation
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from noob_cloud.coordinator.capacity import Place
from noob_cloud.coordinator.prices import Prices
from noob_cloud.coordinator.routing import RESERVED, Pool

_LAMBDA_SECONDS: Final = 900.0
_LAMBDA_MEMORY: Final = 10_240
_AN_HOUR: Final = 3600.0
_START_SECONDS: Final = {"lambda": 30.0, "fargate": 180.0, "ec2": 900.0, "own": 0.0}
_BURST: Final[dict[str, float]] = {"lambda": 1000}
_REFILL: Final[dict[str, float]] = {"lambda": 100.0}
"""Starts at once, and a second: of a Lambda as AWS publishes it, 1,000 in 10 s for each function
(https://docs.aws.amazon.com/lambda/latest/dg/scaling-behavior.html). A service starts its workers
itself, as fast as ECS can."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
Tag = Annotated[str, Field(min_length=1, max_length=64)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class PoolSettings(BaseModel):
    """One pool: a Lambda function in one or more sizes, an ECS service, or one's own machines."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    kind: Literal["lambda", "fargate", "ec2", "own"]
    tags: tuple[Tag, ...] = ()
    """What its workers offer."""
    accept_untagged: bool = True
    """Whether its workers take tasks without tags."""
    sizes: dict[int, str] = {}
    """Of a Lambda: its function, by name or ARN, for each size of memory in MiB."""
    cluster: str | None = None
    service: str | None = None
    """Of Fargate and EC2: where ECS runs the workers."""
    instance: str | None = None
    """Of EC2: the type of its machines, for their price."""
    architecture: Literal["x86_64", "arm64"] = "arm64"
    vcpu: Positive | None = None
    memory: Annotated[int, Field(gt=0)] | None = None
    """Of one worker, in MiB."""
    slots: Annotated[int, Field(gt=0, le=10_000)] = 1
    """Tasks at once in one worker; they share its memory."""
    spot: bool = False
    public_ip: bool = True
    """Whether its workers have public addresses, which cost."""
    min_workers: Annotated[int, Field(ge=0)] = 0
    max_workers: Annotated[int, Field(ge=0)] = 10
    """Of the whole pool, whatever its sizes."""
    max_seconds: Positive | None = None
    """Longest timeout of a task; of a Lambda its function's timeout, 900 by default."""
    life_seconds: Positive | None = None
    """How long a start may cost money at most, for the budget: a Lambda's timeout; an hour."""
    cooldown_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 120.0
    """How long fewer workers must have been enough before a service is made smaller."""
    start_seconds: Positive | None = None
    """After how long a start that was not heard of has failed."""
    burst: Positive | None = None
    """Starts at once."""
    starts_per_second: Positive | None = None
    """Starts in a second thereafter."""
    price: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Money for a worker-hour, instead of the table's."""
    drives: bool | None = None
    """Whether its workers drive runs without a client; by default not Lambdas, which end and hand
    them on, unless there is nobody else, nor pools for tagged tasks alone, which are too dear."""

    @model_validator(mode="after")
    def _check(self) -> PoolSettings:
        ours = [tag for tag in self.tags if tag.startswith(RESERVED)]
        if ours:
            raise ValueError(f"{self.name}: tags that begin with {RESERVED!r} are ours: {ours}")
        if self.min_workers > self.max_workers:
            raise ValueError(
                f"{self.name}: min_workers={self.min_workers} is above"
                f" max_workers={self.max_workers}"
            )
        if self.kind == "lambda":
            self._check_lambda()
        elif self.kind != "own" and not (self.cluster and self.service):
            raise ValueError(f"{self.name}: a pool of kind {self.kind} needs cluster and service")
        if self.kind == "fargate" and not (self.vcpu and self.memory):
            raise ValueError(f"{self.name}: a pool of kind fargate needs vcpu and memory (MiB)")
        if self.kind == "fargate" and self.instance:
            raise ValueError(
                f"{self.name}: Fargate has no instances, and no GPU; use kind ec2 for"
                f" {self.instance}"
            )
        if self.kind == "ec2" and not self.instance and self.price is None:
            raise ValueError(f"{self.name}: a pool of kind ec2 needs instance, or a price")
        return self

    def _check_lambda(self) -> None:
        if not self.sizes:
            raise ValueError(
                f"{self.name}: a pool of kind lambda needs sizes = {{1024 = FUNCTION}}"
            )
        wrong = [size for size in self.sizes if not 128 <= size <= _LAMBDA_MEMORY]  # noqa: PLR2004 - Lambda's smallest
        if wrong:
            raise ValueError(f"{self.name}: a Lambda has 128 to 10240 MiB, not {wrong[0]}")
        if (self.max_seconds or 0.0) > _LAMBDA_SECONDS:
            raise ValueError(
                f"{self.name}: a Lambda runs for 900 s at most, not {self.max_seconds}"
            )

    # ---- as the rest of the coordinator takes it

    def would_drive(self, *, alone: bool = False) -> bool:
        """Return whether its workers drive runs; `alone` says that no other pool's would."""
        if self.drives is not None:
            return self.drives
        return self.accept_untagged and (alone or self.kind != "lambda")

    @property
    def _sizes(self) -> list[tuple[str, int | None, tuple[str, ...]]]:
        """Name, memory and target of each place."""
        if self.kind == "lambda":
            sizes = sorted(self.sizes.items())
            return [(f"{self.name}-{size}", size, (target,)) for size, target in sizes]
        target = () if self.service is None else (self.cluster or "", self.service)
        return [(self.name, self.memory, target)]

    def routes(self, *, drives: bool) -> list[Pool]:
        """Return the places for the router, the smallest first."""
        seconds = self.max_seconds or (_LAMBDA_SECONDS if self.kind == "lambda" else float("inf"))
        return [
            Pool(
                name,
                frozenset(self.tags),
                self.accept_untagged,
                seconds,
                float("inf") if memory is None else memory / self.slots,
                drives,
            )
            for name, memory, _target in self._sizes
        ]

    def places(self, prices: Prices, *, drives: bool) -> list[Place]:
        """Return the places for the capacity loop, the smallest first.

        Raises:
            ValueError: the table has no price for one.
        """
        is_lambda = self.kind == "lambda"
        life = self.life_seconds or (self.max_seconds or _LAMBDA_SECONDS if is_lambda else _AN_HOUR)
        return [
            Place(
                name=name,
                pool=self.name,
                kind=self.kind,
                target=target,
                memory=memory,
                most=self.max_workers,
                least=self.min_workers if number == 0 else 0,
                slots=self.slots,
                price=prices.a_second(self, memory),
                start_price=prices.a_start(self),
                life_seconds=life,
                cooldown_seconds=self.cooldown_seconds,
                start_seconds=self.start_seconds or _START_SECONDS[self.kind],
                burst=self.burst or _BURST.get(self.kind, float("inf")),
                refill=self.starts_per_second or _REFILL.get(self.kind, float("inf")),
                drives=drives,
                limit_seconds=self.life_seconds if is_lambda else None,
                tags=frozenset(self.tags),
            )
            for number, (name, memory, target) in enumerate(self._sizes)
        ]


class Budget(BaseModel):
    """Money that starting workers may cost; at its end no more are started, and those go on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_day: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Of a day in UTC."""
    per_run: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class PoolsSettings(BaseModel):
    """Every pool of a deployment, the preferred first, and what they may cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pools: tuple[PoolSettings, ...]
    budget: Budget = Budget()
    target_seconds: Positive = 60.0
    """In this time what is ready is to be done: more workers than that needs are not started."""
    assumed_seconds: Positive = 60.0
    """How long a task takes, while nothing has been measured."""
    prices: Path | None = None
    """Another table of prices than the one that comes with noob-cloud."""

    @model_validator(mode="before")
    @classmethod
    def _take_a_list(cls, given: Any) -> Any:
        return {"pools": given} if isinstance(given, list) else given

    @model_validator(mode="after")
    def _check(self) -> PoolsSettings:
        names = [name for pool in self.pools for name, *_ in pool._sizes]  # noqa: SLF001 - ours
        names += [pool.name for pool in self.pools if pool.kind == "lambda"]
        if len(set(names)) != len(names):
            raise ValueError(f"Two pools have one name: {', '.join(names)}")
        self.places()  # a price that is missing is said now
        return self

    @classmethod
    def usual(cls) -> PoolsSettings:
        """Return the pools of a new deployment."""
        kinds = ("lambda", "fargate")
        return cls.model_validate({"pools": [_planned({"kind": kind}) for kind in kinds]})

    @classmethod
    def load(cls, path: Path, *, planned: bool = False) -> PoolsSettings:
        """Read `pools` (and budget, target_seconds ...) from a TOML or JSON file.

        Other tables in it are left alone, so a deployment's noob-cloud.toml can hold them.

        Args:
            path: of the file.
            planned: it is a deployment's settings: what has no place in AWS yet, and how it is
                built there, is not asked for.

        Raises:
            ValueError: it is not such a file; the message says what is wrong where.
            OSError: it cannot be read.
        """
        text = path.read_text(encoding="utf-8")
        try:
            found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except ValueError as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        if isinstance(found, list):
            found = {"pools": found}
        if not isinstance(found, dict) or "pools" not in found:
            raise ValueError(f"{path} has no [[pools]].")
        known = {name: found[name] for name in cls.model_fields if name in found}
        if planned and isinstance(known["pools"], list):
            known["pools"] = [_planned(x) if isinstance(x, dict) else x for x in known["pools"]]
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"{path}: {where}: {first['msg']}") from error

    @property
    def managed(self) -> bool:
        """Whether there is a pool whose workers the coordinator starts."""
        return any(pool.kind != "own" for pool in self.pools)

    def price_table(self) -> Prices:
        """Return the table of prices."""
        return Prices.load(self.prices)

    def places(self) -> tuple[Place, ...]:
        """Return where workers can be had, the preferred first."""
        prices = self.price_table()
        return tuple(
            place
            for pool, drives in self._driving()
            for place in pool.places(prices, drives=drives)
        )

    def routes(self) -> tuple[Pool, ...]:
        """Return the same for the router."""
        return tuple(
            route for pool, drives in self._driving() for route in pool.routes(drives=drives)
        )

    def _driving(self) -> list[tuple[PoolSettings, bool]]:
        """Return each pool, and whether its workers drive runs."""
        alone = not any(pool.would_drive() for pool in self.pools)
        return [(pool, pool.would_drive(alone=alone)) for pool in self.pools]


_USUAL: Final[dict[str, dict[str, Any]]] = {
    "lambda": {"sizes": [1024, 4096], "max_workers": 100},
    "fargate": {"vcpu": 1, "memory": 4096, "spot": True},
    "ec2": {
        "instance": "g4dn.xlarge",
        "memory": 14_000,
        "tags": ["gpu"],
        "accept_untagged": False,
        "max_workers": 4,
    },
    "own": {},
}


def _planned(pool: dict[str, Any]) -> dict[str, Any]:
    """Return a pool of a deployment's settings as if it were deployed."""
    kind = pool.get("kind", "")
    name = pool.get("name", {"ec2": "gpu"}.get(kind, kind))
    found = {**_USUAL.get(kind, {}), **pool, "name": name}
    if "timeout_seconds" in found:
        found.setdefault("max_seconds", found["timeout_seconds"])
    sizes = found.get("sizes")
    if isinstance(sizes, (list, tuple)):
        found["sizes"] = {size: f"{name}-{size}" for size in sizes}
    if kind in ("fargate", "ec2"):
        found = {"cluster": "planned", "service": name, **found}
    return {key: value for key, value in found.items() if key in PoolSettings.model_fields}
