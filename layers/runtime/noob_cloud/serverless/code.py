"""The user's own code that a worker was deployed with, and what it is called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["CODE_VARIABLE", "MANIFEST", "allowed_modules", "deployed_code"]

CODE_VARIABLE: Final = "NOOB_CLOUD_CODE"
"""cid of the packed code, as `noob_cloud.serverless.package.pack` names it."""
MODULES_VARIABLE: Final = "NOOB_CLOUD_MODULES"
"""Further modules that tubes may import, separated by commas."""
MANIFEST: Final = "noob-cloud-code.json"
"""File at the root of packed code that says what its modules are."""


def deployed_code(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the cid of the code that this process was deployed with; None: with no such."""
    found = environ.get(CODE_VARIABLE, "")
    return None if found in {"", "-"} else found


def allowed_modules(
    places: Iterable[str | Path], environ: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """Return which modules tubes may import here: those of the deployed code.

    Args:
        places: folders where packed code may have been unpacked.
        environ: `NOOB_CLOUD_MODULES` names further ones.
    """
    named = environ.get(MODULES_VARIABLE, "").split(",")
    found = [name.strip() for name in named if name.strip()]
    for place in places:
        manifest = Path(place) / MANIFEST
        if manifest.is_file():
            found += msgspec.json.decode(manifest.read_bytes())["modules"]
    return tuple(dict.fromkeys(found))
