"""One trace of a task across its client, the coordinator and its worker, where it is asked for.

W3C's `traceparent` travels with the request that submits, is kept beside the tasks, and comes back
with their lease. Spans are `submit` (client), `queue` and `claim` (coordinator), `execute` and
`outcome` (worker). Where tracing is off nothing of OpenTelemetry is imported.

It is on where the environment names a place for spans: `OTEL_EXPORTER_OTLP_ENDPOINT` (or
`..._TRACES_ENDPOINT`; OTLP over HTTP), or by `NOOB_CLOUD_TRACES`: `otlp`, `xray` (X-Ray's own API,
with the credentials that boto3 finds), `on` (a provider that the program itself has set up), `off`.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from noob_cloud.exceptions import NoobCloudError
from noob_cloud.tracing.context import default_parent, is_sampled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from noob_cloud.task import Task
    from noob_cloud.tracing.spans import Spans

__all__ = [
    "HEADER",
    "VARIABLE",
    "active",
    "check",
    "flush",
    "installed",
    "mode",
    "parent_of",
    "restart",
    "submitting",
]

VARIABLE: Final = "NOOB_CLOUD_TRACES"
HEADER: Final = "traceparent"
"""https://www.w3.org/TR/trace-context/#traceparent-header"""
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_FUNCTION: Final = "AWS_LAMBDA_FUNCTION_NAME"
_MODES: Final = ("off", "on", "otlp", "xray")

_log = logging.getLogger(__name__)
_lock = Lock()
_known = False
_spans: Spans | None = None


def mode(environ: Mapping[str, str] = os.environ) -> str:
    """Return where spans go: off, on, otlp or xray.

    Raises:
        ValueError: `NOOB_CLOUD_TRACES` is none of them.
    """
    said = environ.get(VARIABLE, "").strip().lower()
    if said and said not in _MODES:
        raise ValueError(f"{VARIABLE} is one of {', '.join(_MODES)}, not {said!r}.")
    if said == "off" or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return "off"
    return said or ("otlp" if any(environ.get(name) for name in _ENDPOINTS) else "off")


def active() -> Spans | None:
    """Return what makes this process's spans; None: tracing is off.

    Raises:
        ValueError, NoobCloudError: see `check`.
    """
    return _spans if _known else _begin()


def _begin() -> Spans | None:
    global _known, _spans  # noqa: PLW0603 - one a process, as OpenTelemetry's own provider
    with _lock:
        if not _known:
            check()
            where = mode()
            if where != "off" and installed():
                from noob_cloud.tracing.spans import Spans  # noqa: PLC0415 - loads OpenTelemetry

                _spans = Spans.to(where)
            _known = True
        return _spans


def installed() -> bool:
    """Whether OpenTelemetry's SDK can be imported; nothing is."""
    try:
        return find_spec("opentelemetry.sdk") is not None
    except ImportError:
        return False


def check(environ: Mapping[str, str] = os.environ) -> None:
    """Say early what is wrong with the settings, without loading anything.

    An endpoint alone may be there for other programs: without the SDK that is only logged.

    Raises:
        ValueError: see `mode`.
        NoobCloudError: `NOOB_CLOUD_TRACES` asks for spans, and OpenTelemetry is not installed.
    """
    if mode(environ) == "off" or installed():
        return
    said = "Traces are asked for, and OpenTelemetry's SDK is not installed: pip install"
    said += f" 'noob-cloud[traces]', or set {VARIABLE}=off."
    if environ.get(VARIABLE):
        raise NoobCloudError(said)
    _log.warning("%s", said)


def restart() -> None:
    """Read the environment again: for tests, and for a process that was forked."""
    global _known, _spans
    with _lock:
        before, _known, _spans = _spans, False, None
    if before is not None:
        before.close()


def flush() -> None:
    """Send what has ended: before an environment is frozen, or a process leaves at once."""
    if _spans is not None:
        _spans.flush()


@contextmanager
def submitting(what: str, **attributes: Any) -> Iterator[dict[str, str]]:
    """Cover a request that submits; yield the headers that it carries besides its own."""
    spans = None if _left_out() else active()
    if spans is None:
        yield {}
        return
    with spans.submit(what, **attributes) as traceparent:
        yield {HEADER: traceparent}


def _left_out() -> bool:
    """Whether what this process belongs to is not recorded: then OpenTelemetry is not loaded."""
    if _known or mode() == "off":
        return _spans is None and _known
    if "opentelemetry" in sys.modules:
        return False
    parent = default_parent()
    if parent is None:  # on Lambda it is X-Ray that decides
        return _FUNCTION in os.environ
    return not is_sampled(parent)


def parent_of(task: Task) -> str | None:
    """Return the `traceparent` that came with a task's lease; None: it is not traced."""
    place = getattr(task, "_place", None)
    found: str | None = None if place is None else place.trace
    return found
