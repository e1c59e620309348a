"""The pools that a deployment has: what the user says of each, before it has a place in AWS."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Architecture = Literal["arm64", "x86_64"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,20}$")]
Tag = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^,\s]+$")]
Money = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_FARGATE_MEMORY: Final[dict[float, tuple[int, ...]]] = {
    0.25: (512, 1024, 2048),
    0.5: tuple(range(1024, 4097, 1024)),
    1: tuple(range(2048, 8193, 1024)),
    2: tuple(range(4096, 16385, 1024)),
    4: tuple(range(8192, 30721, 1024)),
    8: tuple(range(16384, 61441, 4096)),
    16: tuple(range(32768, 122881, 8192)),
}
"""MiB that Fargate offers with so many vCPUs.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html"""


def check_fargate_size(vcpu: float, memory: int) -> None:
    """Refuse what Fargate does not offer.

    Raises:
        ValueError: no task has so many vCPUs, or not with so much memory.
    """
    if vcpu not in _FARGATE_MEMORY:
        offered = ", ".join(map(str, _FARGATE_MEMORY))
        raise ValueError(f"Fargate has tasks of {offered} vCPU, not of {vcpu:g}.")
    if memory not in _FARGATE_MEMORY[vcpu]:
        sizes = _FARGATE_MEMORY[vcpu]
        raise ValueError(
            f"Fargate has {vcpu:g} vCPU with {sizes[0]} to {sizes[-1]} MiB in steps of"
            f" {sizes[1] - sizes[0]}, not with {memory}."
        )


class PoolSettings(BaseModel):
    """What every pool has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    tags: tuple[Tag, ...] = ()
    """What its workers offer; a task that asks for another tag never comes here."""
    accept_untagged: bool = True
    """Whether its workers take tasks without tags."""
    max_workers: Annotated[int, Field(gt=0)] = 10
    """Of the whole pool."""
    slots: Annotated[int, Field(gt=0, le=1024)] = 1
    """Tasks at once in one worker; they share its memory."""
    price: Money | None = None
    """Money for a worker-hour, instead of the table of prices."""
    cooldown_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """How long fewer workers must have been enough before there are fewer."""
    drives: bool | None = None
    """Whether its workers drive runs that have no client; None: where that makes sense."""


class LambdaPool(PoolSettings):
    """Lambda functions, one for each size."""

    kind: Literal["lambda"]
    sizes: Annotated[tuple[Annotated[int, Field(ge=128, le=10_240)], ...], Field(min_length=1)] = (
        1024,
        4096,
    )
    """MiB of each function: a task that was killed for memory goes to the next larger one."""
    max_workers: Annotated[int, Field(gt=0)] = 100
    timeout_seconds: Annotated[int, Field(ge=30, le=900)] = 900
    """How long one invocation pulls tasks: Lambda's limit is 900 s."""
    storage_mib: Annotated[int, Field(ge=512, le=10_240)] = 512
    """Of `/tmp`. More than 512 turns SnapStart off, which AWS has with 512 only."""
    snap_start: bool = True
    """Start from a snapshot of the function with its modules loaded (Python 3.12 and later)."""
    concurrency: Annotated[int, Field(gt=0)] | None = None
    """Reserved for each function; AWS refuses it to new accounts, so it is left unset."""
    architecture: Architecture | None = None
    """None: the deployment's."""

    @model_validator(mode="after")
    def _check(self) -> LambdaPool:
        if self.slots != 1:
            raise ValueError("A Lambda runs one task at a time: leave slots out.")
        if len(set(self.sizes)) != len(self.sizes):
            raise ValueError(f"Each size once, not {list(self.sizes)}.")
        return self


class ServicePool(PoolSettings):
    """An ECS service, whose desired count the coordinator sets."""

    min_workers: Annotated[int, Field(ge=0)] = 0
    """Kept running even when there is nothing to do."""
    spot: bool = True
    """Run on spare capacity, at about a third of the price, with two minutes' notice."""
    image: str | None = None
    """Another image than the pinned python one; it needs the deployment's Python as `python`."""

    @model_validator(mode="after")
    def _check_counts(self) -> ServicePool:
        if self.min_workers > self.max_workers:
            raise ValueError(
                f"min_workers={self.min_workers} is above max_workers={self.max_workers}."
            )
        return self


class FargatePool(ServicePool):
    """Containers without machines of one's own."""

    kind: Literal["fargate"]
    vcpu: float = 1
    memory: int = 4096
    """MiB of one worker."""
    on_demand_base: Annotated[int, Field(ge=0)] = 0
    """So many workers run on demand before the first one on spot capacity."""
    storage_gib: Annotated[int, Field(ge=20, le=200)] = 20
    architecture: Architecture | None = None
    """None: the deployment's."""
    gpus: int = 0

    @model_validator(mode="after")
    def _check(self) -> FargatePool:
        if self.gpus:
            raise ValueError(
                f"Fargate has no GPUs: AWS offers none to Fargate tasks, so no worker of the pool"
                f' {self.name!r} could ever start. Use kind = "ec2" with an instance such as'
                ' "g4dn.xlarge", which is started for the first task and stopped after the last.'
            )
        check_fargate_size(self.vcpu, self.memory)
        return self


class Ec2Pool(ServicePool):
    """Containers on instances with GPUs, which are started from zero and stopped again."""

    kind: Literal["ec2"]
    instance: Annotated[str, Field(pattern=r"^[a-z0-9-]+\.[a-z0-9]+$")] = "g4dn.xlarge"
    gpus: Annotated[int, Field(gt=0, le=16)] = 1
    """Of one worker."""
    vcpu: Annotated[float, Field(gt=0)] = 3
    memory: Annotated[int, Field(gt=0)] = 14_000
    """MiB of one worker: a little less than the instance has, since the system needs some."""
    disk_gib: Annotated[int, Field(ge=30, le=16_384)] = 100
    tags: tuple[Tag, ...] = ("gpu",)
    accept_untagged: bool = False
    max_workers: Annotated[int, Field(gt=0)] = 4
    min_workers: Annotated[int, Field(ge=0)] = 0
    spot: bool = False
    architecture: Literal["x86_64"] = "x86_64"
    """AWS has GPU images of ECS for this one."""


def _name_by_kind(given: object) -> object:
    """Name a pool after its kind where it has no name: `lambda`, `fargate`, `gpu`."""
    if isinstance(given, dict) and "name" not in given and isinstance(given.get("kind"), str):
        return {"name": {"ec2": "gpu"}.get(given["kind"], given["kind"]), **given}
    return given


Pool = Annotated[
    Annotated[LambdaPool | FargatePool | Ec2Pool, Field(discriminator="kind")],
    BeforeValidator(_name_by_kind),
]
