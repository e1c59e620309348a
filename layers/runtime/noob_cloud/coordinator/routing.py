"""Which pool may run a task: its tags, its timeout and its memory against what the pools offer.

Claims are decided by tags alone, so a limit becomes one: a pool whose workers may run for longer
than 900 s offers the tag `noob:over-900s`, and a task that may take longer than that requires it.
No worker of a smaller pool can then claim it, whatever that worker asks for. Such a task is no
longer untagged, so where it was, it requires `noob:untagged` as well, which the pools offer that
take tasks without tags. `docs/decisions/0008-limits-are-tags.md` says why.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from noob_cloud.exceptions import RoutingError

if TYPE_CHECKING:
    from collections.abc import Iterable

RESERVED: Final = "noob:"
"""Tags that begin so are ours: users cannot ask for them, nor offer them."""
POOL: Final = f"{RESERVED}pool-"
"""A worker of the pool NAME asks by this tag and NAME for everything that the pool offers."""
_DRIVE_WITH: Final = f"{RESERVED}drive+"
_OVER: Final = f"{RESERVED}over-"
_UNTAGGED: Final = f"{RESERVED}untagged"
_REMEMBERED: Final = 4096
_ENDLESS: Final = float("inf")
_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Pool:
    """A place where workers can be had.

    Args:
        name: `fargate`, `gpu`, a user's own; of a Lambda with its memory, `lambda-1024`.
        tags: what its workers offer.
        accepts_untagged: whether its workers take tasks without tags.
        max_seconds: longest timeout of a task there.
        max_memory: most memory of a task there, in MiB.
        drives: whether its workers drive runs without a client.
    """

    name: str
    tags: frozenset[str] = frozenset()
    accepts_untagged: bool = True
    max_seconds: float = _ENDLESS
    max_memory: float = _ENDLESS
    drives: bool = True

    def __post_init__(self) -> None:
        taken = sorted(tag for tag in self.tags if tag.startswith(RESERVED))
        if taken:
            raise ValueError(f"Tags that begin with {RESERVED!r} are ours; {self.name} has {taken}")


@dataclass(frozen=True, slots=True)
class Route:
    """Where a task may run."""

    pools: tuple[str, ...]
    """Names, in the order of the router's pools: the first is preferred."""
    required: frozenset[str] = frozenset()
    """Tags that the task has to require besides its own."""


@dataclass(frozen=True)
class Router:
    """Routes tasks to pools.

    Args:
        pools: in the order of preference.
        stale: limits that tasks in the queue require though no pool has them any more, as tags;
            the largest pools offer them, since how much more such a task needs is not known.
    """

    pools: tuple[Pool, ...]
    stale: frozenset[str] = frozenset()
    _steps: dict[str, tuple[float, ...]] = field(init=False, repr=False, compare=False)
    _offered: dict[str, frozenset[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [pool.name for pool in self.pools]
        if len(set(names)) != len(names):
            raise ValueError(f"Two pools have one name: {names}")
        steps = {
            "s": tuple(sorted({pool.max_seconds for pool in self.pools} - {_ENDLESS})),
            "mib": tuple(sorted({pool.max_memory for pool in self.pools} - {_ENDLESS})),
        }
        object.__setattr__(self, "_steps", steps)
        offered = {pool.name: self._offers(pool) for pool in self.pools}
        object.__setattr__(self, "_offered", offered)
        object.__setattr__(self, "route", lru_cache(_REMEMBERED)(self.route))
        object.__setattr__(self, "_tagged", lru_cache(_REMEMBERED)(self._tagged))
        object.__setattr__(self, "claimable", lru_cache(_REMEMBERED)(self.claimable))

    # ---- workers

    def offered(self, name: str) -> frozenset[str]:
        """Return every tag that the workers of a pool may claim, our own included."""
        return self._offered[name]

    def pool_of(self, tags: Iterable[str]) -> str | None:
        """Return the pool that a worker names by its tags; None for a worker of no pool."""
        for tag in tags:
            if tag.startswith(POOL) and tag[len(POOL) :] in self._offered:
                return tag[len(POOL) :]
        return None

    def claimable(
        self,
        tags: frozenset[str],
        untagged: bool,  # noqa: FBT001 - as a request says it
    ) -> tuple[frozenset[str], bool, str | None]:
        """Return what a worker may claim: tags, whether untagged tasks, and its pool.

        A worker of a pool has what the pool offers; one of no pool has what it says.
        """
        name = self.pool_of(tag.removeprefix(_DRIVE_WITH) for tag in tags)
        if name is None:
            return tags, untagged, None
        offered = self._offered[name]
        if not any(tag.startswith(POOL) for tag in tags):  # it asks for runs to drive
            if not any(pool.drives for pool in self.pools if pool.name == name):
                return _NONE, False, name
            return tags | {f"{_DRIVE_WITH}{tag}" for tag in offered}, untagged, name
        return offered | {x for x in tags if not x.startswith(POOL)}, _UNTAGGED in offered, name

    def admitting(self, affinity: frozenset[str], required: frozenset[str]) -> tuple[str, ...]:
        """Return the pools whose workers may claim a task with these tags, ours included."""
        if not affinity and not required:
            return tuple(name for name, tags in self._offered.items() if _UNTAGGED in tags)
        return tuple(
            name
            for name, tags in self._offered.items()
            if required <= tags and (not affinity or not affinity.isdisjoint(tags))
        )

    # ---- tasks

    def check_driven(self, tags: frozenset[str]) -> None:
        """Return if the workers of some pool drive runs with these tags (none: any run).

        Raises:
            RoutingError: no pool's workers do.
        """
        if not any(x.drives and (not tags or tags & x.tags) for x in self.pools):
            raise RoutingError(
                f"No pool drives runs{' with the tags ' + _list(tags) if tags else ''}: set"
                " `drives = true` for one whose workers stay, or drive the run with a client.",
                affinity_tags=sorted(tags),
            )

    def route(
        self,
        affinity: frozenset[str] = _NONE,
        required: frozenset[str] = _NONE,
        seconds: float = 0.0,
        memory: float = 0.0,
    ) -> Route:
        """Return where a task may run.

        Args:
            affinity: any of these tags (none: any worker that takes untagged tasks).
            required: all of these tags.
            seconds: its timeout.
            memory: in MiB; 0: it says nothing.

        Raises:
            RoutingError: nowhere; the message says which tag or limit is in the way.
        """
        tagged = self._tagged(affinity, required)
        fitting = [
            pool for pool in tagged if pool.max_seconds >= seconds and pool.max_memory >= memory
        ]
        if not fitting:
            raise RoutingError(
                _too_large(tagged, seconds, memory), timeout_seconds=seconds, memory=memory
            )
        over = {*self._over(seconds, "s"), *self._over(memory, "mib")}
        if over and not affinity and not required:
            over.add(_UNTAGGED)
        return Route(tuple(pool.name for pool in fitting), frozenset(over))

    def _tagged(self, affinity: frozenset[str], required: frozenset[str]) -> tuple[Pool, ...]:
        """Return the pools with a task's tags, whatever their limits."""
        _check_reserved(affinity | required)
        tagged = tuple(pool for pool in self.pools if _matches(pool, affinity, required))
        if not tagged:
            raise RoutingError(
                self._missing(affinity, required),
                affinity_tags=sorted(affinity),
                required_tags=sorted(required),
            )
        return tagged

    def _over(self, asked: float, unit: str) -> list[str]:
        """Return the tag of the largest limit that `asked` is over: it implies the others."""
        steps = self._steps[unit]
        below = bisect_left(steps, asked)
        return [limit_tag(steps[below - 1], unit)] if below else []

    def _offers(self, pool: Pool) -> frozenset[str]:
        over = {limit_tag(x, "s") for x in self._steps["s"] if pool.max_seconds > x}
        over |= {limit_tag(x, "mib") for x in self._steps["mib"] if pool.max_memory > x}
        if pool.max_seconds == max(x.max_seconds for x in self.pools):
            over |= {x for x in self.stale if _is_over(x, "s", pool.max_seconds)}
        if pool.max_memory == max(x.max_memory for x in self.pools):
            over |= {x for x in self.stale if _is_over(x, "mib", pool.max_memory)}
        return pool.tags | over | ({_UNTAGGED} if pool.accepts_untagged else _NONE)

    def _missing(self, affinity: frozenset[str], required: frozenset[str]) -> str:
        wanted = []
        if required:
            wanted.append(f"all of {_list(required)}")
        if affinity:
            wanted.append(f"any of {_list(affinity)}")
        have = "; ".join(f"{pool.name} has {_list(pool.tags) or 'none'}" for pool in self.pools)
        what = " and ".join(wanted) or "to take tasks without tags"
        return (
            f"No pool offers {what}: {have or 'there is no pool'}."
            " Add a pool with these tags to noob-cloud.toml and deploy, or change the placement."
        )


def limit_tag(limit: float, unit: str) -> str:
    """Return the tag of tasks that need more than `limit` seconds (`s`) or MiB (`mib`)."""
    return f"{_OVER}{limit:.12g}{unit}"


def untagged() -> frozenset[str]:
    """Return the tag of tasks that have none but ours."""
    return frozenset((_UNTAGGED,))


def limits_among(tags: Iterable[str]) -> frozenset[str]:
    """Return which of these tags say a limit."""
    return frozenset(tag for tag in tags if tag.startswith(_OVER))


def _is_over(tag: str, unit: str, limit: float) -> bool:
    number = tag.removeprefix(_OVER).removesuffix(unit)
    try:
        return tag.endswith(unit) and float(number) < limit
    except ValueError:
        return False


def _matches(pool: Pool, affinity: frozenset[str], required: frozenset[str]) -> bool:
    if not affinity and not required:
        return pool.accepts_untagged
    return required <= pool.tags and (not affinity or bool(affinity & pool.tags))


def _check_reserved(tags: Iterable[str]) -> None:
    taken = sorted(tag for tag in tags if tag.startswith(RESERVED))
    if taken:
        raise RoutingError(
            f"Tags that begin with {RESERVED!r} are ours, and given by the coordinator: "
            f"{_list(taken)}. Ask for a pool's own tags."
        )


def _too_large(pools: Iterable[Pool], seconds: float, memory: float) -> str:
    rows = "; ".join(f"{pool.name} allows {_allowed(pool)}" for pool in pools)
    said = f"timeout_seconds={seconds:g}" + (f" and memory={memory:g} MiB" if memory else "")
    return f"No pool with the right tags allows {said}: {rows}. Ask for less, or add a larger pool."


def _allowed(pool: Pool) -> str:
    seconds = "any time" if pool.max_seconds == _ENDLESS else f"{pool.max_seconds:g} s"
    memory = "any memory" if pool.max_memory == _ENDLESS else f"{pool.max_memory:g} MiB"
    return f"{seconds} and {memory}"


def _list(tags: Iterable[str]) -> str:
    return ", ".join(sorted(tags))
