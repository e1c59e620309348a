"""What can be wrong with the local cloud as a whole."""

from __future__ import annotations

from noob_cloud.exceptions import NoobCloudError

__all__ = ["LocalCloudError", "RefusedError"]


class LocalCloudError(NoobCloudError, RuntimeError):
    """A part of the local cloud does not do what it should; the message has the end of its log."""


class RefusedError(LocalCloudError):
    """The local cloud cannot start as it was asked to; the message says what can be done."""
