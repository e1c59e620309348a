"""The test tubes by id: every feature of upstream's, each as a plain specification.

A case says what to feed its tube and for how long; what must come out is upstream's to say.
"""

from __future__ import annotations

from noob_cloud_testtubes.absent import ABSENT
from noob_cloud_testtubes.arrays import ARRAYS
from noob_cloud_testtubes.case import (
    Case,
    Failure,
    Spec,
    chain,
    load,
    node,
    result,
    scalar,
    tube_spec,
)
from noob_cloud_testtubes.ends import EXHAUSTING, FAILURES, HANGING
from noob_cloud_testtubes.functions import FUNCTIONS
from noob_cloud_testtubes.maps import MAPS
from noob_cloud_testtubes.nested import NESTED
from noob_cloud_testtubes.scopes import ASSETS, INPUTS
from noob_cloud_testtubes.stateful import STATEFUL

CASES: tuple[Case, ...] = (
    *FUNCTIONS,
    *ABSENT,
    *STATEFUL,
    *MAPS,
    *ARRAYS,
    *INPUTS,
    *ASSETS,
    *NESTED,
)
"""Tubes that run without end and without an error."""

__all__ = [
    "CASES",
    "EXHAUSTING",
    "FAILURES",
    "HANGING",
    "Case",
    "Failure",
    "Spec",
    "case",
    "chain",
    "load",
    "node",
    "result",
    "scalar",
    "tube_spec",
]


def case(name: str) -> Case:
    """The case of this id."""
    return next(one for one in (*CASES, *EXHAUSTING) if one.id == name)
