"""What a deployment is: typed, from `noob-cloud.toml` and the context of the CDK."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from infra.pools import (
    Architecture,
    Ec2Pool,
    FargatePool,
    LambdaPool,
    Money,
    Pool,
    check_fargate_size,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE: Final = "noob-cloud.toml"
_OF_THE_CDK: Final = ("@", "aws:", "aws-cdk:", "cdk-", "availability-zones:")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(_Table):
    """Where the containers stand. Lambdas stand outside, and reach S3 and the API as you do."""

    mode: Literal["public", "private"] = "public"
    """public: addresses of their own behind security groups that let nobody in. private: no way
    to the internet, and an endpoint for each service of AWS that they need (about 8 USD a month
    each, in each of two zones)."""
    cidr: str = "10.42.0.0/16"
    flow_logs: bool = False
    """Log the connections that were refused."""


class CoordinatorTask(_Table):
    """The one task that keeps the queue."""

    vcpu: float = 1
    memory: int = 2048
    """MiB."""
    ack: Literal["replicated", "local"] = "replicated"
    """When a submission is answered: once it is in S3, or at once."""
    image: str | None = None
    """Another image than the pinned python one; it needs the deployment's Python as `python`."""
    environment: dict[Annotated[str, Field(pattern=r"^NOOB_CLOUD_[A-Z_]+$")], str] = {}
    """Further NOOB_CLOUD_* settings of the coordinator."""

    @model_validator(mode="after")
    def _check(self) -> CoordinatorTask:
        check_fargate_size(self.vcpu, self.memory)
        return self


class Storage(_Table):
    """How long S3 keeps what is no longer used."""

    noncurrent_days: Annotated[int, Field(ge=1)] = 7
    """Deleted and overwritten objects, in days."""
    inputs_days: Annotated[int, Field(ge=1)] | None = None
    """What was uploaded below `inbox/`, in days; None: for ever."""


class Budget(_Table):
    """Money at whose end no more workers are started."""

    per_day: Money | None = 20.0
    per_run: Money | None = None


class Events(_Table):
    """What starts runs without anybody asking."""

    mapping: Path | None = None
    """File that says which event runs what; None: nothing does."""
    retries: Annotated[int, Field(ge=1, le=1000)] = 5
    """How often an event is tried before it is a dead letter."""
    concurrency: Annotated[int, Field(ge=2, le=1000)] | None = None
    """Reserved for the function that submits; AWS refuses it to new accounts, and lets a queue call
    no fewer than 2 at once."""


class Chain(_Table):
    """A contract whose offers become tasks."""

    network: str | None = None
    """Name of the network, as `noob-cloud chain networks` has it; or `chain_id`."""
    chain_id: Annotated[int, Field(ge=1)] | None = None
    contract: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
    """The contract's address."""
    rpc_secret: Annotated[str, Field(pattern=r"^[A-Za-z0-9/_+=.@-]{1,200}$")]
    """Name of the secret with the node's address; several, by comma, the preferred first."""
    from_block: Annotated[int, Field(ge=0)] | None = None
    """The first block that is read; None: 10,000 before the newest at the first look."""
    finality: Annotated[int, Field(ge=1, le=10_000)] | Literal["safe", "finalized"] = "finalized"
    """Blocks that a block needs before it is read, itself included; or what the chain calls so."""
    blooms: bool = True
    """Look for events that a node leaves out; false on chains without blooms."""
    every_minutes: Annotated[int, Field(ge=1, le=60)] = 1
    silent_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """A last block read that is older is an alarm; Ethereum's finalized ones are 15 min old."""

    @model_validator(mode="after")
    def _check(self) -> Chain:
        if (self.network is None) == (self.chain_id is None):
            raise ValueError("Say which chain: either network or chain_id.")
        return self


class Observe(_Table):
    """What is watched, and who is told."""

    email: str | None = None
    """Who is told of an alarm."""
    log_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 180, 365, 731] = 30
    oldest_ready_seconds: Annotated[float, Field(gt=0)] = 600.0
    """A task that waits for longer is an alarm."""
    replication_seconds: Annotated[float, Field(gt=0)] = 10.0
    """A commit that waits for its copy in S3 for longer is an alarm."""
    container_insights: bool = False
    """CloudWatch's own metrics of the containers, which cost."""
    traces: bool = True
    """Send traces to X-Ray: of the runs that X-Ray's sampling, or their client, chose."""


class Settings(_Table):
    """A deployment. Several stand side by side in one account, each under a name of its own."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,22}[a-z0-9]$")] = "noob-cloud"
    removal_policy: Literal["retain", "destroy"] = "retain"
    """What becomes of the bucket and the token when the deployment is destroyed."""
    tags: dict[str, str] = {}
    """On everything, besides `noob-cloud:deployment`."""
    python: Literal["3.11", "3.12", "3.13"] = "3.13"
    """Of the layers and of whatever runs them."""
    architecture: Architecture = "arm64"
    project: Path | None = None
    """Folder of the user's own code."""
    assets_dir: Path = Path("dist")
    """Where the layers lie in `layers/`; they are built there when they are missing."""
    network: Network = Network()
    storage: Storage = Storage()
    coordinator: CoordinatorTask = CoordinatorTask()
    pools: Annotated[tuple[Pool, ...], Field(min_length=1)] = (
        LambdaPool(kind="lambda", name="lambda"),
        FargatePool(kind="fargate", name="fargate"),
    )
    """Where tasks may run, the preferred first."""
    worker_policies: tuple[Annotated[str, Field(pattern=r"^arn:[^:]+:iam::")], ...] = ()
    """ARNs of managed policies that your code needs in its workers."""
    target_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    """What is ready is to be done in this time: more workers than that needs are not started."""
    budget: Budget = Budget()
    events: Events = Events()
    chain: Chain | None = None
    """What is listened to; None: no chain is."""
    observe: Observe = Observe()

    @model_validator(mode="after")
    def _check(self) -> Settings:
        names = [pool.name for pool in self.pools]
        if len(set(names)) != len(names):
            raise ValueError(f"Two pools have one name: {', '.join(names)}.")
        if self.ec2_pools and self.name.startswith(("aws", "ecs", "fargate")):
            raise ValueError(
                f"ECS has no capacity provider whose name begins as {self.name!r} does: aws, ecs"
                " and fargate are its own."
            )
        taken = sorted({"chain", "coordinator", "events", "submit"}.intersection(names))
        if taken:
            raise ValueError(f"A pool cannot be called {taken[0]!r}: a part of ours is.")
        if self.network.mode == "private":
            self._check_private_images()
        return self

    def _check_private_images(self) -> None:
        images = [self.coordinator.image]
        images += [pool.image for pool in (*self.fargate_pools, *self.ec2_pools)]
        if any(image is None or ".dkr.ecr." not in image for image in images):
            raise ValueError(
                'network.mode = "private" has no way to public registries: copy the python image'
                " into a repository of your own (crane copy, see docs/DEPLOY.md) and name it as"
                " image of the coordinator and of every pool of containers."
            )

    @property
    def lambda_pools(self) -> tuple[LambdaPool, ...]:
        """The pools of Lambda functions."""
        return tuple(pool for pool in self.pools if isinstance(pool, LambdaPool))

    @property
    def fargate_pools(self) -> tuple[FargatePool, ...]:
        """The pools of containers on Fargate."""
        return tuple(pool for pool in self.pools if isinstance(pool, FargatePool))

    @property
    def ec2_pools(self) -> tuple[Ec2Pool, ...]:
        """The pools of containers on instances with GPUs."""
        return tuple(pool for pool in self.pools if isinstance(pool, Ec2Pool))


class SettingsError(ValueError):
    """The settings of the deployment are wrong; the message says which, and why."""


def read(context: Mapping[str, Any], *, folder: Path) -> Settings:
    """Read a deployment's settings.

    Args:
        context: of the CDK: `-c name=test`, `-c network.mode=private`; `-c settings=FILE` says
            where the file is, by default `noob-cloud.toml` in the project, or in `folder`.
        folder: what relative paths in the context start from.

    Raises:
        SettingsError: a setting is unknown or has a value that it cannot have.
    """
    told = {key: value for key, value in context.items() if not key.startswith(_OF_THE_CDK)}
    path = _file(told, folder)
    given = {} if path is None else _load(path)
    for key, value in told.items():
        if key != "settings":
            _put(given, key, _value(value))
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        raise SettingsError(_told(error, FILE if path is None else str(path))) from error
    return _at(settings, folder, folder if path is None else path.parent, told)


def _file(told: Mapping[str, Any], folder: Path) -> Path | None:
    if "settings" in told:
        path = folder / str(told["settings"])
        if not path.is_file():
            raise SettingsError(f"There is no settings file {path}.")
        return path
    places = [folder / str(told["project"])] if "project" in told else []
    return next((at / FILE for at in [*places, folder] if (at / FILE).is_file()), None)


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error


def _value(value: Any) -> Any:
    """Return what `-c key=value` means: lists and tables are written as JSON."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except ValueError as error:
            raise SettingsError(f"{value!r} is no JSON: {error}") from error
    return value


def _put(given: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    for table in tables:
        given = given.setdefault(table, {})
        if not isinstance(given, dict):
            raise SettingsError(f"{key}: {table} is no table of settings.")
    given[last] = value


def _at(settings: Settings, folder: Path, beside: Path, told: Mapping[str, Any]) -> Settings:
    """Make the paths absolute: those of the context from `folder`, those of the file beside it."""

    def resolve(path: Path | None, key: str) -> Path | None:
        return None if path is None else ((folder if key in told else beside) / path).resolve()

    events = settings.events.model_copy(
        update={"mapping": resolve(settings.events.mapping, "events.mapping")}
    )
    return settings.model_copy(
        update={
            "project": resolve(settings.project, "project"),
            "assets_dir": (folder / settings.assets_dir).resolve(),
            "events": events,
        }
    )


def _told(error: ValidationError, path: str) -> str:
    lines = []
    for each in error.errors():
        where = ".".join(str(part) for part in each["loc"]) or "settings"
        lines.append(f"{path}: {where}: {each['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)
