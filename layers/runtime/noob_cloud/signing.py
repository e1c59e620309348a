"""Requests to an API Gateway with IAM at the edge: signed with AWS credentials (SigV4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from noob_cloud.coordinator.transport import Reply, Transport
from noob_cloud.exceptions import AuthenticationError
from noob_cloud.identity import TOKEN_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SignedTransport", "Signer"]

_SERVICE: Final = "execute-api"
_REFUSED, _THROTTLED, _AWAY = 403, 429, 503


class Signer:
    """Signs requests with the credentials of a boto3 session.

    Args:
        session: whose credentials; they are asked for each time, since they may be refreshed.
        region: of the API.

    Raises:
        AuthenticationError: there are no credentials.
    """

    def __init__(self, session: Any, region: str) -> None:
        self._credentials = session.get_credentials()
        self._region = region
        if self._credentials is None:
            raise AuthenticationError(
                "There are no AWS credentials to sign requests with: `aws configure`,"
                " `aws sso login`, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )

    def headers(self, method: str, url: str, body: bytes | None) -> dict[str, str]:
        """Return the headers that make a request to `url` a signed one.

        The signature covers the method, the host, the path, the query, the time and the body.
        """
        from botocore.auth import SigV4Auth  # noqa: PLC0415 - boto3 is heavy and optional
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415 - see above

        request = AWSRequest(method=method, url=url, data=body or b"")
        frozen = self._credentials.get_frozen_credentials()
        SigV4Auth(frozen, _SERVICE, self._region).add_auth(request)
        return dict(request.headers.items())


class SignedTransport(Transport):
    """A transport whose requests are signed; the kit's token travels in a header of its own.

    Args:
        url: of the API.
        signer: signs each request, and each repetition anew.
        token: of the coordinator.
        options: further arguments of `Transport`.
    """

    def __init__(self, url: str, signer: Signer, *, token: str, **options: Any) -> None:
        super().__init__(url, token=token, **options)
        self._signer = signer
        self._headers = {TOKEN_HEADER: token}
        parts = urlsplit(self.url)
        self._origin = f"{parts.scheme}://{parts.netloc}"

    def _try(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], wait: float
    ) -> tuple[Reply | None, str]:
        path, mark, query = path.partition("?")
        path = path + mark + query.replace("+", "%20")  # a plus is signed as one, not as a space
        signed = self._signer.headers(method, f"{self._origin}{self._prefix}{path}", body)
        reply, trouble = super()._try(method, path, body, {**headers, **signed}, wait)
        if reply is not None and "error" not in _told(reply):
            if reply.status == _REFUSED:
                raise AuthenticationError(
                    f"The API at {self.url} refuses the AWS credentials:"
                    f" {_told(reply).get('message', 'Forbidden')}. They need execute-api:Invoke"
                    " there, and a clock that is right to five minutes.",
                    url=self.url,
                )
            if reply.status == _THROTTLED:
                return Reply(_AWAY, reply.headers, reply.body), "it asks for fewer requests"
        return reply, trouble


def _told(reply: Reply) -> dict[str, Any]:
    """Return what an error's JSON says: a coordinator's has an `error`, a gateway's has not."""
    if reply.status < 400:  # noqa: PLR2004 - HTTP's first error
        return {"error": ""}
    try:
        found = reply.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
