"""What a pool of buffers refuses."""

from __future__ import annotations

from noob_cloud.exceptions import LimitError, RunnerError

__all__ = ["ArenaFullError", "PoolClosedError", "PoolOwnerError"]


class ArenaFullError(LimitError):
    """The arena has no room for this now."""


class PoolClosedError(RunnerError, ValueError):
    """The pool is closed; make another one."""


class PoolOwnerError(RunnerError, PermissionError):
    """The pool belongs to the process that made it, which alone may take from it."""
