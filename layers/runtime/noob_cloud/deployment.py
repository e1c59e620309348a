"""Where a deployed kit is: found by its name, reached with the user's AWS credentials."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec

from noob_cloud.coordinator.following import FollowingTransport, leased_url
from noob_cloud.coordinator.transport import PATIENCE, Transport
from noob_cloud.exceptions import (
    AuthenticationError,
    DeploymentNotFoundError,
    ForbiddenError,
    UnavailableError,
)
from noob_cloud.identity import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from noob_cloud.blobs import BlobStore
    from noob_cloud.coordinator import CoordinatorClient
    from noob_cloud.queue.remote import RemoteQueue

__all__ = ["Deployment"]

ROOT: Final = "/noob-cloud"
"""SSM parameters of a deployment stand below this and its name."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_NONE = frozenset(("", "-"))
"""What a parameter has that stands for nothing: SSM refuses an empty one."""


@dataclass(frozen=True)
class Deployment:
    """A deployed kit, or a coordinator that one has the address of.

    ```python
    client = Deployment.find("pictures").client()
    ```
    """

    url: str
    """Where its coordinator answers: the HTTP API, or the coordinator itself."""
    token: str | None = field(default=None, repr=False)
    """The coordinator's; None: the environment's `NOOB_CLOUD_TOKEN`."""
    name: str | None = None
    """What it was deployed as; None for a coordinator of one's own."""
    blobs: str | None = None
    """`s3://bucket/prefix` of its large values; None: they travel through the coordinator."""
    code: str | None = None
    """cid of the user's code that was deployed last."""
    region: str | None = None
    signed: bool = False
    """Whether requests are signed for an API Gateway."""
    replica: str | None = None
    """`s3://bucket/prefix` of the lease that says where its coordinator listens, where that is
    asked itself and may move; None: it stays at `url`."""
    session: Any = field(default=None, compare=False, repr=False)
    """The boto3 session whose credentials sign."""

    @classmethod
    def of(cls, where: Deployment | str, **options: Any) -> Deployment:
        """Return a deployment by its name, or a coordinator by its URL.

        Args:
            where: one of both, or a `Deployment`, which is returned as it is.
            options: of `find`.
        """
        if isinstance(where, Deployment):
            return where
        return cls.at(where) if "://" in where else cls.find(where, **options)

    @classmethod
    def at(cls, url: str, token: str | None = None) -> Self:
        """Return the coordinator at a URL, which is asked without a signature."""
        return cls(url, token)

    @classmethod
    def find(
        cls,
        name: str,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        session: Any = None,
    ) -> Self:
        """Look a deployment up by its name, in SSM's parameters below `/noob-cloud/NAME`.

        An emulated cloud has no gateway that forwards, so there the coordinator is asked itself,
        where its lease says that it listens.

        Args:
            name: what it was deployed as.
            region: where; by default the session's.
            endpoint_url: of an emulated cloud; by default the environment's `AWS_ENDPOINT_URL`.
            session: a boto3 session; by default one with the environment's credentials.

        Raises:
            ValueError: no deployment can have this name.
            DeploymentNotFoundError: nothing of this name is deployed there.
            AuthenticationError: there are no AWS credentials.
            ForbiddenError: they do not allow it; the message says what they need.
            UnavailableError: AWS does not answer, or the coordinator has not begun.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name of a deployment: letters, digits, dots, dashes, up to 63"
            )
        session = session or _session(region)
        region = region or session.region_name
        endpoint_url = endpoint_url or os.environ.get("AWS_ENDPOINT_URL") or None
        with _errors(f"looking for the deployment {name!r}", region):
            found = _parameters(session.client("ssm", endpoint_url=endpoint_url), name)
            where = f"in {region}" + (f" at {endpoint_url}" if endpoint_url else "")
            if not found:
                raise DeploymentNotFoundError(
                    f"Nothing is deployed as {name!r} {where}: there is no parameter below"
                    f" {ROOT}/{name}. `noob-cloud deploy` deploys; AWS_REGION says where to look.",
                    name=name,
                )
            token = _token(session, found, endpoint_url)
        replica = _with_endpoint(found.get("replica"), endpoint_url) if endpoint_url else None
        url = found.get("api-url") if replica is None else leased_url(replica)
        if url is None:
            raise DeploymentNotFoundError(
                f"The deployment {name!r} {where} has no coordinator: the parameter"
                f" {ROOT}/{name}/api-url is missing. Deploy it once more.",
                name=name,
            )
        return cls(
            url,
            token,
            name=name,
            blobs=_with_endpoint(found.get("blobs"), endpoint_url),
            code=found.get("code"),
            region=_region_of(url) or region,
            signed=not endpoint_url,
            replica=replica,
            session=session,
        )

    def transport(self, *, patience: float = PATIENCE) -> Transport:
        """Return how its coordinator is asked.

        Raises:
            AuthenticationError: requests are to be signed, and there are no credentials.
        """
        if self.replica is not None:
            find = partial(leased_url, self.replica)
            return FollowingTransport(find, url=self.url, token=self.token, patience=patience)
        if not self.signed:
            return Transport(self.url, token=self.token, patience=patience)
        from noob_cloud.signing import SignedTransport, Signer  # noqa: PLC0415 - needs boto3

        signer = Signer(self.session or _session(self.region), self.region or "us-east-1")
        token = self.token or os.environ.get(TOKEN_VARIABLE, "")
        return SignedTransport(self.url, signer, token=token, patience=patience)

    def store(self) -> BlobStore | None:
        """Return the store of large values; None where they travel through the coordinator."""
        if self.blobs is None:
            return None
        from noob_cloud.blobs.s3 import S3Store  # noqa: PLC0415 - needs boto3

        parts = urlsplit(self.blobs)
        endpoint_url = parse_qs(parts.query).get("endpoint_url", [None])[0]
        client = None
        if self.session is not None:
            client = self.session.client("s3", endpoint_url=endpoint_url)
        prefix = parts.path.strip("/")
        return S3Store(parts.netloc, prefix=prefix, endpoint_url=endpoint_url, client=client)

    def client(self, *, patience: float = PATIENCE) -> CoordinatorClient:
        """Return a client of its coordinator; `patience` is how long that may be away, in s."""
        from noob_cloud.coordinator import CoordinatorClient  # noqa: PLC0415 - loads the client

        return CoordinatorClient(transport=self.transport(patience=patience), blobs=self.store())

    def queue(self, *, patience: float = PATIENCE) -> RemoteQueue:
        """Return the queue of its coordinator."""
        from noob_cloud.queue.remote import RemoteQueue  # noqa: PLC0415 - loads the client

        return RemoteQueue(transport=self.transport(patience=patience), blobs=self.store())


def _parameters(client: Any, name: str) -> dict[str, str]:
    root = f"{ROOT}/{name}/"
    pages = client.get_paginator("get_parameters_by_path")
    return {
        entry["Name"].removeprefix(root): entry["Value"]
        for page in pages.paginate(Path=root, Recursive=True, WithDecryption=True)
        for entry in page["Parameters"]
        if entry["Value"] not in _NONE
    }


def _token(session: Any, found: Mapping[str, str], endpoint_url: str | None) -> str | None:
    given = os.environ.get(TOKEN_VARIABLE)
    name = found.get("token-secret")
    if given or name is None:
        return given or None
    client = session.client("secretsmanager", endpoint_url=endpoint_url)
    text: str = client.get_secret_value(SecretId=name)["SecretString"]
    if not text.lstrip().startswith("{"):
        return text.strip()
    return str(msgspec.json.decode(text)["token"])


def _with_endpoint(url: str | None, endpoint_url: str | None) -> str | None:
    if url is None or endpoint_url is None or "?" in url:
        return url
    return f"{url}?{urlencode({'endpoint_url': endpoint_url})}"


def _region_of(url: str) -> str | None:
    found = re.search(r"\.execute-api\.([a-z0-9-]+)\.", urlsplit(url).hostname or "")
    return None if found is None else found[1]


def _session(region: str | None) -> Any:
    try:
        import boto3  # noqa: PLC0415 - heavy and optional
    except ImportError as error:
        raise UnavailableError(
            "A deployment is found with boto3: pip install 'noob-cloud[s3]'"
        ) from error
    return boto3.Session(region_name=region)


@contextmanager
def _errors(doing: str, region: str | None) -> Iterator[None]:
    """Say AWS's refusals in our words."""
    from botocore.exceptions import (  # noqa: PLC0415 - boto3 is heavy and optional
        BotoCoreError,
        ClientError,
        CredentialRetrievalError,
        NoCredentialsError,
        NoRegionError,
    )

    try:
        yield
    except NoRegionError as error:
        raise DeploymentNotFoundError(
            f"{doing}: in which region? Set AWS_REGION (or AWS_DEFAULT_REGION)"
        ) from error
    except (NoCredentialsError, CredentialRetrievalError) as error:
        raise AuthenticationError(
            f"{doing}: there are no AWS credentials ({error}); `aws configure`, `aws sso login`,"
            " or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    except ClientError as error:
        told = error.response["Error"]
        if "Denied" in str(told.get("Code")) or "Unauthorized" in str(told.get("Code")):
            raise ForbiddenError(
                f"{doing} in {region} is refused: {told.get('Message')}. It needs"
                " ssm:GetParametersByPath and secretsmanager:GetSecretValue."
            ) from error
        raise UnavailableError(f"{doing} in {region} failed: {error}") from error
    except BotoCoreError as error:
        raise UnavailableError(f"{doing} in {region} failed: {error}") from error
