"""An exception from a worker, as it is raised at home: with the remote traceback as its cause."""

from __future__ import annotations

import contextlib
import pickle

from noob_cloud.exceptions import RemoteError, RemoteTraceback

__all__ = ["rebuild"]


def rebuild(data: bytes) -> BaseException:
    """Load what `process_worker` pickled of an exception."""
    try:
        error, text, notes = pickle.loads(data)  # noqa: S301 - from one's own child
    except Exception as problem:  # noqa: BLE001 - whatever loading a user's exception raises
        return RemoteError(f"the exception of the call cannot be loaded here: {problem!r}")
    for name, value in notes.items():
        with contextlib.suppress(AttributeError):
            setattr(error, name, value)
    error.__cause__ = RemoteTraceback(text)
    return error if isinstance(error, BaseException) else RemoteError(str(error))
