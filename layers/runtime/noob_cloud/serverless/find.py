"""Where the coordinator is, as a worker's environment says it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from noob_cloud.deployment import Deployment
from noob_cloud.exceptions import CoordinatorError, UnavailableError
from noob_cloud.identity import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COORDINATOR_VARIABLE", "DEPLOYMENT_VARIABLE", "SECRET_VARIABLE", "find", "secret"]

COORDINATOR_VARIABLE: Final = "NOOB_CLOUD_COORDINATOR"
"""`http(s)://host:port`, or `s3://bucket/prefix` of the lease that says where it listens now."""
DEPLOYMENT_VARIABLE: Final = "NOOB_CLOUD_DEPLOYMENT"
"""Name of the deployment, where the worker stands outside its network."""
SECRET_VARIABLE: Final = "NOOB_CLOUD_TOKEN_SECRET"  # noqa: S105 - the name of a variable
"""ARN of the secret that holds the token, where `NOOB_CLOUD_TOKEN` does not."""
_BLOBS: Final = "NOOB_CLOUD_BLOBS"
_NOBODY: Final = "http://127.0.0.1:1"
"""Where nobody listens: while none serves, whoever asks looks at the lease again, with patience."""


def find(
    where: str | None = None,
    token: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> Deployment:
    """Return the coordinator that somebody names, or that the environment does.

    Args:
        where: its URL, the `s3://bucket/prefix` of its replica, or the name of a deployment.
        token: the coordinator's; by default what the environment says.
        environ: `NOOB_CLOUD_COORDINATOR` goes before `NOOB_CLOUD_DEPLOYMENT`.

    Raises:
        CoordinatorError: nothing is named.
        NoobCloudError: what `Deployment.find` raises.
    """
    where = where or environ.get(COORDINATOR_VARIABLE) or environ.get(DEPLOYMENT_VARIABLE)
    if not where:
        raise CoordinatorError(
            f"No coordinator is named: set {COORDINATOR_VARIABLE} to its URL or to"
            f" s3://bucket/prefix of its replica, or {DEPLOYMENT_VARIABLE} to a deployment's name."
        )
    if "://" not in where:
        return Deployment.find(where)
    token = token or environ.get(TOKEN_VARIABLE) or secret(environ)
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    blobs = _at(environ.get(_BLOBS), endpoint)
    if not where.startswith("s3://"):
        return Deployment(where, token, blobs=blobs)
    from noob_cloud.coordinator.following import leased_url  # noqa: PLC0415 - only here

    replica = _at(where, endpoint) or where
    try:
        url = leased_url(replica)
    except UnavailableError:
        url = _NOBODY
    return Deployment(url, token, blobs=blobs, replica=replica)


def secret(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the token from Secrets Manager, if the environment names a secret."""
    name = environ.get(SECRET_VARIABLE)
    if not name:
        return None
    import boto3  # noqa: PLC0415 - heavy, and needed by few workers
    import msgspec  # noqa: PLC0415 - as above

    client: Any = boto3.client("secretsmanager")
    text: str = client.get_secret_value(SecretId=name)["SecretString"].strip()
    return str(msgspec.json.decode(text)["token"]) if text.startswith("{") else text


def _at(place: str | None, endpoint: str | None) -> str | None:
    if not place or not endpoint or "?" in place:
        return place or None
    return f"{place}?{urlencode({'endpoint_url': endpoint})}"
