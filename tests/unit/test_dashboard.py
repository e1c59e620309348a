"""The coordinator's page: open to anybody, without data, and asking for what there is."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from coordinator_app import App, running

from noob_cloud.coordinator import wire
from noob_cloud.coordinator.dashboard import page
from noob_cloud.coordinator.models_capacity import CapacityBody, MoneyBody, PlaceBody

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def run(work: Callable[[App], Awaitable[None]], folder: Path) -> None:
    async def main() -> None:
        async with running(folder) as app:
            await work(app)

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/", "/dashboard"])
def test_the_page_wants_no_token_and_loads_nothing_from_elsewhere(tmp_path: Path, path: str):
    """A browser has none yet when it asks; and the page may speak to its own server alone."""

    async def work(app: App) -> None:
        answer = await app.client.get(path)
        assert answer.status_code == 200
        assert answer.text == page()
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "connect-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy

    run(work, tmp_path)
    sources = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(\w+:)?//[^\"')]+", page())
    assert sources == []


def test_what_it_asks_for_is_there(tmp_path: Path):
    """Every path in it has a route, and every field that it reads is in the answer."""
    asked = re.findall(r'ask\("(/[^"]+)"\)', page())
    assert len(asked) == 5

    async def work(app: App) -> None:
        await app.submit("client", [0])
        lot = await app.claim("anna")
        failure = wire.Failure(lot.ids[0], lot.token, "no paper", "Traceback: line 1", False)
        await app.frame("anna", "/outcomes", wire.Outcomes("anna-1", failed=[failure]))
        answers = [await app.json("owner", "GET", path) for path in asked]
        assert [answer.status_code for answer in answers] == [200] * 5
        stats, runs, workers, capacity, dead = (answer.json() for answer in answers)
        places = re.findall(r'\["(\w+)", "--\w+"\]', page().split("const LINES")[0])
        assert set(places) <= {*stats["queue"]}
        assert {"history", "started_at", "waiting_claims"} <= {*stats}
        assert runs["runs"] == []
        assert {*capacity} == {*CapacityBody.model_fields}
        for name, body in (("place", PlaceBody), ("money", MoneyBody)):
            assert set(re.findall(rf"\b{name}\.(\w+)", page())) <= {*body.model_fields}
        for name, row in (("row", workers["workers"][0]), ("task", dead["tasks"][0])):
            assert set(re.findall(rf"\b{name}\.(\w+)", page())) <= {*row}
        assert (await app.json("owner", "POST", "/redrive", {})).status_code == 200

    run(work, tmp_path)


def test_texts_go_in_as_text():
    """What a client sends (names, errors) never becomes markup."""
    written = re.findall(r"(\S+)\.(?:innerHTML|outerHTML|insertAdjacentHTML)", page())

    assert written == ['$("chart")']  # numbers and the page's own words
