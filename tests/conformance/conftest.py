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
    left_out = [item for item in items if _is_spared(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        spared = set(left_out)
        items[:] = [item for item in items if item not in spared]


def _is_spared(item: Any) -> bool:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    kind, case = params.get("started"), params.get("case")
    if not isinstance(kind, Kind) or kind.thorough:
        return False
    if item.get_closest_marker("thorough"):
        return True
    # `run` shows all that `process` does, where the tube can run without being fed.
    return item.get_closest_marker("single") is not None and case.feeds is None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "thorough: left out for runners that share their code")
    config.addinivalue_line("markers", "single: left out for them where `run` shows the same")
