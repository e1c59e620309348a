"""Send tasks where they may run: at submit, at claim, and again after an attempt was killed.

An attempt that was killed for memory or time goes on in the next larger place, and so do later
tasks of its node: what was learned is in the queue's file, known by the node's name (a fused
stage's by the names of its nodes).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from math import inf, nextafter
from typing import TYPE_CHECKING, Any, Final

from noob_cloud.coordinator.routing import Router, limit_tag, limits_among, untagged
from noob_cloud.coordinator.statements import SQL
from noob_cloud.exceptions import PlacementError, RoutingError
from noob_cloud.placement import Placement
from noob_cloud.queue.leases import RELEASED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from noob_cloud.coordinator import wire
    from noob_cloud.coordinator.desk import Desk
    from noob_cloud.coordinator.pools import PoolsSettings
    from noob_cloud.queue.ledger import Ledger, Piece

    Floors = tuple[float, float]
    """Memory in MiB and seconds that a node is known to need more than; 0 for nothing known."""

_MIB: Final = 1 << 20
_ENOUGH: Final = 2
"""Evidence from which on a floor holds for later tasks: a kill for memory, or two losses."""
_KEPT_SECONDS: Final = 30 * 86_400.0
_LONG: Final = 0.8
"""A task that was handed back after this part of a place's time did not fit into it."""
_OUT_OF_MEMORY: Final = ("MemoryError", "was killed by SIGKILL", "out of memory", "OutOfMemory")
_OUT_OF_TIME: Final = ("TaskTimeoutError", "ran longer than its timeout_seconds")
_LOST: Final = "lost its lease"
_DEFAULT_SECONDS: Final = 300.0


class Placing:
    """Where the tasks of one coordinator go.

    Args:
        settings: the pools.
        pool_of: the place that a worker said it is of: None for one of no place, and LookupError
            for a worker that was not heard of.
    """

    def __init__(self, settings: PoolsSettings, pool_of: Callable[[str], str | None]) -> None:
        self._pools = settings.routes()
        self.router = Router(self._pools)
        self._pool_of = pool_of
        self._limits = {pool.name: pool for pool in self._pools}
        self._floors: dict[str, Floors] = {}

    def begin(self, desk: Desk, now: float) -> None:
        """Read what was learned, and which limits tasks in the queue have; take kills over."""

        def work(ledger: Ledger) -> Any:
            ledger.execute(SQL.forget_learned, (now - _KEPT_SECONDS,))
            ledger.words.learn_lanes()
            tags = {tag for lane in ledger.words.lanes() for tag in lane.required}
            return tags, ledger.execute(SQL.learned).fetchall()

        tags, rows = desk.transact(work)
        self.router = Router(self._pools, limits_among(tags))
        self._take(rows)
        desk.on_kill(self.climb)

    def _take(self, rows: Iterable[tuple[str, str, float, int, float]]) -> None:
        floors: dict[str, Floors] = {}
        for node, unit, floor, evidence, _at in rows:
            if evidence >= _ENOUGH:
                memory, seconds = floors.get(node, (0.0, 0.0))
                floors[node] = (floor, seconds) if unit == "mib" else (memory, floor)
        self._floors = floors

    # ---- submit

    def admit(self, body: wire.Submit) -> wire.Submit:
        """Return the tasks with the tags that their limits are; `body` itself stays as it was.

        Raises:
            RoutingError: one of them may run nowhere.
        """
        groups = [part for group in body.groups for part in self._parts(group)]
        return type(body)([self._routed(group, floors) for group, floors in groups], body.once)

    def _routed(self, group: wire.Group, floors: Floors) -> wire.Group:
        options = group.options
        affinity, required = frozenset(options.affinity_tags), frozenset(options.required_tags)
        asked = (options.timeout_seconds, (options.memory or 0) / _MIB)
        route = self.router.route(affinity, required, *asked)
        if any(floors):
            needs = (_above(asked[0], floors[1]), _above(asked[1], floors[0]))
            with suppress(RoutingError):  # there is none so large: it goes where it may at all
                route = self.router.route(affinity, required, *needs)
        if not route.required:
            return group
        more = (*options.required_tags, *sorted(route.required))
        routed: wire.Group = _with(group, options=_with(options, required_tags=more))
        return routed

    def _parts(self, group: wire.Group) -> list[tuple[wire.Group, Floors]]:
        """Return the tasks by what is known of their nodes."""
        floors, nodes = self._floors, group.nodes
        if isinstance(nodes, str):
            return [(group, floors.get(nodes, _NOTHING))]
        if not floors or floors.keys().isdisjoint(nodes):
            return [(group, _NOTHING)]
        places = range(len(nodes)) if group.places is None else group.places
        parts: dict[Floors, list[int]] = {}
        for index, node in enumerate(nodes):
            parts.setdefault(floors.get(node, _NOTHING), []).append(index)
        if len(parts) == 1 or len(places) != len(nodes):  # the latter is refused further on
            return [(group, next(iter(parts)))]
        return [
            (
                _with(
                    group,
                    nodes=[nodes[i] for i in chosen],
                    epochs=[group.epochs[i] for i in chosen],
                    payloads=_some(group.payloads, chosen),
                    uniques=_some(group.uniques, chosen),
                    places=[places[i] for i in chosen],
                ),
                known,
            )
            for known, chosen in parts.items()
        ]

    def check_run(self, placement: Any, tags: Iterable[str]) -> None:
        """Return if every node of a run may run somewhere, and a worker may drive it.

        Raises:
            RoutingError: the message names the node.
        """
        self.router.check_driven(frozenset(tags))
        if not isinstance(placement, (Placement, Mapping)):
            return  # never a path: it would be read here
        try:
            placed = Placement.of(placement)
        except (PlacementError, TypeError):
            return  # whoever drives the run says what is wrong with it
        for node, entry in placed.items():
            seconds = entry.timeout or _DEFAULT_SECONDS
            memory = (entry.memory or 0) / _MIB
            try:
                self.router.route(entry.affinity, entry.required, seconds, memory)
            except RoutingError as error:
                raise RoutingError(f"The node {node!r}: {error}", node_id=node) from None

    # ---- an attempt has ended without an outcome

    def climb(self, ledger: Ledger, piece: Piece, why: str, now: float) -> int | None:
        """Return the terms of a task's next attempt: those of a larger place, or None.

        Inside a transaction.
        """
        unit, evidence = self._cause(piece, why, now)
        if unit is None:
            return None
        terms = ledger.words.terms(piece.row.terms)
        pool = self._killer(piece, terms.affinity, terms.required)
        if pool is None:
            return None
        limit = pool.max_memory if unit == "mib" else pool.max_seconds
        if limit == inf:
            return None
        more = {limit_tag(limit, unit)}
        if not terms.affinity and not terms.required:
            more |= untagged()
        required = terms.required | more
        if not self.router.admitting(terms.affinity, required):
            return None
        node = ledger.chunk_of(piece.low).fields(piece.low)[0]
        ledger.execute(SQL.learn, (node, unit, limit, evidence, now))
        self._take(ledger.execute(SQL.learned).fetchall())
        return ledger.words.terms_id(replace(terms, required=required))

    def _cause(self, piece: Piece, why: str, now: float) -> tuple[str | None, int]:
        """Return which limit killed the attempt, if one did, and how sure that is."""
        row = piece.row
        if why == RELEASED:  # a Lambda's time was up
            begun = row.granted_at if row.started_at is None else row.started_at
            pool = self._known(row.worker_id)
            long = pool is not None and now - begun >= _LONG * pool.max_seconds
            return ("s", _ENOUGH) if long else (None, 0)
        if any(sign in why for sign in _OUT_OF_MEMORY):
            return "mib", _ENOUGH
        if any(sign in why for sign in _OUT_OF_TIME):  # more memory is more of a processor
            return "mib", 1
        if _LOST in why and (row.started_at is not None or row.claims > 1):
            return "mib", 1
        return None, 0

    def _killer(self, piece: Piece, affinity: frozenset[str], required: frozenset[str]) -> Any:
        """Return the place where the attempt ran: the smallest it can have been, if unknown."""
        try:
            name = self._pool_of(piece.row.worker_id)
            return None if name is None else self._limits.get(name)
        except LookupError:
            names = self.router.admitting(affinity, required)
            pools = [self._limits[name] for name in names]
            return min(pools, key=lambda x: (x.max_memory, x.max_seconds), default=None)

    def _known(self, worker_id: str) -> Any:
        try:
            return self._limits.get(self._pool_of(worker_id) or "")
        except LookupError:
            return None

    @property
    def learned(self) -> dict[str, Floors]:
        """What nodes are known to need more than: memory in MiB, and seconds."""
        return dict(self._floors)


_NOTHING: Floors = (0.0, 0.0)


def _above(asked: float, floor: float) -> float:
    return max(asked, nextafter(floor, inf)) if floor else asked


def _some(column: list[Any] | None, chosen: list[int]) -> list[Any] | None:
    return None if column is None else [column[i] for i in chosen]


def _with(struct: Any, **changes: Any) -> Any:
    """Return a struct with some fields changed."""
    values = {name: getattr(struct, name) for name in struct.__struct_fields__}
    return type(struct)(**{**values, **changes})
