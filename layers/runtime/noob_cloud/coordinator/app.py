"""The coordinator as an ASGI application."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

import noob_cloud
from noob_cloud.coordinator import api, dashboard
from noob_cloud.coordinator.hot import Door
from noob_cloud.coordinator.service import Coordinator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noob_cloud.blobs import BlobStore
    from noob_cloud.coordinator.settings import CoordinatorSettings
    from noob_cloud.queue import Clock

_DESCRIPTION = """
A queue of tasks that survives crashes, over HTTP: submit, claim under a lease, settle.

Every route but `/health` wants `Authorization: Bearer TOKEN`. A token's role is *client* (submit
and read), *worker* (claim and settle) or *admin* (everything), and the tags that a worker may claim
come from its token. Bodies are JSON here; programs send frames of the noob-cloud wire format
(`application/vnd.noob-cloud.frame`) to the same routes, which is several times faster. Nothing that
arrives is unpickled, and no code of a tube is imported.
"""


def create_app(
    settings: CoordinatorSettings, *, clock: Clock | None = None, blobs: BlobStore | None = None
) -> Door:
    """Make the coordinator's ASGI application.

    Its `coordinator` is the service behind the routes, its `app` the FastAPI application.

    Args:
        settings: what it keeps where, whom it lets in, and what a request may cost.
        clock: the queue's, instead of the machine's.
        blobs: where large values are, instead of the settings' folder.

    Raises:
        DatabaseVersionError: a newer noob-cloud wrote the queue's file; it is left untouched.
        DatabaseDamagedError: the file is damaged; it is left untouched.
        ValueError: a token is too short, or the token file is not well formed.
    """
    coordinator = Coordinator(settings, clock=clock, blobs=blobs)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await coordinator.start()
        try:
            yield
        finally:
            await coordinator.stop()

    app = FastAPI(
        title="noob-cloud coordinator",
        version=noob_cloud.__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
    )
    app.state.coordinator = coordinator
    api.install(app)
    app.include_router(dashboard.router)
    return Door(coordinator, app)
