"""Runners that are started once for the whole session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .runners import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .observe import Factory

for _module in ("checks", "observe"):
    pytest.register_assert_rewrite(f"{__package__}.{_module}")


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what costs much and differs in nothing but the executor."""
    left_out = [
        item
        for item in items
        if item.get_closest_marker("thorough")
        and isinstance(kind := getattr(item, "callspec", None) and _kind(item), Kind)
        and not kind.thorough
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        kept = set(items) - set(left_out)
        items[:] = [item for item in items if item in kept]


def _kind(item: Any) -> Any:
    return item.callspec.params.get("started")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "thorough: left out for runners that share their code")
