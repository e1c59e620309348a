"""Runners that are started once for the whole session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .runners import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .observe import Factory


@pytest.fixture(scope="session", params=KINDS, ids=lambda kind: kind.name)
def started(request: pytest.FixtureRequest) -> Iterator[tuple[Kind, Factory]]:
    kind: Any = request.param
    with kind.started() as make:
        yield kind, make


@pytest.fixture
def kind(started: tuple[Kind, Factory]) -> Kind:
    return started[0]


@pytest.fixture
def make(started: tuple[Kind, Factory]) -> Factory:
    return started[1]
