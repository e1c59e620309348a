"""The coordinator in a container: it finds its own address, so that its lease can tell others."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["main", "own_url"]

_METADATA: Final = "ECS_CONTAINER_METADATA_URI_V4"
_ANY: Final = frozenset(("0.0.0.0", "::"))  # noqa: S104 - compared with, not listened on
_PORT: Final = "8080"


def own_url(environ: Mapping[str, str] = os.environ) -> str:
    """Return where others reach this container.

    `NOOB_CLOUD_URL` goes before what ECS says of the task, and that before the address from which
    this machine reaches others.
    """
    given = environ.get("NOOB_CLOUD_URL")
    if given:
        return given
    host = environ.get("NOOB_CLOUD_HOST", "127.0.0.1")
    if host in _ANY:
        host = _of_the_task(environ) or _of_the_machine()
    return f"http://{host}:{environ.get('NOOB_CLOUD_PORT') or _PORT}"


def _of_the_task(environ: Mapping[str, str]) -> str | None:
    url = environ.get(_METADATA)
    if not url:
        return None
    with urlopen(f"{url}/task", timeout=5) as answer:  # noqa: S310 - the address that ECS gives
        task = json.load(answer)
    networks = [each for entry in task["Containers"] for each in entry.get("Networks", ())]
    return next((each["IPv4Addresses"][0] for each in networks if each["IPv4Addresses"]), None)


def _of_the_machine() -> str:
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # a route is looked up, nothing is sent
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def main() -> None:
    """Serve until SIGTERM, under the address that others reach."""
    from noob_cloud.coordinator.__main__ import main as serve  # noqa: PLC0415 - loads the server

    os.environ["NOOB_CLOUD_URL"] = own_url()
    serve()
