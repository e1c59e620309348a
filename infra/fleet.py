"""What the coordinator is told of its pools: where in AWS each of them is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from infra.names import ALIAS, Names
from infra.pools import FargatePool, LambdaPool
from noob_cloud.coordinator.pools import PoolsSettings

if TYPE_CHECKING:
    from infra.pools import Ec2Pool
    from infra.settings import Settings


def pools(settings: Settings) -> dict[str, Any]:
    """Return what `NOOB_CLOUD_POOLS` holds.

    Raises:
        ValueError: the coordinator would refuse it, for instance for a price that is missing.
    """
    budget = settings.budget.model_dump(exclude_none=True)
    told = {
        "pools": [*(_pool(pool, settings) for pool in settings.pools), *_elsewhere(settings)],
        **({"budget": budget} if budget else {}),
        "target_seconds": settings.target_seconds,
    }
    try:
        PoolsSettings.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ValueError(f"pools: {first}") from error
    return told


def _elsewhere(settings: Settings) -> list[dict[str, Any]]:
    """Return the workers that the deployment does not start: those of the chain hold a key."""
    if settings.chain is None:
        return []
    return [
        {
            "name": "chain",
            "kind": "own",
            "tags": ["chain"],
            "accept_untagged": False,
            "drives": False,
        }
    ]


def place(pool: LambdaPool | FargatePool | Ec2Pool, size: int | None = None) -> str:
    """Return the tag by which a worker says where it runs."""
    return f"noob:pool-{pool.name}" + ("" if size is None else f"-{size}")


def _pool(pool: LambdaPool | FargatePool | Ec2Pool, settings: Settings) -> dict[str, Any]:
    names = Names(settings.name)
    told: dict[str, Any] = {
        "name": pool.name,
        "kind": pool.kind,
        "tags": list(pool.tags),
        "accept_untagged": pool.accept_untagged,
        "max_workers": pool.max_workers,
        "architecture": pool.architecture or settings.architecture,
    }
    for name in ("price", "cooldown_seconds", "drives"):
        if getattr(pool, name) is not None:
            told[name] = getattr(pool, name)
    if isinstance(pool, LambdaPool):
        sizes = {str(size): f"{names.function(pool.name, size)}:{ALIAS}" for size in pool.sizes}
        return {**told, "sizes": sizes, "max_seconds": pool.timeout_seconds}
    told |= {
        "service": names.service(pool.name),
        "memory": pool.memory,
        "slots": pool.slots,
        "vcpu": pool.vcpu,
        "min_workers": pool.min_workers,
        "spot": pool.spot,
        "public_ip": settings.network.mode == "public",
    }
    if isinstance(pool, FargatePool):
        return {**told, "cluster": names.cluster}
    return {**told, "cluster": names.gpu_cluster(pool.name), "instance": pool.instance}
