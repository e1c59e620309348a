"""A coordinator without a server: requests go straight into its application."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from noob_cloud.codec.limits import DEFAULT
from noob_cloud.coordinator import CoordinatorSettings, create_app, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import msgspec

    from noob_cloud.coordinator.hot import Door

TOKENS = """
[[tokens]]
token = "client-token-0123456789"
name = "ci"
role = "submit"

[[tokens]]
token = "anna-token-0123456789"
name = "anna"
role = "work"

[[tokens]]
token = "bert-token-0123456789"
name = "bert"
role = "work"

[[tokens]]
token = "owner-token-0123456789"
name = "root"
role = "admin"
tags = ["*"]
"""


class App:
    """Speaks to the application as one of its identities."""

    def __init__(self, client: httpx.AsyncClient, door: Door) -> None:
        self.client = client
        self.door = door
        self.coordinator = door.coordinator

    async def frame(
        self, who: str, path: str, body: msgspec.Struct, kind: Any = None, **headers: str
    ) -> Any:
        """Send a frame; return the answer's struct, or with no `kind` the response."""
        said = {**self._token(who), "Content-Type": wire.FRAME_TYPE, **headers}
        answer = await self.client.post(path, content=wire.to_frame(body), headers=said)
        if kind is None:
            return answer
        assert answer.status_code == 200, answer.text
        return wire.from_frame(kind, answer.content, DEFAULT)

    async def json(self, who: str, method: str, path: str, body: Any = None) -> httpx.Response:
        """Send JSON; return the response."""
        return await self.client.request(method, path, json=body, headers=self._token(who))

    async def submit(self, who: str, epochs: list[int], run_id: str | None = None) -> Any:
        """Submit a task for each epoch; return the response."""
        group = wire.Group(
            wire.Options(run_id=run_id), "n", epochs, [f"secret-{x}" for x in epochs]
        )
        return await self.frame(who, "/tasks", wire.Submit([group]))

    async def claim(self, who: str, limit: int = 1, tags: list[str] | None = None) -> wire.Lot:
        """Claim tasks that were submitted together."""
        ask = wire.Ask(f"{who}-1", limit, tags)
        (lot,) = (await self.frame(who, "/claims", ask, wire.Claimed)).lots
        return lot

    def _token(self, who: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {who}-token-0123456789"}


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[App]:
    """A coordinator that has started, with four identities: client, anna, bert, owner."""
    (folder / "tokens.toml").write_text(TOKENS)
    chosen = {"token_file": folder / "tokens.toml", "db_path": None, **settings}
    app = create_app(CoordinatorSettings(**chosen))
    await app.coordinator.start()
    transport = httpx.ASGITransport(app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            yield App(client, app)
    finally:
        await app.coordinator.stop()
