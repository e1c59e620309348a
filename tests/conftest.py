"""Real servers that are started once for the whole session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .conformance.servers import worker_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    """Two worker servers on this machine, as their WorkerConfigs."""
    folder = tmp_path_factory.mktemp("workers")
    with worker_server(folder, "one") as (one, _), worker_server(folder, "two") as (two, _):
        yield [one, two]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
