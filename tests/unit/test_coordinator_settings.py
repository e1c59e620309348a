"""How a coordinator is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from noob_cloud.coordinator import CoordinatorSettings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOOB_CLOUD_TOKEN", "NOOB_CLOUD_HOST", "NOOB_CLOUD_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every setting can be given as NOOB_CLOUD_*; blobs lie beside the queue's file."""
    monkeypatch.setenv("NOOB_CLOUD_PORT", "9000")
    monkeypatch.setenv("NOOB_CLOUD_DB_PATH", str(tmp_path / "q.db"))
    monkeypatch.setenv("NOOB_CLOUD_TOKEN", "0123456789abcdef")

    settings = CoordinatorSettings()

    assert settings.port == 9000
    assert settings.blob_dir == tmp_path / "q.db.blobs"
    assert settings.tokens.generated is None
    assert "0123456789abcdef" not in repr(settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_without_a_token_on_loopback(host: str) -> None:
    """Without a token it serves this machine, with one made for the day."""
    settings = CoordinatorSettings(host=host)
    settings.check_exposed()

    assert settings.tokens.generated is not None


@pytest.mark.parametrize("host", ["0.0.0.0", "example.org", "10.0.0.1"])
def test_without_a_token_beyond_loopback(host: str) -> None:
    """Without a token it does not listen to other machines, and says what to do."""
    with pytest.raises(ValueError, match="NOOB_CLOUD_TOKEN"):
        CoordinatorSettings(host=host).check_exposed()
    CoordinatorSettings(host=host, token="0123456789abcdef").check_exposed()


@pytest.mark.parametrize("wrong", [{"port": -1}, {"max_body": 0}, {"synchronous": "MAYBE"}])
def test_values_out_of_range(wrong: dict[str, object]) -> None:
    """A setting that cannot be is refused by name."""
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        CoordinatorSettings(**wrong)
