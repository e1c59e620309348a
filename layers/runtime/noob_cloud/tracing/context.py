"""The names of spans as they travel: W3C's `traceparent`, and X-Ray's header on Lambda."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["default_parent", "from_xray", "is_sampled", "parsed", "to_xray_trace_id", "written"]

_PARENT: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_XRAY: Final = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})")
_XRAY_VARIABLE: Final = "_X_AMZN_TRACE_ID"
_VARIABLE: Final = "TRACEPARENT"


def parsed(traceparent: str | None) -> tuple[int, int, int] | None:
    """Return trace id, span id and flags; None: it is no `traceparent` of version 00."""
    found = _PARENT.fullmatch(traceparent or "")
    if found is None:
        return None
    return int(found[1], 16), int(found[2], 16), int(found[3], 16)


def is_sampled(traceparent: str) -> bool:
    """Whether whoever began the trace records it."""
    found = parsed(traceparent)
    return found is not None and bool(found[2] & 1)


def written(trace_id: int, span_id: int, flags: int) -> str:
    """Return a span's name as `traceparent`."""
    return f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"


def from_xray(header: str | None) -> str | None:
    """Return X-Ray's `Root=1-...;Parent=...;Sampled=1` as `traceparent`.

    Without `Sampled` nothing was decided yet: as Lambda has it, that is not sampled.
    https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader
    """
    parts = dict(part.strip().partition("=")[::2] for part in (header or "").split(";"))
    root = _XRAY.fullmatch(parts.get("Root", ""))
    if root is None:
        return None
    flags = "01" if parts.get("Sampled") == "1" else "00"
    made = f"00-{root[1]}{root[2]}-{parts.get('Parent', '')}-{flags}"
    return made if parsed(made) is not None else None


def to_xray_trace_id(trace_id: int) -> str:
    """Return a trace id as X-Ray writes it."""
    told = f"{trace_id:032x}"
    return f"1-{told[:8]}-{told[8:]}"


def default_parent(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return what this process's work belongs to where no span is open in it.

    `TRACEPARENT` says it to a process that was started for one task; Lambda says it by X-Ray's
    variable, anew for each invocation.
    """
    said = environ.get(_VARIABLE)
    if parsed(said) is not None:
        return said
    return from_xray(environ.get(_XRAY_VARIABLE))
