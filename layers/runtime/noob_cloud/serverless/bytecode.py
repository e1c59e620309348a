"""Keep compiled modules where a function may write: its own folders are read-only."""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.util import cache_from_source
from pathlib import Path

import noob_cloud

__all__ = ["keep_bytecode"]


def keep_bytecode(folder: str | None = None) -> None:
    """Compile each module once an environment, and not again in every process that runs tasks.

    Layers that were built where there was no Python of their version hold sources alone. Of a
    snapshot what was compiled is a part.

    Args:
        folder: of the compiled modules; by default in the environment's temporary folder.
    """
    if Path(cache_from_source(noob_cloud.__file__)).exists():
        return  # compiled where it stands
    place = folder or str(Path(tempfile.gettempdir()) / "noob-cloud-bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = place
    sys.dont_write_bytecode = False
    sys.pycache_prefix = place
