"""What every command of ours settles about upstream's library before it is imported."""

from __future__ import annotations

import os
import warnings

_MESSAGE = "XDG_RUNTIME_DIR is not set"


def quieten() -> None:
    """Leave out a warning of upstream's that says nothing to our user, here and in children."""
    warnings.filterwarnings("ignore", message=_MESSAGE)
    others = os.environ.get("PYTHONWARNINGS")
    if _MESSAGE not in (others or ""):
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (others, f"ignore:{_MESSAGE}")))
