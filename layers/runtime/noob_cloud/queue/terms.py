"""Terms and lanes: how a task is scheduled, each distinct way written once."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from noob_cloud.queue.statements import SQL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from sqlite3 import Cursor

ID_BITS = 40
LANE_SHIFT = ID_BITS + 2
ID_MASK = (1 << ID_BITS) - 1
REMEMBERED = 1000
"""Tag sets of workers whose lanes are remembered."""
ORDER_MASK = (1 << LANE_SHIFT) - 1
"""What of a ready key orders tasks of different lanes: the priority, then the id."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a task is scheduled, apart from its key."""

    affinity: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    priority: int = 2
    timeout_seconds: float = 300.0
    max_retries: int = 3
    queue_timeout: float = math.inf


@dataclass(frozen=True, slots=True)
class Lane:
    """One set of tags, with a limited key or without; its ready tasks lie side by side."""

    id: int
    affinity: frozenset[str]
    required: frozenset[str]
    limited: str
    """The limited key; empty for the lane of every other task with these tags."""

    def admits(self, tags: frozenset[str], *, accept_untagged: bool) -> bool:
        """Whether a worker with these tags may take tasks from here."""
        if not self.affinity and not self.required:
            return accept_untagged
        any_of = not self.affinity or not self.affinity.isdisjoint(tags)
        return any_of and self.required <= tags

    @property
    def first_key(self) -> int:
        """Smallest ready key of this lane."""
        return self.id << LANE_SHIFT

    @property
    def end_key(self) -> int:
        """First ready key behind this lane."""
        return (self.id + 1) << LANE_SHIFT


def canonical(tags: Iterable[str]) -> str:
    """Text of a tag set: equal sets have equal text."""
    return json.dumps(sorted(tags)) if tags else ""


def tags_of(text: str) -> frozenset[str]:
    """Tag set of a canonical text."""
    return frozenset(json.loads(text)) if text else frozenset()


class Words:
    """What this process remembers of `terms` and `lane`; rows there never change or go."""

    def __init__(self, execute: Callable[..., Cursor]) -> None:
        self._execute = execute
        self.forget()

    def forget(self) -> None:
        """Drop everything remembered, after a rollback may have undone a row."""
        self._terms_ids: dict[Terms, int] = {}
        self._terms: dict[int, Terms] = {}
        self._places: dict[int, tuple[int, int, Terms]] = {}
        self._lane_ids: dict[tuple[str, str, str], int] = {}
        self._lanes: dict[int, Lane] = {}
        self._newest_lane = 0
        self._eligible: dict[tuple[frozenset[str], bool], tuple[Lane, ...]] = {}

    def terms_id(self, terms: Terms) -> int:
        """Id of these terms, written down if they are new. Inside a transaction."""
        found = self._terms_ids.get(terms)
        if found is None:
            row = (
                canonical(terms.affinity),
                canonical(terms.required),
                terms.priority,
                terms.timeout_seconds,
                terms.max_retries,
                terms.queue_timeout,
            )
            self._execute(SQL.add_terms, row)
            found = self._execute(SQL.find_terms, row).fetchone()[0]
            self._terms_ids[terms] = found
        return found

    def terms(self, terms_id: int) -> Terms:
        """The terms with this id."""
        found = self._terms.get(terms_id)
        if found is None:
            affinity, required, *rest = self._execute(SQL.terms, (terms_id,)).fetchone()
            found = self._terms[terms_id] = Terms(tags_of(affinity), tags_of(required), *rest)
        return found

    def place_of(self, terms: Terms) -> tuple[int, int]:
        """Id of these terms, and the ready key of a task without a key, less its id."""
        found = self._places.get(id(terms))  # the entry keeps its terms, so their id is theirs
        if found is None:
            first_key = self.lane_of(terms).first_key | terms.priority << ID_BITS
            found = self._places[id(terms)] = (self.terms_id(terms), first_key, terms)
        return found[0], found[1]

    def lane_of(self, terms: Terms, limited: str = "") -> Lane:
        """Lane of tasks with these terms, written down if it is new. Inside a transaction."""
        name = (canonical(terms.affinity), canonical(terms.required), limited)
        found = self._lane_ids.get(name)
        if found is None:
            self._execute(SQL.add_lane, name)
            self.learn_lanes()
            found = self._lane_ids[name]
        return self._lanes[found]

    def find_lane(self, terms: Terms, limited: str) -> Lane | None:
        """Lane of tasks with these terms, if it is written down."""
        name = (canonical(terms.affinity), canonical(terms.required), limited)
        if name not in self._lane_ids:
            self.learn_lanes()
        found = self._lane_ids.get(name)
        return None if found is None else self._lanes[found]

    def lane(self, lane_id: int) -> Lane:
        """The lane with this id."""
        if lane_id not in self._lanes:
            self.learn_lanes()
        return self._lanes[lane_id]

    def lanes(self) -> tuple[Lane, ...]:
        """Every lane that is known."""
        return tuple(self._lanes.values())

    def learn_lanes(self) -> None:
        """Read the lanes that have been added since."""
        rows = self._execute(SQL.lanes_after, (self._newest_lane,)).fetchall()
        for lane_id, affinity, required, limited in rows:
            self._lanes[lane_id] = Lane(lane_id, tags_of(affinity), tags_of(required), limited)
            self._lane_ids[affinity, required, limited] = lane_id
            self._newest_lane = lane_id
        if rows:
            self._eligible.clear()

    def eligible(self, tags: frozenset[str], *, accept_untagged: bool) -> tuple[Lane, ...]:
        """The lanes that a worker with these tags may take tasks from."""
        found = self._eligible.get((tags, accept_untagged))
        if found is None:
            lanes = self._lanes.values()
            found = tuple(x for x in lanes if x.admits(tags, accept_untagged=accept_untagged))
            if len(self._eligible) >= REMEMBERED:
                self._eligible.clear()
            self._eligible[tags, accept_untagged] = found
        return found
