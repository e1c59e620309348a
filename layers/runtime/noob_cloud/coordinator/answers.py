"""One shape for every error: {"error": class, "message": sentence, ...what a program needs}."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from noob_cloud.exceptions import (
    AuthenticationError,
    BlobCorruptError,
    BlobNotFoundError,
    CodecError,
    ConflictError,
    CoordinatorError,
    ForbiddenError,
    LeaseLostError,
    LimitError,
    NoobCloudError,
    QueueBusyError,
    QueueError,
    QueueFullError,
    RoutingError,
    RunNotFoundError,
    TaskNotFoundError,
    TaskStateError,
    TubeNotFoundError,
    UnavailableError,
)


class MediaTypeError(CoordinatorError, TypeError):
    """The body's media type is not one that is understood here."""


STATUS: Final[dict[type[NoobCloudError], int]] = {
    AuthenticationError: 401,
    ForbiddenError: 403,
    BlobNotFoundError: 404,
    RunNotFoundError: 404,
    TaskNotFoundError: 404,
    TubeNotFoundError: 404,
    ConflictError: 409,
    LeaseLostError: 409,
    TaskStateError: 409,
    LimitError: 413,
    MediaTypeError: 415,
    CodecError: 422,
    RoutingError: 422,
    QueueFullError: 429,
    QueueBusyError: 503,
    BlobCorruptError: 500,
    UnavailableError: 503,
}
MEANING: Final = {
    400: "The request is not HTTP as it should be.",
    401: "No token, or one that is not known here.",
    403: "The token's role does not allow this.",
    404: "Nothing of this name is here.",
    409: "The task or run is not in a state that allows this, its lease is another worker's, or the"
    " name that makes it happen once was given to something else.",
    413: "The body, or a batch in it, is over a limit.",
    415: "The body is neither JSON nor a frame.",
    416: "The blob has no such range.",
    422: "The request is not well formed; the message says where.",
    503: "The coordinator is shutting down, or its file cannot be used; try again.",
}
_HEADERS: Final[dict[int, list[tuple[bytes, bytes]]]] = {
    401: [(b"www-authenticate", b"Bearer")],
    429: [(b"retry-after", b"1")],
    503: [(b"retry-after", b"1")],
}


def status_of(error: BaseException) -> int:
    """Return the HTTP status of an error; 503 for a queue's file that cannot be used now."""
    if type(error) is QueueError:
        return 503
    for kind, status in STATUS.items():
        if isinstance(error, kind):
            return status
    return 500


def body_of(error: BaseException) -> bytes:
    """Return the JSON of an error; one that is not ours tells its class alone, the log the rest."""
    if not isinstance(error, NoobCloudError):
        message = f"The coordinator failed ({type(error).__name__}); its log says where."
        return msgspec.json.encode({"error": "CoordinatorError", "message": message})
    data = {
        name: value
        for name, value in getattr(error, "data", {}).items()
        if name not in ("error", "message")
    }
    shown: dict[str, Any] = {
        "error": type(error).__name__,
        "message": str(error) or type(error).__name__,
        **data,
    }
    return msgspec.json.encode(shown, enc_hook=repr)


def headers_of(status: int) -> list[tuple[bytes, bytes]]:
    """Return the headers that go with an error."""
    return [(b"content-type", b"application/json"), *_HEADERS.get(status, [])]
